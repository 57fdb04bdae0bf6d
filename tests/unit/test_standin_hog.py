"""The stand-in's Hog: templates of inputs, and programs as destinations are written."""

from __future__ import annotations

from typing import Any

import pytest

from dbt_posthog_sync.testing.hog import program, template
from dbt_posthog_sync.testing.hog_program import HogError
from dbt_posthog_sync.testing.hog_values import ThrownError

GIVEN = {
    "person": {"id": "p1", "properties": {"email": "ann@example.com", "age": 30, "vip": False, "first name": "Ann"}},
    "event": {"event": "$set", "distinct_id": "u1", "properties": {"$pathname": "/x", "tags": ["a", "b"]}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{person.properties.email}", "ann@example.com"),
        ("{person.properties.age}", 30),  # nothing but an expression keeps its type
        ("{person.properties.vip}", False),
        ("{person.properties.nothing}", None),
        ("{person.properties.nothing.more}", None),
        ("{person.properties['first name']}", "Ann"),
        ("{person.properties.`first name`}", "Ann"),
        ("{event.properties.$pathname}", "/x"),
        ("{event.properties.tags[2]}", "b"),  # lists count from 1
        ("is {person.properties.age}, {person.properties.nothing}", "is 30, "),
        (r"\{no template\}", "{no template}"),
        ("{'it\\'s {text}'}", "it's {text}"),
        ("{{'list1': true, 'list2': false}}", {"list1": True, "list2": False}),
        ("{person.properties.nothing ?? 'else'}", "else"),
        ("{1 + 2 * 3}", 7),
        ("{-(2 - 5) > 2 and not false}", True),
        ("{lower('AbC')}", "abc"),
        ("{'b' in event.properties.tags or false}", True),
    ],
)
def test_input_is_a_template(text: str, value: Any) -> None:
    assert template(text)(dict(GIVEN)) == value


def ran(code: str, **given: Any) -> list[Any]:
    said: list[Any] = []
    program(code).run({**GIVEN, **given, "print": said.append})
    return said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print(1); return; print(2)", [1]),
        ("let a := {'x': 1, y: 2} a.z := 3 a['x'] := 9 print(a)", [{"x": 9, "y": 2, "z": 3}]),
        ("for (let key, value in {'a': 1, 'b': 2}) { print(f'{key}={value}') }", ["a=1", "b=2"]),
        ("for (let one in [3, 4]) { print(one) }", [3, 4]),
        ("for (let i, one in ['x']) { print(i) }", [1]),
        ("for (let one in null) { print(one) }", []),
        ("if (person.properties.age >= 30) { print('old') } else { print('young') }", ["old"]),
        ("if (false) { print(1) } else if (true) { print(2) } else { print(3) }", [2]),
        ("// a comment\nprint(not empty(0)) -- another", [True]),
        ("for (let one in ['', [], {}, null, false]) { print(empty(one)) }", [True, True, True, True, False]),
        ("print('$set' like '$%') print('set' not like '$%') print(not 'a' like '$%')", [True, True, True]),
        ("let x := 'a' x := x + 'b' print(x)", ["ab"]),
    ],
)  # fmt: skip
def test_program_runs(code: str, said: list[Any]) -> None:
    assert ran(code) == said


def test_error_of_a_program_is_thrown() -> None:
    with pytest.raises(ThrownError, match="status 400"):
        ran("throw Error(f'status {res.status}')", res={"status": 400})


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("let x = 1", "`:=` is expected at line 1"),
        ("if (true) {\nprint(1)", "`}` is missing at line 2"),
        ("print(1\n,", "the end"),
        ("1 := 2", "only a name or a member"),
        ("print(#)", "`#` is not expected"),
        ("let 1 := 2", "a name is expected"),
    ],
)
def test_what_is_no_hog_is_refused_with_its_place(code: str, problem: str) -> None:
    with pytest.raises(HogError, match=problem):
        program(code)


def test_function_that_is_not_played_is_named_as_such() -> None:
    with pytest.raises(HogError, match="does not play"):
        ran("sendEmail({})")
