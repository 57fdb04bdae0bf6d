"""Rejected rows: who tries them again, when they are resolved, and rows that move or are older than what was sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab import Lab
from mortal import MortalWarehouse

from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import EventResults, LoseAnswer, Script, Verdict, When, always

PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}


def persons(**notes: str) -> str:
    """A select of persons: id -> note."""
    return " union all ".join(f"select '{name}' as id, '{note}' as note" for name, note in notes.items())


def dated(**rows: tuple[str, str]) -> str:
    """A select of persons with the time of each row: id -> (note, day)."""
    return " union all ".join(
        f"select '{name}' as id, '{note}' as note, timestamp '{day} 00:00:00' as seen_at"
        for name, (note, day) in rows.items()
    )


def dropped(*ids: str) -> When:
    """A server that drops the messages of some persons."""
    return When(
        always,
        EventResults(lambda event: Verdict("drop", "event_too_big") if event["distinct_id"] in ids else None),
    )


def note_of(lab: Lab, identity: str) -> Any:
    """What PostHog has in the property `note` of a person; None where there is no such person."""
    person = lab.posthog.project.person(identity)
    return person.properties["note"] if person else None


def rejects(lab: Lab) -> list[tuple[Any, ...]]:
    """Every reject that was ever written: key, whether it is resolved."""
    return lab.sql("select sync_key, resolved_at is not null from {state}.rejected_rows order by sync_key")


def test_a_row_that_posthog_dropped_is_not_sent_again_until_retry(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    first = lab.run(PERSONS)
    assert (first.status, first.counts.delivered, first.counts.rejected) == (RunStatus.REJECTED, 1, 1)
    lab.posthog.inject(None)
    asked = len(lab.posthog.requests)
    second = lab.run(PERSONS)
    assert (second.counts.delivered, second.counts.rejected) == (0, 1)
    assert len(lab.posthog.requests) == asked
    third = lab.retry(PERSONS)
    assert (third.status, third.counts.rows, third.counts.delivered) == (RunStatus.SUCCESS, 1, 1)
    assert note_of(lab, "a") == "1"
    assert rejects(lab) == [("a", True)]
    assert lab.run(PERSONS).counts.unchanged == 2


def test_retry_sends_nothing_else(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    lab.build(persons(a="1", b="changed", c="new"))
    run = lab.retry(PERSONS)
    assert (run.counts.rows, run.counts.delivered) == (1, 1)
    assert (note_of(lab, "b"), note_of(lab, "c")) == ("2", None)
    assert lab.run(PERSONS).counts.delivered == 2
    assert note_of(lab, "b") == "changed"


def test_a_row_refused_again_stays_one_reject(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    again = lab.retry(PERSONS)
    assert (again.status, again.counts.rejected) == (RunStatus.REJECTED, 1)
    assert rejects(lab) == [("a", False)]


def test_a_changed_row_is_tried_by_the_next_run(lab: Lab) -> None:
    lab.build(persons(a="1"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    lab.build(persons(a="other"))
    assert lab.run(PERSONS).counts.delivered == 1
    assert rejects(lab) == [("a", True)]


def test_retry_without_rejected_rows_does_nothing(lab: Lab) -> None:
    lab.build(persons(a="1"))
    assert lab.retry(PERSONS).counts.rows == 0
    lab.run(PERSONS)
    asked = len(lab.posthog.requests)
    run = lab.retry(PERSONS)
    assert (run.status, run.counts.rows) == (RunStatus.SUCCESS, 0)
    assert len(lab.posthog.requests) == asked


def test_retry_sees_bad_rows_that_were_mended_removed_or_are_still_bad(lab: Lab) -> None:
    bad = {"null": "bad", "none": "bad", "true": "bad"}
    lab.build(persons(good="1", **bad) + " union all select null, 'keyless'")
    assert lab.run(PERSONS).counts.rejected == 4
    lab.build(persons(good="1", true="bad"))
    run = lab.retry(PERSONS)
    assert (run.counts.rows, run.counts.rejected) == (1, 1)
    assert lab.sql("select sync_key from {state}.rejected_rows where resolved_at is null") == [("true",)]


def test_retry_is_held_to_the_budget_but_not_to_shares(lab: Lab) -> None:
    lab.build("select 'u' || i as id, 'n' as note from generate_series(1, 1200) as g(i)")
    lab.posthog.inject(When(always, EventResults(lambda _event: Verdict("drop", "rejected"))))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    stopped = replace(lab, limits=Limits(max_events=100)).retry(PERSONS)
    assert (stopped.status, "max_events is 100" in stopped.message) == (RunStatus.UNSAFE, True)
    assert lab.retry(PERSONS).counts.delivered == 1200


def test_retry_waits_for_an_unfinished_run(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    lab.build(persons(a="1", b="changed"))
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(PERSONS).status is RunStatus.ERROR
    lab.posthog.inject(None)
    run = lab.retry(PERSONS)
    assert (run.status, "did not end" in run.message) == (RunStatus.UNSAFE, True)
    lab.run(PERSONS)
    assert lab.retry(PERSONS).counts.delivered == 1
    received = [(e.uuid, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    assert len({uuid for uuid, *_ in received}) == len(set(received))


def test_a_row_that_is_older_than_what_was_delivered_is_skipped(lab: Lab) -> None:
    timed = {**PERSONS, "timestamp": "seen_at"}
    lab.build(dated(a=("new", "2026-03-01"), b=("x", "2026-03-01")))
    lab.run(timed)
    lab.build(dated(a=("old", "2026-02-01"), b=("y", "2026-03-02")))
    run = lab.run(timed)
    assert (run.counts.delivered, run.counts.skipped, run.exit_code) == (1, 1, 0)
    assert "older than that of what was delivered" in run.skips[0][0]
    assert note_of(lab, "a") == "new"
    lab.build(dated(a=("newest", "2026-04-01"), b=("y", "2026-03-02")))
    assert lab.run(timed).status is RunStatus.SUCCESS
    assert note_of(lab, "a") == "newest"


class _Restless(MortalWarehouse):
    """The model changes between staging and delivery."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.warehouse, 1_000_000)
        self._lab = lab

    def stream(self, macro: str, *, own_connection: bool = True, **arguments: Any) -> Any:
        if not arguments.get("resume"):
            self._lab.server.sql(f"update {self._lab.table} set note = note || '!' where id = 'clock'")
        return super().stream(macro, own_connection=own_connection, **arguments)


