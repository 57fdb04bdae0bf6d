"""Clashes: what is wrong between syncs, each of which is right by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

from dbt_posthog_sync.annotation.draft import Draft
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import listed
from dbt_posthog_sync.sync import Behavior, Column, KeyKind, ObjectType, Operation, Sync

_Written: TypeAlias = tuple[Sync, Collection[str]]
_GROUP_TYPES_OF_A_PROJECT = 5  # PostHog stores no groups of a sixth type, and says nothing


def name_clashes(drafts: Sequence[Draft]) -> Iterator[Problem]:
    """Yield a problem for each draft whose name another one has: names are identities in the state."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        owner = first.setdefault(draft.name.lower(), draft)
        if owner is not draft:
            steps = ("name",) if "name" in draft.value else ()
            where = f"{owner.node.ref.name} ({owner.node.ref.file})"
            message = f"two syncs are called {shown(draft.name)}; the other one belongs to {where}."
            yield draft.problem(steps, message, "Give one of them another `name`.")


def person_clashes(written: Iterable[_Written]) -> Iterator[tuple[Sync, str]]:
    """Yield (sync, message) for person syncs that write a property which another one writes too.

    Two syncs may share properties when both say `shared: true`.

    Args:
        written: person syncs, each with the properties it writes.
    """
    for (sync, properties), (other, others) in _pairs(written):
        common = sorted(set(properties) & set(others))
        if common and not (sync.shared and other.shared):
            yield sync, f"the sync `{other.name}` also writes the person {_noun(common)} {listed(common)}."


def person_fights(written: Iterable[_Written]) -> Iterator[tuple[Sync, str, str]]:
    """Yield (sync, key, message) for person syncs that undo what another one does, in whatever order they run.

    `shared: true` allows no such thing: one sets a property that the other one sets once, or removes.

    Args:
        written: person syncs, each with the properties it writes.
    """
    for (sync, properties), (other, others) in _pairs(written):
        for name in sorted(set(properties) & set(others)):
            own, theirs = operation_of(sync, name), operation_of(other, name)
            if own is not theirs:
                message = f"the person property {shown(name)} has the operation `{own.value}` here and `{theirs.value}`"
                yield sync, "properties", f"{message} in the sync `{other.name}`."
        for name in sorted(set(sync.unset) & set(others)):
            message = f"the sync `{other.name}` writes the person property {shown(name)}, which is removed here."
            yield sync, "unset", message
        for name in sorted(set(properties) & set(other.unset)):
            message = f"the sync `{other.name}` removes the person property {shown(name)}, which is written here."
            yield sync, "properties", message


def operation_of(sync: Sync, name: str) -> Operation:
    """Return how a sync writes a property."""
    if not sync.all_properties:
        return {mapping.property: mapping.operation for mapping in sync.properties}.get(name, Operation.SET)
    asked = {column.property or column.name: column.operation for column in sync.model.columns if not column.exclude}
    return asked.get(name) or Operation.SET


def person_clash_problems(pairs: Sequence[tuple[Draft, Sync]]) -> Iterator[Problem]:
    """Yield the problems of `person_clashes` and `person_fights` as far as the manifest shows what is written."""
    persons = [(draft, sync) for draft, sync in pairs if sync.object is ObjectType.PERSON]
    drafts = {sync.name: draft for draft, sync in persons}
    written = [(sync, declared_properties(sync)) for _, sync in persons]
    advice = "Let one sync write it, or write `shared: true` in both if they never fight over a person."
    for sync, message in person_clashes(written):
        yield drafts[sync.name].problem(("properties",), message, advice)
    for sync, key, message in person_fights(written):
        yield drafts[sync.name].problem((key,), message, "Let both say the same, or leave the property to one of them.")


def declared_properties(sync: Sync) -> tuple[str, ...]:
    """Return the properties a sync writes; of `properties: all`, those of the columns that the manifest declares."""
    if sync.behavior is Behavior.DELETE:
        return ()
    if not sync.all_properties:
        return tuple(mapping.property for mapping in sync.properties)
    terms = (sync.distinct_id, sync.create_with, sync.event)
    apart = {term.name for term in terms if isinstance(term, Column)} | {sync.timestamp}
    if sync.sync_key.kind is KeyKind.EMAIL:
        apart.add(sync.sync_key.column)
    left_out = {name.lower() for name in (*sync.exclude, *apart) if name}
    columns = [column for column in sync.model.columns if not column.exclude and column.name.lower() not in left_out]
    return tuple(column.property or column.name for column in columns)


def too_many_group_types(drafts: Sequence[Draft]) -> Iterator[Problem]:
    """Yield one problem when all syncs together name more group types than a PostHog project can have."""
    seen: dict[str, None] = {}
    for draft in drafts:
        named = draft.value.get("group_type")
        groups = draft.value.get("groups")
        for group_type in [named, *(groups if isinstance(groups, dict) else ())]:
            if isinstance(group_type, str):
                seen.setdefault(group_type)
        if len(seen) > _GROUP_TYPES_OF_A_PROJECT:
            steps = ("group_type",) if named else ("groups",)
            message = f"the syncs name {len(seen)} group types ({listed(seen)}); a PostHog project has at most five."
            yield draft.problem(steps, message, "PostHog drops groups of a sixth type: use fewer.")
            return


def _pairs(written: Iterable[_Written]) -> Iterator[tuple[_Written, _Written]]:
    """Yield each sync with each of those before it."""
    before: list[_Written] = []
    for one in written:
        yield from ((one, other) for other in before)
        before.append(one)


def _noun(properties: Sequence[str]) -> str:
    return "property" if len(properties) == 1 else "properties"
