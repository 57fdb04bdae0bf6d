"""Persons that are deleted on request: what holds it back, what is remembered, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab, fresh_name
from mortal import Killed, MortalWarehouse
from people import LONG_AGO, export_of_persons, make_person, noted, people

from dbt_posthog_sync.settings import Deletion, IdentitySource
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import CapturedEvent, PersonalKey, StandIn, StandInConfig, Status, When
from dbt_posthog_sync.warehouse.identities import IdentitySettings

ERASE = {"object": "person", "name": "erase", "sync_key": {"distinct_id": "id"}, "behavior": "delete"}
ERASE_BY_EMAIL = {**ERASE, "sync_key": {"email": "email"}, "on_several": "all"}
PERSONS = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["note"]}
EVENTS = {
    "object": "event",
    "sync_key": {"event_id": "event_id"},
    "distinct_id": "id",
    "event": {"value": "ordered"},
    "timestamp": "at",
    "properties": ["note"],
}
REASON = "the person was deleted, and nothing of it is sent any more"


def requests_for(lab: Lab, *ids: str) -> Lab:
    """A model of erasure requests, which shares the state of the lab."""
    other = replace(lab, table=fresh_name("requests"))
    other.build(" union all ".join(f"select '{name}' as id, '{name}@example.com' as email" for name in ids))
    return other


def deleted(lab: Lab, annotation: Mapping[str, Any] = ERASE) -> SyncRun:
    """The run after the one that only says what it would do."""
    assert lab.run(annotation).status is RunStatus.UNSAFE
    return lab.run(annotation)


def erased(lab: Lab) -> set[tuple[Any, ...]]:
    return set(lab.sql("select kind, identity from {state}.erased_persons"))


def test_the_first_run_only_says_whom_it_would_delete(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    asked = requests_for(lab, "u1")
    plan = asked.plan(ERASE)
    assert (plan.estimated_events, plan.samples) == (1, ())
    run = asked.run(ERASE)
    assert (run.status, run.exit_code) == (RunStatus.UNSAFE, 1)
    assert "nothing was deleted. 1 person would be deleted" in run.message
    assert set(people(lab.posthog)) == {"u1"}
    assert erased(lab) == set()
    assert asked.run(ERASE).counts.delivered == 1
    assert people(lab.posthog) == {}
    assert asked.run(ERASE).counts.unchanged == 1


def test_whoever_forces_needs_no_dry_run(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    make_person(lab.posthog, "u2")
    asked = requests_for(lab, "u1")
    assert asked.run(ERASE, force=True).counts.delivered == 1
    lab.server.sql(f"insert into {asked.table} values ('u2', 'u2@example.com')")
    assert asked.run(ERASE).counts.delivered == 1


def test_a_cap_stops_before_the_first_deletion(lab: Lab) -> None:
    for name in ("u1", "u2", "u3"):
        make_person(lab.posthog, name)
    asked = replace(requests_for(lab, "u1", "u2", "u3"), deletion=Deletion(enabled=True, max_persons=2, events=True))
    for _ in range(2):
        run = asked.run(ERASE)
        assert "3 persons and their events would be deleted, the limit deletion.max_persons is 2" in run.message
    assert len(people(lab.posthog)) == 3
    assert erased(lab) == set()


def test_nothing_is_sent_to_a_deleted_person(lab: Lab) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    make_person(lab.posthog, "u2")
    deleted(requests_for(lab, "u1"), ERASE_BY_EMAIL)
    lab.build("select 'u1' as id, 'a' as note union all select 'u2', 'b'")
    run = lab.run(PERSONS)
    assert (run.skips, run.exit_code) == (((REASON, 1),), 0)
    assert noted(lab.posthog) == {"u2": "b"}
    events = replace(lab, table=fresh_name("events"))
    rows = "select '{0}' as event_id, '{0}' as id, 'x' as note, cast('2026-01-02' as timestamp) as at"
    events.build(rows.format("u1") + " union all " + rows.format("u2"))
    assert events.run(EVENTS).skips == ((REASON, 1),)
    by_email = replace(lab, table=fresh_name("readers"))
    by_email.build("select 'U1@example.com ' as email, 'c' as note")
    wanted = {**PERSONS, "sync_key": {"email": "email"}, "create_with": "email"}
    assert by_email.run(wanted).skips == ((REASON, 1),)
    assert set(people(lab.posthog)) == {"u2"}
    assert lab.run(PERSONS, full_refresh=True).counts.skipped == 1


def test_a_row_that_was_delivered_before_is_skipped_once_it_changes(lab: Lab) -> None:
    lab.build("select 'u1' as id, 'a' as note")
    lab.run(PERSONS)
    deleted(requests_for(lab, "u1"))
    assert lab.run(PERSONS).counts.unchanged == 1
    lab.build("select 'u1' as id, 'b' as note")
    assert lab.run(PERSONS).counts.skipped == 1
    assert people(lab.posthog) == {}


def test_all_distinct_ids_of_a_person_are_remembered(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    make_person(lab.posthog, "device")
    uuid = "018c0000-0000-5000-8000-000000000099"
    merge = CapturedEvent("$identify", "u1", uuid, LONG_AGO, {"$anon_distinct_id": "device"}, "v1")
    lab.posthog.project.take([merge])
    deleted(requests_for(lab, "u1"))
    assert erased(lab) >= {("distinct_id", "u1"), ("distinct_id", "device")}


def test_who_is_unknown_is_remembered_and_tried_again(lab: Lab) -> None:
    asked = requests_for(lab, "u1")
    run = asked.run(ERASE)
    assert (run.counts.skipped, run.status) == (1, RunStatus.SUCCESS)
    assert erased(lab) == {("distinct_id", "u1")}
    make_person(lab.posthog, "u1")
    assert deleted(asked).counts.delivered == 1
    assert people(lab.posthog) == {}


def test_a_later_request_deletes_again(lab: Lab) -> None:
    dated = {**ERASE, "timestamp": "asked_at"}
    asked = replace(lab, table=fresh_name("requests"))
    asked.build("select 'u1' as id, cast('2026-01-01' as timestamp) as asked_at")
    make_person(lab.posthog, "u1")
    assert deleted(asked, dated).counts.delivered == 1
    lab.posthog.reset()
    make_person(lab.posthog, "u1")
    assert asked.run(dated).counts.unchanged == 1
    asked.build("select 'u1' as id, cast('2026-02-01' as timestamp) as asked_at")
    assert asked.run(dated).counts.delivered == 1
    assert people(lab.posthog) == {}


@pytest.mark.parametrize("fatal", range(1, 40, 3))
def test_a_killed_deletion_forgets_nobody(lab: Lab, fatal: int) -> None:
    for name in ("u1", "u2"):
        make_person(lab.posthog, name)
    asked = requests_for(lab, "u1", "u2")
    asked.run(ERASE)
    mortal = MortalWarehouse(lab.warehouse, fatal)
    try:
        replace(asked, warehouse=mortal).run(ERASE)
    except Killed:
        gone = {"u1", "u2"} - set(people(lab.posthog))
        assert {("distinct_id", name) for name in gone} <= erased(lab)
        asked.run(ERASE, steal=True)
    assert people(lab.posthog) == {}
    assert erased(lab) == {("distinct_id", "u1"), ("distinct_id", "u2")}


def test_an_export_finds_whom_the_private_api_deletes(lab: Lab) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    asked = requests_for(lab, "u1")
    found = replace(asked, identities=IdentitySettings(IdentitySource.MODEL, model=export_of_persons(lab)))
    assert deleted(found, ERASE_BY_EMAIL).counts.delivered == 1


def test_a_key_that_may_not_delete_is_told_and_nobody_is_deleted(lab: Lab) -> None:
    key = PersonalKey("phx_reader", scopes=("person:read", "query:read"))
    with StandIn(StandInConfig(personal_keys=(key,))) as posthog:
        make_person(posthog, "u1")
        asked = replace(requests_for(lab, "u1"), posthog=posthog, personal_key=key.value)
        run = deleted(asked)
        assert run.status is RunStatus.ERROR
        assert f"lacks the scope `person:write`, which {asked.table} needs" in run.message
        assert set(people(posthog)) == {"u1"}


def test_a_posthog_that_is_away_leaves_the_rest_pending(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    asked = requests_for(lab, "u1")
    asked.run(ERASE)
    lab.posthog.inject(api=When(lambda arrival: arrival.path.endswith("bulk_delete/"), Status(503)))
    run = asked.run(ERASE)
    assert (run.status, run.counts.pending, run.exit_code) == (RunStatus.ERROR, 1, 4)
    lab.posthog.inject()
    assert asked.run(ERASE).counts.delivered == 1


def test_a_first_run_that_finds_nobody_has_shown_nothing(lab: Lab) -> None:
    asked = requests_for(lab, "u1")
    assert asked.run(ERASE).status is RunStatus.SUCCESS
    make_person(lab.posthog, "u1")
    assert asked.run(ERASE).status is RunStatus.UNSAFE
    assert asked.run(ERASE).counts.delivered == 1


def test_persons_are_not_taken_as_deleted(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    run = requests_for(lab, "u1").run(ERASE, rebaseline=True)
    assert run.status is RunStatus.UNSAFE
    assert "--rebaseline would take the persons as deleted" in run.message


def test_an_erased_person_is_looked_up_no_more(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    deleted(requests_for(lab, "u1"))
    lab.build("select 'u1' as id, 'a' as note")
    calls = len(lab.posthog.requests)
    assert lab.run({**PERSONS, "behavior": "update_only"}).skips == ((REASON, 1),)
    assert len(lab.posthog.requests) == calls


def test_a_cap_is_no_dry_run(lab: Lab) -> None:
    for name in ("u1", "u2"):
        make_person(lab.posthog, name)
    asked = requests_for(lab, "u1", "u2")
    assert replace(asked, deletion=Deletion(enabled=True, max_persons=1)).run(ERASE).status is RunStatus.UNSAFE
    assert "only says so" in asked.run(ERASE).message
    run = asked.run(ERASE)
    assert (run.message, run.counts.delivered) == ("2 persons were deleted in PostHog.", 2)
    assert asked.planner().state.dispatch(run.run_id) is None


def test_nobody_is_deleted_again_by_a_full_refresh(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    asked = requests_for(lab, "u1")
    deleted(asked)
    assert "would delete everybody again" in asked.run(ERASE, full_refresh=True).message
