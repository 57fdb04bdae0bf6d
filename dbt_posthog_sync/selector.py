"""A selector: one of dbt's words for nodes, such as `tag:nightly`, and whether the manifest alone can answer it.

What it means is dbt's (docs.getdbt.com: Node selection syntax; dbt-core: dbt/graph/selector_methods.py). Ours is that
the name of a sync is a word too, and `config.meta.posthog_sync` is looked up sync by sync.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import Sync

_ANNOTATION = "config.meta.posthog_sync"
_GRAPH = re.compile(r"^(?:@|\d*\+)|\+\d*$")
_WILDCARD = re.compile(r"[*?\[\]]")

_OF_STATE = frozenset({"state", "result", "source_status"})
_OF_DBT = frozenset(
    {
        *_OF_STATE, "access", "group", "metric", "saved_query", "selector", "semantic_model", "source",
        "test_name", "test_type", "unit_test", "version",
    }
)  # fmt: skip


def needs_dbt(selector: str) -> bool:
    """True when only dbt can answer it: graph operators, and what the manifest's annotated nodes do not tell."""
    method, colon, _ = selector.partition(":")
    return bool(_GRAPH.search(selector)) or (bool(colon) and method not in _METHODS)


def plain_name(selector: str) -> str:
    """The selector without its graph operators."""
    return _GRAPH.sub("", selector)


def depends_on_state(selector: str) -> bool:
    """True when it may well match nothing, as on a day when nothing was modified."""
    return plain_name(selector).partition(":")[0] in _OF_STATE


def problems_of(selector: str) -> Iterator[Problem]:
    """What is wrong with it as a word."""
    method, colon, value = plain_name(selector).partition(":")
    if not method.strip() or (colon and not value):
        yield Problem(f"the selector `{selector}` is empty.", "Remove it, or write what it should select.")
    elif colon and not (method in _METHODS or method in _OF_DBT or method.startswith("config.")):
        known = [f"{name}:" for name in (*_METHODS, *sorted(_OF_DBT))]
        hint = did_you_mean(f"{method}:", known) or f"There are names, `config.`, {listed(known)}."
        yield Problem(f"dbt has no selector method `{method}:`.", hint)


def is_match(selector: str, sync: Sync) -> bool:
    """Tell whether a selector that does not need dbt means this sync."""
    method, colon, value = selector.partition(":")
    if colon:
        return _METHODS[method](value, sync)
    if "/" in selector:
        return _is_path(selector, sync)
    if selector.endswith((".sql", ".py", ".csv", ".yml", ".yaml")):
        return _is_file(selector, sync)
    return _is_name(selector, sync)


def _is_name(pattern: str, sync: Sync) -> bool:
    names = (sync.name, sync.model.name, sync.model.unique_id)
    return any(fnmatchcase(name, pattern) for name in names) or _is_fqn(pattern, sync)


def _is_fqn(pattern: str, sync: Sync) -> bool:
    """Tell whether it is the model's name, or begins its qualified one, with the package or without."""
    model, fqn = sync.model, sync.model.fqn
    if model.resource_type == "source" or len(fqn) < 2:
        return False
    is_versioned = model.unique_id.endswith(f".{model.name}.{fqn[-1]}")
    if is_versioned and "_".join(fqn[-2:]) == "_".join(pattern.split(".")[-2:]):
        return True
    leaf = fqn[-2] if is_versioned else fqn[-1]
    if leaf == pattern or ("." not in pattern and fnmatchcase(leaf, pattern)):
        return True
    return any(_begins(pattern.split("."), ".".join(names).split(".")) for names in (fqn, fqn[1:]))


def _begins(pattern: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether the names begin as the pattern says; from its first wildcard on, all that is left has to fit."""
    if len(names) < len(pattern):
        return False
    for place, part in enumerate(pattern):
        if _WILDCARD.search(part):
            return fnmatchcase(".".join(names[place:]), ".".join(pattern[place:]))
        if names[place] != part:
            return False
    return True


def _is_tag(pattern: str, sync: Sync) -> bool:
    return any(fnmatchcase(tag, pattern) for tag in sync.model.tags)


def _is_path(pattern: str, sync: Sync) -> bool:
    """Tell whether the model's file is the path, lies below it, or fits it as a pattern."""
    own = PurePosixPath(sync.model.path.replace("\\", "/"))
    wanted = PurePosixPath(pattern).parts
    return any(_fits(wanted, place.parts) for place in (own, *own.parents[:-1]))


def _fits(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Tell whether a path fits a pattern folder by folder; `**` stands for any number of folders."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(pattern[1:], parts) or _fits(pattern, parts[1:])
    return fnmatchcase(parts[0], pattern[0]) and _fits(pattern[1:], parts[1:])


def _is_file(pattern: str, sync: Sync) -> bool:
    path = PurePosixPath(sync.model.path.replace("\\", "/"))
    return fnmatchcase(path.name, pattern) or fnmatchcase(path.stem, pattern)


def _is_package(pattern: str, sync: Sync) -> bool:
    return fnmatchcase(sync.model.package, sync.project if pattern == "this" else pattern)


def _is_resource_type(value: str, sync: Sync) -> bool:
    return sync.model.resource_type == value


def _is_exposure(pattern: str, sync: Sync) -> bool:
    """Tell whether it is the sync of a direct exposure of the name; dbt itself lists exposures beside models."""
    return sync.loops is not None and fnmatchcase(sync.name, pattern)


def _is_object(value: str, sync: Sync) -> bool:
    return str(sync.object.value) == value


def _is_behavior(value: str, sync: Sync) -> bool:
    return sync.behavior.value == value


def _is_sync_name(pattern: str, sync: Sync) -> bool:
    return fnmatchcase(sync.name, pattern)


_METHODS: Mapping[str, Callable[[str, Sync], bool]] = {
    "tag": _is_tag,
    "path": _is_path,
    "file": _is_file,
    "fqn": _is_fqn,
    "package": _is_package,
    "resource_type": _is_resource_type,
    "exposure": _is_exposure,
    f"{_ANNOTATION}.object": _is_object,
    f"{_ANNOTATION}.behavior": _is_behavior,
    f"{_ANNOTATION}.name": _is_sync_name,
}
