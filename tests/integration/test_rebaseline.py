"""`--rebaseline` takes present rows as delivered, `--adopt` goes on after a rename, guards say which flag leads on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lab import Lab

from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import LoseAnswer, Script

PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}
RENAMED = {**PERSONS, "properties": {"remark": "note"}}
EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
    "properties": ["note"],
    "on_change": "resend",
}


def persons(count: int, *, note: str = "n", changed: int = 0) -> str:
    """A select of persons; the first few have a changed note."""
    return (
        f"select 'u' || i as id, case when i <= {changed} then 'changed' else '{note}' end as note, 'x' as extra "
        f"from generate_series(1, {count}) as g(i)"
    )


def events(note: str) -> str:
    """A select of one event."""
    return f"select 1 as id, 'p' as person, timestamp '2026-01-02 03:04:05' as seen_at, '{note}' as note"


def other_hash(lab: Lab) -> None:
    """The warehouse was upgraded: every row has another hash than the one that was stored."""
    lab.sql("update {state}.syncs set hash_canary = 'of before'")
    (table,) = lab.sql("select base_table from {state}.syncs")[0]
    lab.sql(f'update {{state}}."{table}" set row_hash = row_hash - 1')


def test_rebaseline_takes_what_is_there_and_sends_nothing(lab: Lab) -> None:
    lab.build(persons(1200))
    lab.run(PERSONS)
    lab.build(persons(1300, note="other"))
    asked = len(lab.posthog.requests)
    plan = lab.plan(PERSONS, rebaseline=True)
    assert (plan.known, plan.estimated_events) == (1300, 0)
    run = lab.run(PERSONS, rebaseline=True)
    assert (run.status, run.counts.known, run.counts.delivered) == (RunStatus.SUCCESS, 1300, 0)
    assert len(lab.posthog.requests) == asked
    assert lab.run(PERSONS).counts.unchanged == 1300


def test_rebaseline_after_a_changed_annotation_takes_only_rows_that_did_not_change(lab: Lab) -> None:
    lab.build(persons(1200))
    lab.run(PERSONS)
    lab.build(persons(1201, changed=3))
    stopped = lab.run(RENAMED)
    assert stopped.status is RunStatus.UNSAFE
    assert "changed since the last run, so 1200 of 1200 rows" in stopped.message
    assert "--rebaseline" in stopped.message
    plan = lab.plan(RENAMED, rebaseline=True)
    assert (plan.known, plan.staged.pending) == (1197, 1201)
    run = lab.run(RENAMED, rebaseline=True)
    assert (run.status, run.counts.known, run.counts.pending) == (RunStatus.SUCCESS, 1197, 4)
    assert "run again" in run.message
    after = lab.run(RENAMED)
    assert (after.status, after.counts.delivered, after.counts.unchanged) == (RunStatus.SUCCESS, 4, 1197)
    person = lab.posthog.project.person("u2")
    assert person is not None
    assert person.properties["remark"] == "changed"


def test_rebaseline_needs_the_columns_of_the_former_annotation(lab: Lab) -> None:
    lab.build(persons(3))
    lab.run({**PERSONS, "properties": ["note", "extra"]})
    lab.build("select id, note from (" + persons(3) + ") p")
    run = lab.run(PERSONS, rebaseline=True)
    assert run.status is RunStatus.UNSAFE
    assert "the column `extra` of the former annotation is gone" in run.message


def test_another_hash_function_stops_and_rebaseline_goes_on(lab: Lab) -> None:
    lab.build(persons(1200))
    lab.run(PERSONS)
    other_hash(lab)
    stopped = replace(lab, limits=Limits(max_changed_percent=None)).run(PERSONS)
    assert stopped.status is RunStatus.UNSAFE
    assert "computes row hashes differently" in stopped.message
    assert "1200 of 1200 rows look changed" in stopped.message
    assert lab.run(RENAMED, rebaseline=True).status is RunStatus.UNSAFE  # two causes cannot be told apart
    assert lab.run(PERSONS, rebaseline=True).counts.known == 1200
    assert lab.run(PERSONS).counts.unchanged == 1200


def test_rebaseline_of_an_empty_model_stops(lab: Lab) -> None:
    lab.build(persons(3) + " limit 0")
    run = lab.run(PERSONS, rebaseline=True)
    assert (run.status, "empty" in run.message) == (RunStatus.UNSAFE, True)


def test_rows_in_doubt_are_left_by_a_rebaseline_with_the_moment_of_their_first_staging(lab: Lab) -> None:
    lab.build(persons(5))
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(PERSONS).status is RunStatus.ERROR
    lab.posthog.inject(None)
    lab.run(PERSONS)
    lab.build(persons(6, changed=2))
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.run(RENAMED)
    lab.posthog.inject(None)
    assert lab.run(RENAMED, rebaseline=True).counts.pending == 6
    assert lab.run(RENAMED).counts.delivered == 6
    received = [(e.uuid, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    repeated = [one for one in received if received.count(one) > 1]
    assert {person for _, person, _ in repeated} >= {"u1", "u2", "u6"}
    assert len({uuid for uuid, *_ in received}) == len(set(received))


@pytest.mark.parametrize("annotation", [PERSONS, RENAMED], ids=["same", "changed"])
def test_rebaseline_does_not_believe_what_posthog_may_have_otherwise(lab: Lab, annotation: dict[str, Any]) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    lab.build(persons(2, changed=1))
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(PERSONS).status is RunStatus.ERROR
    lab.posthog.inject(None)
    lab.build(persons(2))
    assert lab.plan(annotation, rebaseline=True).known == (1 if annotation is RENAMED else 0)
    assert lab.run(annotation, rebaseline=True).counts.pending == 1
    assert lab.run(annotation).counts.delivered == 1
    (person,) = (p for p in lab.posthog.project.persons if p.distinct_ids[0] == "u1")
    assert person.properties[annotation["properties"][0] if annotation is PERSONS else "remark"] == "n"


def test_rebaseline_with_nothing_to_take_is_no_error(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    run = lab.run(PERSONS, rebaseline=True)
    assert (run.status, run.counts.unchanged, run.counts.known) == (RunStatus.SUCCESS, 2, 0)


def test_a_refused_rebaseline_leaves_everything_as_it_was(lab: Lab) -> None:
    both = {**PERSONS, "properties": ["note", "extra"]}
    lab.build(persons(5))
    lab.run(both)
    lab.build("select 'u1' as id, 'n' as note")
    assert lab.run(PERSONS, rebaseline=True).status is RunStatus.UNSAFE
    lab.build(persons(5))
    assert lab.run(both).counts.unchanged == 5


def test_rows_left_by_a_rebaseline_were_never_sent_and_may_still_change_their_person(lab: Lab) -> None:
    lab.build(events("a"))
    lab.run(EVENTS)
    new = " union all select 2, '{person}', timestamp '2026-01-02 03:04:05', 'new'"
    renamed = {**EVENTS, "properties": {"remark": "note"}}
    lab.build(events("a") + new.format(person="wrong"))
    assert lab.run(renamed, rebaseline=True).counts.pending == 1
    lab.build(events("a") + new.format(person="right"))
    assert lab.run(renamed).counts.delivered == 1


def test_rows_left_by_a_rebaseline_hold_the_window_of_a_cursor_back(lab: Lab) -> None:
    windowed = {**EVENTS, "cursor": "seen_at"}

    def build(first: str) -> None:
        rows = ((1, first, "2026-01-02"), (2, "b", "2026-01-05"), (3, "c", "2026-01-09"))
        lab.build(
            " union all ".join(
                f"select {number} as id, 'p' as person, timestamp '{day} 03:04:05' as seen_at, '{note}' as note"
                for number, note, day in rows
            )
        )

    build("a")
    lab.run(windowed)
    build("changed")
    renamed = {**windowed, "properties": {"remark": "note"}}
    assert lab.run(renamed, rebaseline=True, full_scan=True).counts.pending == 1
    assert lab.run(renamed).counts.delivered == 1
    assert {event.properties.get("remark") for event in lab.posthog.project.events} >= {"changed"}


def test_an_adopted_sync_goes_on_and_keeps_its_uuids(lab: Lab) -> None:
    lab.build(events("a"))
    lab.run({**EVENTS, "name": "old_name"})
    new = {**EVENTS, "name": "new_name"}
    stopped = lab.run(new)
    assert (stopped.status, "--adopt old_name" in stopped.message) == (RunStatus.UNSAFE, True)
    assert lab.run(new, adopt="old_name").counts.unchanged == 1
    assert lab.run(new, adopt="old_name").counts.unchanged == 1  # the flag may stay
    lab.build(events("b"))
    assert lab.run(new).counts.delivered == 1
    assert [event.properties["note"] for event in lab.posthog.project.events] == ["b"]
    assert lab.sql("select distinct sync_name from {state}.sync_runs") == [("new_name",)]


def test_what_an_adopted_sync_delivers_is_newer_than_what_it_delivered_before(lab: Lab) -> None:
    old, new = {**PERSONS, "name": "old_name"}, {**PERSONS, "name": "new_name"}
    for note in ("a", "b", "c", "trial"):
        lab.build(f"select 'u1' as id, '{note}' as note")
        lab.run(old)
    lab.run(new, adopt="old_name")
    for note in ("paid", "trial"):
        lab.build(f"select 'u1' as id, '{note}' as note")
        assert lab.run(new).counts.delivered == 1
        assert lab.posthog.project.persons[0].properties["note"] == note


def test_rejected_rows_are_adopted_too(lab: Lab) -> None:
    lab.build("select 'null' as id, 'n' as note")
    lab.run({**PERSONS, "name": "old_name"})
    lab.run({**PERSONS, "name": "new_name"}, adopt="old_name")
    assert lab.sql("select sync_name from {state}.rejected_rows where resolved_at is null") == [("new_name",)]


@pytest.mark.parametrize(
    ("old", "known", "expected"),
    [
        ("never", frozenset(), "no sync of the name `never`"),
        ("old_name", frozenset({"old_name"}), "still the name of a sync"),
    ],
)
def test_a_sync_adopts_only_what_nobody_else_has(lab: Lab, old: str, known: frozenset[str], expected: str) -> None:
    lab.build(persons(2))
    lab.run({**PERSONS, "name": "old_name"})
    run = lab.run({**PERSONS, "name": "new_name"}, adopt=old, known_names=known)
    assert (run.status, expected in run.message) == (RunStatus.UNSAFE, True)


def test_a_sync_with_state_adopts_none(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run({**PERSONS, "name": "old_name"})
    lab.run({**PERSONS, "name": "new_name"}, force=True)
    run = lab.run({**PERSONS, "name": "new_name"}, adopt="old_name")
    assert (run.status, "state of its own" in run.message) == (RunStatus.UNSAFE, True)


def test_a_lost_state_table_is_named(lab: Lab) -> None:
    lab.build(persons(2))
    lab.run(PERSONS)
    (table,) = lab.sql("select base_table from {state}.syncs")[0]
    lab.sql(f'drop table {{state}}."{table}"')
    run = lab.run(PERSONS)
    assert (run.status, run.exit_code) == (RunStatus.ERROR, 2)
    assert table in run.message
    assert "--full-refresh" in run.message
    assert lab.run(PERSONS, full_refresh=True).counts.delivered == 2
