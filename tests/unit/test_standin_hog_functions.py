"""The stand-in's hog functions over real HTTP: templates, functions, their test, and what enabled ones forward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from api_caller import Caller, event, person
from loops_cases import CASES, CONTACTS, EVENTS, URLS, Case

from dbt_posthog_sync.testing import PersonalKey, StandIn, StandInConfig
from dbt_posthog_sync.testing.captured import Outcome
from dbt_posthog_sync.testing.wire import Reply

FUNCTIONS = "/api/projects/1/hog_functions/"
TEMPLATES = "/api/projects/1/hog_function_templates/"
KEY = {"apiKey": {"value": "loops-key"}}
ANN = {"email": "ann@example.com"}
SET_ONLY = {"events": [{"id": "$set", "name": "$set", "type": "events", "order": 0}], "filter_test_accounts": True}


@pytest.fixture
def caller(posthog: StandIn) -> Caller:
    return Caller(posthog)


@pytest.fixture
def refusing() -> Iterator[StandIn]:
    """Nobody answers at Loops' address."""
    with StandIn(StandInConfig(loops_url="http://127.0.0.1:9")) as posthog:
        yield posthog


def function(case: Case = CASES[0], **more: Any) -> dict[str, Any]:
    return {"template_id": case.template, "inputs": {**KEY, **case.inputs}, "filters": SET_ONLY, **more}


def created(caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    status, found = caller(FUNCTIONS, body)
    assert status == 201, found
    made: dict[str, Any] = found
    return made


def taken(posthog: StandIn, *events: Any) -> None:
    posthog.account.take(Outcome(Reply(200), posthog.token, captured=events))


def mocked(answer: Any) -> list[tuple[str, Any]]:
    """The requests in the log of a test."""
    lines = [line["message"] for line in answer["logs"] if line["message"].startswith("fetch('")]
    return [(line[7:].partition("'")[0], json.loads(line.partition("', ")[2][:-1])) for line in lines]


# Templates.


def test_templates_need_no_key_at_their_public_place(posthog: StandIn) -> None:
    status, answer = Caller(posthog, "")("/api/public_hog_function_templates/?type=destination")
    assert (status, [one["id"] for one in answer["results"]]) == (200, [CONTACTS, EVENTS])


def test_template_tells_its_code_and_filters(caller: Caller) -> None:
    status, template = caller(TEMPLATES + CONTACTS + "/")
    assert (status, [one["id"] for one in template["filters"]["events"]]) == (200, ["$identify", "$set"])
    assert "contacts/update" in template["code"]
    assert caller(TEMPLATES + "template-other/")[0] == 404


# What is kept.


def test_code_comes_from_the_template_and_filters_do_not(caller: Caller, posthog: StandIn) -> None:
    template = caller(TEMPLATES + CONTACTS + "/")[1]
    made = created(caller, {"template_id": CONTACTS, "inputs": {**KEY, **CASES[0].inputs}})
    assert (made["hog"], made["inputs_schema"], made["filters"]) == (template["code"], template["inputs_schema"], {})
    assert made["enabled"] is False
    caller.change(FUNCTIONS + made["id"] + "/", {"enabled": True})
    taken(posthog, person("u1", **ANN), event("whatever", "u1", 1))
    assert len(posthog.forwarding.sent) == 2  # without filters it fires on everything


def test_secret_is_masked_and_the_mask_keeps_it(caller: Caller, posthog: StandIn) -> None:
    made = created(caller, function())
    assert made["inputs"]["apiKey"] == {"secret": True}
    path = FUNCTIONS + made["id"] + "/"
    status, changed = caller.change(path, {"inputs": {**made["inputs"], "email": {"value": "x@example.com"}}})
    assert (status, changed["inputs"]["email"]) == (200, {"value": "x@example.com"})
    assert posthog.forwarding.functions.all[0].secrets == KEY
    assert "loops-key" not in json.dumps(caller(FUNCTIONS + "?full=true")[1])


def test_short_list_has_no_inputs(caller: Caller) -> None:
    created(caller, function())
    assert "inputs" not in caller(FUNCTIONS)[1]["results"][0]
    assert caller(FUNCTIONS + "?full=true&limit=1")[1]["results"][0]["inputs"]["email"]


def test_deleted_function_is_not_listed(caller: Caller) -> None:
    path = FUNCTIONS + created(caller, function())["id"] + "/"
    assert caller.change(path, {"deleted": True})[0] == 200
    assert (caller(FUNCTIONS)[1]["results"], caller(path)[0]) == ([], 404)
    assert caller(path, method="DELETE")[0] == 405


def test_write_on_an_old_version_is_refused(caller: Caller) -> None:
    made = created(caller, function())
    path = FUNCTIONS + made["id"] + "/"
    assert caller.change(path, {"name": "A", "base_updated_at": made["updated_at"]})[0] == 200
    status, answer = caller.change(path, {"name": "B", "base_updated_at": made["updated_at"]})
    assert (status, answer["code"], caller(path)[1]["name"]) == (409, "stale_update", "A")


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"template_id": "template-other"}, "template_id"),
        (function(inputs={}), "inputs__apiKey"),
        (function(inputs={"apiKey": {"secret": True}, **CASES[0].inputs}), "inputs__apiKey"),
        (function(inputs={**KEY, **CASES[0].inputs, "properties": {"value": "x"}}), "inputs__properties"),
        (function(inputs={**KEY, **CASES[0].inputs, "email": {"value": "{1 +}"}}), "hog"),
        (function(hog="let x = 1"), "hog"),
        (function(hog="// " + "x" * 102_400), "hog"),
        (function(filters={"properties": [{"key": "a", "operator": "is_date_exact"}]}), "filters"),
        ({}, "hog"),
    ],
)
def test_what_posthog_refuses_is_refused(caller: Caller, body: dict[str, Any], attr: str) -> None:
    status, answer = caller(FUNCTIONS, body)
    assert (status, answer["attr"]) == (400, attr)


