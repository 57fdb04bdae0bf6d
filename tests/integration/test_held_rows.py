"""`gate: rows`: only the rows that a failed dbt test stored are held back, and they are sent once it passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import preloaded
import pytest
import yaml
from people import make_person, people
from shop import ORDERS, Shop

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_project"
ROWS = ((1, "u1", 12.5), (2, "u2", 3.0), (3, None, 1.0), (4, "u4", 2.0))
BY_ROWS = {**ORDERS, "gate": "rows"}
REASON = "held back: a failed dbt test stored the row: orders_are_right"

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def fail(shop: Shop, select: str, **node: Any) -> None:
    """A failed test of the orders that stored the rows of a select; `{orders}` is the table."""
    shop.server.sql(f"drop table if exists {shop.table}_failures")
    shop.server.sql(f"create table {shop.table}_failures as {select.format(orders=shop.table)}")
    rows = shop.server.sql(f"select count(*) from {shop.table}_failures")[0][0]
    write(shop, "fail", rows, **node)


def write(shop: Shop, status: str, failures: int, **node: Any) -> None:
    """What dbt writes down about the test."""
    test, path = "test.lab.orders_are_right.1a2b", shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["nodes"][test] = {
        "unique_id": test, "resource_type": "test", "attached_node": f"model.lab.{shop.table}",
        "database": shop.server.database, "schema": shop.server.schema, "alias": f"{shop.table}_failures", **node,
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    version = "https://schemas.getdbt.com/dbt/run-results/v6.json"
    result = {"unique_id": test, "status": status, "failures": failures}
    result["relation_name"] = shop.server.relation(f"{shop.table}_failures")
    built = {"unique_id": f"model.lab.{shop.table}", "status": "success"}
    metadata = {"dbt_schema_version": version, "invocation_id": manifest["metadata"]["invocation_id"]}
    document = {"metadata": metadata, "args": {"which": "build"}, "results": [built, result]}
    (shop.folder / "target" / "run_results.json").write_text(json.dumps(document))


def sent(shop: Shop) -> list[str]:
    """Who did what arrived."""
    return sorted(event.distinct_id for event in shop.posthog.project.events)


def counts(shop: Shop, *words: str) -> Any:
    """The sums of the one sync that ran."""
    (run,) = shop("run", "--output", "json", *words).json["runs"]
    return run


@pytest.fixture
def orders(any_shop: Shop) -> Shop:
    """Four orders, one of them rejected for its own sake."""
    any_shop.annotate(BY_ROWS)
    any_shop.build(*ROWS)
    return any_shop


def test_stored_rows_wait_and_are_sent_once_the_test_passes(orders: Shop) -> None:
    fail(orders, "select * from {orders} where order_id in (2, 3)")
    plan = orders("plan")
    assert f"{REASON} (sync key 2)" in plan.out
    answer = orders("run")
    assert (answer.code, REASON in answer.out) == (1, True)
    assert sent(orders) == ["u1", "u4"]
    run = counts(orders)
    assert (run["counts"]["rows"], run["counts"]["unchanged"], run["counts"]["rejected"]) == (4, 2, 2)
    assert run["rejected"] == {REASON: 1, "the distinct_id is missing": 1}
    assert orders("retry").code == 1  # the test has not passed yet
    assert REASON in orders("status").out
    write(orders, "pass", 0)
    assert counts(orders)["counts"]["delivered"] == 1
    assert sent(orders) == ["u1", "u2", "u4"]
    assert REASON not in orders("status").out


def test_a_row_that_was_delivered_and_fails_now_keeps_what_was_delivered(orders: Shop) -> None:
    orders.annotate({**BY_ROWS, "on_change": "resend"})
    orders("run")
    orders.server.sql(f"update {orders.table} set amount = 99 where order_id = 1")
    fail(orders, "select order_id from {orders} where amount > 50")
    assert counts(orders)["rejected"][REASON] == 1
    assert [json.loads(one.properties_json)["amount"] for one in orders.posthog.project.events] == [12.5, 3, 2]
    assert counts(orders, "--no-gate")["counts"]["delivered"] == 1


OWN = {"column_name": "customer", "test_metadata": {"name": "accepted_values"}}


SECOND = "select * from {orders} where order_id = 2"


@pytest.mark.parametrize(
    ("select", "node", "left"),
    [
        ('select cast(order_id as varchar(9)) as "ORDER_ID", 7 as amount from {orders} where order_id = 2', {}, [1, 4]),
        ("select customer, amount, 1 as n from {orders} where customer is null or order_id = 4", {}, [1, 2]),
        ("select customer as value_field, 9 as amount from {orders} where order_id = 2", OWN, [1, 4]),
        (f"{SECOND} union all {SECOND}", {}, [1, 4]),
        ("select order_id from {orders} where order_id = 4", {"config": {"fail_calc": "sum(n)"}}, [1, 2]),
        ("select order_id from {orders} where order_id = 4", {"config": {"limit": 5}}, [1, 2]),
    ],
    ids=["key", "common columns", "column of a test of dbt", "twice", "another count", "limit not reached"],
)
def test_rows_are_told_by_the_key_or_by_what_both_have(
    orders: Shop, select: str, node: dict[str, Any], left: list[int]
) -> None:
    fail(orders, select, **node)
    assert orders("run").code == 1
    assert sent(orders) == [f"u{number}" for number in left]


def test_one_view_of_a_visitor_waits_and_not_the_others(orders: Shop) -> None:
    view = {"object": "page", "sync_key": {"distinct_id": "customer"}, "timestamp": "ordered_at", "gate": "rows"}
    orders.annotate({**view, "properties": {"$current_url": "amount"}})
    orders.build((1, "u1", 1.5), (2, "u1", 2.5), (3, "u1", 3.5))
    fail(orders, "select * from {orders} where order_id = 2")
    assert counts(orders)["counts"]["delivered"] == 2
    write(orders, "pass", 0)
    assert counts(orders)["counts"]["delivered"] == 1


@pytest.mark.parametrize(
    ("select", "node", "why"),
    [
        ("select 1 as one", {}, "the rows that it stored have no column of the model"),
        ("select 9 as order_id", {}, "1 of the 1 rows that it stored are none of the model"),
        ("select customer, 0 as amount from {orders}", {}, "4 of the 4 rows that it stored are none of the model"),
        ("select * from {orders} where false", {"config": {"fail_calc": "sum(n)"}}, "it has stored 0 rows where dbt"),
        ("select order_id from {orders}", {"config": {"limit": 4}}, "it stores 4 rows at most (limit)"),
        ("select order_id from {orders}", {"alias": "gone"}, "the rows that it stored are not there (any more)"),
    ],
)
def test_what_cannot_be_told_holds_the_model_back(orders: Shop, select: str, node: dict[str, Any], why: str) -> None:
    fail(orders, select, **node)
    answer = orders("run")
    assert (answer.code, sent(orders)) == (1, [])
    reason = f"Held back: its test `orders_are_right` failed, and {why}"
    assert answer.out.startswith(f"{orders.table}: skipped\n  {reason}")
    assert reason in orders("plan").out


def test_stored_rows_of_another_run_hold_the_model_back(orders: Shop) -> None:
    fail(orders, "select order_id from {orders} where order_id = 1")
    write(orders, "fail", 2)
    answer = orders("run")
    assert (answer.code, "it has stored 1 rows where dbt counted 2" in answer.out) == (1, True)


def test_without_gate_rows_the_model_waits(orders: Shop) -> None:
    orders.annotate(ORDERS)
    fail(orders, "select * from {orders} where order_id = 2")
    answer = orders("run")
    assert (answer.code, "Held back: its test `orders_are_right` failed." in answer.out) == (1, True)


def test_gate_rows_may_be_a_default(orders: Shop) -> None:
    orders.annotate(ORDERS)
    orders.settings(defaults={"gate": "rows"})
    fail(orders, "select * from {orders} where order_id = 2")
    assert counts(orders)["counts"]["delivered"] == 2


def test_a_cursor_does_not_hide_rows_that_wait(orders: Shop) -> None:
    orders.annotate({**BY_ROWS, "cursor": "order_id"})
    fail(orders, "select * from {orders} where order_id = 1")
    assert counts(orders)["rejected"][REASON] == 1
    write(orders, "pass", 0)
    assert counts(orders)["counts"]["delivered"] == 1
    assert sent(orders) == ["u1", "u2", "u4"]


def test_rows_that_wait_are_not_taken_as_delivered(orders: Shop) -> None:
    fail(orders, "select * from {orders} where order_id = 1")
    assert counts(orders, "--rebaseline")["counts"]["known"] == 2
    write(orders, "pass", 0)
    assert counts(orders)["counts"]["delivered"] == 1
    assert sent(orders) == ["u1"]


def test_nobody_is_deleted_whom_a_test_stored(orders: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", orders.posthog.personal_key)
    orders.settings(posthog={"host": orders.posthog.url, "project_id": 1}, deletion={"enabled": True})
    orders.annotate({"object": "person", "sync_key": {"distinct_id": "customer"}, "behavior": "delete", "gate": "rows"})
    for number in (1, 2):
        make_person(orders.posthog, f"u{number}")
    fail(orders, "select * from {orders} where order_id = 1")
    assert "1 person would be deleted" in orders("run").out
    assert counts(orders)["counts"]["delivered"] == 1
    assert set(people(orders.posthog)) == {"u1"}
    erased = orders.server.sql(f"select identity from {orders.state}.erased_persons order by identity")
    assert erased == [("u2",), ("u4",)]  # not u1, to whom is still sent
    write(orders, "pass", 0)
    orders("run")
    assert people(orders.posthog) == {}


def test_a_missing_model_is_told_as_ever(orders: Shop) -> None:
    fail(orders, "select * from {orders} where order_id = 1")
    orders.server.sql(f"drop table {orders.table}")
    assert "does not exist in the warehouse" in orders.complaint("run", code=2)


def test_what_the_real_dbt_stores_is_found(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("schema.yml", "snapshots", "seeds", "page*"))
    unique: dict[str, Any] = {"unique": {"config": {"store_failures": True}}}
    accepted: dict[str, Any] = {"accepted_values": {"values": ["c1"], "config": {"store_failures": True}}}
    annotation = {**BY_ROWS, "distinct_id": "customer_id"}
    model = {"name": "orders", "config": {"meta": {"posthog_sync": annotation}}}
    columns = [
        {"name": "order_id", "data_tests": [unique, "not_null"]},
        {"name": "customer_id", "data_tests": [accepted]},
    ]
    (folder / "models" / "schema.yml").write_text(yaml.safe_dump({"models": [{**model, "columns": columns}]}))
    given = ((1, "c1"), (2, "c2"), (3, "c1"), (3, "c1"))
    rows = [f"select {number} as order_id, '{who}' as customer_id" for number, who in given]
    body = f"select *, timestamp '2026-01-02' as ordered_at from ({' union all '.join(rows)})"
    (folder / "models" / "orders.sql").write_text(f"{{{{ config(materialized='table') }}}} {body}")
    output = {"type": "duckdb", "path": str(tmp_path / "t.db")}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"tiny": {"target": "dev", "outputs": {"dev": output}}}))
    (folder / "posthog_sync.yml").write_text((shop.folder / "posthog_sync.yml").read_text())
    assert preloaded.run(["dbt", "build", "--quiet", "--select", "orders"], folder).returncode == 1
    answer = shop("run", "--project-dir", str(folder), "--profiles-dir", str(folder), "--output", "json")
    assert answer.err == ""
    (run,) = answer.json["runs"]
    assert run["counts"]["delivered"] == 1
    held = "held back: a failed dbt test stored the row: accepted_values_orders_customer_id__c1"
    assert run["rejected"] == {held: 1, "the sync key occurs more than once in the model": 2}
