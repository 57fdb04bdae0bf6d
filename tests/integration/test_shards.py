"""Shards: runs of parts of a sync beside each other, which together are one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from mortal import Killed, MortalWarehouse
from shop import Shop

from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import Delay, When, always
from dbt_posthog_sync.warehouse.lease import Holder

EVENTS = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "who",
    "event": {"value": "seen"},
    "timestamp": "at",
    "properties": ["note"],
    "on_change": "resend",
}
PERSONS = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["note"]}
ROWS = 300
HOLDER = Holder("another run", "somebody", "elsewhere")


def build(lab: Lab, note: str = "a") -> None:
    row = f"'u' || n as id, 'p' || (n % 7) as who, '{note}' as note, cast('2026-01-02' as timestamp) as at"
    series = f"range({ROWS}) t(n)" if lab.server.kind == "duckdb" else f"generate_series(0, {ROWS - 1}) t(n)"
    lab.build(f"select {row} from {series}")


def shards(of: int) -> list[Shard]:
    return [Shard(number, of) for number in range(1, of + 1)]


def arrivals(lab: Lab) -> Counter[str]:
    """How often each event arrived."""
    return Counter(event.uuid for event in lab.posthog.project.received)


@pytest.mark.parametrize("annotation", [EVENTS, PERSONS], ids=["events", "persons"])
@pytest.mark.parametrize("of", [2, 5])
def test_all_shards_together_are_one_run(lab: Lab, annotation: dict[str, Any], of: int) -> None:
    build(lab)
    runs = [lab.run(annotation, shard=shard) for shard in shards(of)]
    assert [run.status for run in runs] == [RunStatus.SUCCESS] * of
    assert sum(run.counts.delivered for run in runs) == sum(run.counts.rows for run in runs) == ROWS
    assert all(0 < run.counts.rows < ROWS for run in runs)
    assert set(arrivals(lab).values()) == {1}
    assert len(arrivals(lab)) == ROWS
    whole = lab.run(annotation)
    assert (whole.counts.unchanged, whole.requests) == (ROWS, 0)
    build(lab, "b")
    assert sum(lab.run(annotation, shard=shard).counts.delivered for shard in shards(of)) == ROWS
    assert lab.run(annotation).counts.unchanged == ROWS


def test_shards_run_beside_each_other(postgres_shop: Shop) -> None:
    postgres_shop.build(*((number, f"u{number % 9}", 1.0) for number in range(200)))
    postgres_shop.settings(delivery={"batch_messages": 10, "in_flight": 1})
    postgres_shop.posthog.inject(When(always, Delay(0.05)))
    command = [sys.executable, "-m", "dbt_posthog_sync", "run", "--output", "json", "--shard"]
    runs = [subprocess.Popen([*command, f"{n}/2"], stdout=subprocess.PIPE, cwd=postgres_shop.folder) for n in (1, 2)]
    found = [json.loads(run.communicate(timeout=120)[0])["runs"][0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum(run["counts"]["delivered"] for run in found) == 200
    assert len(postgres_shop.posthog.project.received) == 200
    whole = postgres_shop("run", "--output", "json").json["runs"][0]
    assert (whole["counts"]["unchanged"], whole["requests"]) == (200, 0)
    spans = postgres_shop.server.sql(
        f"select min(ended_at) > max(started_at) from {postgres_shop.state}.sync_runs where delivered > 0"
    )
    assert spans == [(True,)]


def test_rows_without_a_key_belong_to_the_first_shard(lab: Lab) -> None:
    lab.build("select cast(null as varchar) as id, 'a' as note")
    first, second = (lab.run(PERSONS, shard=shard) for shard in shards(2))
    assert (first.counts.rejected, second.counts.rows) == (1, 0)
    assert lab.planner().state.rejected()[0][2] == 1


def test_a_shard_does_not_settle_the_rejects_of_another(lab: Lab) -> None:
    bad = " union all ".join(f"select cast(n as varchar) as id, '' as who from (select {n} as n) t" for n in range(20))
    build_bad = f"select id, who, 'x' as note, cast('2026-01-02' as timestamp) as at from ({bad}) b"
    lab.build(build_bad)
    assert sum(lab.run(EVENTS, shard=shard).counts.rejected for shard in shards(3)) == 20
    assert lab.planner().state.rejected()[0][2] == 20
    lab.build(build_bad.replace("'' as who", "'p' as who"))
    left = [20 - sum(lab.run(EVENTS, shard=s).counts.delivered for s in shards(3)[:1])]
    assert sum(int(row[2]) for row in lab.planner().state.rejected()) == left[0]


@pytest.mark.parametrize("fatal", range(5, 60, 9))
def test_a_killed_shard_is_continued_by_itself(lab: Lab, fatal: int) -> None:
    build(lab)
    first, second = shards(2)
    try:
        replace(lab, warehouse=MortalWarehouse(lab.warehouse, fatal)).run(PERSONS, shard=first)
    except Killed:
        lab.run(PERSONS, shard=first, steal=True)
    lab.run(PERSONS, shard=second)
    assert lab.run(PERSONS).counts.unchanged == ROWS
    assert len({(event.uuid, event.distinct_id) for event in lab.posthog.project.received}) == ROWS


def killed_while_delivering(lab: Lab, shard: Shard | None) -> None:
    class Dies(MortalWarehouse):
        def run(self, macro: str, **arguments: Any) -> int:
            if macro == "confirm":
                raise Killed
            return super().run(macro, **arguments)

    with pytest.raises(Killed):
        replace(lab, warehouse=Dies(lab.warehouse, 1_000_000)).run(PERSONS, shard=shard)


def released(lab: Lab) -> None:
    lab.sql("update {state}.leases set is_held = false")


def test_what_a_shard_left_is_not_for_a_run_of_all_rows(lab: Lab) -> None:
    build(lab)
    killed_while_delivering(lab, Shard(2, 2))
    released(lab)
    for other in (None, Shard(1, 3)):
        run = lab.run(PERSONS, shard=other)
        assert run.status is RunStatus.UNSAFE
        assert "Run it again first: --shard 2/2" in run.message
    assert lab.run(PERSONS, shard=Shard(1, 2)).status is RunStatus.SUCCESS
    assert lab.run(PERSONS, shard=Shard(2, 2)).status is RunStatus.SUCCESS
    assert lab.run(PERSONS).counts.unchanged == ROWS


def test_what_a_run_of_all_rows_left_is_not_for_a_shard(lab: Lab) -> None:
    build(lab)
    killed_while_delivering(lab, None)
    released(lab)
    run = lab.run(PERSONS, shard=Shard(1, 2))
    assert "a run without --shard did not end" in run.message
    lab.run(PERSONS)
    assert lab.run(PERSONS, shard=Shard(1, 2)).status is RunStatus.SUCCESS


def test_leases_of_shards_keep_each_other_out_as_they_must(shared_lab: Lab) -> None:
    lab = shared_lab
    state = lab.planner().state
    state.ensure()
    half = state.lease("some", Shard(1, 2)).take(HOLDER)
    other = state.lease("some", Shard(2, 2)).take(HOLDER)
    assert half.epoch != other.epoch
    with pytest.raises(UnsafePlan, match="Another run of this sync"):
        state.lease("some", Shard(1, 2)).take(Holder("third", "x", "y"))
    with pytest.raises(UnsafePlan, match="shards of this sync are under way: 1/2, 2/2"):
        state.lease("some", Shard(1, 3)).take(Holder("third", "x", "y"))
    with pytest.raises(UnsafePlan, match="shards of this sync are under way"):
        state.lease("some").take(Holder("third", "x", "y"))
    state.lease("some", Shard(1, 2)).release(half)
    state.lease("some", Shard(2, 2)).release(other)
    whole = state.lease("some").take(HOLDER)
    assert whole.epoch > other.epoch
    with pytest.raises(UnsafePlan, match="Another run of this sync"):
        state.lease("some", Shard(1, 2)).take(Holder("third", "x", "y"))


def test_a_baseline_is_not_for_shards(lab: Lab) -> None:
    build(lab)
    known = {**PERSONS, "backfill": False}
    run = lab.run(known, shard=Shard(1, 2))
    assert (run.status, lab.posthog.project.received) == (RunStatus.UNSAFE, ())
    assert "Run it once without --shard" in run.message
    assert lab.run(known).counts.known == ROWS
    assert lab.run(known, shard=Shard(1, 2)).counts.delivered == 0


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/1", "1", "a/b", "1/2/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a shard is written like"):
        Shard.from_text(text)
    assert Shard.from_text(" 2/4 ") == Shard(2, 4)
