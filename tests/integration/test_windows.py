"""Rows that come late, in the future, without a cursor or while a run is under way are never left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from mortal import VisitedWarehouse

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import Script, Status

EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
    "properties": ["note"],
    "cursor": "loaded",
}
PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}


def rows(*listed: tuple[int | None, str, str | None]) -> str:
    """A select of events: id, note, day of January 2026 on which the row was loaded."""
    return " union all ".join(
        f"select cast({'null' if number is None else number} as integer) as id, 'p' as person, "
        f"timestamp '2026-01-01 00:00:00' as seen_at, '{note}' as note, "
        + (f"timestamp '{day} 00:00:00'" if day else "cast(null as timestamp)")
        + " as loaded"
        for number, note, day in listed
    )


def notes(lab: Lab) -> list[str]:
    """Notes of the events that PostHog keeps."""
    return sorted(event.properties["note"] for event in lab.posthog.project.events)


def within(lab: Lab, statement: str) -> Callable[[], object]:
    """Run SQL while a run is under way; DuckDB admits only the process itself."""
    if lab.server.kind == "postgres":
        return lambda: lab.server.sql(statement)
    connection = lab.warehouse._adapter.connections.get_thread_connection()  # type: ignore[attr-defined]
    return lambda: connection.handle.cursor().execute(statement)


@pytest.mark.parametrize("first", range(1, 29, 3))
def test_rows_that_arrive_during_a_run_are_sent_by_the_next(lab: Lab, first: int) -> None:
    lab.build(rows((1, "a", "2026-01-01")))
    lab.run(EVENTS)
    late = within(lab, f"insert into {lab.table} " + rows((2, "b", "2026-01-02"), (3, "c", "2026-01-03")))
    visited = VisitedWarehouse(lab.warehouse, first, late)
    replace(lab, warehouse=visited).run(EVENTS)
    assert not visited.survived, "the run was over before anything arrived"
    lab.run(EVENTS)
    assert notes(lab) == ["a", "b", "c"]


def test_one_row_in_the_future_does_not_hide_the_others(lab: Lab) -> None:
    future = (1, "future", "2099-01-01")
    lab.build(rows(future, (2, "b", "2026-01-02")))
    lab.run(EVENTS)
    lab.build(rows(future, (2, "b", "2026-01-02"), (3, "c", "2026-01-03")))
    lab.run(EVENTS)
    assert notes(lab) == ["b", "c", "future"]


def test_a_model_without_cursor_values_has_no_window(lab: Lab) -> None:
    lab.build(rows((1, "a", None)))
    lab.run(EVENTS)
    lab.build(rows((1, "a", None), (2, "b", "2026-01-02")))
    lab.run(EVENTS)
    assert notes(lab) == ["a", "b"]


def test_another_cursor_column_starts_without_a_window(lab: Lab) -> None:
    lab.build(rows((1000, "a", "2026-01-01")))
    lab.run({**EVENTS, "cursor": "id"})
    lab.build(rows((1000, "a", "2026-01-01"), (1, "b", "2026-01-02")))
    assert lab.run(EVENTS).counts.delivered == 1


def test_a_row_without_a_key_holds_the_window_back(lab: Lab) -> None:
    lab.build(rows((1, "a", "2026-01-05"), (None, "b", "2026-01-01")))
    assert lab.run(EVENTS).counts.rejected == 1
    assert lab.run(EVENTS).counts.rejected == 1
    lab.build(rows((1, "a", "2026-01-05"), (2, "b", "2026-01-01")))
    assert lab.run(EVENTS).status is RunStatus.SUCCESS
    assert notes(lab) == ["a", "b"]


def test_a_key_inside_and_outside_the_window_is_a_duplicate_and_the_sums_hold(lab: Lab) -> None:
    lab.build(rows((1, "a", "2026-01-01"), (2, "b", "2026-01-05")))
    lab.run(EVENTS)
    lab.build(rows((1, "a", "2026-01-01"), (2, "b", "2026-01-05"), (3, "c", "2026-01-07"), (3, "cc", "2026-01-02")))
    run = lab.run(EVENTS)
    assert (run.status, run.counts.rows, run.counts.rejected, run.counts.outside) == (RunStatus.REJECTED, 3, 2, 1)


def test_an_interrupted_full_refresh_goes_on_with_every_row(lab: Lab) -> None:
    listed = tuple((number, f"n{number}", f"2026-01-{number:02d}") for number in range(1, 21))
    lab.build(rows(*listed))
    lab.run(EVENTS)
    lab.posthog.reset()
    slow = replace(
        lab,
        delivery=replace(lab.delivery, in_flight=1, limits=BatchLimits(messages=5)),
        courier=CourierSettings(confirm_seconds=0.0),
    )
    lab.posthog.inject(Script((None,), then=Status(503)))
    assert slow.run(EVENTS, full_refresh=True).status is RunStatus.ERROR
    lab.posthog.inject(None)
    assert lab.run(EVENTS).status is RunStatus.SUCCESS
    assert len(notes(lab)) == 20


def test_an_interrupted_full_refresh_takes_nothing_as_known(lab: Lab) -> None:
    later = {**EVENTS, "backfill": False}
    lab.build(rows((1, "a", "2026-01-01")))
    lab.posthog.inject(Script(then=Status(503)))
    lab.run(later, full_refresh=True)
    lab.posthog.inject(None)
    assert lab.run(later).counts.delivered == 1


def test_a_model_that_is_empty_for_a_moment_removes_nothing(lab: Lab) -> None:
    people = "select 'u' || i as id, 'n' as note from generate_series(1, 20) as g(i)"
    for statement in range(10, 34, 4):
        lab = replace(lab, schema=f"{lab.schema}_{statement}")
        lab.build(people)
        lab.run(PERSONS)
        lab.build(f"{people} where i <> 7")
        gone = within(lab, f"delete from {lab.table}")
        replace(lab, warehouse=VisitedWarehouse(lab.warehouse, statement, gone)).run(PERSONS)
        lab.build(f"{people} where i <> 7")
        assert lab.run(PERSONS).counts.delivered == 0


def test_an_event_that_left_the_model_and_came_back_is_not_sent_again(lab: Lab) -> None:
    annotation = {name: value for name, value in EVENTS.items() if name != "cursor"}
    lab.build(rows((1, "a", None), (2, "b", None)))
    lab.run(annotation)
    lab.build(rows((2, "b", None)))
    assert lab.run(annotation).counts.removed == 1
    assert lab.run(annotation).counts.removed == 0
    lab.build(rows((1, "a", None), (2, "b", None)).replace("2026-01-01 00", "2026-02-01 00"))
    assert lab.run(annotation).counts.delivered == 0
    resent = lab.run({**annotation, "on_change": "resend"})
    assert (resent.counts.delivered, resent.counts.rejected) == (0, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {"tier": "note"}},
        {"properties": {"note": "note", "by": {"value": "dbt"}}},
        {"properties": {"note": {"column": "note", "operation": "set_once"}}},
        {"nulls": "send"},
    ],
    ids=["renamed", "constant", "operation", "nulls"],
)
def test_a_changed_annotation_sends_the_rows_that_it_changes(lab: Lab, change: dict[str, Any]) -> None:
    lab.build("select 'u1' as id, 'x' as note")
    lab.run(PERSONS)
    assert lab.plan({**PERSONS, **change}).estimated_events == 1
    assert lab.run({**PERSONS, **change}).counts.delivered == 1
    assert lab.run({**PERSONS, **change}).counts.unchanged == 1


def test_another_key_type_after_an_interrupted_run_can_be_refreshed(lab: Lab) -> None:
    lab.build("select cast(i as varchar(10)) as id, 'n' as note from generate_series(1, 5) as g(i)")
    lab.posthog.inject(Script(then=Status(503)))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    lab.build("select cast(i as bigint) as id, 'n' as note from generate_series(1, 5) as g(i)")
    assert lab.run(PERSONS).status is RunStatus.UNSAFE
    assert lab.run(PERSONS, full_refresh=True).counts.delivered == 5
