"""The provisioner where PostHog answers late, not at all, or to two at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from exposed import CONTACTS, exposure_of

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.errors import ChangedMeanwhile, DestinationRefused, DestinationUnavailable, UnsafePlan
from dbt_posthog_sync.forwarding.change import Create, Keep, Update
from dbt_posthog_sync.forwarding.wanted import Blocked
from dbt_posthog_sync.hog_function_api import HogFunctionApi
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.private_api import PrivateApi, PrivateApiConfig
from dbt_posthog_sync.provisioner import Provisioner, Wish
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.testing import Arrival, LoseAnswer, StandIn, Status

KEY = "loops0123456789"
PATIENT = Patience(RetryPolicy(attempts=3, total_seconds=60), pause=lambda _: None)


@pytest.fixture
def posthog() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


def provisioner(posthog: StandIn, annotation: Mapping[str, Any] = CONTACTS) -> Provisioner:
    config = PrivateApiConfig(posthog.url, Secret(posthog.personal_key), "1")
    api = HogFunctionApi(PrivateApi(config, patience=PATIENT))
    return Provisioner(api, Wish("shop", (exposure_of(annotation),)), {"LOOPS_API_KEY": KEY})


class Faults:
    """Meets the n-th request of a kind with a fault, and calls somebody who acts meanwhile."""

    def __init__(self, end: str, fault: Any = None, *, number: int = 1, meanwhile: Any = None) -> None:
        self._end, self._fault, self._number, self._meanwhile = end, fault, number, meanwhile
        self._met = 0

    def fault_for(self, arrival: Arrival) -> Any:
        if not arrival.path.endswith(self._end):
            return None
        self._met += 1
        if self._met != self._number:
            return None
        if self._meanwhile is not None:
            self._meanwhile()
        return self._fault


def made(posthog: StandIn) -> Any:
    return posthog.forwarding.functions.all


def drifted(posthog: StandIn) -> Update:
    """A function that was made, and then renamed in PostHog."""
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)
    provisioner(posthog).apply(change)
    made(posthog)[0].values["name"] = "by hand"
    (update,) = provisioner(posthog).look().changes
    assert isinstance(update, Update)
    return update


def test_change_whose_answer_is_lost_is_repeated_and_is_no_conflict(posthog: StandIn) -> None:
    update = drifted(posthog)
    posthog.inject(api=Faults(f"{update.function.id}/", LoseAnswer()))
    assert provisioner(posthog).apply(update).function.name == "loops"
    assert isinstance(provisioner(posthog).look().changes[0], Keep)
    assert [one.status for one in posthog.requests if one.method == "PATCH"][-2:] == [0, 409]


def test_conflict_with_somebody_is_told(posthog: StandIn) -> None:
    update = drifted(posthog)
    posthog.forwarding.functions.update(made(posthog)[0], {"name": "by somebody"})
    with pytest.raises(ChangedMeanwhile, match="loops: somebody has changed"):
        provisioner(posthog).apply(update)
    assert made(posthog)[0].values["name"] == "by somebody"


def test_making_whose_answer_is_lost_makes_one(posthog: StandIn) -> None:
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)
    posthog.inject(api=Faults("/hog_functions/", LoseAnswer()))
    assert provisioner(posthog).apply(change).function.is_enabled
    assert [one.is_enabled for one in made(posthog)] == [True]


def test_making_that_failed_is_not_repeated(posthog: StandIn) -> None:
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)
    posthog.inject(api=Faults("/hog_functions/", Status(503)))
    with pytest.raises(DestinationUnavailable):
        provisioner(posthog).apply(change)
    assert made(posthog) == ()


def test_two_that_make_at_once_enable_neither(posthog: StandIn) -> None:
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)

    def other() -> None:
        body = change.wanted.body(Secret("k"), None)
        posthog.forwarding.functions.create({**body, "template_id": "template-loops"})

    posthog.inject(api=Faults("/hog_functions/", meanwhile=other))
    with pytest.raises(UnsafePlan, match="2 functions carry its marker now"):
        provisioner(posthog).apply(change)
    assert [one.is_enabled for one in made(posthog)] == [False, False]


def test_refusal_does_not_repeat_the_key(posthog: StandIn) -> None:
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)
    body = f'{{"type":"validation_error","detail":"what is {KEY} of ann@example.com"}}'
    posthog.inject(api=Faults("/hog_functions/", Status(400, body=body, content_type="application/json")))
    with pytest.raises(DestinationRefused) as raised:
        provisioner(posthog).apply(change)
    assert "what is *** of ***" in str(raised.value)


def test_project_without_the_templates_is_told(posthog: StandIn) -> None:
    body = '{"results": []}'
    posthog.inject(api=Faults("/hog_function_templates/", Status(200, body=body, content_type="application/json")))
    with pytest.raises(DestinationRefused, match="does not offer the template `template-loops`"):
        provisioner(posthog).look()


def test_template_of_another_shape_blocks_what_needs_a_copy_of_it(posthog: StandIn) -> None:
    schema = [{"key": key} for key in ("apiKey", "email", "include_all_properties", "properties")]
    template = {"id": "template-loops", "code": "fetch('https://app.loops.so', {'body': {}})", "inputs_schema": schema}
    body = json.dumps({"results": [template]})
    posthog.inject(api=Faults("/hog_function_templates/", Status(200, body=body, content_type="application/json")))
    (blocked,) = provisioner(posthog, {**CONTACTS, "user_id": "none"}).look().changes
    assert isinstance(blocked, Blocked)
    assert "the line `'userId': person.id` in it is not there" in blocked.reason
    posthog.inject(api=Faults("/hog_function_templates/", Status(200, body=body, content_type="application/json")))
    (change,) = provisioner(posthog).look().changes
    assert isinstance(change, Create)  # what needs no copy takes the template as it is


def test_every_page_of_functions_is_read(posthog: StandIn) -> None:
    update = drifted(posthog)
    wanted = update.wanted.body(Secret("k"), None)
    for number in range(100):
        body = {**wanted, "name": f"n{number}", "description": "", "template_id": "template-loops"}
        posthog.forwarding.functions.create(body)
    config = PrivateApiConfig(posthog.url, Secret(posthog.personal_key), "1")
    assert len(HogFunctionApi(PrivateApi(config, patience=PATIENT)).functions()) == 101
