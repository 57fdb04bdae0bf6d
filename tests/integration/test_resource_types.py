"""Snapshots, seeds, sources and versions, as the real dbt builds them, on every warehouse."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import preloaded
import pytest
from lab import fresh_name, write_project
from shop import Shop

KINDS = Path(__file__).parents[1] / "fixtures" / "kinds_project"
DBT = Path(sys.executable).parent / "dbt"
EVENTS = ("order completed", "order tried", "plan changed", "visited", "billed")

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def let_go_of_the_file() -> None:
    """What ran in this process would hold a DuckDB file until its end."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # noqa: PLC0415 - dbt is slow to import
    from dbt.adapters.factory import FACTORY  # noqa: PLC0415

    for adapter in FACTORY.adapters.values():
        adapter.cleanup_connections()
    DuckDBConnectionManager.close_all_connections()
    gc.collect()


def build(shop: Shop, *select: str) -> None:
    """Run dbt; what fails is written down in run_results.json."""
    let_go_of_the_file()
    words = ["dbt", "build", "--quiet", "--threads", "1", "--profiles-dir", str(shop.folder)]
    words += ["--select", *select] if select else []
    preloaded.run(words, shop.folder)


def of_all_kinds(shop: Shop) -> Shop:
    """The project of all kinds of nodes, its sources loaded, in a schema of its own."""
    schema = fresh_name("kinds")
    shop.server = replace(shop.server, schema=schema, output={**shop.server.output, "schema": schema})
    write_project(shop.folder, shop.server.output)
    shutil.copytree(KINDS, shop.folder, dirs_exist_ok=True)
    shop.settings(deletion={"enabled": True})
    for statement in (
        "create schema {0}",
        "create table {0}.accounts as select 'a1' as account_id, 'games' as industry union all select 'a2', 'law'",
        "create table {0}.customers as select 'c1' as customer_id, 'free' as plan union all select 'c2', 'team' "
        "union all select 'c3', 'team'",
    ):
        shop.server.sql(statement.format(schema))
    return shop


def runs(shop: Shop, *words: str) -> dict[str, Any]:
    """What a run came to, sync by sync."""
    answer = shop("run", "--output", "json", *words)
    assert answer.out, answer.err
    return {one["sync"]: one for one in answer.json["runs"]}


def delivered(found: dict[str, Any]) -> dict[str, int]:
    return {name: one["counts"]["delivered"] for name, one in found.items()}


def sent(shop: Shop) -> list[tuple[str, str]]:
    """Name and person of every event that is not about persons or groups themselves."""
    return sorted((one.event, one.distinct_id) for one in shop.posthog.project.events if one.event in EVENTS)


def edit(shop: Shop, file: str, change: Callable[[str], str]) -> None:
    path = shop.folder / file
    path.write_text(change(path.read_text()))


def test_every_kind_of_node_is_synced_and_followed(any_shop: Shop) -> None:
    kinds = of_all_kinds(any_shop)
    build(kinds)
    first = runs(kinds)
    assert {one["status"] for one in first.values()} == {"success"}, first
    assert delivered(first) == {
        "customers": 3, "plan_changes": 3, "account_history": 2, "plans": 2, "accounts": 2, "orders": 1, "orders_v3": 1,
        "visits": 1, "invoices": 1,
    }  # fmt: skip
    assert sent(kinds) == [
        ("billed", "c1"), ("order completed", "c1"), ("order tried", "c1"),
        ("plan changed", "c1"), ("plan changed", "c2"), ("plan changed", "c3"), ("visited", "c1"),
    ]  # fmt: skip
    persons = {person.distinct_ids[0]: person.properties for person in kinds.posthog.project.persons}
    assert [_own(persons["c1"]), _own(persons["c2"])] == [{"plan": "free"}, {"plan": "team"}]
    assert sum(delivered(runs(kinds)).values()) == 0

    schema = kinds.server.schema
    kinds.server.sql(f"update {schema}.customers set plan = 'team' where customer_id = 'c1'")
    kinds.server.sql(f"delete from {schema}.customers where customer_id = 'c3'")
    kinds.server.sql(f"delete from {schema}.accounts where account_id = 'a2'")
    edit(kinds, "models/schema.yml", lambda text: text.replace("latest_version: 2", "latest_version: 1"))
    build(kinds)
    second = runs(kinds)
    assert {name: count for name, count in delivered(second).items() if count} == {"customers": 1, "plan_changes": 2}
    assert {name: one["counts"]["rows"] for name, one in second.items() if "customers" in name or "hist" in name} == {
        "customers": 2, "account_history": 1,
    }  # fmt: skip
    assert (second["customers"]["counts"]["removed"], second["account_history"]["counts"]["removed"]) == (1, 1)
    assert ("plan changed", "c3") in sent(kinds)[-4:]


def _own(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if not name.startswith("$")}


def test_a_renamed_model_keeps_the_state_of_its_sync(shop: Shop) -> None:
    kinds = of_all_kinds(shop)
    build(kinds, "visits", "invoices")
    assert delivered(runs(kinds, "--select", "visits invoices")) == {"visits": 1, "invoices": 1}
    before = len(kinds.posthog.project.events)
    for old, new in (("visits", "page_visits"), ("invoices", "bills")):
        (kinds.folder / "models" / f"{old}.sql").rename(kinds.folder / "models" / f"{new}.sql")
    renamed = (("- name: visits", "- name: page_visits"), ("- name: invoices", "- name: bills"))
    for old, new in renamed:
        edit(kinds, "models/schema.yml", lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
    build(kinds, "page_visits", "bills")
    found = runs(kinds, "--select", "page_visits invoices")
    assert (found["invoices"]["status"], found["invoices"]["counts"]["unchanged"]) == ("success", 1)
    assert (found["page_visits"]["status"], found["page_visits"]["counts"]["delivered"]) == ("unsafe", 0)
    assert "--adopt visits" in found["page_visits"]["message"]
    adopted = runs(kinds, "--select", "page_visits", "--adopt", "visits")["page_visits"]
    assert (adopted["status"], adopted["counts"]["unchanged"], adopted["counts"]["delivered"]) == ("success", 1, 0)
    assert len(kinds.posthog.project.events) == before


def test_what_dbt_says_of_seeds_snapshots_and_sources_holds_them_back(shop: Shop) -> None:
    kinds = of_all_kinds(shop)
    (kinds.folder / "tests").mkdir()
    for node in ("ref('plans')", "source('crm', 'accounts')", "ref('orders', v=2)"):
        name = node.split("'")[-2]
        (kinds.folder / "tests" / f"no_{name}.sql").write_text(f"select * from {{{{ {node} }}}}\n")
    edit(kinds, "snapshots/snapshots.sql", lambda text: text.replace("select *", "select * , nothing"))
    build(kinds)
    found = json.loads(kinds("plan", "--output", "json").out)
    assert {one["sync"]: one["message"] for one in found["skipped"]} == {
        "plans": "Held back: its test `no_plans` failed.",
        "accounts": "Held back: its test `no_accounts` failed.",
        "orders": "Held back: its test `no_orders` failed.",
        "customers": "Held back: dbt could not build the model.",
        "plan_changes": "Held back: dbt could not build the model.",
        "account_history": "Held back: dbt skipped the model.",
    }
    names = [one["name"] for one in kinds("validate", "-s", "resource_type:snapshot", "--output", "json").json["syncs"]]
    assert names == ["customers", "plan_changes", "account_history"]
