"""The dbt plugin: lets `dbt parse`, `dbt run` and `dbt build` themselves tell what is wrong with annotations.

dbt 1 calls it each time it has written its manifest, and writes what it returns beside that. Whatever goes wrong here
is a warning and never an error of dbt. Every dbt command loads this module, so nothing heavy is imported before it is
called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from dbt.plugins.manager import dbt_hook, dbtPlugin

ARTIFACT_FILE = "posthog_sync.json"
ARTIFACT_VERSION = 1

# Imports inside the functions are late on purpose, see above.
# ruff: noqa: PLC0415


class Artifact:
    """What the annotations of a project come to, as dbt writes artifacts."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def write(self, path: str) -> None:
        """Write the file; called by dbt, which a full disk must not stop here."""
        try:
            Path(path).write_text(json.dumps(self._document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            _warn(f"{path} could not be written: {error.strerror}.")


class PostHogSync(dbtPlugin):  # type: ignore[misc]  # dbt's classes are untyped here
    """What dbt loads."""

    @dbt_hook  # type: ignore[untyped-decorator,unused-ignore]
    def get_manifest_artifacts(self, manifest: Any) -> dict[str, Artifact]:
        """Check the annotations of the manifest that dbt has just written, and return what is to stand beside it."""
        try:
            return _artifacts(manifest)
        except Exception as error:  # noqa: BLE001 - the other edge: a bug of ours must not stop the user's dbt
            _warn(f"annotations could not be checked ({type(error).__name__}); `dbt-posthog-sync validate` says more.")
            return {}


plugins = [PostHogSync]


def _artifacts(manifest: Any) -> dict[str, Artifact]:
    from dbt_posthog_sync import __version__
    from dbt_posthog_sync.errors import UserError
    from dbt_posthog_sync.project import Project
    from dbt_posthog_sync.reporter import sync_values

    context = click.get_current_context(silent=True)
    config = (context.obj or {}).get("runtime_config") if context is not None else None
    if config is None:  # somebody drives dbt without its command line, and dbt tells no folder
        return {}
    folder, target = Path(config.project_root), Path(config.project_root) / config.project_target_path
    problems: tuple[Any, ...] = ()
    syncs: list[dict[str, Any]] = []
    try:
        syncs = [sync_values(sync) for sync in Project.load(folder, target, os.environ).syncs]
    except UserError as error:
        problems = error.problems
    for problem in problems:
        _warn(str(problem))
    metadata = {
        "version": ARTIFACT_VERSION,
        "invocation_id": manifest.metadata.invocation_id,
        "dbt_posthog_sync_version": __version__,
    }
    told = [_values(problem) for problem in problems]
    return {str(target / ARTIFACT_FILE): Artifact({"metadata": metadata, "syncs": syncs, "problems": told})}


def _values(problem: Any) -> dict[str, str]:
    return {name: getattr(problem, name) for name in ("message", "advice", "model", "file", "path")}


def _warn(text: str) -> None:
    """Tell a warning among dbt's own. For dbt it is information, which no `--warn-error` makes an error of."""
    told = f"posthog_sync: {text}"
    try:
        from dbt_common.events.functions import fire_event
        from dbt_common.events.types import Note
        from dbt_common.ui import warning_tag

        fire_event(Note(msg=warning_tag(told)))
    except (ImportError, AttributeError, TypeError):  # a dbt whose events are others
        click.echo(f"[WARNING]: {told}", err=True)
