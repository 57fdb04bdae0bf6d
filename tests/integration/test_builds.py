"""What builds stage and runs deliver: nothing lost, nothing doubled, in order. The hook is called without dbt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from mortal import Killed, MortalWarehouse

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import EventResults, LoseAnswer, Script, Verdict, When, always
from dbt_posthog_sync.warehouse.lease import Holder

PEOPLE: dict[str, Any] = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["plan"]}
EVERY = {**PEOPLE, "keep": "every"}
ORDERS: dict[str, Any] = {
    "object": "event", "sync_key": {"event_id": "id"}, "distinct_id": "id", "event": {"value": "ordered"},
    "timestamp": "at", "properties": ["plan"], "keep": "every",
}  # fmt: skip


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A lab whose model has the post-hook."""
    return replace(lab, has_hook=True)


def people(**plans: str) -> str:
    """A select of people with their plans."""
    rows = (
        f"select '{person}' as id, '{plan}' as plan, timestamp '2026-01-02 03:04:05' as at"
        for person, plan in plans.items()
    )
    return " union all ".join(rows)


def plans_received(lab: Lab, person: str) -> list[str]:
    """The plans that PostHog was told of a person, in the order in which they came, repeats of a message left out."""
    events = dict.fromkeys(
        (e.uuid, str(_sent(e.properties))) for e in lab.posthog.project.received if e.distinct_id == person
    )
    return [plan for _, plan in events]


def _sent(properties: dict[str, Any]) -> Any:
    return properties.get("$set", properties).get("plan")


def note(run: SyncRun) -> str:
    """The first word that tells where the rows come from."""
    return run.message.split(" by ")[0]


def rows_waiting(lab: Lab) -> int:
    """Stagings that no run has settled."""
    return int(lab.sql("select count(*) from {state}.build_stagings")[0][0])


def test_a_run_delivers_what_the_build_staged(lab: Lab) -> None:
    lab.build_with_hook(people(u1="a", u2="a", u3="a"))
    assert lab.run(PEOPLE).message == ""
    lab.build_with_hook(people(u1="b", u2="a", u4="a"))
    run = lab.run(PEOPLE)
    assert run.message.startswith("Staged by the build of ")
    assert (run.counts.rows, run.counts.unchanged, run.counts.delivered, run.counts.removed) == (3, 1, 2, 1)
    assert plans_received(lab, "u1") == ["a", "b"]
    again = lab.run(PEOPLE)
    assert (again.message, again.counts.unchanged, again.counts.removed) == ("", 3, 0)
    assert rows_waiting(lab) == 0


def test_a_row_that_was_gone_at_the_build_is_sent_when_it_comes_back(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="a"))
    assert lab.run(PEOPLE).counts.removed == 1
    lab.build_with_hook(people(u1="a", u2="a"))
    assert lab.run(PEOPLE).counts.delivered == 1


def test_a_build_without_changes_saves_the_scan(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="a", u2="a"))
    lab.sql("update {model} set plan = 'b'")  # a scan would see it
    run = lab.run(PEOPLE)
    assert (note(run), run.counts.rows, run.counts.delivered) == ("Staged", 2, 0)
    assert lab.run(PEOPLE).counts.delivered == 2


