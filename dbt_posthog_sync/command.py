"""What commands share: the project they find, and the session they open in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_posthog_sync.terminal import say

if TYPE_CHECKING:
    from dbt_posthog_sync.project import Project
    from dbt_posthog_sync.session import Session, SessionOptions

# Imports inside the functions are late on purpose: `--help` and `validate` must not wait for dbt.
# ruff: noqa: PLC0415


def load_project(project_dir: Path | None, target_path: Path | None) -> Project:
    """The project, with what its manifest warns of told."""
    from dbt_posthog_sync.project import Project

    project = Project.load(project_dir, target_path, os.environ)
    for warning in project.manifest.warnings:
        say(f"Warning: {warning}")
    return project


def session_options(values: dict[str, Any]) -> SessionOptions:
    """The parameters of a command as a session reads them."""
    from dbt_posthog_sync.session import SessionOptions

    return SessionOptions.from_command(values, os.environ)


def open_session(options: SessionOptions) -> Session:
    """A session, to be entered."""
    from dbt_posthog_sync.session import Session

    project = load_project(options.project_dir, options.target_path)
    if not options.gates:
        return Session(project, options)
    gate = project.gate(options.run_results)
    for warning in gate.warnings:
        say(f"Warning: {warning}")
    return Session(project, options, gate)
