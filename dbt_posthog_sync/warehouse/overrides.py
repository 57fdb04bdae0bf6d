"""Overrides: macros of the user's project that take the place of ours by dbt's dispatch, as in the post-hook."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dbt_posthog_sync.warehouse.macros import macros_in

_PACKAGE = "dbt_posthog_sync"
_MACRO = re.compile(r"\{%-?\s*macro\s+(\w+?)__(\w+)\s*\(")


def add_overrides(macros: Any, config: Any, project_dir: Path) -> bool:
    """Add the project's macros to dbt's `macros` where one of them overrides one of ours; else they are left alone.

    A macro overrides `x` of ours when it is called `default__x` or by the adapter's name, `duckdb__x`. Only the
    project's own macro-paths count, in the order of its `dispatch` where it has one for our package.

    Returns:
        Whether anything was added.
    """
    project = _project(project_dir)
    files = tuple(_files(project_dir, project))
    ours = {macro.name.partition("__")[2] or macro.name for macro in macros.macros.values() if _is_ours(macro)}
    prefixes = {"default", str(config.credentials.type)}
    found = (match.groups() for _, text in files for match in _MACRO.finditer(text))
    if not any(prefix in prefixes and name in ours for prefix, name in found):
        return False
    name = str(project.get("name", "project"))
    for path, text in files:
        macros.macros.update({macro.unique_id: macro for macro in macros_in(name, path, text)})
        # What an override calls is known everywhere, as macros of the root project are in dbt; ours go first.
        helpers = (macro for macro in macros_in(_PACKAGE, path, text) if macro.name.partition("__")[2] not in ours)
        for macro in helpers:
            macros.macros.setdefault(macro.unique_id, macro)
    config.dispatch = [{"macro_namespace": _PACKAGE, "search_order": _search_order(project, name)}]
    return True


def _is_ours(macro: Any) -> bool:
    return bool(macro.package_name == _PACKAGE)


def _project(folder: Path) -> Mapping[str, Any]:
    """dbt_project.yml; dbt itself has read it before, and says what is wrong with it."""
    try:
        found = yaml.safe_load((folder / "dbt_project.yml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _files(folder: Path, project: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The project's macro files with their text; one that cannot be read cannot be parsed by dbt either."""
    for root in project.get("macro-paths") or ("macros",):
        for path in sorted((folder / str(root)).rglob("*.sql")):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def _search_order(project: Mapping[str, Any], name: str) -> list[str]:
    for entry in project.get("dispatch") or ():
        if isinstance(entry, Mapping) and entry.get("macro_namespace") == _PACKAGE:
            return [str(package) for package in entry.get("search_order") or (_PACKAGE,)]
    return [name, _PACKAGE]