def test_draft_keeps_a_function_from_being_enabled(caller: Caller, posthog: StandIn) -> None:
    made = created(caller, function())
    posthog.forwarding.functions.all[0].draft = {"hog": "return"}
    assert caller.change(FUNCTIONS + made["id"] + "/", {"enabled": True})[0] == 400


def test_function_that_posthog_stopped_is_degraded_when_enabled(caller: Caller, posthog: StandIn) -> None:
    made = created(caller, function())
    posthog.forwarding.functions.all[0].state = 3
    assert caller.change(FUNCTIONS + made["id"] + "/", {"enabled": True})[1]["status"]["state"] == 2


def test_mappings_take_the_place_of_event_filters(caller: Caller) -> None:
    made = created(caller, function(mappings=[]))
    status, changed = caller.change(FUNCTIONS + made["id"] + "/", {"mappings": [{"name": "m"}]})
    assert (status, changed["filters"]) == (200, {"filter_test_accounts": True})


@pytest.mark.parametrize(
    ("path", "body", "scope"),
    [
        (TEMPLATES, None, "hog_function:read"),
        (FUNCTIONS, None, "hog_function:read"),
        (FUNCTIONS, function(), "hog_function:write"),
        (FUNCTIONS + "new/invocations/", {}, "hog_function:write"),
    ],
)
def test_each_needs_its_scope(path: str, body: Any, scope: str) -> None:
    keys = (PersonalKey("phx_without", ("person:read",)), PersonalKey("phx_with", (scope,)))
    with StandIn(StandInConfig(personal_keys=keys)) as posthog:
        status, answer = Caller(posthog, "phx_without")(path, body)
        assert (status, answer["detail"]) == (403, f"API key missing required scope '{scope}'")
        assert Caller(posthog, "phx_with")(path, body)[0] != 403


# The test of a function.


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_template_sends_what_posthogs_sends(caller: Caller, case: Case) -> None:
    template = caller(TEMPLATES + case.template + "/")[1]
    configuration = {
        "hog": template["code"], "inputs_schema": template["inputs_schema"], "inputs": {**KEY, **case.inputs},
        "filters": {}, "type": "destination",
    }  # fmt: skip
    body = {"configuration": configuration, "globals": case.given}
    status, answer = caller(FUNCTIONS + "new/invocations/", body)
    assert (status, answer["status"]) == (200, "success"), answer
    headers = {"Authorization": "Bearer loops-key", "Content-Type": "application/json"}
    request = {"method": "POST", "headers": headers, "body": case.body}
    assert mocked(answer) == ([] if case.body is None else [(URLS[case.template], request)])


