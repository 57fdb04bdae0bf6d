"""The post-hook in real builds of dbt: every kind of model, eight threads, and never a build that fails for it."""

from __future__ import annotations

from typing import Any

import pytest
from hooked import dbt, failing_dbt, profile, runs, stagings, write_models
from lab import fresh_name
from shop import Shop

EVENT: dict[str, Any] = {
    "object": "event", "sync_key": {"event_id": "id"}, "distinct_id": "person", "event": {"value": "seen"},
    "timestamp": "seen_at", "properties": "all",
}  # fmt: skip
PERSON: dict[str, Any] = {"object": "person", "sync_key": {"distinct_id": "person"}, "properties": ["plan"]}
ROWS = """
select day * 10 + n as id, 'p' || cast(n as varchar(10)) as person,
  cast('plan ' || cast(day as varchar(10)) as varchar(20)) as plan,
  cast('2026-01-0' || cast(day as varchar(10)) || ' 03:00:00' as timestamp) as seen_at
from (select 1 as n union all select 2 union all select 3) numbers
cross join (select 1 as day union all select 2 union all select 3 union all select 4) days
where day <= {{ env_var('DAY') }}
"""
MODELS = {
    "models/raw.sql": f"{{{{ config(event_time='seen_at') }}}}\n{ROWS}",
    "models/as_table.sql": "select * from {{ ref('raw') }} where id > {{ env_var('DAY') }} * 10",
    "models/as_view.sql": "{{ config(materialized='view') }} select * from {{ ref('raw') }}",
    "models/as_incremental.sql": "{{ config(materialized='incremental') }} select * from {{ ref('raw') }}"
    "{% if is_incremental() %} where id > (select max(id) from {{ this }}){% endif %}",
    "models/as_microbatch.sql": "{{ config(materialized='incremental', incremental_strategy='microbatch',"
    " begin='2026-01-01', batch_size='day', event_time='seen_at',"
    " unique_key=('id' if target.type == 'postgres' else none)) }} select * from {{ ref('raw') }}",
    "snapshots/as_snapshot.sql": "{% snapshot as_snapshot %}{{ config(unique_key='person', strategy='check',"
    " check_cols=['plan'], target_schema=target.schema) }}"
    " select person, plan, id from {{ ref('as_table') }}{% endsnapshot %}",
    "snapshots/as_current.sql": "{% snapshot as_current %}{{ config(unique_key='person', strategy='check',"
    " check_cols=['plan'], target_schema=target.schema) }}"
    " select person, plan from {{ ref('as_table') }}{% endsnapshot %}",
    "seeds/as_seed.csv": "person,plan\np1,one\np2,two\n",
}
PYTHON = {
    "models/as_python.py": "def model(dbt, session):\n    raw = dbt.ref('raw')\n    return raw.filter('id > 0')\n",
}
EVENTS = ("as_view", "as_incremental", "as_microbatch")
DAYS = "build --event-time-start 2026-01-01 --event-time-end 2026-01-04"


