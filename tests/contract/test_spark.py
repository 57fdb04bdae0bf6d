"""Spark alone: a warehouse without transactions, without temporary tables, and without a word on rows written."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from lab import Lab, Server

from dbt_posthog_sync.errors import LeaseLost, UnsafePlan
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.warehouse.lease import Holder
from dbt_posthog_sync.warehouse.rights import probe_rights

OpenLab = Callable[[Server], AbstractContextManager[Lab]]
PEOPLE = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["plan"]}


def tables(server: Server, schema: str) -> list[str]:
    return [str(name) for _, name, _ in server.sql(f"show tables in {schema}")]


def test_a_log_is_folded_and_what_stood_in_for_temporary_tables_is_gone(spark: Server, open_lab: OpenLab) -> None:
    with open_lab(spark) as lab:
        lab.build(
            "select 'u' || i as id, 'a' as plan, map(['x'], [cast(i as double)]) as scores "
            "from generate_series(1, 1200) as g(i)"
        )
        everyone = {**PEOPLE, "properties": ["plan", "scores"]}
        assert lab.run(everyone).counts.delivered == 1_200
        assert lab.sql("select base_rows from {state}.syncs") == [(1_200,)]
        assert lab.run(everyone).counts.unchanged == 1_200
        (person,) = [found for found in lab.posthog.project.persons if "u7" in found.distinct_ids]
        assert person.properties["scores"] == {"x": 7.0}
        (log,) = lab.sql("select log_table from {state}.syncs")[0]
        assert sorted(name for name in tables(spark, lab.schema) if "__log_" in name) == [log]
    assert [name for name in tables(spark, "default") if name.startswith(f"{lab.table}_")] == []


def test_a_run_that_lost_its_lease_is_told_though_no_statement_counts_rows(spark: Server, open_lab: OpenLab) -> None:
    with open_lab(spark) as lab:
        lab.planner().state.ensure()
        lease = lab.planner().state.lease("a sync")
        first = lease.take(Holder("first", "a test", "here"))
        lease.hold(first)
        with pytest.raises(UnsafePlan):
            lease.take(Holder("second", "a test", "here"))
        lease.take(Holder("second", "a test", "here"), steal=True)
        with pytest.raises(LeaseLost):
            lease.hold(first)


def test_of_two_first_runs_at_once_the_later_one_is_refused(spark: Server, open_lab: OpenLab) -> None:
    """Nothing keeps the key of a lease unique here: both may find no row and insert one."""
    with open_lab(spark) as lab:
        state = lab.planner().state
        state.ensure()
        first = state.lease("a sync").take(Holder("first", "a test", "here"))
        lab.sql("insert into {state}.leases (sync_id, epoch, is_held) select 'a sync', 0, false")
        with pytest.raises(UnsafePlan):
            state.lease("a sync").take(Holder("second", "a test", "here"))
        state.lease("a sync").hold(first)


def test_shards_are_refused_and_rights_leave_nothing(spark: Server, open_lab: OpenLab) -> None:
    with open_lab(spark) as lab:
        assert probe_rights(lab.warehouse, lab.schema) is False
        assert probe_rights(lab.warehouse, lab.schema) is False
        lab.build("select 'u1' as id, 'a' as plan")
        run = lab.run(PEOPLE, shard=Shard(1, 2))
        assert (run.status, "Shards need a warehouse with transactions" in run.message) == (RunStatus.UNSAFE, True)


def test_a_variant_is_the_document_that_it_was(spark: Server, open_lab: OpenLab) -> None:
    """But for NUL and for numbers that a double cannot hold."""
    document = r'{"a": [1, 9007199254740993, 0.5, null], "b": "\u0000 \\u0000 9007199254740993"}'
    with open_lab(spark) as lab:
        lab.build(f"select 'u1' as id, parse_json(r'{document}') as doc")
        (message,) = lab.messages({**PEOPLE, "properties": ["doc"]})
        found = json.loads(b"{" + message.properties[1:] + b"}")["$set"]["doc"]
        assert found == {"a": [1, "9007199254740993", 0.5, None], "b": "\ufffd \\u0000 9007199254740993"}
