"""Whole runs of one sync: real warehouse, the stand-in for PostHog."""

from __future__ import annotations

from typing import Any

from lab import Lab

from dbt_posthog_sync.sync_run import RunStatus

ORDERS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer",
    "event": {"value": "order completed"},
    "timestamp": "ordered_at",
    "properties": "all",
}
PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan", "city": "city"},
}


def orders(*rows: tuple[int | None, str, float]) -> str:
    """A select of orders."""
    return " union all ".join(
        f"select cast({'null' if number is None else number} as integer) as order_id, '{customer}' as customer, "
        f"cast({amount} as numeric(10, 2)) as amount, timestamp '2026-01-02 03:04:05' as ordered_at"
        for number, customer, amount in rows
    )


def people(**rows: tuple[str | None, str | None]) -> str:
    """A select of people: id -> (plan, city)."""
    return " union all ".join(
        f"select '{name}' as id, {_text(plan)} as plan, {_text(city)} as city" for name, (plan, city) in rows.items()
    )


def _text(value: str | None) -> str:
    return "cast(null as varchar(20))" if value is None else f"cast('{value}' as varchar(20))"


def test_first_run_sends_every_row_and_the_second_sends_none(lab: Lab) -> None:
    lab.build(orders((1, "u1", 12.5), (2, "u2", 3)))
    first = lab.run(ORDERS)
    asked = len(lab.posthog.requests)
    second = lab.run(ORDERS)
    assert (first.status, first.counts.delivered) == (RunStatus.SUCCESS, 2)
    assert (second.status, second.counts.unchanged, second.requests) == (RunStatus.SUCCESS, 2, 0)
    assert len(lab.posthog.requests) == asked


def test_only_changed_persons_are_sent(lab: Lab) -> None:
    lab.build(people(a=("free", "Bonn"), b=("pro", "Köln")))
    lab.run(PEOPLE)
    lab.build(people(a=("free", "Bonn"), b=("max", "Köln"), c=("pro", None)))
    run = lab.run(PEOPLE)
    assert (run.counts.unchanged, run.counts.delivered) == (1, 2)
    persons = {
        identity: person.properties for person in lab.posthog.project.persons for identity in person.distinct_ids
    }
    assert persons["b"]["plan"] == "max"
    assert persons["a"]["plan"] == "free"


def test_a_bad_row_never_holds_back_a_good_one(lab: Lab) -> None:
    lab.build(orders((1, "u1", 1), (None, "u2", 1), (3, "null", 1), (4, "u4", 1), (4, "u4", 2)))
    run = lab.run(ORDERS)
    assert run.status is RunStatus.REJECTED
    assert (run.counts.rows, run.counts.delivered, run.counts.rejected) == (5, 1, 4)
    assert run.exit_code == 1


def test_a_mended_row_is_sent_and_its_reject_is_resolved(lab: Lab) -> None:
    lab.build(orders((1, "null", 1)))
    lab.run(ORDERS)
    lab.build(orders((1, "u1", 1)))
    run = lab.run(ORDERS)
    assert (run.status, run.counts.delivered) == (RunStatus.SUCCESS, 1)
    assert lab.sql("select count(*) from {state}.rejected_rows where resolved_at is null") == [(0,)]


def test_rows_that_are_exactly_the_same_are_counted_one_by_one(lab: Lab) -> None:
    lab.build(orders((4, "u4", 1), (4, "u4", 1), (4, "u4", 1)))
    assert lab.run(ORDERS).counts.rejected == 3
    assert lab.planner().state.rejected()[0][2] == 3
    lab.build(orders((4, "u4", 1), (4, "u4", 1)))
    assert lab.run(ORDERS).counts.rejected == 2
    assert lab.planner().state.rejected()[0][2] == 2


def test_a_run_that_was_killed_is_not_shown_as_running_for_ever(lab: Lab) -> None:
    lab.build(people(a=("free", "Bonn")))
    lab.run(PEOPLE)
    lab.sql("update {state}.sync_runs set status = 'running'")
    lab.run(PEOPLE)
    assert sorted(lab.sql("select status from {state}.sync_runs")) == [("interrupted",), ("success",)]
