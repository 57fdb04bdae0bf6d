"""Rules about dbt snapshots: which of their rows a sync reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dbt_posthog_sync.annotation.draft import Draft
from dbt_posthog_sync.annotation.reading import rows_of
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.sync import History, ObjectType, Rows

_THINGS = (ObjectType.PERSON, ObjectType.GROUP)


def _rows_without_snapshot(draft: Draft) -> Iterator[Problem]:
    if "rows" in draft.value and draft.node.ref.history is None:
        message = f"`rows` chooses from the history of a dbt snapshot, and this is a {draft.node.ref.resource_type}."
        yield draft.problem(("rows",), message, "Remove it.")


def _history_of_a_thing(draft: Draft) -> Iterator[Problem]:
    """A person or group has one state; all rows of a key would be duplicates of each other."""
    kind = draft.object
    if draft.node.ref.history is None or kind not in _THINGS or draft.value.get("rows") != Rows.ALL.value:
        return
    message = f"a {kind.value} is what it is now, and the history has several rows of one {kind.value}."
    advice = (
        "Write `rows: current`, or make the history events: `object: event`, `sync_key: {event_id: dbt_scd_id}`, "
        "`timestamp: dbt_valid_from`."
    )
    yield draft.problem(("rows",), message, advice)


def _key_of_several_rows(draft: Draft) -> Iterator[Problem]:
    history, kind, key = draft.node.ref.history, draft.object, draft.value.get("sync_key")
    if history is None or kind is None or kind in _THINGS or not isinstance(key, Mapping) or "event_id" not in key:
        return
    if draft.value.get("rows") not in (None, *(one.value for one in Rows)) or rows_of(draft, kind) is Rows.CURRENT:
        return
    column = key["event_id"]
    if isinstance(column, str) and [column.lower()] == [name.lower() for name in history.unique_key]:
        message = f"{shown(column)} is the snapshot's unique_key, which every version of a row has."
        advice = f"Write `sync_key: {{event_id: {_version_key(history)}}}`, which dbt makes for each version."
        yield draft.problem(("sync_key", "event_id"), message, advice)


def _version_key(history: History) -> str:
    return history.bookkeeping[0]


SNAPSHOT_RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _rows_without_snapshot,
    _history_of_a_thing,
    _key_of_several_rows,
)
