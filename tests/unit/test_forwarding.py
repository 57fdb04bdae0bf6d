"""What PostHog should hold for an exposure: code, inputs, filters, marker; and what its code then sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from exposed import CONTACTS, EVENTS, ORDERS, PEOPLE, annotated, exposure_of
from loops_cases import PERSON, URLS

from dbt_posthog_sync.exposure import ForwardedUserId, Forwarding
from dbt_posthog_sync.forwarding import INPUTS, TEMPLATES
from dbt_posthog_sync.forwarding.advice import advice_on
from dbt_posthog_sync.forwarding.feed import feed_of
from dbt_posthog_sync.forwarding.function import HogTemplate, read_template
from dbt_posthog_sync.forwarding.marker import KeyMark, Marker
from dbt_posthog_sync.forwarding.own_code import TemplateChanged, own_code
from dbt_posthog_sync.forwarding.trial import made_up_globals, read_trial
from dbt_posthog_sync.forwarding.wanted import Blocked, WantedFunction, wanted_function
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import LoopsObject
from dbt_posthog_sync.testing.hog_run import run
from dbt_posthog_sync.testing.loops_templates import LOOPS_TEMPLATES


def template(kind: LoopsObject) -> HogTemplate:
    found = read_template(next(one for one in LOOPS_TEMPLATES if one["id"] == TEMPLATES[kind]))
    assert found is not None
    return found


def wanted_of(annotation: Mapping[str, Any]) -> WantedFunction:
    exposure = exposure_of(annotation)
    assert isinstance(exposure.route, Forwarding)
    wanted = wanted_function(exposure, exposure.route, template(exposure.object))
    assert isinstance(wanted, WantedFunction), wanted
    return wanted


@dataclass(frozen=True)
class Case:
    """An exposure, an event and its person; and the body of the request, without the address."""

    annotation: Mapping[str, Any]
    body: Mapping[str, Any]
    person: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] = field(default_factory=dict)
    has_own_code: bool = False


LOWER = {"template": "{lower(person.properties.plan)}-{event.distinct_id}"}
LISTS = {"mailing_lists": {"l2": False, "l1": True}}
SENT = {"l1": True, "l2": False}
ORDER = {"eventName": "order", "eventProperties": {}}
CASES = {
    "contact": Case(CONTACTS, {"userId": PERSON}),
    "contact by distinct_id": Case({**CONTACTS, "user_id": "distinct_id"}, {"userId": "u1"}),
    "contact without a userId": Case({**CONTACTS, "user_id": "none"}, {}, has_own_code=True),
    "contact with lists": Case({**CONTACTS, **LISTS}, {"userId": PERSON, "mailingLists": SENT}),
    "contact with lists and no userId": Case(
        {**CONTACTS, **LISTS, "user_id": "none"}, {"mailingLists": SENT}, has_own_code=True
    ),
    "contact by default": Case(
        {name: value for name, value in CONTACTS.items() if name != "properties"},
        {"userId": PERSON, "firstName": "Ann"}, person={"firstname": "Ann", "lastname": ""},
    ),
    "contact with properties": Case(
        {**CONTACTS, "properties": {"a": "plan", "b": "first name", "c": "o'clock`", "n": "count", "t": LOWER}},
        {"userId": PERSON, "a": "PRO", "b": "Ann", "c": "x", "n": 0, "t": "pro-u1"},
        person={"plan": "PRO", "first name": "Ann", "o'clock`": "x", "count": 0},
    ),
    "contact with constants": Case(
        {**CONTACTS, "properties": {"a": {"value": "{no} \\ 'template'"}, "b": {"value": False}, "c": {"value": 3}}},
        {"userId": PERSON, "a": "{no} \\ 'template'", "b": False, "c": 3},
    ),
    "contact with all properties": Case(
        {**CONTACTS, "include_all_properties": True, "properties": {"plan": "tier"}, "user_id": "distinct_id"},
        {"userId": "u1", "email": "ann@example.com", "plan": "gold", "tier": "gold", "vip": False},
        person={"plan": "pro", "tier": "gold", "vip": False, "$browser": "x", "note": None},
    ),
    "event": Case(EVENTS, {"userId": PERSON, **ORDER}),
    "event by distinct_id": Case({**EVENTS, "user_id": "distinct_id"}, {"userId": "u1", **ORDER}, has_own_code=True),
    "event without a userId": Case({**EVENTS, "user_id": "none"}, ORDER, has_own_code=True),
    "event with lists": Case({**EVENTS, **LISTS}, {"userId": PERSON, **ORDER, "mailingLists": SENT}, has_own_code=True),
    "event with properties": Case(
        {**EVENTS, "properties": ["amount", "$pathname"], **LISTS, "user_id": "distinct_id"},
        {"userId": "u1", **ORDER, "eventProperties": {"amount": 0, "$pathname": "/x"}, "mailingLists": SENT},
        event={"amount": 0, "$pathname": "/x", "other": 1}, has_own_code=True,
    ),
    "event with all properties": Case(
        {**EVENTS, "include_all_properties": True},
        {"userId": PERSON, "eventName": "order", "eventProperties": {"amount": 3}}, event={"amount": 3, "$lib": "x"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_wanted_function_sends(name: str) -> None:
    case, sent = CASES[name], []
    wanted = wanted_of(case.annotation)
    given = {
        "event": {"event": "order", "distinct_id": "u1", "properties": dict(case.event)},
        "person": {"id": PERSON, "properties": {"email": "ann@example.com", **case.person}},
    }
    configuration = wanted.configuration({"value": "key"})

    def fetch(url: str, options: Mapping[str, Any]) -> tuple[int, Any]:
        sent.append((url, options["body"]))
        return 200, {}

    done = run(configuration["hog"], configuration["inputs"], given, fetch)
    assert done.errors == ()
    assert sent == [(URLS[wanted.template.id], {"email": "ann@example.com", **case.body})]
    assert wanted.has_own_code is case.has_own_code
    assert (wanted.code == wanted.template.code) is not case.has_own_code


def test_filters_are_all_spelled_out() -> None:
    plain = wanted_of(CONTACTS).filters
    assert plain["events"] == [
        {"id": "$identify", "name": "$identify", "type": "events", "order": 0},
        {"id": "$set", "name": "$set", "type": "events", "order": 1},
    ]
    assert (plain["filter_test_accounts"], plain["properties"], plain["actions"]) == (True, [], [])
    rich = {
        "events": [{"name": "order", "properties": [{"key": "total", "operator": "gt", "value": 5}]}],
        "properties": [{"key": "plan", "value": ["a", "b"], "type": "person"}],
        "filter_test_accounts": False,
    }
    found = wanted_of({**EVENTS, "filters": rich}).filters
    condition = {"key": "total", "type": "event", "operator": "gt", "value": 5}
    assert found["events"] == [
        {"id": "order", "name": "order", "type": "events", "order": 0, "properties": [condition]}
    ]
    assert found["properties"] == [{"key": "plan", "type": "person", "operator": "exact", "value": ["a", "b"]}]
    assert found["filter_test_accounts"] is False
    is_set = {"properties": [{"key": "plan", "operator": "is_set"}]}
    assert wanted_of({**EVENTS, "filters": is_set}).filters["properties"][0]["value"] == "is_set"


def test_mailing_lists_are_no_template_of_the_other_kind() -> None:
    lists = wanted_of({**CONTACTS, **LISTS}).inputs["properties"]["value"]["mailingLists"]
    assert lists == "{ {'l1': true, 'l2': false} }"


# Code of its own.


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("let payload := {\n  'userId': event.distinct_id,\n}", "userId"),
        ("let payload := {\n'userId': person.id,\n'userId': person.id,\n}", "2 times"),
        ("let body := {\n'userId': person.id,\n}\nlet res := fetch('x', {'body': body})", "let payload"),
        ("let payload := {\n'userId': person.id,\n}\nlet res := fetch('x', {'data': payload})", "body"),
        ("let payload := {\n'userId': person.id,\n}\nfetch('x', {'body': payload})\nfetch('y')", "2 times"),
        ("let payload := {\n'userId': person.id,\n}\n  return fetch('x', {'body': payload})", "beginning of a line"),
    ],
)
def test_template_of_another_shape_is_refused(code: str, problem: str) -> None:
    with pytest.raises(TemplateChanged, match=problem):
        own_code(code, "template-loops-event", ForwardedUserId.DISTINCT_ID, (("l1", True),))


def test_small_changes_of_the_template_do_no_harm() -> None:
    code = 'let  payload := {\n\t"userId" : person.id\n}\nfetch(url, {"body": payload})'
    found = own_code(code, "t", ForwardedUserId.DISTINCT_ID, (("l'1", True),))
    assert '"userId" : event.distinct_id\n' in found
    assert "payload.mailingLists := {'l\\'1': true}\n\nfetch(" in found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"code": "return"}, "has changed: the line"),
        ({"inputs_schema": ({"key": "apiKey"},)}, "has no input `email`, `include_all_properties` and `properties`"),
        ({"inputs_schema": tuple({"key": key, "required": True} for key in (*INPUTS, "region"))},
         "requires the input `region`"),
    ],
)  # fmt: skip
def test_what_is_not_known_of_a_template_blocks(change: dict[str, Any], reason: str) -> None:
    exposure = exposure_of({**EVENTS, "user_id": "distinct_id"})
    assert isinstance(exposure.route, Forwarding)
    blocked = wanted_function(exposure, exposure.route, replace(template(LoopsObject.EVENTS), **change))
    assert isinstance(blocked, Blocked)
    assert reason in blocked.reason
    assert "Update dbt-posthog-sync" in blocked.advice


# Marker.


def test_marker_is_found_in_a_description() -> None:
    exposure = exposure_of(CONTACTS)
    mark = KeyMark.of(Secret("the key"))
    text = wanted_of(CONTACTS).description(mark)
    found = Marker.in_text(text)
    assert found == Marker("shop", "loops", LoopsObject.CONTACTS, mark)
    assert found.names(exposure)
    assert "the key" not in text
    assert (mark.fits(Secret("the key")), mark.fits(Secret("another"))) == (True, False)
    assert KeyMark.of(Secret("the key")) != mark  # salted
    without = Marker.in_text(wanted_of(CONTACTS).description(None))
    assert without is not None
    assert without.key is None
    assert Marker.in_text("Update contacts in Loops") is None


# Trials.


@pytest.mark.parametrize(
    ("annotation", "person", "event"),
    [
        ({**CONTACTS, "email": "mail"}, {"mail", "email"}, set()),
        ({**CONTACTS, "email": {"template": "{person.properties.`e mail` ?? event.properties.email}"}},
         {"e mail", "email"}, {"email"}),
    ],
)  # fmt: skip
def test_made_up_person_has_an_address_where_it_is_looked_for(
    annotation: dict[str, Any], person: set[str], event: set[str]
) -> None:
    given = made_up_globals(wanted_of(annotation))
    assert (set(given["person"]["properties"]), set(given["event"]["properties"])) == (person, event)
    assert given["event"]["event"] == "$identify"


@pytest.mark.parametrize("payload", [None, [], {}, {"status": 1}])
def test_what_is_no_trial_is_not_read(payload: Any) -> None:
    assert read_trial(payload) is None


def test_line_that_is_no_request_stays_a_line() -> None:
    logs = [{"message": "fetch('x', {broken})"}, {"message": "hello"}, {"message": "fetch('y', {\"body\": 1})"}]
    found = read_trial({"status": "success", "logs": logs})
    assert found is not None
    assert ([one.url for one in found.requests], found.lines) == (["y"], ("fetch('x', {broken})", "hello"))


# Feeds and advice.


@pytest.mark.parametrize(
    ("sync", "filters", "feeds"),
    [
        (PEOPLE, None, True),
        (PEOPLE, {"events": ["$identify"]}, False),
        (PEOPLE, {"events": ["other", "$set"]}, True),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "is_not", "value": "dbt-posthog-sync"}]}, False),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "is_not", "value": ["web", "dbt-posthog-sync"]}]}, False),
        (PEOPLE, {"properties": [{"key": "$lib", "value": "web"}]}, False),
        (PEOPLE, {"properties": [{"key": "$lib", "value": "dbt-posthog-sync"}]}, True),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "icontains", "value": "posthog"}]}, True),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "not_icontains", "value": "dbt"}]}, False),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "is_not_set"}]}, False),
        (PEOPLE, {"properties": [{"key": "$lib", "operator": "is_set"}]}, True),
        (PEOPLE, {"properties": [{"key": "$lib", "value": "web", "type": "person"}]}, True),
        (PEOPLE, {"events": [{"name": "$set", "properties": [{"key": "$lib", "value": "web"}]}]}, False),
        ({**ORDERS, "event": {"value": "order"}}, {"events": ["order"]}, True),
        ({**ORDERS, "event": {"value": "order"}}, {"events": ["refund"]}, False),
        ({**ORDERS, "event": "name"}, {"events": ["refund"]}, True),
        ({**ORDERS, "event": "name"}, {"events": ["$set", "$identify"]}, False),
    ],
)  # fmt: skip
def test_syncs_that_set_off_a_destination_are_known(
    sync: dict[str, Any], filters: dict[str, Any] | None, feeds: bool
) -> None:
    found = annotated({**CONTACTS, **({"filters": filters} if filters else {})}, sync)
    feed = feed_of(found.syncs[0], found.exposures)
    assert (feed is not None) is feeds
    if feed is not None:
        assert (feed.exposures, feed.events_per_second) == (("loops",), 5.0)
        assert feed_of(found.syncs[0], [found.exposures[0]] * 2) == replace(feed, exposures=("loops", "loops"))


def test_column_of_event_names_feeds_what_its_rows_have() -> None:
    found = annotated({**EVENTS, "filters": {"events": ["a", "refund"]}}, {**ORDERS, "event": "name"})
    assert feed_of(found.syncs[0], found.exposures, lambda name: name == "refund") is not None
    assert feed_of(found.syncs[0], found.exposures, lambda name: name == "order") is None


def advice(annotation: Mapping[str, Any], sync: Mapping[str, Any] | None = None) -> str:
    found = annotated(annotation, sync)
    return "\n".join(advice_on(found.exposures, found.syncs))


def test_properties_that_nobody_writes_are_told() -> None:
    by_default = {name: value for name, value in CONTACTS.items() if name != "properties"}
    said = advice(by_default, PEOPLE)
    assert "`firstName` reads the person property `firstname`, and the syncs of its models do not write it." in said
    assert "They write `first_name`." in said
    assert "`lastName` reads the person property `lastname`" in said
    assert "`email`" not in said
    assert "reads the person property" not in advice(by_default, {**PEOPLE, "properties": "all"})
    assert "`email` reads the person property `mail`" in advice({**CONTACTS, "email": "mail"}, PEOPLE)


def test_flood_and_user_id_are_told() -> None:
    said = advice({**CONTACTS}, PEOPLE)
    assert "The sync `customers` sets it off with every row." in said
    assert "5 events a second at most" in said
    assert "`userId` in Loops is the UUID of the PostHog person" in said
    quiet = advice({**CONTACTS, "filters": {"events": ["$identify"]}, "user_id": "distinct_id"}, PEOPLE)
    assert "sets it off" not in quiet
    assert "UUID" not in quiet
    assert "no sync of its models sends `$identify` as its filters want it" in quiet
