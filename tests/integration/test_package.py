"""The wheel: what it carries, and that it works where no repository is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from hooked import HOOK, dbt_commands
from lab import duckdb_server, manifest_for, write_project

from dbt_posthog_sync import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "dbt_posthog_sync"
PERSONS = {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "update_or_create", "properties": "all"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree; hatchling needs no network."""
    folder = tmp_path_factory.mktemp("dist")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def names(wheel: Path) -> frozenset[str]:
    """Every file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


def test_wheel_carries_every_file_of_the_package(names: frozenset[str]) -> None:
    ours = {f"{PACKAGE}/{path.relative_to(ROOT / PACKAGE)}" for path in _files(ROOT / PACKAGE)}
    assert ours <= names
    assert {f"{PACKAGE}/{name}" for name in ("py.typed", "annotation.schema.json", "settings.schema.json")} <= names


def test_wheel_carries_the_dbt_package(names: frozenset[str]) -> None:
    macros = {f"{PACKAGE}/dbt_package/macros/{path.relative_to(ROOT / 'macros')}" for path in _files(ROOT / "macros")}
    assert macros | {f"{PACKAGE}/dbt_package/dbt_project.yml"} == {name for name in names if "/dbt_package/" in name}


def test_wheel_carries_nothing_else(names: frozenset[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {PACKAGE} == {top for top in tops if not top.endswith(".dist-info")}
    assert not [name for name in names if name.endswith((".pyc", ".duckdb", ".log"))]


def test_wheel_names_the_command_the_plugin_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(info["entry_points.txt"]).decode()
    assert f"dbt-posthog-sync = {PACKAGE}.cli:main" in entry_points
    assert f"{PACKAGE} = {PACKAGE}.testing.pytest_plugin" in entry_points
    assert "licenses/LICENSE" in info


def test_unpacked_wheel_validates_and_plans_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    library, project = tmp_path / "library", tmp_path / "project"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    server = duckdb_server(tmp_path)
    server.sql("create table people as select 'u1' as id, 'pro' as plan")
    write_project(project, server.output)
    (project / "target").mkdir()
    (project / "target" / "manifest.json").write_text(json.dumps(manifest_for(server, {"people": PERSONS})))

    assert _answer(library, project, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").startswith(str(library))
    where = f"from {PACKAGE}.warehouse.dbt_adapter import package_path; print(package_path())"
    assert _answer(library, project, "-c", where).startswith(str(library))
    assert "people" in _answer(library, project, "-m", PACKAGE, "validate")
    assert "would send 1 event" in _answer(library, project, "-m", PACKAGE, "plan")


def test_unpacked_wheel_is_a_dbt_package(wheel: Path, tmp_path: Path) -> None:
    library, project = tmp_path / "library", tmp_path / "project"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    write_project(project, duckdb_server(tmp_path).output)
    folder = _answer(library, project, "-m", PACKAGE, "package-path").strip()
    assert Path(folder) == library / PACKAGE / "dbt_package"
    (project / "packages.yml").write_text(f"packages:\n  - local: {folder}\n")
    (project / "models").mkdir()
    (project / "models" / "people.sql").write_text(f"{{{{ config(post_hook='{HOOK}') }}}} select 1 as id")
    dbt_commands(project, "deps", "build")
    manifest = json.loads((project / "target" / "manifest.json").read_text())
    macros = {name.split(".")[2] for name in manifest["macros"] if name.split(".")[1] == PACKAGE}
    described = {name for name in macros if manifest["macros"][f"macro.{PACKAGE}.{name}"]["description"]}
    assert described >= {"stage_changes", "row_hash", "json_of"}
    assert not [node for node in manifest["nodes"] if node.split(".")[1] == PACKAGE]


def test_versions_of_program_and_package_are_the_same() -> None:
    assert yaml.safe_load((ROOT / "dbt_project.yml").read_text())["version"] == __version__
    assert f"{{{{ return('{__version__}') }}}}" in (ROOT / "macros" / "hook.sql").read_text()


def test_documented_macros_exist() -> None:
    text = "".join(path.read_text() for path in _files(ROOT / "macros") if path.suffix == ".sql")
    described = yaml.safe_load((ROOT / "macros" / "_macros.yml").read_text())["macros"]
    for macro in described:
        (found,) = re.findall(rf"macro {macro['name']}\((.*?)\) %}}", text)
        assert [argument.split("=")[0].strip() for argument in found.split(",") if argument] == [
            argument["name"] for argument in macro["arguments"]
        ]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _answer(library: Path, project: Path, *words: str) -> str:
    """What Python prints in the project's folder, with the unpacked wheel before everything else."""
    environment = {**os.environ, "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        (sys.executable, *words), cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
