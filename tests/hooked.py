"""A real dbt project with the post-hook, built by the dbt of this environment and synced by the command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import preloaded
import yaml
from lab import PROJECT
from shop import Shop

ROOT = Path(__file__).resolve().parents[1]
HOOK = "{{ dbt_posthog_sync.stage_changes() }}"
# A Python with another dbt, to build with (`make oldest-dbt`); read before the environment is cleaned.
PYTHON = os.environ.get("DBT_POSTHOG_SYNC_TEST_DBT", sys.executable)


def write_models(shop: Shop, models: Mapping[str, str], properties: Mapping[str, Any], **project: Any) -> None:
    """Write the dbt project: files under the folder by path, and models/schema.yml."""
    files = {"models/schema.yml": yaml.safe_dump(dict(properties)), **models}
    for path, text in files.items():
        (shop.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (shop.folder / path).write_text(text)
    kinds = {kind: {"+post-hook": HOOK} for kind in ("models", "seeds", "snapshots")}
    kinds["models"]["+materialized"] = "table"
    settings = {"name": PROJECT, "version": "1.0.0", "profile": "lab", **kinds, **project}
    settings["vars"] = {"posthog_sync_state_schema": shop.state}
    (shop.folder / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    package = shop.folder / "dbt_packages" / "dbt_posthog_sync"
    if not package.exists():
        package.parent.mkdir()
        package.symlink_to(ROOT)


def profile(shop: Shop, schema: str, **others: Mapping[str, Any]) -> None:
    """Write profiles.yml with eight threads and further targets; each is the shop's with changes."""
    own = {**shop.server.output, "schema": schema, "threads": 8}
    outputs = {"dev": own, **{name: {**own, **changes} for name, changes in others.items()}}
    (shop.folder / "profiles.yml").write_text(yaml.safe_dump({"lab": {"target": "dev", "outputs": outputs}}))


def dbt(shop: Shop, *commands: str, day: int = 1) -> str:
    """Run dbt commands in the shop's project; see `dbt_commands`. What models hold depends on the day."""
    return dbt_commands(shop.folder, *commands, environ=_on(day))


def _on(day: int) -> dict[str, str]:
    """The environment of a day: where a variable of dbt changes, it parses everything again."""
    return {"DAY": str(day)}


def dbt_commands(folder: Path, *commands: str, environ: Mapping[str, str] | None = None) -> str:
    """Run dbt commands, words apart by spaces, all of which must succeed; return what they print."""
    said = ""
    for command in commands:
        done = preloaded.run(["dbt", "--no-use-colors", *command.split()], folder, python=PYTHON, environ=environ)
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    return said


def failing_dbt(shop: Shop, command: str, day: int = 1, **environ: str) -> str:
    """Run a dbt command that must fail."""
    done = preloaded.run(["dbt", *command.split()], shop.folder, python=PYTHON, environ={**_on(day), **environ})
    assert done.returncode == 1, done.stdout
    return done.stdout


def stagings(shop: Shop) -> list[str]:
    """Names of the syncs that builds have staged and no run has settled."""
    tables = f"{shop.state}.build_stagings b join {shop.state}.syncs s on s.sync_id = b.sync_id"
    rows = shop.server.sql(f"select s.name from {tables} order by 1")
    return [str(name) for (name,) in rows]


def runs(shop: Shop, *words: str) -> dict[str, list[dict[str, Any]]]:
    """What `run` comes to, by sync; several where builds were kept."""
    # A file of DuckDB has one owner, so this may not happen in the tests' own process.
    done = preloaded.run(["dbt-posthog-sync", "run", "--output", "json", *words], shop.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for run in json.loads(done.stdout)["runs"]:
        found.setdefault(run["sync"], []).append(run)
    return found
