"""`run --after-dbt`: the user's dbt first, then what it built, and one exit code."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from shop import ORDERS, Shop

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_project"
DBT = Path(sys.executable).parent / "dbt"
ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


@pytest.fixture(autouse=True)
def _own_dbt(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_POSTHOG_SYNC_DBT", str(shop.folder / "dbt"))


def stand_in(shop: Shop, statuses: Mapping[str, str] | None, code: int = 0, first: str = "") -> None:
    """A dbt that keeps its words, talks on standard output and leaves run results."""
    lines = [f"#!{sys.executable}", "import json, os, pathlib, signal, sys, uuid"]
    lines += [
        "pathlib.Path('words.json').write_text(json.dumps(sys.argv[1:]))",
        "print('dbt talks', flush=True)",
        first,
    ]
    if statuses is not None:
        version = "https://schemas.getdbt.com/dbt/run-results/v6.json"
        rows = [{"unique_id": node, "status": status} for node, status in statuses.items()]
        metadata = f"'dbt_schema_version': {version!r}, 'generated_at': '2026', 'invocation_id': str(uuid.uuid4())"
        lines.append(f"metadata = {{{metadata}}}")
        lines.append(f"results = {{'metadata': metadata, 'args': {{'which': 'build'}}, 'results': {rows!r}}}")
        lines.append("pathlib.Path('target/run_results.json').write_text(json.dumps(results))")
    path = shop.folder / "dbt"
    path.write_text("\n".join([*lines, f"sys.exit({code})", ""]))
    path.chmod(0o755)


def words(shop: Shop) -> Any:
    """What dbt was called with, without where the project is."""
    found = json.loads((shop.folder / "words.json").read_text())
    return [word for word in found if word not in ("--project-dir", "--profiles-dir", str(shop.folder))]


def told(shop: Shop) -> Any:
    """The results file."""
    return json.loads((shop.folder / "target" / "posthog_sync_results.json").read_text())


@pytest.fixture
def two(shop: Shop) -> Shop:
    """A shop of two syncs, both built."""
    shop.annotate(ORDERS, refunds={**ORDERS, "event": {"value": "refund"}})
    shop.build(*ROWS)
    shop.server.sql(f"create or replace table refunds as select * from {shop.table} where order_id = 1")
    return shop


def test_dbt_gets_the_words_of_the_command_and_what_it_ran_is_synced(two: Shop) -> None:
    stand_in(two, {"model.lab.refunds": "success"})
    answer = two(
        "run", "--after-dbt", "build", "-s", "refunds+", "tag:a,path:b", "--exclude", "orders", "--target", "dev",
        "--vars", "{a: 1}", "--threads", "3", "--full-refresh", "--target-path", "target", "--state", "old",
    )  # fmt: skip
    assert (answer.code, answer.err.splitlines()[0]) == (0, "dbt talks")
    assert "dbt talks" not in answer.out
    assert answer.out.startswith("refunds: done\n")
    assert [event.event for event in two.posthog.project.events] == ["refund"]
    assert words(two) == [
        "build", "--select", "refunds+", "tag:a,path:b", "--exclude", "orders", "--threads", "3", "--full-refresh",
        "--target", "dev", "--target-path", str(two.folder / "target"), "--vars", "{a: 1}",
        "--state", str(two.folder / "old"),
    ]  # fmt: skip
    assert (told(two)["args"]["after_dbt"], told(two)["exit_code"]) == ("build", 0)


def test_without_a_selection_every_sync_follows(two: Shop) -> None:
    needs_the_file = f"import duckdb\nduckdb.connect({str(two.server.output['path'])!r}).close()"
    stand_in(two, {"model.lab.refunds": "success"}, first=needs_the_file)
    assert two("run", "--after-dbt", "run").code == 0
    assert len(two.posthog.project.events) == 3
    assert words(two) == ["run"]


def test_a_selector_is_read_by_dbt_once(two: Shop) -> None:
    stand_in(two, {"model.lab.refunds": "success"})
    assert two("run", "--after-dbt", "build", "--selector", "nightly", "--allow-rejected").code == 0
    assert words(two) == ["build", "--selector", "nightly"]
    assert len(two.posthog.project.events) == 1


def test_what_dbt_built_is_sent_although_another_model_failed(two: Shop) -> None:
    stand_in(two, {"model.lab.refunds": "error", f"model.lab.{two.table}": "success"}, code=1)
    answer = two("run", "--after-dbt", "build", "--output", "json")
    assert (answer.code, [run["status"] for run in answer.json["runs"]]) == (1, ["skipped", "success"])
    assert len(two.posthog.project.events) == 2


def test_a_failed_build_fails_the_command_even_where_no_sync_is_held_back(two: Shop) -> None:
    stand_in(two, {"model.lab.other": "error", "model.lab.refunds": "success"}, code=1)
    answer = two("run", "--after-dbt", "build", "--allow-rejected")
    assert (answer.code, told(two)["exit_code"]) == (1, 1)
    assert [event.event for event in two.posthog.project.events] == ["refund"]  # nobody knows about the orders
    assert two("run", "--after-dbt", "build", "--mock").code == 1


def test_nothing_that_is_annotated_is_nothing_to_do(two: Shop) -> None:
    stand_in(two, {"model.lab.other": "success"})
    answer = two("run", "--after-dbt", "build", "--select", "other")
    assert (answer.code, answer.out) == (0, "")
    assert "No sync is selected now, so there is nothing to do.\n" in answer.err


def test_where_dbt_ran_nothing_nothing_is_sent(two: Shop) -> None:
    stand_in(two, {}, 0)
    assert two("run", "--after-dbt", "build", "--select", "orders").code == 0  # run results of before
    stand_in(two, None, 2)
    answer = two("run", "--after-dbt", "build")
    assert answer.code == 2
    complaint = "Error: dbt build ended with exit code 2 before it ran anything, so nothing is sent. What it said "
    assert answer.err.endswith(f"{complaint}stands above.\n")
    assert (told(two)["exit_code"], len(told(two)["errors"])) == (2, 1)
    stand_in(two, {}, 1)  # dbt 2 writes results of nothing
    assert "before it ran anything" in two("run", "--after-dbt", "build").err
    stand_in(two, None, 0)
    assert "left no run_results.json" in two("run", "--after-dbt", "build", "--mock").err
    assert two.posthog.requests == ()


def test_without_dbt_nothing_is_sent(two: Shop) -> None:
    assert "there is no program" in two.complaint("run", "--after-dbt", "build", code=2)
    (two.folder / "dbt").write_bytes(b"\x7fELF but not really")
    (two.folder / "dbt").chmod(0o755)
    assert "cannot be started" in two.complaint("run", "--after-dbt", "build", code=2)


def test_what_is_missing_is_told_before_dbt_takes_its_time(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(two, {"model.lab.refunds": "success"})
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    assert "POSTHOG_PROJECT_API_KEY" in two.complaint("run", "--after-dbt", "build", code=2)
    assert not (two.folder / "words.json").exists()
    assert two("run", "--after-dbt", "build", "--mock").code == 0


SIGNALS_ITS_PARENT = """
def interrupted(*_):
    pathlib.Path('interrupted').touch()
    sys.exit(1)
