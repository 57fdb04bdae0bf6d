"""Rules of persons: which keys go together, what is removed, and who is deleted. See `rules` for what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dbt_posthog_sync.annotation.draft import NEVER_CREATES, NOT_OF_DELETE, SETTINGS_FILE, Draft
from dbt_posthog_sync.annotation.reading import columns_of_all, entries
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.reserved_name import reserved_property
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.sync import Behavior, Keep, KeyKind, ObjectType

_CREATE_WITH = (
    "Write `create_with: skip` (nothing is sent, and the row is tried again in every run), `create_with: email` (a new"
    " person has the address as distinct id) or `create_with: {column: ...}` (a new person has the distinct id of that"
    " column)."
)


def deletes(draft: Draft) -> bool:
    """True when the draft asks to delete persons."""
    return draft.object is ObjectType.PERSON and draft.value.get("behavior") == Behavior.DELETE.value


def deletion_problems(draft: Draft) -> Iterator[Problem]:
    """Yield the problem of a sync that deletes persons in a project whose settings do not allow it."""
    if deletes(draft):
        message = "`behavior: delete` deletes persons in PostHog for good, and the settings do not allow it."
        yield draft.problem(("behavior",), message, f"Write `deletion: {{enabled: true}}` in {SETTINGS_FILE}.")


def _keys_beside_delete(draft: Draft) -> Iterator[Problem]:
    if deletes(draft):
        for key, reason in NOT_OF_DELETE.items():
            if key in draft.value:
                message = f"`{key}` does not go with `behavior: delete`: {reason}."
                yield draft.problem((key,), message, "Remove it.")


def _person_without_properties(draft: Draft) -> Iterator[Problem]:
    is_written = draft.object is ObjectType.PERSON and not deletes(draft)
    if is_written and draft.value.get("properties") in ([], {}):
        yield draft.problem(("properties",), "a person sync without properties has nothing to write.", "List some.")


def _several_persons(draft: Draft) -> Iterator[Problem]:
    if "on_several" in draft.value and _has_key(draft, KeyKind.DISTINCT_ID):
        message = "`on_several` goes with `sync_key: {email: ...}` only: a distinct id has one person."
        yield draft.problem(("on_several",), message, "Remove it.")


def _keep_of_looked_up(draft: Draft) -> Iterator[Problem]:
    """A build cannot ask PostHog which persons it has."""
    is_looked_up = _has_key(draft, KeyKind.EMAIL) or draft.value.get("behavior") == Behavior.UPDATE_ONLY.value
    if draft.value.get("keep") == Keep.EVERY.value and is_looked_up and not deletes(draft):
        message = "`keep: every` is done while dbt builds, when it is not known which persons PostHog has."
        advice = "Remove it, or write `sync_key: {distinct_id: ...}` without `behavior: update_only`."
        yield draft.problem(("keep",), message, advice)


def _creation(draft: Draft) -> Iterator[Problem]:
    if "create_with" not in draft.value:
        return
    behavior = draft.value.get("behavior")
    if behavior in NEVER_CREATES:
        message = f"`create_with` does not go with `behavior: {behavior}`, which never creates a person."
        yield draft.problem(("create_with",), message, "Remove it.")
    elif _has_key(draft, KeyKind.DISTINCT_ID):
        message = "`create_with` goes with `sync_key: {email: ...}` only: a new person has the distinct id of its row."
        yield draft.problem(("create_with",), message, "Remove it.")


def _creation_is_missing(draft: Draft) -> Iterator[Problem]:
    """Made from an address that nobody checked, persons double; so what to do is asked of the user, with no default.

    It is no requirement of the schema, because the defaults may have it and an editor does not know them.
    """
    own = draft.own if isinstance(draft.own, Mapping) else {}
    behavior = own.get("behavior", Behavior.UPDATE_OR_CREATE.value)
    is_written = "create_with" in own or "create_with" in draft.defaults  # also where it is wrong, which is told apart
    if _has_key(draft, KeyKind.EMAIL) and behavior == Behavior.UPDATE_OR_CREATE.value and not is_written:
        message = "a person by e-mail needs `create_with`: what becomes of an address that no person has."
        yield draft.problem((), message, _CREATE_WITH)


def _has_key(draft: Draft, kind: KeyKind) -> bool:
    key = draft.value.get("sync_key")
    return draft.object is ObjectType.PERSON and isinstance(key, Mapping) and list(key) == [kind.value]


def _unset(draft: Draft) -> Iterator[Problem]:
    names = draft.value.get("unset")
    if draft.object is not ObjectType.PERSON or not isinstance(names, list) or deletes(draft):
        return
    listed_ones = {entry.mapping.property for entry in entries(draft.value)}
    of_all = {column.property or column.name for column in columns_of_all(draft)}
    for place, name in enumerate(names):
        if not isinstance(name, str):
            continue
        if reason := reserved_property(name, ObjectType.PERSON):
            message = f"the property {shown(name)} is reserved: {reason}."
            yield draft.problem(("unset", place), message, "Leave it out.")
        if name in listed_ones:
            message = f"the property {shown(name)} is in `properties` and in `unset`: it would be written and removed."
            yield draft.problem(("unset", place), message, "Keep one of the two.")
        if name in of_all:
            message = f"`properties: all` would write the property {shown(name)}, which `unset` removes."
            advice = "Take it out of `unset`, or leave its column out with `exclude`."
            yield draft.problem(("unset", place), message, advice)


PERSON_RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _person_without_properties,
    _keys_beside_delete,
    _several_persons,
    _keep_of_looked_up,
    _creation,
    _creation_is_missing,
    _unset,
)