def restless(lab: Lab) -> SyncRun:
    """A run during which the person `clock` changes."""
    return replace(lab, warehouse=_Restless(lab)).run(PERSONS)


def test_a_row_that_moves_in_two_runs_running_is_reported(shared_lab: Lab) -> None:
    shared_lab.build(persons(a="1", clock="0"))
    first = restless(shared_lab)
    assert (first.status, first.counts.delivered, first.counts.moved) == (RunStatus.SUCCESS, 1, 1)
    for _ in range(2):
        again = restless(shared_lab)
        assert (again.status, again.counts.rejected, again.counts.moved) == (RunStatus.REJECTED, 1, 0)
        assert "two runs running" in again.reasons[0][0]
        assert rejects(shared_lab) == [("clock", False)]
    still = shared_lab.run(PERSONS)
    assert (still.status, still.counts.delivered) == (RunStatus.SUCCESS, 1)
    assert rejects(shared_lab) == [("clock", True)]
    assert note_of(shared_lab, "clock") == "0!!!"


def test_a_row_that_moved_once_is_simply_taken_by_the_next_run(shared_lab: Lab) -> None:
    shared_lab.build(persons(a="1", clock="0"))
    restless(shared_lab)
    assert shared_lab.run(PERSONS).counts.delivered == 1
    shared_lab.build(persons(a="1", clock="7"))
    assert restless(shared_lab).counts.moved == 1
    assert rejects(shared_lab) == []


def test_a_run_ends_what_a_killed_retry_began(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.retry(PERSONS).status is RunStatus.ERROR
    assert note_of(lab, "a") == "1"  # PostHog has it, and nobody told us
    lab.posthog.inject(None)
    assert lab.run(PERSONS).counts.delivered == 1
    received = [(e.uuid, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    assert len({uuid for uuid, *_ in received}) == len(set(received)) == 2
    assert rejects(lab) == [("a", True)]


def test_a_killed_retry_is_ended_by_a_retry_too(lab: Lab) -> None:
    lab.build(persons(a="1", b="2"))
    lab.posthog.inject(dropped("a"))
    lab.run(PERSONS)
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.retry(PERSONS)
    lab.posthog.inject(None)
    assert lab.retry(PERSONS).counts.delivered == 1
    received = [(e.uuid, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    assert len({uuid for uuid, *_ in received}) == len(set(received)) == 2


def test_a_mended_row_does_not_look_like_one_that_left_the_model(lab: Lab) -> None:
    rows = "select {0} as event_id, {1} as who, cast('2026-01-02' as timestamp) as at"
    events = {
        "object": "event",
        "sync_key": {"event_id": "event_id"},
        "distinct_id": "who",
        "event": {"value": "seen"},
        "timestamp": "at",
        "properties": ["who"],
    }
    lab.build(rows.format(1, "'a'") + " union all " + rows.format(2, "null") + " union all " + rows.format(3, "null"))
    lab.run(events)
    lab.build(rows.format(1, "'a'") + " union all " + rows.format(2, "'b'") + " union all " + rows.format(3, "null"))
    run = lab.run(events)
    assert (run.counts.delivered, run.counts.rejected, run.counts.removed) == (1, 1, 0)
    lab.build(rows.format(2, "'b'"))
    assert lab.plan(events).removed == 1
