"""The gate on the command line: what dbt's run_results.json says decides what is sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import preloaded
import pytest
import yaml
from shop import ORDERS, Shop

ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
TINY = Path(__file__).parents[1] / "fixtures" / "tiny_project"
INVOCATION = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def write_results(path: Path, statuses: dict[str, str], which: str = "build", **args: Any) -> None:
    """Write a run_results.json as dbt does."""
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
        "generated_at": "2026-01-02T03:04:05.678901Z",
        "invocation_id": INVOCATION,
    }
    rows = [{"unique_id": node, "status": status} for node, status in statuses.items()]
    path.write_text(json.dumps({"metadata": metadata, "args": {"which": which, **args}, "results": rows}))


@pytest.fixture
def two(shop: Shop) -> Shop:
    """A shop of two syncs: `refunds` errored and was never built, the orders are there."""
    shop.annotate(ORDERS, refunds=ORDERS)
    shop.build(*ROWS)
    statuses = {f"model.lab.{shop.table}": "success", "model.lab.refunds": "error"}
    write_results(shop.folder / "target" / "run_results.json", statuses)
    return shop


HELD = "Held back: dbt could not build the model."


def test_a_held_back_sync_is_a_result_of_its_own_and_the_others_run(two: Shop) -> None:
    answer = two("run")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.splitlines()[:3] == ["refunds: skipped", f"  {HELD}", f"{two.table}: done"]
    assert len(two.posthog.project.events) == 2
    found = json.loads((two.folder / "target" / "posthog_sync_results.json").read_text())
    held, ran = found["results"]
    assert (held["unique_id"], held["status"], held["message"], held["exit_code"]) == (
        "model.lab.refunds", "skipped", HELD, 1,
    )  # fmt: skip
    assert (ran["status"], ran["exit_code"], found["exit_code"], found["errors"]) == ("success", 0, 1, [])
    assert found["metadata"]["dbt_invocation_id"] == INVOCATION


def test_a_held_back_sync_in_json(two: Shop) -> None:
    answer = two("run", "--output", "json", "--allow-rejected")
    assert (answer.code, answer.err) == (1, f"refunds: {HELD}\n")
    assert [(run["sync"], run["status"], run["message"]) for run in answer.json["runs"]] == [
        ("refunds", "skipped", HELD),
        (two.table, "success", ""),
    ]


def test_plan_and_mock_show_what_is_held_back(two: Shop) -> None:
    text, as_json = two("plan"), two("plan", "--output", "json")
    assert (text.code, text.err) == (1, "")
    assert text.out.splitlines()[:2] == ["refunds: would be skipped", f"  {HELD}"]
    assert "would send 2 events" in text.out
    assert as_json.code == 1
    assert as_json.json["skipped"] == [{"sync": "refunds", "model": "refunds", "status": "skipped", "message": HELD}]
    assert [one["sync_name"] for one in as_json.json["plans"]] == [two.table]
    mock = two("run", "--mock")
    assert (mock.code, f"refunds: {HELD}" in mock.err) == (0, True)


def test_selecting_what_was_built_is_exit_0(two: Shop) -> None:
    assert two("run", "--exclude", "refunds").code == 0


def test_retry_is_gated_and_status_is_not(two: Shop) -> None:
    assert two("retry", "--select", "refunds").code == 1
    write_results(two.folder / "target" / "run_results.json", {}, empty=True)
    assert two("status").code == 0


def test_all_held_back_verifies_nothing(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_sandbox")
    answer = two("run", "--select", "refunds", "--verify")
    assert (answer.code, answer.out) == (1, f"refunds: skipped\n  {HELD}\n")
    assert two.posthog.requests == ()


def test_no_gate_sends_all_the_same(shop: Shop) -> None:
    shop.build(*ROWS)
    write_results(shop.folder / "target" / "run_results.json", {f"model.lab.{shop.table}": "skipped"}, empty=True)
    refused = shop.complaint("run", code=1)
    assert "--empty or --sample" in refused
    assert refused == shop.complaint("plan", code=1)
    assert shop("run", "--no-gate").code == 0
    assert len(shop.posthog.project.events) == 2


@pytest.mark.parametrize("command", ["plan", "run", "retry"])
def test_results_that_are_not_to_be_read_are_not_named(shop: Shop, command: str) -> None:
    answer = shop(command, "--no-gate", "--run-results", "build.json")
    assert (answer.code, "--run-results has no effect" in answer.err) == (2, True)


def test_files_of_several_commands_are_taken_together(shop: Shop) -> None:
    shop.build(*ROWS)
    test = "test.lab.unique_orders_order_id.1a2b"
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["nodes"][test] = {
        "unique_id": test, "resource_type": "test", "attached_node": f"model.lab.{shop.table}",
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    write_results(shop.folder / "build.json", {f"model.lab.{shop.table}": "success"})
    write_results(shop.folder / "tests.json", {test: "fail"}, "test")
    assert shop("run", "--run-results", "build.json").code == 0
    answer = shop("run", "--run-results", "build.json", "--run-results", "tests.json")
    assert (answer.code, "its test `unique_orders_order_id` failed" in answer.out) == (1, True)


def test_what_is_odd_is_told_and_what_cannot_be_read_is_an_error(shop: Shop) -> None:
    shop.build(*ROWS)
    path = shop.folder / "target" / "run_results.json"
    write_results(path, {}, "compile")
    answer = shop("plan")
    assert (answer.code, answer.err.startswith(f"Warning: {path} is of `dbt compile`")) == (0, True)
    path.write_text("{")
    assert "--no-gate" in shop.complaint("run", code=2)
    assert "there is no such file" in shop.complaint("run", "--run-results", "none.json", code=2)


FAILING_TEST = "select order_id from {{ ref('orders') }}\n"
FAILING_UNIT_TEST = """
unit_tests:
  - name: has_two_views
    model: page_views
    given: []
    expect: {rows: [{visitor_id: c1}, {visitor_id: c2}]}
"""


def test_what_the_real_dbt_writes_is_understood(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    (folder / "tests").mkdir()
    (folder / "tests" / "no_orders.sql").write_text(FAILING_TEST)
    (folder / "models" / "unit.yml").write_text(FAILING_UNIT_TEST)
    (folder / "models" / "customers.sql").write_text("select 1 as nothing_of_the_contract")
    (folder / "profiles.yml").write_text(
        yaml.safe_dump(
            {"tiny": {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": str(tmp_path / "t.db")}}}}
        )
    )
    assert preloaded.run(["dbt", "build", "--quiet"], folder).returncode == 1
    words = ("--project-dir", str(folder), "--profiles-dir", str(folder), "--exclude", "accounts", "--output", "json")
    answer = shop("plan", *words)
    assert (answer.code, answer.err) == (1, "")
    assert {one["sync"]: one["message"] for one in answer.json["skipped"]} == {
        "orders": "Held back: its test `no_orders` failed.",
        "page_views": "Held back: its test `has_two_views` failed.",
        "customer_traits": "Held back: dbt could not build the model.",
        "customer_names": "Held back: dbt could not build the model.",
        "customer_history": "Held back: dbt skipped the model.",
    }
    assert [plan["sync_name"] for plan in answer.json["plans"]] == ["plans"]
