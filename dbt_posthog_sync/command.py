"""What commands share: the project they find, and the session they open in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_posthog_sync.terminal import say

if TYPE_CHECKING:
    from dbt_posthog_sync.build import Build
    from dbt_posthog_sync.dbt_program import DbtProgram
    from dbt_posthog_sync.project import Project
    from dbt_posthog_sync.selection import Selection
    from dbt_posthog_sync.session import Session
    from dbt_posthog_sync.session_options import SessionOptions
    from dbt_posthog_sync.sync import Sync

# Imports inside the functions are late on purpose: `--help` and `validate` must not wait for dbt.
# ruff: noqa: PLC0415


def load_project(project_dir: Path | None, target_path: Path | None) -> Project:
    """The project, with what its manifest warns of told."""
    from dbt_posthog_sync.project import Project

    project = Project.load(project_dir, target_path, os.environ)
    for warning in project.manifest.warnings:
        say(f"Warning: {warning}")
    return project


def checked_syncs(values: Mapping[str, Any]) -> tuple[Project, tuple[Sync, ...]]:
    """The project and syncs that `validate` is about; what is wrong is written as JUnit too where that is asked for."""
    from dbt_posthog_sync.errors import UserError
    from dbt_posthog_sync.junit import write_junit
    from dbt_posthog_sync.project import project_folder

    junit, folder = values["junit"], project_folder(values["project_dir"])
    try:
        project = load_project(values["project_dir"], values["target_path"])
        syncs = selected_syncs(project, values) if project.syncs or not project.exposures else ()
    except UserError as error:
        if junit is not None:
            write_junit(junit, (), error.problems, folder)
        raise
    if junit is not None:
        write_junit(junit, syncs, (), folder)
    return project, syncs


def selected_syncs(project: Project, values: Mapping[str, Any]) -> tuple[Sync, ...]:
    """The syncs that the options of a command select; none where what they ask for is nothing today."""
    selection = selection_of(values)
    build: Build | None = values.get("build")
    if build is not None and (build.exit_code or not selection.is_everything):
        # dbt has read the selection: what it ran is what was meant. Where it failed, nobody knows about the rest.
        syncs = project.of_nodes(build.nodes)
    else:
        program = dbt_program(project.folder, project.target_path, values)
        syncs = project.selected(selection, program.listed)
    if not syncs:
        say("No sync is selected now, so there is nothing to do.")
    return syncs


def selection_of(values: Mapping[str, Any]) -> Selection:
    """What the options of a command ask for."""
    from dbt_posthog_sync.selection import Selection

    wanted, unwanted = tuple(values.get("select_words", ())), tuple(values.get("exclude_words", ()))
    return Selection(wanted, unwanted, values.get("selector"))


def dbt_program(folder: Path, target_path: Path, values: Mapping[str, Any]) -> DbtProgram:
    """dbt, called with the same project, connection and variables that the command was given."""
    from dbt_posthog_sync.dbt_program import DbtProgram
    from dbt_posthog_sync.warehouse.profile import DbtOptions

    profiles_dir = values.get("profiles_dir") or os.environ.get("DBT_PROFILES_DIR")
    profiles = DbtOptions(folder, Path(profiles_dir) if profiles_dir else None).profiles_folder
    state, variables = values.get("state"), values.get("variables", "{}")
    options = {
        "--project-dir": folder,
        "--profiles-dir": profiles if (profiles / "profiles.yml").is_file() else None,
        "--profile": values.get("profile"),
        "--target": values.get("target"),
        "--target-path": target_path if values.get("target_path") else None,
        "--vars": None if variables == "{}" else variables,
        "--state": state and state.absolute(),
    }
    given = (word for name, value in options.items() if value is not None for word in (name, str(value)))
    return DbtProgram(values.get("dbt_executable"), tuple(given))


def session_options(values: Mapping[str, Any]) -> SessionOptions:
    """The parameters of a command as a session reads them."""
    from dbt_posthog_sync.session_options import SessionOptions

    return SessionOptions.from_command(values, os.environ)


def open_session(values: Mapping[str, Any]) -> Session:
    """A session, to be entered. dbt is asked before, since a DuckDB file admits one process at a time."""
    from dbt_posthog_sync.session import Session

    options = session_options(values)
    project = load_project(options.project_dir, options.target_path)
    syncs = selected_syncs(project, values)
    if not options.gates:
        return Session(project, syncs, options)
    gate = project.gate(options.run_results)
    for warning in gate.warnings:
        say(f"Warning: {warning}")
    return Session(project, syncs, options, gate)
