"""Columns as warehouses have them: odd names, odd case, types that cannot be sent; every problem at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import Lab

from dbt_posthog_sync.errors import AnnotationError

EVENT: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
}
BASE = "1 as id, 'u1' as person, timestamp '2026-01-02 03:04:05' as seen_at"
# The last ones are names that the macros use themselves.
ODD_NAMES = (
    *("Mixed", "UPPER", "with space", "per%cent", "per%(x)s", 'quo"te', "it's", "back\\slash", "{{ x }}", "{% x %}"),
    *(
        "Ünï",
        "漢字",
        "😀",
        "select",
        "t",
        "e8",
        "v8",
        "element",
        "place",
        "found",
        "m",
        "c",
        "kind",
        "sync_key",
        "position",
    ),
)
ODD_TEXT = 'it\'s 100% "done" \\ %(x)s {{ 1 + 1 }} {% if %} $1 ? \n\t é 😀'


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def only_message(lab: Lab, annotation: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    (message,) = lab.messages(annotation)
    return json.loads(b"{" + message.head + b"}"), json.loads(b"{" + message.properties[1:] + b"}")


def problems(lab: Lab, annotation: dict[str, Any]) -> list[str]:
    with pytest.raises(AnnotationError) as caught:
        lab.resolve(annotation)
    places = [problem.path.partition(".config.meta.posthog_sync.") for problem in caught.value.problems]
    assert {place for place, _, _ in places} == {f"$.models[{lab.table}]"}
    return [
        f"{path}: {problem.message} {problem.advice}"
        for (_, _, path), problem in zip(places, caught.value.problems, strict=True)
    ]


def test_odd_names_of_columns_become_properties_as_they_are(lab: Lab) -> None:
    columns = ", ".join(f"{number} as {identifier(name)}" for number, name in enumerate(ODD_NAMES))
    lab.build(f"select {BASE}, {columns}")
    expected = {name: number for number, name in enumerate(ODD_NAMES)}
    assert {"id": 1, **expected} == only_message(lab, {**EVENT, "properties": "all"})[1]
    assert expected == only_message(lab, {**EVENT, "properties": list(ODD_NAMES)})[1]
    renamed = {**EVENT, "sync_key": {"event_id": 'quo"te'}, "properties": {ODD_TEXT: "per%(x)s"}}
    assert only_message(lab, renamed)[1] == {ODD_TEXT: 4}
    assert lab.run(renamed).counts.delivered == 1
    assert lab.run(renamed).counts.unchanged == 1


def test_odd_constants_arrive_as_they_are(lab: Lab) -> None:
    lab.build(f"select {BASE}")
    constants: dict[str, Any] = {
        "text": ODD_TEXT,
        "number": 1.5,
        "large": 2**53 + 1,
        "yes": True,
        "none": None,
        "empty": "",
    }
    constants["nul"] = "a\0b"
    annotation = {**EVENT, "event": {"value": ODD_TEXT}, "properties": {k: {"value": v} for k, v in constants.items()}}
    head, properties = only_message(lab, annotation)
    assert head["event"] == ODD_TEXT
    assert {**constants, "large": "9007199254740993", "nul": "a\ufffdb"} == properties
    assert lab.run(annotation).counts.delivered == 1
    assert [event.event for event in lab.posthog.project.events] == [ODD_TEXT]


def test_columns_match_without_regard_to_case_and_keep_the_spelling_of_the_annotation(lab: Lab) -> None:
    lab.build(f'select {BASE}, 5 as "Amount"')
    odd = {**EVENT, "sync_key": {"event_id": "ID"}, "distinct_id": "PERSON", "timestamp": "Seen_At"}
    assert only_message(lab, {**odd, "properties": ["AMOUNT"]})[1] == {"AMOUNT": 5}
    assert only_message(lab, {**odd, "properties": "all", "exclude": ["amounT"]})[1] == {"id": 1}


def test_columns_that_differ_in_case_only_are_told_apart(lab: Lab) -> None:
    if lab.server.kind == "duckdb":
        pytest.skip("DuckDB's columns differ in more than case")
    lab.build(f'select {BASE}, 5 as "Amount", 6 as amount')
    assert only_message(lab, {**EVENT, "properties": ["Amount", "amount"]})[1] == {"Amount": 5, "amount": 6}
    assert only_message(lab, {**EVENT, "properties": "all", "exclude": ["Amount"]})[1] == {"id": 1, "amount": 6}
    (problem,) = problems(lab, {**EVENT, "properties": ["AMOUNT"]})
    assert "`AMOUNT` could be `Amount` or `amount`" in problem


def test_every_problem_of_the_columns_is_told_at_once(lab: Lab) -> None:
    binary = "cast('x' as bytea)" if lab.server.kind == "postgres" else "cast('x' as blob)"
    lab.build(
        f"select {BASE}, {binary} as photo, {binary} as scan, cast(1.5 as float8) as score, "
        "cast('[1]' as json) as doc, true as flag, 'x' as label"
    )
    photo, scan = "column `photo` has type", "column `scan` has type"
    found = problems(lab, {**EVENT, "properties": "all"})
    assert [name in problem for name, problem in zip((photo, scan), found, strict=True)] == [True, True]
    assert {"photo", "scan"}.isdisjoint(
        only_message(lab, {**EVENT, "properties": "all", "exclude": ["photo", "Scan"]})[1]
    )
    found = problems(
        lab,
        {
            **EVENT,
            "sync_key": {"event_id": "score"},
            "distinct_id": "doc",
            "event": "doc",
            "timestamp": "label",
            "cursor": {"column": "flag"},
            "groups": {"company": "score"},
            "properties": {"a": "photo", "b": "lable", "c": "label", "d": "nothing_like_it"},
        },
    )
    expected = {
        "sync_key.event_id": "`score` has type",
        "distinct_id": "`doc` has type",
        "event": "`doc` has type",
        "timestamp": "`label` has type",
        "cursor.column": "`flag` has type",
        "groups.company": "`score` has type",
        "properties.a": "`photo` has type",
        "properties.b": "Did you mean `label`?",
        "properties.d": "It has: doc, flag, id,",
    }
    by_path = {problem.split(": ")[0]: problem for problem in found}
    assert set(expected) == set(by_path)
    assert [path for path, words in expected.items() if words not in by_path[path]] == []


@pytest.mark.parametrize(
    ("in_duckdb", "in_postgres"),
    [("bit", "bit(3)"), ("blob[]", "bytea[]"), ("struct(a blob)", "point"), ("union(a integer)", "int4range")],
)
def test_a_type_without_a_json_form_is_a_problem(lab: Lab, in_duckdb: str, in_postgres: str) -> None:
    kind = in_duckdb if lab.server.kind == "duckdb" else in_postgres
    lab.build(f"select {BASE}, cast(null as {kind}) as odd")
    (problem,) = problems(lab, {**EVENT, "properties": {"x": "odd"}})
    assert problem.startswith("properties.x: column `odd` has type ")
    assert "exclude" in problem
