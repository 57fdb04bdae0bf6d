"""The rules that decide what is sent: cursor, backfill, on_change, guards, identity of state, the lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from lab import Lab

from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import Script, Status

EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
    "properties": ["note"],
}
PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}


def events(*rows: tuple[int, str, str], person: str = "p") -> str:
    """A select of events: id, timestamp text, note."""
    return " union all ".join(
        f"select {number} as id, '{person}' as person, timestamp '{at}' as seen_at, '{note}' as note"
        for number, at, note in rows
    )


def persons(count: int, note: str = "n") -> str:
    """A select of many persons with one note."""
    return f"select 'u' || i as id, '{note}' as note from generate_series(1, {count}) as g(i)"


def note_of(lab: Lab, identity: str) -> Any:
    """What PostHog has in the property `note` of a person."""
    person = lab.posthog.project.person(identity)
    assert person is not None
    return person.properties["note"]


def test_an_event_once_sent_is_not_sent_again_when_it_changes(lab: Lab) -> None:
    lab.build(events((1, "2026-01-01 00:00:00", "a")))
    lab.run(EVENTS)
    lab.build(events((1, "2026-01-01 00:00:00", "b"), (2, "2026-01-01 00:00:00", "c")))
    run = lab.run(EVENTS)
    assert (run.counts.unchanged, run.counts.delivered) == (1, 1)


def test_resend_sends_a_changed_event_with_the_same_uuid(lab: Lab) -> None:
    resend = {**EVENTS, "on_change": "resend"}
    lab.build(events((1, "2026-01-01 10:00:00", "a")))
    lab.run(resend)
    lab.build(events((1, "2026-01-01 11:00:00", "b")))
    assert lab.run(resend).counts.delivered == 1
    assert len({event.uuid for event in lab.posthog.project.received}) == 1
    assert [event.properties["note"] for event in lab.posthog.project.events] == ["b"]


def test_resend_refuses_a_row_that_posthog_would_keep_twice(lab: Lab) -> None:
    resend = {**EVENTS, "on_change": "resend"}
    lab.build(events((1, "2026-01-01 10:00:00", "a"), (2, "2026-01-01 10:00:00", "a")))
    lab.run(resend)
    lab.build(events((1, "2026-01-02 10:00:00", "a"), (2, "2026-01-01 12:00:00", "a")))
    run = lab.run(resend)
    assert (run.counts.delivered, run.counts.rejected) == (1, 1)
    assert "would keep both" in run.reasons[0][0]
    assert lab.run(resend).counts.rejected == 1


def test_backfill_false_sends_only_rows_that_come_later(lab: Lab) -> None:
    later = {**EVENTS, "backfill": False}
    lab.build(events((1, "2026-01-01 00:00:00", "a"), (2, "2026-01-01 00:00:00", "a")))
    first = lab.run(later)
    assert (first.counts.known, first.counts.delivered, first.requests) == (2, 0, 0)
    lab.build(events((1, "2026-01-01 00:00:00", "a"), (2, "2026-01-01 00:00:00", "a"), (3, "2026-01-01 00:00:00", "a")))
    assert lab.run(later).counts.delivered == 1


def test_backfill_false_refuses_an_empty_model(lab: Lab) -> None:
    lab.build(events((1, "2026-01-01 00:00:00", "a")) + " limit 0")
    run = lab.run({**EVENTS, "backfill": False})
    assert run.status is RunStatus.UNSAFE
    assert "Build it first" in run.message


def test_the_cursor_looks_only_behind_its_window(lab: Lab) -> None:
    cursor = {**EVENTS, "cursor": {"column": "seen_at", "lookback": "1 day"}}
    lab.build(events((1, "2026-01-01 00:00:00", "a"), (2, "2026-01-10 00:00:00", "a")))
    lab.run(cursor)
    rows = [(1, "2026-01-01 00:00:00", "a"), (2, "2026-01-10 00:00:00", "a"), (3, "2026-01-09 12:00:00", "late")]
    lab.build(events(*rows, (4, "2026-01-02 00:00:00", "too late")))
    run = lab.run(cursor)
    assert (run.counts.delivered, run.counts.outside) == (1, 2)
    full = lab.run(cursor, full_scan=True)
    assert (full.counts.delivered, full.counts.outside) == (1, 0)


def test_a_full_scan_that_was_cut_off_is_continued_below_the_window(lab: Lab) -> None:
    cursor = {**EVENTS, "cursor": "seen_at"}
    lab.build(events((2, "2026-01-10 00:00:00", "a")))
    lab.run(cursor)
    lab.build(events((2, "2026-01-10 00:00:00", "a"), (1, "2026-01-01 00:00:00", "late")))
    lab.posthog.inject(Script(then=Status(500)))
    assert lab.run(cursor, full_scan=True).counts.pending == 1
    lab.posthog.inject(None)
    assert lab.run(cursor).counts.delivered == 1


def test_the_cursor_takes_rejected_rows_and_nulls_wherever_they_are(lab: Lab) -> None:
    cursor = {**EVENTS, "cursor": {"column": "loaded"}}

    def build(person: str, with_null: bool) -> None:
        rows = events((1, "2026-01-01 00:00:00", "a"), person=person) + " union all "
        rows += events((2, "2026-01-10 00:00:00", "a"))
        null = " union all " + events((3, "2026-01-03 00:00:00", "null cursor")) if with_null else ""
        lab.build(f"select *, case when id <> 3 then seen_at end as loaded from ({rows}{null}) r")

    build("null", with_null=False)
    assert lab.run(cursor).counts.rejected == 1
    build("mended", with_null=True)
    run = lab.run(cursor)
    assert (run.status, run.counts.delivered) == (RunStatus.SUCCESS, 2)


def test_a_cursor_in_the_future_does_not_move_the_window_there(lab: Lab) -> None:
    cursor = {**EVENTS, "cursor": {"column": "loaded"}}
    future = datetime.now(timezone.utc) + timedelta(days=400)
    lab.build(
        f"select *, timestamp '{future:%Y-%m-%d} 00:00:00' as loaded from ({events((1, '2026-01-01 00:00:00', 'a'))}) r"
    )
    lab.run(cursor)
    today = datetime.now(timezone.utc) + timedelta(hours=1)
    lab.build(
        f"select *, timestamp '{today:%Y-%m-%d %H:%M:%S}' as loaded from ({events((2, '2026-01-01 00:00:00', 'a'))}) r"
    )
    assert lab.run(cursor).counts.delivered == 1


def test_an_empty_model_that_had_rows_stops(lab: Lab) -> None:
    lab.build(persons(3))
    lab.run(PERSONS)
    lab.build(persons(3) + " limit 0")
    run = lab.run(PERSONS)
    assert (run.status, run.exit_code) == (RunStatus.UNSAFE, 1)
    assert "empty" in run.message
    assert lab.run(PERSONS, force=True).counts.removed == 3


def test_too_many_changed_rows_stop_and_force_goes_on(lab: Lab) -> None:
    lab.build(persons(1200))
    lab.run(PERSONS)
    lab.build(persons(1200, "other"))
    stopped = lab.run(PERSONS)
    assert stopped.status is RunStatus.UNSAFE
    assert "1200 of 1200 rows changed (100 %)" in stopped.message
    assert note_of(lab, "u7") == "n"
    assert lab.run(PERSONS, force=True).counts.delivered == 1200
    assert note_of(lab, "u7") == "other"


def test_too_many_removed_rows_stop(lab: Lab) -> None:
    lab.build(persons(1200))
    lab.run(PERSONS)
    lab.build(persons(700))
    run = lab.run(PERSONS)
    assert run.status is RunStatus.UNSAFE
    assert "500 of 1200 rows are gone" in run.message


def test_more_events_than_the_budget_stop(lab: Lab) -> None:
    lab.build(persons(30))
    run = replace(lab, limits=Limits(max_events=20)).run(PERSONS)
    assert run.status is RunStatus.UNSAFE
    assert "max_events is 20" in run.message
    assert not lab.posthog.requests


def test_a_changed_mapping_is_named_as_the_cause(lab: Lab) -> None:
    lab.build("select *, 'x' as extra from (" + persons(1200) + ") p")
    lab.run(PERSONS)
    run = lab.run({**PERSONS, "properties": ["note", "extra"]})
    assert run.status is RunStatus.UNSAFE
    assert "The annotation, or the type of a column, changed" in run.message


def test_removed_rows_are_counted_once_and_come_back_as_new(lab: Lab) -> None:
    lab.build(persons(3))
    lab.run(PERSONS)
    lab.build(persons(2))
    assert lab.run(PERSONS).counts.removed == 1
    assert lab.run(PERSONS).counts.removed == 0
    lab.build(persons(3))
    assert lab.run(PERSONS).counts.delivered == 1


def test_a_to_b_to_a_sends_each_step(lab: Lab) -> None:
    for note in ("a", "b", "a"):
        lab.build(persons(2, note))
        assert lab.run(PERSONS).counts.delivered == 2
        assert note_of(lab, "u1") == note


def test_full_refresh_sends_everything_again(lab: Lab) -> None:
    lab.build(persons(5))
    lab.run(PERSONS)
    assert lab.run(PERSONS, full_refresh=True).counts.delivered == 5
    assert lab.run(PERSONS).counts.unchanged == 5


def test_state_of_one_project_never_serves_another(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    lab.sql("update {state}.syncs set destination = 'https://elsewhere#0000'")
    run = lab.run(PERSONS)
    assert run.status is RunStatus.UNSAFE
    assert "https://elsewhere" in run.message


def test_a_changed_key_type_stops(lab: Lab) -> None:
    lab.build("select 1 as id, 'n' as note")
    lab.run(PERSONS)
    lab.build("select '1' as id, 'n' as note")
    assert lab.run(PERSONS).status is RunStatus.UNSAFE
    assert lab.run(PERSONS, full_refresh=True).counts.delivered == 1
    assert lab.run(PERSONS).counts.unchanged == 1


def test_a_changed_object_stops(lab: Lab) -> None:
    lab.build(events((1, "2026-01-01 00:00:00", "a")))
    lab.run(EVENTS)
    run = lab.run({**PERSONS, "sync_key": {"distinct_id": "id"}})
    assert run.status is RunStatus.UNSAFE
    assert "object was event" in run.message


def test_a_renamed_sync_stops_and_names_the_old_one(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run({**PERSONS, "name": "old_name"})
    run = lab.run({**PERSONS, "name": "new_name"})
    assert run.status is RunStatus.UNSAFE
    assert "name: old_name" in run.message
    assert lab.run({**PERSONS, "name": "new_name"}, force=True).counts.delivered == 2


def test_a_second_run_is_told_who_holds_the_lease(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    lab.sql("update {state}.leases set is_held = true, run_id = 'other', owner = 'somebody else'")
    lab.build(persons(3))
    run = lab.run(PERSONS)
    if lab.server.kind == "duckdb":  # the file admits one process: whoever held it is dead
        assert run.status is RunStatus.SUCCESS
        return
    assert run.status is RunStatus.UNSAFE
    assert "somebody else" in run.message
    assert lab.run(PERSONS, steal=True).counts.delivered == 1


def test_a_dead_lease_expires(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    lab.sql(
        "update {state}.leases set is_held = true, run_id = 'other', "
        "heartbeat_at = current_timestamp - interval '10' minute"
    )
    assert lab.run(PERSONS).status is RunStatus.SUCCESS


def test_a_stream_that_lives_too_long_is_opened_again_on_the_rest(lab: Lab) -> None:
    lab.build(persons(6000))
    impatient = replace(lab, courier=CourierSettings(confirm_seconds=0.0, stream_seconds=0.0))
    run = impatient.run(PERSONS)
    assert (run.status, run.counts.delivered) == (RunStatus.SUCCESS, 6000)
    assert len(lab.posthog.project.received) == 6000


def test_a_fold_keeps_what_was_delivered(lab: Lab) -> None:
    lab.build(persons(1500))
    lab.run(PERSONS)
    assert lab.sql("select base_rows, live_keys from {state}.syncs") == [(1500, 1500)]
    lab.build(persons(1500) + " union all select 'extra', 'n'")
    run = lab.run(PERSONS)
    assert (run.counts.unchanged, run.counts.delivered) == (1500, 1)


def test_plan_leaves_nothing_behind(lab: Lab) -> None:
    lab.build(persons(4))
    plan = lab.plan(PERSONS)
    assert (plan.estimated_events, len(plan.samples)) == (4, 3)
    assert lab.sql(f"select count(*) from information_schema.tables where table_schema = '{lab.schema}'") == [(0,)]
    lab.run(PERSONS)
    before = lab.sql(f"select table_name from information_schema.tables where table_schema = '{lab.schema}' order by 1")
    lab.build(persons(5))
    assert lab.plan(PERSONS).estimated_events == 1
    assert (
        lab.sql(f"select table_name from information_schema.tables where table_schema = '{lab.schema}' order by 1")
        == before
    )


def test_every_run_is_recorded(lab: Lab) -> None:
    lab.build(persons(4))
    lab.run(PERSONS)
    lab.run(PERSONS)
    assert lab.sql("select status, delivered, requests > 0 from {state}.sync_runs order by started_at") == [
        ("success", 4, True),
        ("success", 0, False),
    ]
