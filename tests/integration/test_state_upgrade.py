"""A state schema of an earlier version becomes today's, and what it knew stays known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lab import Lab, fresh_name

from dbt_posthog_sync.errors import StateError
from dbt_posthog_sync.testing import LoseAnswer, Script
from dbt_posthog_sync.warehouse.state import SCHEMA_VERSION

PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}
VERSION_1 = {
    "schema_version": "version int not null, program text, created_at timestamp with time zone",
    "syncs": (
        "sync_id text primary key, project text, name text, model text, relation text, object text, destination text, "
        "key_type text, mapping text, fingerprint text, hash_name text, hash_canary text, base_table text, "
        "log_table text, changes_table text, base_rows bigint, live_keys bigint, model_rows bigint, "
        "is_settled boolean, baseline_at timestamp with time zone, window_start text, "
        "created_at timestamp with time zone, updated_at timestamp with time zone"
    ),
    "leases": (
        "sync_id text primary key, epoch bigint not null, run_id text, owner text, is_held boolean, "
        "taken_at timestamp with time zone, heartbeat_at timestamp with time zone"
    ),
    "rejected_rows": (
        "sync_id text, sync_name text, sync_key text, row_hash {hash}, reason text, try_again text, "
        "first_seen_at timestamp with time zone, last_seen_at timestamp with time zone, first_run_id text, "
        "last_run_id text, resolved_at timestamp with time zone, row_count bigint"
    ),
    "sync_runs": (
        "run_id text, sync_id text, sync_name text, status text, message text, started_at timestamp with time zone, "
        "ended_at timestamp with time zone, dbt_invocation_id text, program_version text, counts text, "
        "delivered bigint, rejected bigint, requests bigint, bytes bigint, seconds double precision"
    ),
}


def columns(lab: Lab) -> list[tuple[Any, ...]]:
    """The shared tables of a state schema, column by column."""
    tables = ", ".join(f"'{name}'" for name in (*VERSION_1, "moved_rows", "doubtful_rows"))
    return lab.sql(
        "select table_name, ordinal_position, column_name, data_type from information_schema.columns "
        f"where table_schema = '{lab.schema}' and table_name in ({tables}) order by 1, 2"
    )


def of_version_1(lab: Lab) -> Lab:
    """The laboratory with a copy of its state as version 1 had it."""
    old = replace(lab, schema=fresh_name("state"))
    hash_type = "ubigint" if lab.server.kind == "duckdb" else "bigint"
    old.sql("create schema {state}")
    for table, definition in VERSION_1.items():
        old.sql(f"create table {{state}}.{table} ({definition.format(hash=hash_type)})")
        names = ", ".join(part.split()[0] for part in definition.split(", "))
        if table == "schema_version":
            old.sql(f"insert into {{state}}.{table} ({names}) values (1, '0.1.0', current_timestamp)")
        else:
            old.sql(f"insert into {{state}}.{table} ({names}) select {names} from {lab.schema}.{table}")
    for (table,) in lab.sql("select base_table from {state}.syncs union all select log_table from {state}.syncs"):
        old.sql(f'create table {{state}}."{table}" as select * from {lab.schema}."{table}"')
    return old


def test_an_upgraded_state_is_the_same_as_a_new_one(lab: Lab) -> None:
    lab.build("select 'a' as id, '1' as note")
    lab.run(PERSONS)
    old = of_version_1(lab)
    assert columns(old) != columns(lab)
    assert old.run(PERSONS).counts.unchanged == 1
    assert columns(old) == columns(lab)
    assert old.sql("select max(version) from {state}.schema_version") == [(SCHEMA_VERSION,)]


def test_an_upgrade_can_be_repeated(lab: Lab) -> None:
    lab.build("select 'a' as id, '1' as note")
    lab.run(PERSONS)
    old = of_version_1(lab)
    state = old.planner().state
    state.bring_up_to_date()
    old.sql("delete from {state}.schema_version where version = 2")  # as a second process sees it that came as early
    old.planner().state.bring_up_to_date()
    assert columns(old) == columns(lab)


def test_staged_rows_of_an_older_version_are_continued(lab: Lab) -> None:
    lab.build("select 'a' as id, '1' as note")
    lab.posthog.inject(Script(then=LoseAnswer()))
    lab.run(PERSONS)
    lab.posthog.inject(None)
    old = of_version_1(lab)
    ((table,),) = old.sql("select changes_table from {state}.syncs")
    columns = "position, sync_key, row_hash, identity_hash, row_moment, kind, staged_at, reason"
    old.sql(f'create table {{state}}."{table}" as select {columns} from {lab.schema}."{table}"')
    assert old.run(PERSONS).counts.delivered == 1
    assert len({event.uuid for event in lab.posthog.project.received}) == 1


def test_a_plan_works_on_an_older_state(lab: Lab) -> None:
    lab.build("select 'a' as id, '1' as note")
    lab.run(PERSONS)
    old = of_version_1(lab)
    old.planner().state.bring_up_to_date()
    assert old.plan(PERSONS).staged.unchanged == 1


def test_a_newer_state_is_refused(lab: Lab) -> None:
    lab.build("select 'a' as id, '1' as note")
    lab.run(PERSONS)
    lab.sql("insert into {state}.schema_version values (99, 'later', current_timestamp)")
    with pytest.raises(StateError, match="has version 99"):
        lab.planner().state.bring_up_to_date()


def test_a_state_schema_of_version_2_is_brought_up_to_date(lab: Lab) -> None:
    lab.build("select 'u1' as id, 'a' as note")
    lab.run(PERSONS)
    today = {(table, name, kind) for table, _, name, kind in columns(lab)}
    lab.sql("alter table {state}.doubtful_rows drop column identity_hash")
    lab.sql("update {state}.schema_version set version = 2")
    lab.build("select 'u1' as id, 'b' as note")
    assert lab.run(PERSONS).counts.delivered == 1
    assert {(table, name, kind) for table, _, name, kind in columns(lab)} == today
    assert max(lab.sql("select version from {state}.schema_version")) == (SCHEMA_VERSION,)
