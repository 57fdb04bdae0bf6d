"""The dbt plugin: dbt itself tells what is wrong with annotations, and nothing of ours can stop it."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import preloaded
import pytest

import dbt_posthog_sync

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_project"
DBT = str(Path(sys.executable).parent / "dbt")
TYPO = "orders, models/schema.yml, $.models[orders].config.meta.posthog_sync.object: there is no object `evnt`."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The tiny project with a slip in an annotation."""
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    schema = folder / "models" / "schema.yml"
    schema.write_text(schema.read_text().replace("object: event", "object: evnt"))
    return folder


def parse(folder: Path, *words: str, **environ: str) -> str:
    """What `dbt parse` says; it has to succeed."""
    command = ["dbt", "parse", "--project-dir", str(folder), "--profiles-dir", str(folder), "--no-use-colors", *words]
    done = preloaded.run(command, folder.parent, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dbt_tells_what_is_wrong_and_keeps_it_beside_its_manifest(project: Path) -> None:
    told = parse(project, "--target-path", "elsewhere", "--warn-error")
    assert f"posthog_sync: {TYPO} Did you mean `event`?" in told
    document = json.loads((project / "elsewhere" / "posthog_sync.json").read_text())
    manifest = json.loads((project / "elsewhere" / "manifest.json").read_text())
    assert document["metadata"]["invocation_id"] == manifest["metadata"]["invocation_id"]
    assert [problem["message"] for problem in document["problems"]] == ["there is no object `evnt`."]
    assert document["syncs"] == []
    schema = project / "models" / "schema.yml"
    schema.write_text(schema.read_text().replace("object: evnt", "object: event"))
    assert "posthog_sync:" not in parse(project, "--target-path", "elsewhere")
    document = json.loads((project / "elsewhere" / "posthog_sync.json").read_text())
    assert (document["problems"], document["syncs"][0]["name"]) == ([], "customer_traits")


def test_dbt_goes_on_where_the_file_cannot_be_written_and_without_us_if_asked(project: Path) -> None:
    (project / "target" / "posthog_sync.json").mkdir(parents=True)
    told = parse(project)
    assert "posthog_sync.json could not be written: Is a directory." in told
    assert "evnt" not in parse(project, DBT_POSTHOG_SYNC_NO_PLUGIN="1")


@dataclass(frozen=True)
class Config:
    """What the plugin reads of dbt's own configuration."""

    project_root: str
    project_target_path: str = "target"


def test_a_bug_of_ours_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hook,) = (plugin(project_name="tiny").get_manifest_artifacts for plugin in dbt_posthog_sync.plugins)
    (tmp_path / "dbt_project.yml").write_text("name: tiny\n")
    with click.Context(click.Command("parse"), obj={"runtime_config": Config(str(tmp_path))}):
        assert hook(object()) == {}
        (artifact,) = hook(SimpleNamespace(metadata=SimpleNamespace(invocation_id="one"))).items()
    assert artifact[0] == str(tmp_path / "target" / "posthog_sync.json")
    assert hook(object()) == {}  # dbt as a library, without its command line
    assert capsys.readouterr().out == ""


def test_dbt_finds_the_plugin_unless_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(dbt_posthog_sync, "plugins")
    assert not hasattr(dbt_posthog_sync, "plugin_of_another_name")
    monkeypatch.setenv("DBT_POSTHOG_SYNC_NO_PLUGIN", "1")
    assert not hasattr(importlib.import_module("dbt_posthog_sync"), "plugins")


LOADED = (
    "import sys, dbt_posthog_sync; print(*sorted(m for m in sys.modules if m.startswith(('dbt', 'click', 'yaml'))))"
)


def test_nothing_is_loaded_before_dbt_asks() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["dbt_posthog_sync"]