def test_bad_rows_are_rejected_as_a_run_rejects_them(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(f"{people(u1='a', u2='a', null='a')} union all {people(u2='b')}")
    run = lab.run(PEOPLE)
    assert (note(run), run.status, run.counts.rejected, run.counts.unchanged) == ("Staged", RunStatus.REJECTED, 3, 1)
    lab.build_with_hook(people(u1="a", u2="a"))
    assert lab.run(PEOPLE).status is RunStatus.SUCCESS
    assert lab.sql("select count(*) from {state}.rejected_rows where resolved_at is null") == [(0,)]


def test_the_last_of_two_builds_counts(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    lab.build_with_hook(people(u1="c"))
    assert rows_waiting(lab) == 1
    assert note(lab.run(PEOPLE)) == "Staged"
    assert plans_received(lab, "u1") == ["a", "c"]


@pytest.mark.parametrize("annotation", [{**PEOPLE, "properties": {"tier": "plan"}}, {**PEOPLE, "nulls": "skip"}])
def test_a_changed_annotation_is_noticed(lab: Lab, annotation: dict[str, Any]) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    run = lab.run(annotation)
    assert run.message == (
        "The annotation, the settings or the program changed since the build staged the model. It was staged anew."
    )
    assert (run.counts.delivered, rows_waiting(lab)) == (1, 0)
    lab.build_with_hook(people(u1="c"))
    assert note(lab.run(annotation)) == "Staged"


def test_another_run_in_between_is_noticed(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(PEOPLE).status is RunStatus.ERROR
    lab.posthog.inject(None)
    run = lab.run(PEOPLE)
    assert run.message.startswith("Another run came between")
    assert plans_received(lab, "u1") == ["a", "b"]


def test_a_model_that_lost_its_hook_is_staged_by_the_run(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    lab.build(people(u1="c"))
    run = replace(lab, has_hook=False).run(PEOPLE)
    assert run.message.startswith("The model was staged by a build, and has the post-hook no more.")
    assert plans_received(lab, "u1") == ["a", "c"]
    assert lab.sql("select count(*) from {state}.build_syncs") == [(0,)]


def test_a_table_that_was_built_again_without_staging_is_noticed(shared_lab: Lab) -> None:
    lab = replace(shared_lab, has_hook=True)
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    lab.build(people(u1="c"))
    assert lab.run(PEOPLE).message == "The model was built again since a build staged it. It was staged anew."
    assert plans_received(lab, "u1") == ["a", "c"]


def test_dbts_own_results_tell_of_a_later_build(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    later = {f"model.lab.{lab.table}": "another invocation"}
    assert lab.run(PEOPLE, built_by=later).message.startswith("The model was built again")


def test_what_moved_since_the_build_is_left_to_the_next_run(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.run(PEOPLE)
    for plan in "bcd":
        lab.build_with_hook(people(u1=plan, u2=plan))
        lab.sql("update {model} set plan = 'moved' where id = 'u1'")
        run = lab.run(PEOPLE)
        assert (note(run), run.counts.delivered, run.counts.moved, run.status) == ("Staged", 1, 1, RunStatus.SUCCESS)
    assert lab.run(PEOPLE).counts.delivered == 1
    assert plans_received(lab, "u1") == ["a", "moved"]


def test_a_full_scan_stages_by_itself(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.run(PEOPLE)
    lab.build_with_hook(people(u1="b"))
    assert lab.run(PEOPLE, full_scan=True).message == ""
    assert rows_waiting(lab) == 0


def test_a_build_stages_nothing_while_a_shard_is_under_way(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.run(PEOPLE)
    state, ((sync_id,),) = lab.planner().state, lab.sql("select sync_id from {state}.syncs")
    shard = Shard(1, 2)
    held = state.lease(str(sync_id), shard).take(Holder("shard", "somebody", "elsewhere"))
    lab.build_with_hook(people(u1="b", u2="b"))
    assert rows_waiting(lab) == 0
    state.lease(str(sync_id), shard).release(held)
    lab.build_with_hook(people(u1="b", u2="b"))
    assert note(lab.run(PEOPLE)) == "Staged"


def test_a_cursor_prunes_the_staging_of_a_build_too(lab: Lab) -> None:
    events = {**ORDERS, "keep": "latest", "cursor": "at"}
    old, new = "timestamp '2026-01-02 03:04:05'", "timestamp '2026-03-02 03:04:05'"
    first = people(u1="a", u2="a")
    lab.build(first)
    lab.run(events)
    lab.build_with_hook(f"{first} union all {people(u3='a').replace(old, new)}")
    run = lab.run(events)
    assert (note(run), run.counts.delivered, run.counts.rows + run.counts.outside) == ("Staged", 1, 3)
    lab.build_with_hook(f"{first} union all {people(u3='a', u4='a').replace(old, new)}")
    run = lab.run(events)
    assert (run.counts.delivered, run.counts.outside, run.counts.rows) == (1, 2, 2)


# --- keep: every ---


def test_every_state_is_delivered_in_order(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.runs(EVERY)
    for number, plan in enumerate("bcb"):
        lab.build_with_hook(people(u1=plan, u2="a", **{f"new_{number}": plan}))
    runs = lab.runs(EVERY)
    assert [note(run) for run in runs] == ["Kept", "Kept", "Kept", ""]
    assert [run.counts.delivered for run in runs] == [2, 2, 2, 0]
    assert [run.run_id for run in runs] == [f"{runs[-1].run_id}.{n}" for n in (1, 2, 3)] + [runs[-1].run_id]
    assert plans_received(lab, "u1") == ["a", "b", "c", "b"]
    person = lab.posthog.project.person("u1")
    assert person is not None
    assert person.properties["plan"] == "b"
    assert [run.counts.delivered for run in lab.runs(EVERY)] == [0]


def test_rows_that_were_in_one_build_only_are_delivered(lab: Lab) -> None:
    lab.build(people(o1="a"))
    lab.runs(ORDERS)
    lab.build_with_hook(people(o2="a", o3="a"))
    lab.build_with_hook(people(o3="a", o4="a"))
    assert [run.counts.delivered for run in lab.runs(ORDERS)] == [2, 1, 0]
    assert sorted(event.distinct_id for event in lab.posthog.project.events) == ["o1", "o2", "o3", "o4"]


def test_a_build_without_changes_adds_nothing_to_what_waits(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b"))
    lab.build_with_hook(people(u1="b"))
    assert [run.counts.delivered for run in lab.runs(EVERY)] == [1, 0, 0]
    assert plans_received(lab, "u1") == ["a", "b"]


def test_a_state_that_cannot_be_delivered_holds_back_the_later_ones(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b"))
    lab.build_with_hook(people(u1="c"))
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert [run.status for run in lab.runs(EVERY)] == [RunStatus.ERROR]
    lab.posthog.inject(None)
    assert [run.counts.delivered for run in lab.runs(EVERY)] == [1, 1, 0]
    assert plans_received(lab, "u1") == ["a", "b", "c"]


def test_every_state_is_kept_while_posthog_is_away(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.posthog.inject(Script(then=LoseAnswer()))
    for plan in "bcd":
        lab.build_with_hook(people(u1=plan))
        assert [run.status for run in lab.runs(EVERY)] == [RunStatus.ERROR]
    lab.posthog.inject(None)
    assert [run.status for run in lab.runs(EVERY)] == [RunStatus.SUCCESS] * 4
    assert plans_received(lab, "u1") == ["a", "b", "c", "d"]


def test_a_refused_state_stays_rejected_through_the_builds_that_follow(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b", u2="b"))
    lab.build_with_hook(people(u1="b", u2="c"))
    drop = EventResults(lambda event: Verdict("drop", "event_too_big") if event["distinct_id"] == "u1" else None)
    lab.posthog.inject(When(always, drop))
    runs = lab.runs(EVERY)
    lab.posthog.inject(None)
    assert [run.status for run in runs] == [RunStatus.REJECTED, RunStatus.SUCCESS, RunStatus.REJECTED]
    assert lab.sql("select sync_key from {state}.rejected_rows where resolved_at is null") == [("u1",)]


def test_what_was_kept_under_an_earlier_annotation_is_sent_as_it_was(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b"))
    runs = lab.runs({**EVERY, "properties": {"tier": "plan"}})
    assert [note(run) for run in runs] == ["Kept", ""]
    assert [run.counts.delivered for run in runs] == [1, 1]
    person = lab.posthog.project.person("u1")
    assert person is not None
    assert (person.properties["plan"], person.properties["tier"]) == ("b", "b")


@pytest.mark.parametrize("flag", ["full_refresh", "only_rejects"])
def test_nothing_overtakes_what_waits(lab: Lab, flag: str) -> None:
    lab.build(f"{people(u1='a')} union all {people(null='a')}")
    lab.runs(EVERY)
    lab.build_with_hook(f"{people(u1='b')} union all {people(null='a')}")
    (run,) = lab.runs(EVERY, **{flag: True})
    assert run.status is RunStatus.UNSAFE
    assert "would send a later state before it" in run.message
    assert [one.counts.delivered for one in lab.runs(EVERY)] == [1, 0]


def test_what_waits_goes_along_when_a_sync_is_renamed(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b"))
    lab.build(people(u1="c"))
    renamed = {**EVERY, "name": f"{lab.table}_renamed"}
    (run,) = lab.runs(renamed, adopt=lab.table, known_names=frozenset([renamed["name"]]))
    assert (run.status, "waits to be sent first" in run.message) == (RunStatus.UNSAFE, True)
    assert [one.counts.delivered for one in lab.runs(renamed)] == [1, 1]
    assert plans_received(lab, "u1") == ["a", "b", "c"]


def test_rebaseline_takes_what_waits_as_delivered(lab: Lab) -> None:
    lab.build(people(u1="a"))
    lab.runs(EVERY)
    lab.build_with_hook(people(u1="b"))
    (run,) = lab.runs(EVERY, rebaseline=True)
    assert run.message == "What 1 build of dbt kept was not sent, but taken as delivered."
    assert (run.counts.known, rows_waiting(lab)) == (1, 0)
    assert plans_received(lab, "u1") == ["a"]


def test_what_waits_and_a_shard_that_died_do_not_wait_for_each_other(lab: Lab) -> None:
    lab.build(people(u1="a", u2="a", u3="a", u4="a"))
    lab.runs(EVERY)
    lab.build(people(u1="b", u2="b", u3="b", u4="b"))
    shard = Shard(1, 2)
    lab.posthog.inject(Script(then=LoseAnswer()))
    assert lab.run(EVERY, shard=shard).status is RunStatus.ERROR
    lab.posthog.inject(None)
    lab.build_with_hook(people(u1="c", u2="c", u3="c", u4="c"))
    (overtaking,) = lab.runs(EVERY, shard=shard)
    kept, whole = lab.runs(EVERY)
    assert [run.status for run in (overtaking, kept, whole)] == [RunStatus.UNSAFE, RunStatus.SUCCESS, RunStatus.UNSAFE]
    assert (kept.counts.delivered, f"--shard {shard}" in whole.message) == (4, True)
    assert lab.run(EVERY, shard=shard).status is RunStatus.SUCCESS
    assert [run.counts.delivered for run in lab.runs(EVERY)] == [0]
    assert {plans_received(lab, f"u{number}")[-1] for number in range(1, 5)} == {"c"}


# --- killed ---


@pytest.mark.parametrize(("annotation", "stride"), [(PEOPLE, 19), (EVERY, 37)], ids=["latest", "every"])
def test_killed_at_any_statement_nothing_is_lost_and_nothing_is_doubled(
    lab: Lab, annotation: dict[str, Any], stride: int
) -> None:
    lab.build(people(**dict.fromkeys(_NAMES, "0")))
    lab.runs(annotation)
    build, statements, died = 0, 1, True
    while died:
        for _ in range(2):
            build += 1
            lab.build_with_hook(people(**dict.fromkeys(_NAMES, "0"), moving=str(build), **{f"new{build}": "x"}))
        died = _killed_at(lab, annotation, statements)
        assert all(run.status is RunStatus.SUCCESS for run in lab.runs(annotation, steal=True))
        assert [run.counts.delivered for run in lab.runs(annotation)] == [0]
        statements += stride
    expected = [str(n) for n in range(1, build + 1) if annotation is EVERY or n % 2 == 0]
    assert plans_received(lab, "moving") == expected
    tuples = {(e.uuid, e.event, e.distinct_id, e.timestamp) for e in lab.posthog.project.received}
    assert len(tuples) == len({uuid for uuid, *_ in tuples})


_NAMES = [f"u{i}" for i in range(7)]


def _killed_at(lab: Lab, annotation: dict[str, Any], statements: int) -> bool:
    mortal = MortalWarehouse(lab.warehouse, statements)
    delivery = replace(lab.delivery, in_flight=2, limits=BatchLimits(messages=2))
    dying = replace(lab, warehouse=mortal, courier=CourierSettings(confirm_seconds=0.0), delivery=delivery)
    try:
        dying.runs(annotation, steal=True)
    except Killed:
        return True
    return False