def test_test_keeps_the_filters_and_the_secret(caller: Caller, posthog: StandIn) -> None:
    made = created(caller, function())
    path = FUNCTIONS + made["id"] + "/invocations/"
    other = replace(CASES[0], event_name="other")
    assert caller(path, {"configuration": made, "globals": other.given})[1]["status"] == "skipped"
    sent = mocked(caller(path, {"configuration": made, "globals": CASES[0].given})[1])
    assert sent[0][1]["headers"]["Authorization"] == "Bearer loops-key"
    assert posthog.forwarding.sent == ()  # mocked
    body = {"configuration": made, "globals": CASES[0].given, "mock_async_functions": False}
    assert caller(path, body)[1]["status"] == "success"
    assert [one.body for one in posthog.forwarding.sent] == [CASES[0].body]


def test_test_needs_a_configuration_and_an_event(caller: Caller) -> None:
    assert caller(FUNCTIONS + "new/invocations/", {})[0] == 400
    assert caller(FUNCTIONS + "new/invocations/", {"configuration": {}})[1]["errors"] == ["Missing event"]
    assert caller(FUNCTIONS + "nobody/invocations/", {})[0] == 404


# Forwarding.


def enabled(caller: Caller, **more: Any) -> str:
    made = created(caller, function(enabled=True, **more))
    return str(made["id"])


def test_enabled_function_forwards_what_its_filters_match(caller: Caller, posthog: StandIn) -> None:
    enabled(caller)
    created(caller, function())  # disabled
    taken(posthog, person("u1", **ANN), event("order", "u1", 1), person("u2", plan="pro"))
    uuid = posthog.project.persons[0].uuid
    assert [one.body for one in posthog.forwarding.sent] == [{**ANN, "userId": uuid}]


def test_test_accounts_are_filtered_as_the_project_says() -> None:
    inner = {"key": "email", "type": "person", "operator": "not_icontains", "value": "@example.com"}
    with StandIn(StandInConfig(test_account_filters=(inner,))) as posthog:
        enabled(Caller(posthog))
        taken(posthog, person("u1", **ANN), person("u2", email="bert@other.org"))
        assert [one.body["email"] for one in posthog.forwarding.sent] == ["bert@other.org"]


@pytest.mark.parametrize(
    ("operator", "value", "fires"),
    [
        ("exact", ["free", "pro"], True),
        ("is_not", "pro", False),
        ("icontains", "PR", True),
        ("is_set", None, True),
        ("is_not_set", None, False),
        ("regex", "^p.o$", True),
        ("not_regex", "^p", False),
        ("gt", 3, False),
        ("gte", 3, True),
        ("lt", 4, True),
        ("lte", 2, False),
    ],
)
def test_event_filters_may_have_conditions(
    caller: Caller, posthog: StandIn, operator: str, value: Any, fires: bool
) -> None:
    key = "amount" if operator in ("gt", "gte", "lt", "lte") else "plan"
    condition = {"key": key, "type": "event", "operator": operator, "value": value}
    enabled(caller, filters={"events": [{"id": "order", "properties": [condition]}]})
    taken(posthog, person("u1", **ANN), event("order", "u1", 1, plan="pro", amount=3))
    assert bool(posthog.forwarding.sent) is fires


def test_request_is_tried_three_times_and_then_lost(refusing: StandIn) -> None:
    caller = Caller(refusing)
    path = FUNCTIONS + enabled(caller) + "/metrics/totals/"
    taken(refusing, person("u1", **ANN))
    assert [(one.attempt, one.status) for one in refusing.forwarding.sent] == [(1, 0), (2, 0), (3, 0)]
    assert caller(path)[1] == {"totals": {"succeeded": 0, "failed": 1}}


def test_reset_forgets_requests_and_keeps_functions(caller: Caller, posthog: StandIn) -> None:
    enabled(caller)
    taken(posthog, person("u1", **ANN))
    posthog.reset()
    assert (posthog.forwarding.sent, len(posthog.forwarding.functions.all)) == ((), 1)
