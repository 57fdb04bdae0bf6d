"""Selection: which syncs a run is about, in the words of dbt's `--select` and `--exclude`.

Words apart by a space are a union, words joined by a comma an intersection, as in dbt. What needs dbt's graph or state
is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from dbt_posthog_sync.errors import UserError
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import Sync

_ANNOTATION = "config.meta.posthog_sync"
_GRAPH = re.compile(r"^(?:@|\d*\+)|\+\d*$")


def select(syncs: Sequence[Sync], select: Iterable[str] = (), exclude: Iterable[str] = ()) -> tuple[Sync, ...]:
    """Return the selected syncs without the excluded ones, in their own order; without `select`, all are selected.

    Raises:
        UserError: a selector is not supported, or matches nothing.
    """
    selectors, exclusions = _split(select), _split(exclude)
    problems = [problem for word in (*selectors, *exclusions) for problem in _problems(word, syncs)]
    if problems:
        raise UserError(*problems)
    wanted = {sync.name for word in selectors for sync in _matches(word, syncs)}
    unwanted = {sync.name for word in exclusions for sync in _matches(word, syncs)}
    return tuple(sync for sync in syncs if (not selectors or sync.name in wanted) and sync.name not in unwanted)


def _split(words: Iterable[str]) -> list[str]:
    return [word for text in words for word in text.split()]


def _problems(word: str, syncs: Sequence[Sync]) -> list[Problem]:
    """Return what is wrong with one selector: parts that are not supported, else that it matches nothing."""
    unsupported = [problem for part in word.split(",") for problem in _unsupported(part)]
    if unsupported or _matches(word, syncs):
        return unsupported
    names = sorted({sync.name for sync in syncs} | {sync.model.name for sync in syncs})
    hint = did_you_mean(word, names)
    if not hint:
        hint = f"There are {listed(names)}." if names else "No model is annotated."
    return [Problem(f"the selector `{word}` matches no sync.", hint)]


def _unsupported(part: str) -> list[Problem]:
    method, colon, value = part.partition(":")
    if not part.strip() or (colon and not value):
        return [Problem(f"the selector `{part}` is empty.", "Remove it, or write what it should select.")]
    if _GRAPH.search(part):
        message = f"graph operators are not supported yet (`{part}`)."
        return [Problem(message, "Select by name, tag or path; syncs do not depend on one another.")]
    if colon and method not in _METHODS:
        known = [f"{name}:" for name in _METHODS]
        hint = did_you_mean(f"{method}:", known) or f"Supported are names, {listed(known)}."
        return [Problem(f"the selector method `{method}:` is not supported yet.", hint)]
    return []


def _matches(word: str, syncs: Sequence[Sync]) -> list[Sync]:
    return [sync for sync in syncs if all(_is_match(part, sync) for part in word.split(","))]


def _is_match(part: str, sync: Sync) -> bool:
    method, colon, value = part.partition(":")
    if colon:
        return _METHODS[method](value, sync)
    if "/" in part:
        return _is_path(part, sync)
    if part.endswith((".sql", ".py", ".csv", ".yml", ".yaml")):
        return fnmatchcase(PurePosixPath(sync.model.path).name, part)
    return _is_name(part, sync)


def _is_name(pattern: str, sync: Sync) -> bool:
    return any(fnmatchcase(name, pattern) for name in (sync.name, sync.model.name, sync.model.unique_id))


def _is_tag(pattern: str, sync: Sync) -> bool:
    return any(fnmatchcase(tag, pattern) for tag in sync.model.tags)


def _is_path(pattern: str, sync: Sync) -> bool:
    """Tell whether the model's file is the path, lies below it, or fits it as a pattern."""
    own = PurePosixPath(sync.model.path.replace("\\", "/"))
    wanted = pattern.rstrip("/").removeprefix("./")
    return any(fnmatchcase(str(place), wanted) for place in (own, *own.parents[:-1]))


def _is_package(pattern: str, sync: Sync) -> bool:
    return fnmatchcase(sync.model.package, sync.project if pattern == "this" else pattern)


def _is_resource_type(value: str, sync: Sync) -> bool:
    return sync.model.resource_type == value


def _is_object(value: str, sync: Sync) -> bool:
    return sync.object.value == value


def _is_behavior(value: str, sync: Sync) -> bool:
    return sync.behavior.value == value


def _is_sync_name(pattern: str, sync: Sync) -> bool:
    return fnmatchcase(sync.name, pattern)


_METHODS: Mapping[str, Callable[[str, Sync], bool]] = {
    "tag": _is_tag,
    "path": _is_path,
    "package": _is_package,
    "resource_type": _is_resource_type,
    f"{_ANNOTATION}.object": _is_object,
    f"{_ANNOTATION}.behavior": _is_behavior,
    f"{_ANNOTATION}.name": _is_sync_name,
}
