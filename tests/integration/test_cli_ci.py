"""Commands as steps of CI: what they write for it beside what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from shop import KEY, ORDERS, Shop

from dbt_posthog_sync.reporter import JSON_VERSION

ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
SHAPES = json.loads((Path(__file__).parents[1] / "fixtures" / "output_shapes.json").read_text())
RESULTS_PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
KEYED_BY_WORDS = ("rejected", "skipped", "examples", "sync_key", "objects", "headers", "body")
PERSON = {"object": "person", "sync_key": {"distinct_id": "customer"}, "properties": ["amount"]}

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


@pytest.fixture
def summary(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the shop a step of GitHub's; returns where its summary is."""
    path = shop.folder / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(shop.folder.parent))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("::")]


def test_every_problem_is_pointed_at(shop: Shop, summary: Path) -> None:
    (shop.folder / "models").mkdir()
    (shop.folder / "models" / "schema.yml").write_text(f"models:\n\n  - name: {shop.table}\n")
    shop.annotate({**ORDERS, "evnt": 1, "objct": 2})
    answer = shop("validate", "--output", "json")
    assert (answer.code, answer.out) == (2, "")
    place = "::error title=dbt-posthog-sync,file=project/models/schema.yml,line=3::"
    assert [line.startswith(place) for line in commands(answer.err)] == [True, True]
    assert summary.read_text().count("\n- ") == 2
    assert shop("validate", "--project-dir", str(shop.folder / "nowhere")).code == 2


def test_runs_are_pointed_at_and_summarised(shop: Shop, summary: Path) -> None:
    shop.annotate(ORDERS, refunds=ORDERS)
    shop.build((1, None, 12.5), (2, "u2", 3.0))
    schema = "https://schemas.getdbt.com/dbt/run-results/v6.json"
    metadata = {"dbt_schema_version": schema, "invocation_id": "00000000-0000-4000-8000-000000000000"}
    rows = [{"unique_id": "model.lab.refunds", "status": "error"}]
    results = {"metadata": metadata, "args": {"which": "build"}, "results": rows}
    (shop.folder / "target" / "run_results.json").write_text(json.dumps(results))
    held = "::warning title=dbt-posthog-sync::refunds: Held back: dbt could not build the model."
    assert held in commands(shop("plan").err)
    assert "| refunds | skipped |" in summary.read_text()
    answer = shop("run", "--output", "json")
    assert answer.code == 1
    assert json.loads(answer.out)["kind"] == "run"
    rejected = f"::warning title=dbt-posthog-sync::{shop.table}: 1 x the distinct_id is missing"
    assert commands(answer.err) == [held, rejected]
    text = summary.read_text()
    assert f"| {shop.table} | rejected | 1 | 0 | 1 | 0 |".replace("_", "\\_") in text
    assert KEY not in text + answer.err


def test_guards_are_pointed_at_by_plan_and_run(shop: Shop, summary: Path) -> None:
    shop.build(*ROWS)
    assert (shop("run").code, commands(shop("status").err)) == (0, [])
    shop.server.sql(f"delete from {shop.table}")
    (warning,) = commands(shop("plan").err)
    assert warning.startswith("::warning title=dbt-posthog-sync::A run would stop: ")
    (error,) = commands(shop("run").err)
    assert error.startswith(f"::error title=dbt-posthog-sync::{shop.table}: ")
    assert "A run would stop: " in summary.read_text()
    answer = shop("plan", "--output", "markdown")
    assert (answer.code, answer.out.startswith("### dbt-posthog-sync plan\n")) == (1, True)
    assert answer.out.rstrip() in summary.read_text()


def test_a_comparison_is_the_summary_of_its_step(shop: Shop, summary: Path) -> None:
    answer = shop("diff", "--state", "target")
    assert (answer.out, commands(answer.err)) == ("Syncs: 1 unchanged.\n", [])
    assert summary.read_text().startswith("<!-- dbt-posthog-sync diff -->\n")


def test_junit_is_written_of_what_is_valid_and_of_what_is_not(shop: Shop) -> None:
    assert shop("validate", "--junit", "junit.xml").code == 0
    (suite,) = ElementTree.parse(shop.folder / "junit.xml").getroot()
    assert [(case.get("name"), len(case)) for case in suite] == [(shop.table, 0)]
    shop.annotate({**ORDERS, "objct": 1})
    assert shop("validate", "--junit", "junit.xml").code == 2
    (suite,) = ElementTree.parse(shop.folder / "junit.xml").getroot()
    assert [(case.get("file"), case[0].tag) for case in suite] == [("models/schema.yml", "failure")]
    assert "cannot be written" in shop.complaint("validate", "--junit", "no/such/folder.xml", code=2)


def shape(value: Any, name: str = "") -> Any:
    """The keys of a document, and of those in it; what is keyed by words of users or of PostHog is cut off."""
    if isinstance(value, dict):
        return {} if name in KEYED_BY_WORDS else {key: shape(one, key) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "value"


def documents(shop: Shop) -> dict[str, Any]:
    """One document of each command that prints JSON, by its kind."""
    shop.annotate([{**ORDERS, "name": "orders"}, {**PERSON, "name": "people"}])
    shop.build(*ROWS, (3, None, 1.0))
    (shop.folder / "before").mkdir()
    manifest = json.loads((shop.folder / "target" / "manifest.json").read_text())
    (shop.folder / "before" / "manifest.json").write_text(json.dumps(manifest).replace("ordered_at", "bought_at"))
    calls = (
        ("init",), ("validate",), ("diff", "--state", "before"), ("plan",), ("run", "--mock", "--select", "people"),
        ("run",), ("retry",), ("status",), ("verify", "--wait", "0"), ("debug",),
    )  # fmt: skip
    found: dict[str, Any] = {}
    for command, *words in calls:
        lines = shop(command, *words, "--output", "json").out.splitlines()
        assert lines, command
        for document in map(json.loads, lines):
            assert document["version"] == JSON_VERSION
            found[document["kind"]] = document
    return found


def test_json_output_keeps_its_shape(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_sandbox")
    found = documents(shop)
    shapes = {kind: shape(document) for kind, document in sorted(found.items())}
    assert shapes == SHAPES, "a key that goes or changes needs a new JSON_VERSION, a new one output_shapes.json only"
    section = RESULTS_PAGE.partition("## What `--output json` prints")[2]
    for kind, document in found.items():
        (row,) = [line for line in section.splitlines() if line.startswith(f"| `{kind}` |")]
        assert [key for key in document if key not in ("version", "kind") and f"`{key}`" not in row] == []
