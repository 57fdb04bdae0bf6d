"""The proof: what landed against what was sent, how long it is waited for, and what PostHog's warnings mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import pytest

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.destinations.posthog import LIBRARY, RUN_ID_PROPERTY
from dbt_posthog_sync.errors import DestinationRefused, ScopeMissing
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.ingestion_warning import MEANINGS, Effect, meaning_of
from dbt_posthog_sync.private_api import PrivateApi, PrivateApiConfig
from dbt_posthog_sync.proof import Dispatch, Landed, Proof, dispatch_of
from dbt_posthog_sync.prover import MOST_POLLS, Prover
from dbt_posthog_sync.reporter import proof_text, proof_values
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import ObjectType
from dbt_posthog_sync.testing import CapturedEvent, PersonalKey, Script, StandIn, StandInConfig, Status

RUN, OTHER = "0190a000-0000-7000-8000-000000000001", "0190a000-0000-7000-8000-000000000002"
LONG_AGO = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SENT = {ObjectType.PERSON: 2, ObjectType.EVENT: 3}


def event(name: str, number: int, run: str = RUN, **properties: Any) -> CapturedEvent:
    known = {RUN_ID_PROPERTY: run, "$lib": LIBRARY, "$lib_version": "1"}
    uuid = f"018c0000-0000-5000-8000-{number:012d}"
    return CapturedEvent(name, f"u{number}", uuid, LONG_AGO, {**known, **properties}, "v1")


PERSONS = [event("$set", number, RUN, **{"$set": {"a": number}}) for number in (1, 2)]
EVENTS = [event("order", number) for number in (3, 4, 5)]


class Waits:
    """Pauses that let something happen instead."""

    def __init__(self, posthog: StandIn, *arrivals: list[CapturedEvent]) -> None:
        self.posthog = posthog
        self.arrivals = list(arrivals)
        self.seconds: list[float] = []

    def pause(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self.arrivals:
            self.posthog.project.take(self.arrivals.pop(0))


def proof_of(
    posthog: StandIn, sent: Mapping[ObjectType, int] = SENT, waits: Waits | None = None, **options: Any
) -> Proof:
    patience = Patience(RetryPolicy(attempts=1), pause=(waits or Waits(posthog)).pause)
    api = PrivateApi(PrivateApiConfig(posthog.url, Secret(posthog.personal_key)), patience=patience)
    return Prover(api, patience, **options).prove(Dispatch(RUN, sent, age_seconds=5))


def test_all_of_a_run_has_landed_however_old_its_events_are(posthog: StandIn) -> None:
    posthog.project.take([*PERSONS, *EVENTS, EVENTS[0], event("order", 9, OTHER)])
    proof = proof_of(posthog)
    assert (proof.missing, proof.exit_code, proof.polls, proof.advice) == (0, 0, 1, "")
    assert proof_text(proof).splitlines() == [
        f"run {RUN}: 5 of 5 messages are in PostHog",
        "  person: 2 of 2",
        "  event: 3 of 3",
    ]


def test_what_is_on_its_way_is_waited_for_as_long_as_something_comes(posthog: StandIn) -> None:
    waits = Waits(posthog, [], PERSONS, [], EVENTS)
    proof = proof_of(posthog, waits=waits, wait_seconds=10)
    assert (proof.missing, proof.polls, waits.seconds) == (0, 5, [5.0] * 4)


@pytest.mark.parametrize(("wait_seconds", "polls"), [(0, 1), (60, 13)])
def test_nothing_landed_ends_the_wait_and_names_the_causes(posthog: StandIn, wait_seconds: int, polls: int) -> None:
    proof = proof_of(posthog, wait_seconds=wait_seconds)
    assert (proof.missing, proof.exit_code, proof.polls) == (5, 4, polls)
    for cause in ("quota", "does not know the project API key", "the other region", "debug --send-test-event"):
        assert cause in proof_text(proof)


def test_what_lands_for_ever_is_not_waited_for_for_ever(posthog: StandIn) -> None:
    waits = Waits(posthog, *([event("order", number)] for number in range(500)))
    assert proof_of(posthog, {ObjectType.EVENT: 10_000}, waits).polls == MOST_POLLS


def test_a_part_that_is_missing(posthog: StandIn) -> None:
    posthog.project.take(EVENTS)
    proof = proof_of(posthog, wait_seconds=0)
    assert (proof.missing, proof.exit_code) == (2, 4)
    assert "  person: 0 of 2" in proof_text(proof)
    assert "verify again in some minutes" in proof.advice


def test_more_than_was_confirmed_is_no_fault(posthog: StandIn) -> None:
    posthog.project.take(EVENTS)
    proof = proof_of(posthog, {ObjectType.EVENT: 2})
    assert proof.exit_code == 0
    assert "  1 more are there that were sent without an answer" in proof_text(proof)


def test_nothing_sent_asks_only_for_warnings(posthog: StandIn) -> None:
    proof = proof_of(posthog, {})
    assert (proof.exit_code, proof.polls) == (0, 0)
    assert "nothing was sent" in proof_text(proof)
    assert len(posthog.requests) == 1


def test_what_posthog_noted_is_told_with_its_meaning(posthog: StandIn) -> None:
    big = {"$set": {f"p{number}": "x" * 1000 for number in range(700)}}
    posthog.project.take([event("$set", 1, RUN, **big), event("$set", 2, RUN, **{"$lib": "web"}, **big)])
    proof = proof_of(posthog, {ObjectType.PERSON: 1})
    assert proof.warnings == (("person_properties_size_violation", 1),)
    assert proof.exit_code == 1
    assert "larger than 512 KiB, and the update was dropped." in proof_text(proof)
    (warning,) = proof_values(proof)["warnings"]
    assert (warning["type"], warning["effect"]) == ("person_properties_size_violation", "lost")


def test_warnings_that_cannot_be_read_do_not_hide_what_landed(posthog: StandIn) -> None:
    posthog.project.take([*PERSONS, *EVENTS])
    posthog.inject(api=Script((None, Status(400, '{"detail": "Unknown table"}', content_type="application/json"))))
    proof = proof_of(posthog)
    assert (proof.missing, proof.exit_code) == (0, 0)
    assert "could not be read" in proof_text(proof)
    assert "Unknown table" in proof_values(proof)["warnings_problem"]


def test_a_key_without_the_scope_is_refused() -> None:
    keys = (PersonalKey("phx_a", scopes=("person:read",)),)
    with StandIn(StandInConfig(personal_keys=keys)) as posthog, pytest.raises(ScopeMissing, match="which verify needs"):
        proof_of(posthog)


def test_a_dispatch_is_built_from_the_records_of_its_syncs() -> None:
    rows = [("person", "success", 2, 9), ("event", "running", None, 8), ("person", "rejected", 1, 7), (None, "x", 4, 1)]
    dispatch = dispatch_of(RUN, rows)
    assert dispatch == Dispatch(RUN, {ObjectType.PERSON: 3, ObjectType.EVENT: 4}, 9, True)
    assert dispatch.total == 7
    assert dispatch_of(RUN, []) is None
    assert "has not ended yet" in Proof(dispatch, Landed(1)).advice


def test_what_a_killed_run_sent_is_not_on_record(posthog: StandIn) -> None:
    dispatch = dispatch_of(RUN, [("person", "interrupted", None, 9)])
    assert dispatch == Dispatch(RUN, {}, 9, was_killed=True)
    posthog.project.take(PERSONS)
    patience = Patience(RetryPolicy(attempts=1), pause=Waits(posthog).pause)
    api = PrivateApi(PrivateApiConfig(posthog.url, Secret(posthog.personal_key)), patience=patience)
    proof = Prover(api, patience).prove(dispatch)
    assert (proof.missing, proof.exit_code) == (0, 1)
    headline, advice = proof_text(proof).splitlines()
    assert headline == f"run {RUN}: 2 messages of it are in PostHog; it is not on record how many it sent"
    assert "the next run sends what was not confirmed" in advice


def test_a_run_that_has_just_begun_is_not_said_to_have_sent_nothing() -> None:
    dispatch = dispatch_of(RUN, [("event", "running", None, 1)])
    assert dispatch is not None
    proof = Proof(dispatch)
    assert "has not ended yet" in proof_text(proof)
    assert "nothing was sent" not in proof_text(proof)
    assert proof.exit_code == 1


def test_every_warning_of_the_reference_has_a_meaning() -> None:
    assert meaning_of("something_new").effect is Effect.UNKNOWN
    assert {Effect.LOST, Effect.ALTERED} == {meaning.effect for meaning in MEANINGS.values()}
    for kind in ("message_size_too_large", "ignored_invalid_timestamp", "event_dropped_by_transformation"):
        assert kind in MEANINGS
    assert all(not meaning.words.endswith(".") for meaning in MEANINGS.values())
    assert issubclass(ScopeMissing, DestinationRefused)