signal.signal(signal.SIGINT, interrupted)
os.kill(os.getppid(), signal.{name})
signal.pause()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_reaches_dbt_as_the_one_it_ends_carefully_at(two: Shop, name: str, code: int) -> None:
    stand_in(two, {"model.lab.refunds": "success"}, first=SIGNALS_ITS_PARENT.format(name=name))
    answer = two("run", "--after-dbt", "build")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.endswith("Stopping dbt; nothing is sent. A second signal stops at once.\n")
    assert (two.folder / "interrupted").exists()
    assert (told(two)["exit_code"], two.posthog.requests) == (code, ())
    assert two("run", "--after-dbt", "build", "--mock").code == code


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("build", "--run-results", "a.json"), "--run-results has no effect"),
        (("retry", "--select", "orders"), "dbt retry takes up what failed before, and no selection"),
        (("test",), "'test' is not one of"),
    ],
)
def test_what_makes_no_sense_together_is_told(shop: Shop, more: tuple[str, ...], what: str) -> None:
    answer = shop("run", "--after-dbt", *more)
    assert (answer.code, what in answer.err) == (2, True)


def test_the_real_dbt(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_POSTHOG_SYNC_DBT", str(DBT))
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    output = {"type": "duckdb", "path": str(tmp_path / "t.db")}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"tiny": {"target": "dev", "outputs": {"dev": output}}}))
    (folder / "models" / "customers.sql").write_text("select 1 as nothing_of_the_contract")
    (folder / "posthog_sync.yml").write_text((shop.folder / "posthog_sync.yml").read_text())
    place = ("--project-dir", str(folder), "--profiles-dir", str(folder), "--output", "json")
    answer = shop("run", "--after-dbt", "build", "--select", "orders", "customers", "plans", *place)
    assert answer.code == 1, answer
    assert "Completed with" in answer.err
    assert {run["sync"]: run["status"] for run in answer.json["runs"]} == {
        "customer_traits": "skipped", "customer_names": "skipped", "orders": "success", "plans": "success",
    }  # fmt: skip
    (folder / "models" / "customers.sql").write_text("select {{ broken }")
    answer = shop("run", "--after-dbt", "build", *place)
    assert (answer.code, answer.out) == (2, "")
    assert "before it ran anything" in answer.err
