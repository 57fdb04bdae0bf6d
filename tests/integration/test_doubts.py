"""Rows of which PostHog may have another content than the snapshot says are sent again, and events never twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from people import make_person
from weather import NOWHERE, EventfulWarehouse, Place, Weather, in_another_session

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import CloseConnection, LoseAnswer, Script

PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan"},
}
GROUPS: dict[str, Any] = {
    "object": "group",
    "sync_key": {"group_key": "id"},
    "group_type": "company",
    "properties": {"plan": "plan"},
}
EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "id",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
    "properties": {"plan": "plan"},
    "on_change": "resend",
}


def build(lab: Lab, plan: str) -> None:
    """One row, whose only content is its plan."""
    lab.build(f"select 'u1' as id, '{plan}' as plan, timestamp '2024-01-02 03:04:05' as seen_at")


def plan_of(lab: Lab, kind: str) -> Any:
    """The plan that PostHog has."""
    project = lab.posthog.project
    kept: Mapping[str, Any]
    match kind:
        case "person":
            kept = project.persons[0].properties
        case "group":
            kept = project.groups[0].properties
        case _:
            kept = project.events[0].properties
    return kept["plan"]


@pytest.mark.parametrize("annotation", [PERSONS, GROUPS, EVENTS], ids=["person", "group", "event"])
def test_a_row_that_went_back_while_its_answer_was_lost_is_sent_again(lab: Lab, annotation: dict[str, Any]) -> None:
    build(lab, "a")
    lab.run(annotation)
    build(lab, "b")
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(annotation).status is RunStatus.ERROR
    lab.posthog.inject(None)
    build(lab, "a")
    lab.run(annotation)
    assert plan_of(lab, annotation["object"]) == "a"


@pytest.mark.parametrize("annotation", [PERSONS, GROUPS, EVENTS], ids=["person", "group", "event"])
def test_a_message_that_arrives_after_a_takeover_does_not_stay(lab: Lab, annotation: dict[str, Any]) -> None:
    def another_run_takes_over() -> None:
        build(lab, "b")
        in_another_session(lab.warehouse, lambda: lab.run(annotation, steal=True))

    build(lab, "a")
    lab.posthog.inject(Weather(pause_at=1, pause=another_run_takes_over))
    lab.run(annotation)
    lab.posthog.inject(None)
    lab.run(annotation, steal=True)
    assert plan_of(lab, annotation["object"]) == "b"


def test_another_mapping_sends_the_rows_outside_the_window_too(lab: Lab) -> None:
    annotation = {**PERSONS, "cursor": "loaded"}
    lab.build(
        "select 'u1' as id, 'a' as plan, timestamp '2024-01-01 00:00:00' as loaded "
        "union all select 'u2', 'a', timestamp '2024-01-05 00:00:00'"
    )
    lab.run(annotation)
    lab.run({**annotation, "properties": {"tier": "plan"}})
    assert all(person.properties.get("tier") == "a" for person in lab.posthog.project.persons)


def staged(lab: Lab) -> list[tuple[Any, ...]]:
    """Staged rows that were kept for the next run."""
    ((table,),) = lab.sql("select changes_table from {state}.syncs")
    return [] if table is None else lab.sql(f'select sync_key, in_doubt from {{state}}."{table}" order by 1')


def stopped(lab: Lab, annotation: dict[str, Any]) -> SyncRun:
    """A run that is asked to stop before it sends anything."""
    runner = lab.runner()
    runner.stop()
    return runner.run(lab.resolve(annotation))


def test_a_doubt_outlives_runs_that_stopped_before_they_settled_it(lab: Lab) -> None:
    build(lab, "a")
    lab.run(PERSONS)
    build(lab, "b")
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    build(lab, "a")
    for _ in range(2):
        assert stopped(lab, PERSONS).status is RunStatus.INTERRUPTED
        assert staged(lab) == [("u1", True)]
    assert lab.run(PERSONS).counts.delivered == 1
    assert plan_of(lab, "person") == "a"
    assert staged(lab) == []
    assert lab.run(PERSONS).requests == 0


def test_a_doubt_outlives_a_time_in_which_the_row_is_bad(lab: Lab) -> None:
    build(lab, "a")
    lab.run(PERSONS)
    build(lab, "b")
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    lab.build("select 'u1' as id, 'a' as plan union all select 'u1', 'a'")
    assert lab.run(PERSONS).counts.rejected == 2
    lab.build("select 'u1' as id, 'a' as plan")
    lab.run(PERSONS)
    assert plan_of(lab, "person") == "a"
    assert staged(lab) == []


def test_rows_that_were_never_sent_are_forgotten_when_a_run_stops(lab: Lab) -> None:
    build(lab, "a")
    assert stopped(lab, PERSONS).counts.pending == 1
    assert staged(lab) == []


def test_only_what_was_under_way_is_in_doubt_when_posthog_goes_away(lab: Lab) -> None:
    lab.build("select 'u' || i as id, 'a' as plan from generate_series(1, 50) as g(i)")
    few = replace(lab, delivery=replace(lab.delivery, in_flight=1, limits=BatchLimits(messages=10)))
    lab.posthog.inject(Script(after=1, then=LoseAnswer()))
    assert few.run(PERSONS).counts.delivered == 10
    assert len(staged(lab)) == 10
    lab.posthog.inject(None)
    assert lab.run(PERSONS).counts.delivered == 40
    assert staged(lab) == []


@pytest.mark.parametrize("on_change", ["ignore", "resend"])
def test_an_event_that_may_have_arrived_is_not_sent_under_another_day(lab: Lab, on_change: str) -> None:
    events = {**EVENTS, "on_change": on_change}
    build(lab, "a")
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.run(events)
    lab.posthog.inject(None)
    lab.build("select 'u1' as id, 'a' as plan, timestamp '2024-05-05 03:04:05' as seen_at")
    for _ in range(2):
        run = lab.run(events)
        assert (run.status, run.counts.rejected) == (RunStatus.REJECTED, 1)
        assert "may have arrived" in run.reasons[0][0]
    assert len(lab.posthog.project.events) == 1
    build(lab, "a")
    assert lab.run(events).counts.delivered == 1
    assert len(lab.posthog.project.events) == 1


def test_retry_sends_an_event_under_another_day_when_the_user_knows_better(lab: Lab) -> None:
    build(lab, "a")
    lab.posthog.inject(Script(then=CloseConnection()))
    lab.run(EVENTS)
    lab.posthog.inject(None)
    lab.build("select 'u1' as id, 'a' as plan, timestamp '2024-05-05 03:04:05' as seen_at")
    assert lab.run(EVENTS).counts.rejected == 1
    assert lab.retry(EVENTS).counts.delivered == 1
    assert len(lab.posthog.project.events) == 1


@pytest.mark.parametrize("annotation", [PERSONS, GROUPS], ids=["person", "group"])
def test_another_mapping_sends_a_row_of_nulls_too(lab: Lab, annotation: dict[str, Any]) -> None:
    lab.build("select 'u1' as id, cast(null as varchar(10)) as plan")
    lab.run(annotation)
    changed = {"plan": "plan", "by": {"value": "dbt"}}
    assert lab.run({**annotation, "properties": changed}).counts.delivered == 1


@pytest.mark.parametrize("annotation", [PERSONS, GROUPS], ids=["person", "group"])
def test_a_run_that_lost_its_lease_before_staging_sends_nothing(lab: Lab, annotation: dict[str, Any]) -> None:
    def another_run_takes_over() -> None:
        lab.posthog.inject(Script(then=LoseAnswer()))
        in_another_session(lab.warehouse, lambda: lab.run(annotation, steal=True))
        lab.posthog.inject(None)

    build(lab, "a")
    paused = EventfulWarehouse(lab.warehouse, NOWHERE, Place(macro="read_rejected"), another_run_takes_over)
    assert replace(lab, warehouse=paused).run(annotation).status is RunStatus.ERROR
    lab.run(annotation, steal=True)
    assert len({message.uuid for message in lab.posthog.project.received}) == 1


def lost(lab: Lab, annotation: dict[str, Any]) -> None:
    """A run whose messages arrive and whose answers do not."""
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(annotation).status is RunStatus.ERROR
    lab.posthog.inject(None)


def test_a_doubt_outlives_a_time_in_which_the_row_is_gone(lab: Lab) -> None:
    windowed = {**PERSONS, "cursor": "seen_at"}
    other = " union all select 'u2', 'x', timestamp '2024-01-02 03:04:05'"
    row = "select 'u1' as id, '{plan}' as plan, timestamp '2024-01-02 03:04:05' as seen_at"
    lab.build(row.format(plan="a") + other)
    lab.run(windowed)
    lab.build(row.format(plan="b") + other)
    lost(lab, windowed)
    lab.build("select 'u2' as id, 'x' as plan, timestamp '2024-01-02 03:04:05' as seen_at")
    lab.run(windowed)
    lab.build(row.format(plan="a") + other)
    assert lab.run(windowed).counts.delivered == 1
    assert {p.properties["plan"] for p in lab.posthog.project.persons if p.distinct_ids[0] == "u1"} == {"a"}
    assert lab.sql("select * from {state}.doubtful_rows") == []
    assert lab.run(windowed).requests == 0


@pytest.mark.parametrize("on_change", ["ignore", "resend"])
def test_an_event_in_doubt_that_was_gone_does_not_come_back_as_another(lab: Lab, on_change: str) -> None:
    annotation = {**EVENTS, "on_change": on_change, "distinct_id": "person"}
    row = "select 'e1' as id, '{person}' as person, 'a' as plan, timestamp '2024-01-02 03:04:05' as seen_at"
    lab.build(row.format(person="p"))
    lost(lab, annotation)
    lab.build("select 'e2' as id, 'p' as person, 'a' as plan, timestamp '2024-01-02 03:04:05' as seen_at")
    lab.run(annotation)
    lab.build(row.format(person="q"))
    assert lab.run(annotation).counts.rejected == 1
    assert {event.distinct_id for event in lab.posthog.project.events} == {"p"}


def many(count: int, *, day: str = "02", changed: int = 0) -> str:
    """A select of events; the first few have a changed plan, the last one has its own day."""
    return (
        f"select i as id, case when i <= {changed} then 'b' else 'a' end as plan, timestamp '2024-01-02 03:04:05' + "
        f"case when i = 1201 then interval '{int(day) - 2} days' else interval '0 days' end as seen_at "
        f"from generate_series(1, {count}) as g(i)"
    )


def test_what_a_guard_stopped_is_not_in_doubt_also_after_a_lost_answer(lab: Lab) -> None:
    lab.build(many(1200))
    lab.run(EVENTS)
    lab.build(many(1201))
    lost(lab, EVENTS)
    lab.build(many(1203, changed=900))
    assert lab.run(EVENTS).status is RunStatus.UNSAFE
    assert staged(lab) == [(1201, True)]
    lab.build(many(1203))
    counts = lab.run(EVENTS).counts
    assert (counts.unchanged, counts.delivered, counts.rejected) == (1200, 3, 0)


def test_a_full_refresh_that_a_guard_stopped_forgets_no_doubt(lab: Lab) -> None:
    lab.build(many(1200))
    lab.run(EVENTS)
    lab.build(many(1201))
    lost(lab, EVENTS)
    lab.build(many(1201, day="09"))
    assert lab.run(EVENTS, full_refresh=True, limits=Limits(max_events=1000)).status is RunStatus.UNSAFE
    counts = lab.run(EVENTS).counts
    assert (counts.unchanged, counts.rejected) == (1200, 1)


def test_who_reads_the_staged_rows_of_a_dead_run_holds_nobody_up(shared_lab: Lab) -> None:
    lab = shared_lab
    build(lab, "a")
    lost(lab, PERSONS)
    ((table,),) = lab.sql("select changes_table from {state}.syncs")
    reader = lab.server.connect()
    try:
        reader.cursor().execute(f'select * from {lab.schema}."{table}"')  # and its transaction stays open
        assert lab.run(PERSONS).counts.delivered == 1
        named = f"select 1 from information_schema.tables where table_name = '{table}'"
        assert len(lab.sql(named)) == 1
    finally:
        reader.close()
    lab.run(PERSONS)
    assert lab.sql(named) == []


def test_a_robbed_run_says_so_when_its_tables_are_gone(shared_lab: Lab) -> None:
    def another_run_takes_over() -> None:
        in_another_session(shared_lab.warehouse, lambda: shared_lab.run(PERSONS, steal=True))

    shared_lab.build("select 'u' || i as id, 'a' as plan from generate_series(1, 3) as g(i)")
    shared_lab.posthog.inject(Weather(pause_at=1, pause=another_run_takes_over))
    robbed = shared_lab.run(PERSONS)
    assert (robbed.status, "took over" in robbed.message) == (RunStatus.ERROR, True)


def test_a_row_in_doubt_whose_person_is_gone_holds_no_retry_up(lab: Lab) -> None:
    only_known = {**PERSONS, "behavior": "update_only"}
    make_person(lab.posthog, "u1")
    twice = "union all select 'u2', 'a' union all select 'u2', 'b'"
    lab.build(f"select 'u1' as id, 'a' as plan {twice}")
    lost(lab, only_known)
    lab.posthog.project.delete_persons(distinct_ids=["u1"])
    counts = lab.run(only_known).counts
    assert (counts.skipped, counts.rejected) == (1, 2)
    assert lab.retry(only_known).status is RunStatus.REJECTED
    lab.posthog.project.reset_distinct_id("u1")
    make_person(lab.posthog, "u1")
    assert lab.run(only_known).counts.delivered == 1
