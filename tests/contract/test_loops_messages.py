"""Rows in, requests to Loops out: a table of cases, the same on every warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab
from mailroom import CONTACTS, EVENTS, Mailroom

from dbt_posthog_sync.annotation import check_annotations
from dbt_posthog_sync.errors import AnnotationError
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.testing import LoopsStandIn

A = "anna@example.com"
ROW = (
    f"select 1 as id, '{A}' as email, 'c1' as customer, 'Anna' as first_name, cast(null as varchar(20)) as plan, "
    "12.50 as ltv, true as vip, date '2026-01-02' as born, timestamp '2026-01-02 03:04:05' as seen_at, "
    "'' as note, 0 as logins, false as churned"
)
PROPERTIES = {"firstName": "first_name", "plan": "plan", "note": "note", "logins": "logins", "churned": "churned"}


@pytest.fixture
def room(lab: Lab) -> Iterator[Mailroom]:
    with LoopsStandIn() as loops:
        yield Mailroom(lab, loops)


CONTACT_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the address alone": ({}, {"email": A}),
    "address and user id": ({"user_id": "customer"}, {"email": A, "userId": "c1"}),
    "what is empty empties the property": (
        {"properties": PROPERTIES},
        {"email": A, "firstName": "Anna", "plan": None, "note": None, "logins": 0, "churned": False},
    ),
    "what is empty is left out, as PostHog's template does": (
        {"properties": PROPERTIES, "nulls": "skip"},
        {"email": A, "firstName": "Anna", "logins": 0, "churned": False},
    ),
    "types": (
        {"properties": ["ltv", "vip", "born", "seen_at"], "time_zone": "Europe/Berlin"},
        {"email": A, "ltv": 12.5, "vip": True, "born": "2026-01-02", "seen_at": "2026-01-02T02:04:05Z"},
    ),
    "constants": (
        {"properties": {"source": {"value": "dbt"}, "size": {"value": 2}, "none": {"value": None}}},
        {"email": A, "source": "dbt", "size": 2, "none": None},
    ),
    "mailing lists": (
        {"mailing_lists": {"list1": True, "list2": "no"}},
        {"email": A, "mailingLists": {"list1": True, "list2": False}},
    ),
    "every column, and what is mapped goes before it": (
        {"include_all_properties": True, "exclude": ["born", "seen_at", "ltv"], "properties": {"vip": "churned"}},
        {
            "email": A, "id": 1, "customer": "c1", "first_name": "Anna", "plan": None, "vip": False, "note": None,
            "logins": 0, "churned": False,
        },
    ),
    "a subscription that is mapped": ({"properties": {"subscribed": "vip"}}, {"email": A, "subscribed": True}),
}  # fmt: skip

EVENT_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the address alone": ({}, {"email": A, "eventName": "order completed"}),
    "a name from a column": ({"event": "first_name"}, {"email": A, "eventName": "Anna"}),
    "properties stand apart, and what is empty is left out": (
        {"properties": PROPERTIES, "user_id": "customer"},
        {
            "email": A,
            "userId": "c1",
            "eventName": "order completed",
            "eventProperties": {"firstName": "Anna", "logins": 0, "churned": False},
        },
    ),
    "nothing but empty properties": ({"properties": ["plan", "note"]}, {"email": A, "eventName": "order completed"}),
    "mailing lists": (
        {"properties": ["logins"], "mailing_lists": {"list1": False}},
        {
            "email": A,
            "eventName": "order completed",
            "eventProperties": {"logins": 0},
            "mailingLists": {"list1": False},
        },
    ),
}


@pytest.mark.parametrize("case", CONTACT_CASES)
def test_a_row_becomes_a_contact(room: Mailroom, case: str) -> None:
    changes, expected = CONTACT_CASES[case]
    room.lab.build(ROW)
    assert room.bodies({**CONTACTS, **changes}) == [expected]


@pytest.mark.parametrize("case", EVENT_CASES)
def test_a_row_becomes_an_event(room: Mailroom, case: str) -> None:
    changes, expected = EVENT_CASES[case]
    room.lab.build(ROW)
    assert room.bodies({**EVENTS, **changes}) == [expected]


def test_an_event_without_address_is_known_by_its_user_id(room: Mailroom) -> None:
    room.lab.build("select 1 as id, cast(null as varchar(30)) as email, 'c1' as customer")
    assert room.bodies({**EVENTS, "user_id": "customer"}) == [{"userId": "c1", "eventName": "order completed"}]


def test_an_address_is_trimmed_and_quotes_survive(room: Mailroom) -> None:
    room.lab.build("""select 1 as id, ' o''hara@example.com ' as email, 'say "hi"\\' as word""")
    body = {"email": "o'hara@example.com", "word": 'say "hi"\\'}
    assert room.bodies({**CONTACTS, "properties": ["word"]}) == [body]


REJECTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no address": ({"user_id": "id"}, "select 1 as id, '' as email", "the e-mail address is missing"),
    "no key": ({}, "select 1 as id, cast(null as varchar(9)) as email", "the sync key is null"),
    "no @": ({}, "select 1 as id, 'anna' as email", "the e-mail address has no @"),
    "one contact twice": (
        {},
        f"select 1 as id, '{A}' as email union all select 2, 'ANNA@example.com'",
        "the sync key occurs more than once in the model",
    ),
    "a list in a JSON column": (
        {"properties": ["tags"]},
        f"select 1 as id, '{A}' as email, cast('[1]' as json) as tags",
        "a property is a list or an object, and Loops takes single values only",
    ),
}


@pytest.mark.parametrize("case", REJECTS)
def test_a_row_that_loops_would_refuse_is_rejected(room: Mailroom, case: str) -> None:
    changes, select, reason = REJECTS[case]
    room.lab.build(select)
    rows = 2 if " union all " in select else 1
    assert room.plan({**CONTACTS, **changes}).staged.rejected == ((reason, rows),)


def test_an_event_of_nobody_is_rejected(room: Mailroom) -> None:
    room.lab.build("select 1 as id, '' as email, cast(null as varchar(9)) as customer, ' ' as name")
    annotation = {**EVENTS, "user_id": "customer"}
    reason = "there is neither an e-mail address nor a user id"
    assert room.plan(annotation).staged.rejected == ((reason, 1),)
    del annotation["email"]
    assert room.plan(annotation).staged.rejected == ((reason, 1),)
    assert room.plan({**EVENTS, "event": "name", "email": "name"}).staged.rejected_rows == 1


def test_single_values_of_a_json_column_are_sent(room: Mailroom) -> None:
    room.lab.build(
        f"select 1 as id, '{A}' as email, cast('7' as json) as a, cast('[]' as json) as b, cast('\"x\"' as json) as c"
    )
    annotation = {**CONTACTS, "properties": ["a", "b", "c"], "nulls": "skip"}
    assert room.bodies(annotation) == [{"email": A, "a": 7, "c": "x"}]


def test_columns_that_keep_out_of_posthog_keep_out_of_loops(room: Mailroom) -> None:
    room.lab.build(f"select '{A}' as email, '4111' as card, 'pro' as plan_name, 1 as \"$n\"")
    meta = {"card": {"exclude": True}, "plan_name": {"property": "plan"}}
    columns = {name: {"name": name, "config": {"meta": {"posthog_sync": value}}} for name, value in meta.items()}
    annotation = {**CONTACTS, "include_all_properties": True}
    document = room.manifest(annotation)
    for node in document["nodes"].values():
        node["columns"] = columns
    (sync,) = check_annotations(manifest_from(document)).syncs
    (resolved,) = room.planner().resolve([sync])
    assert [mapping.name for mapping in resolved.properties] == ["plan"]


def test_columns_that_cannot_go_to_loops_are_told_all_at_once(room: Mailroom) -> None:
    array = "[1, 2]" if room.lab.server.kind == "duckdb" else "array[1, 2]"
    room.lab.build(f"select 1 as email, {array} as tags, 'yes' as vip, true as subscribed")
    with pytest.raises(AnnotationError) as raised:
        room.resolve({**CONTACTS, "properties": {"subscribed": "vip", "tags": "tags", "x": "nowhere"}})
    told = "\n".join(problem.message for problem in raised.value.problems)
    for part in ("holds no e-mail address", "single values only", "is no yes or no", "no column `nowhere`"):
        assert part in told
    with pytest.raises(AnnotationError, match="becomes the property `subscribed`"):
        room.resolve({**CONTACTS, "email": "vip", "include_all_properties": True, "exclude": ["tags"]})