def described(annotations: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes with their annotations; each sync is called as its model with `_sync` behind."""
    return [
        {"name": name, "config": {"meta": {"posthog_sync": {**annotation, "name": f"{name}_sync"}}}}
        for name, annotation in annotations.items()
    ]


@pytest.fixture
def hooked(any_shop: Shop) -> Shop:
    """A shop with a real dbt project of every kind of model, in a schema of its own."""
    shop = any_shop
    schema = fresh_name("hooked")
    shop.server.sql(f"create schema {schema}")
    profile(shop, schema, elsewhere={"schema": f"{schema}_elsewhere"}, forbidden={})
    shop.settings(targets=["dev", "elsewhere"])
    models = {**MODELS, **(PYTHON if shop.server.kind == "duckdb" else {})}
    python = {"as_python": EVENT} if shop.server.kind == "duckdb" else {}
    properties = {
        "models": described({"as_table": PERSON, **dict.fromkeys(EVENTS, EVENT), **python}),
        "seeds": described({"as_seed": PERSON}),
        "snapshots": described(
            {
                "as_snapshot": {**EVENT, "timestamp": "dbt_valid_from", "sync_key": {"event_id": "dbt_scd_id"}},
                "as_current": {**PERSON, "properties": {"held": "plan"}},
            }
        ),
    }
    properties["seeds"][0]["config"]["meta"]["posthog_sync"]["properties"] = {"seeded": "plan"}
    write_models(shop, models, properties)
    return shop


def test_every_kind_of_model_is_staged_while_it_is_built(hooked: Shop) -> None:
    shop = hooked
    first = dbt(shop, DAYS)
    assert "nothing staged: the state schema" in first
    assert all(len(of_sync) == 1 and of_sync[0]["message"] == "" for of_sync in runs(shop).values())
    dbt(shop, DAYS, day=2)
    found = runs(shop)
    expected = dict.fromkeys(("as_table", "as_snapshot", "as_current", "as_python", *EVENTS), 3) | {"as_seed": 0}
    assert {name.removesuffix("_sync"): run["counts"]["delivered"] for name, (run,) in found.items()} == {
        name: count for name, count in expected.items() if f"{name}_sync" in found
    }
    for (run,) in found.values():
        assert run["message"].startswith("Staged by the build of "), run
    assert stagings(shop) == []
    person = shop.posthog.project.person("p1")
    assert person is not None
    assert [person.properties[name] for name in ("plan", "seeded", "held")] == ["plan 2", "one", "plan 2"]
    assert all(run["counts"]["delivered"] == 0 and run["message"] == "" for (run,) in runs(shop).values())
    quiet = dbt(
        shop, "compile", "docs generate", "test", "build --empty --exclude as_microbatch", "run --target forbidden"
    )
    assert "dbt_posthog_sync" not in quiet
    assert stagings(shop) == []


DAILY = "'u' || cast({{ env_var('DAY') }} as varchar(20))"


def persons(shop: Shop, names: list[str], person: str, **annotation: Any) -> Shop:
    """A project of models of persons in a schema of its own; each has one row, whose plan is the day."""
    schema = fresh_name("family")
    shop.server.sql(f"create schema {schema}")
    profile(shop, schema)
    select = f"select cast({{{{ env_var('DAY') }}}} as varchar(20)) as plan, {person} as person"
    shared = {"object": "person", "sync_key": {"distinct_id": "person"}, **annotation}
    annotations = {name: {**shared, "properties": {name: "plan"}} for name in names}
    write_models(shop, {f"models/{name}.sql": select for name in names}, {"models": described(annotations)})
    return shop


def test_eight_threads_build_sixteen_models(any_shop: Shop) -> None:
    family = persons(any_shop, [f"model_{number}" for number in range(16)], DAILY)
    dbt(family, "build")
    assert len(runs(family)) == 16
    dbt(family, "build", day=2)
    dbt(family, "build", day=3)
    assert len(stagings(family)) == 16
    found = runs(family)
    assert {(run["counts"]["delivered"], run["message"][:6]) for (run,) in found.values()} == {(1, "Staged")}


OBSTACLES = {
    "gone": "its tables in the state schema are gone",
    "held": "a run is under way, or did not end",
    "hashes": "the warehouse hashes rows differently",
    "version": "the state was written by dbt-posthog-sync 0.0.9",
    "columns": "the columns are not those that the last run saw",
    "broken": "the warehouse refused it (42703)",
}
LATE = "{{ config(post_hook=\"{{ 'select * from nowhere' if env_var('LATE', '') else '' }}\") }}"


@pytest.fixture
def obstructed(any_shop: Shop) -> Shop:
    """A project whose models were built and synced once, and whose state is then damaged in several ways."""
    shop = any_shop
    schema = fresh_name("obstructed")
    for name in (schema, f"{schema}_limited"):
        shop.server.sql(f"create schema {name}")
    role = {"role": "limited"} if shop.server.kind == "postgres" else {}
    profile(shop, schema, limited={"schema": f"{schema}_limited", **role})
    select = "select 'u1' as person, cast({{ env_var('DAY') }} as varchar(20)) as plan"
    models = {f"models/{name}.sql": select for name in OBSTACLES if name != "broken" or role}
    models["models/columns.sql"] = f"{select}{{{{ ', 1 as added' if env_var('DAY') != '1' else '' }}}}"
    models["models/late.sql"] = f"{LATE} {select}"
    shared = {"object": "person", "sync_key": {"distinct_id": "person"}, "properties": "all", "shared": True}
    write_models(shop, models, {"models": described({path[7:-4]: shared for path in models})})
    dbt(shop, "build")
    runs(shop)
    return shop


def _damage(shop: Shop) -> None:
    state = shop.state
    tables = dict(shop.server.sql(f"select name, log_table from {state}.syncs"))
    ids = dict(shop.server.sql(f"select name, sync_id from {state}.syncs"))
    shop.server.sql(f'alter table {state}."{tables["gone_sync"]}" rename to elsewhere')
    shop.server.sql(f"update {state}.leases set is_held = true where sync_id = '{ids['held_sync']}'")
    shop.server.sql(f"update {state}.syncs set hash_canary = 'x' where sync_id = '{ids['hashes_sync']}'")
    shop.server.sql(f"update {state}.build_syncs set program = '0.0.9' where sync_id = '{ids['version_sync']}'")
    if shop.server.kind == "postgres":
        ((rows,),) = shop.server.sql(
            f"select rows_table from {state}.build_syncs where sync_id = '{ids['broken_sync']}'"
        )
        shop.server.sql(f'alter table {state}."{rows}" rename kind to sort')


def test_neither_rights_nor_damage_fail_a_build_and_a_failed_hook_takes_its_rows_back(obstructed: Shop) -> None:
    """One project for all of them, because to build and sync it takes longer than what is looked at."""
    _check_a_later_hook_that_fails(obstructed)
    _check_who_may_not_use_the_state(obstructed)
    _damage(obstructed)
    _check_damage(obstructed)


def _check_damage(shop: Shop) -> None:
    said = dbt(shop, "build", day=2)
    for name, words in OBSTACLES.items():
        assert (name == "broken" and shop.server.kind == "duckdb") or f"{name}_sync is not staged: {words}" in said
    assert stagings(shop) == ["late_sync"]
    assert (
        shop.server.sql(f"select distinct plan from {_schema(shop)}.broken") == [("2",)] if "broken" in said else True
    )


def _check_who_may_not_use_the_state(shop: Shop) -> None:
    if shop.server.kind == "postgres":
        shop.server.sql("create role limited")
        shop.server.sql(f"grant all on schema {_schema(shop)}_limited to limited")
    said = dbt(shop, "build --target limited", day=2)
    assert ("may not be used" in said) == (shop.server.kind == "postgres")
    assert stagings(shop) == []


def _check_a_later_hook_that_fails(shop: Shop) -> None:
    failing_dbt(shop, "run --select late", day=2, LATE="yes")
    assert stagings(shop) == []
    assert shop.server.sql(f"select plan from {_schema(shop)}.late") == [("1",)]
    (run,) = runs(shop, "--select", "late_sync", "--no-gate")["late_sync"]
    assert (run["counts"]["delivered"], run["message"]) == (0, "")


def _schema(shop: Shop) -> str:
    return str(shop.server.sql(f"select min(relation) from {shop.state}.syncs")[0][0]).split('"')[3]


def test_every_state_of_real_builds_is_delivered_in_order(any_shop: Shop) -> None:
    shop = persons(any_shop, ["model_0"], "'u1'", keep="every")
    dbt(shop, "build")
    runs(shop)
    for day in (2, 3, 2):
        dbt(shop, "build", day=day)
    found = runs(shop)["model_0_sync"]
    assert [(run["counts"]["delivered"], run["message"][:4]) for run in found] == [(1, "Kept")] * 3 + [(0, "")]
    received = [event.properties["$set"]["model_0"] for event in shop.posthog.project.received]
    assert received == ["1", "2", "3", "2"]
