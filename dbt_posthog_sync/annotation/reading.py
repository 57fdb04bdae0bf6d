"""Reading: a draft of the right shape becomes a `Sync`; its parts can be read on their own, faulty ones left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dbt_posthog_sync.annotation.draft import Draft
from dbt_posthog_sync.duration import duration
from dbt_posthog_sync.manifest import Node
from dbt_posthog_sync.schema import Steps
from dbt_posthog_sync.sync import (
    Behavior,
    Column,
    Constant,
    CreateWith,
    Creation,
    Cursor,
    Holding,
    Keep,
    KeyKind,
    ModelColumn,
    ModelRef,
    Nulls,
    ObjectType,
    OnChange,
    OnSeveral,
    Operation,
    PropertyMapping,
    Rows,
    Sync,
    SyncKey,
    Term,
    is_bookkeeping,
)

ALL = "all"
# Columns that travel outside the properties, so that `properties: all` does not send them twice. PostHog has the e-mail
# address of a person that was found by it, and a person that is made gets it.
NO_PROPERTY_OF_ALL: tuple[Steps, ...] = (
    ("sync_key", "distinct_id"),
    ("sync_key", "email"),
    ("distinct_id",),
    ("create_with", "column"),
    ("event",),
    ("timestamp",),
)
_TRUE = ("true", "yes", "on")
_BEHAVIOR = {
    ObjectType.EVENT: Behavior.SEND,
    ObjectType.PAGE: Behavior.SEND,
    ObjectType.PERSON: Behavior.UPDATE_OR_CREATE,
    ObjectType.GROUP: Behavior.UPDATE_OR_CREATE,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One mapping of `properties` and where it stands in the annotation."""

    steps: Steps
    mapping: PropertyMapping


def sync_from(draft: Draft, project: str) -> Sync:
    """Return the sync of a draft whose shape is right."""
    value = draft.value
    kind = ObjectType(value["object"])
    key = _sync_key(value["sync_key"])
    behavior = Behavior(value.get("behavior", _BEHAVIOR[kind].value))
    return Sync(
        name=draft.name,
        name_is_explicit="name" in value,
        project=project,
        model=annotated_model(draft.node),
        object=kind,
        sync_key=key,
        behavior=behavior,
        distinct_id=_distinct_id(value, key),
        event=term(value["event"]) if kind is ObjectType.EVENT else None,
        timestamp=value.get("timestamp"),
        time_zone=value.get("time_zone", "UTC"),
        properties=_sorted_properties(value),
        all_properties=value.get("properties") == ALL,
        exclude=tuple(value.get("exclude", ())),
        groups=tuple((group_type, term(source)) for group_type, source in sorted(value.get("groups", {}).items())),
        group_type=value.get("group_type"),
        nulls=Nulls(value.get("nulls", Nulls.UNSET.value)),
        cursor=cursor_from(value.get("cursor")),
        backfill=truth(value.get("backfill", True)),
        on_change=OnChange(value.get("on_change", OnChange.IGNORE.value)),
        shared=truth(value.get("shared", False)),
        on_several=OnSeveral(value.get("on_several", OnSeveral.SKIP.value)),
        create_with=_create_with(value, key, behavior),
        unset=tuple(value.get("unset", ())),
        rows=rows_of(draft, kind),
        gate=Holding(value.get("gate", Holding.MODEL.value)),
        keep=Keep(value.get("keep", Keep.LATEST.value)),
        path=draft.path,
    )


def rows_of(draft: Draft, kind: ObjectType) -> Rows:
    """Which rows of a snapshot are meant: each of its rows happened, and a person or group is what it is now."""
    if draft.node.ref.history is None:
        return Rows.ALL
    named = draft.value.get("rows")
    if named is not None:
        return Rows(named)
    return Rows.ALL if kind in (ObjectType.EVENT, ObjectType.PAGE) else Rows.CURRENT


def entries(value: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the mappings that `properties` lists one by one; what has no right shape is left out."""
    match value.get("properties"):
        case list() as columns:
            for place, column in enumerate(columns):
                if isinstance(column, str):
                    yield Entry(("properties", place), PropertyMapping(column, Column(column)))
        case Mapping() as mapping:
            for name, source in mapping.items():
                is_named = isinstance(source, Mapping) and isinstance(source.get("column", ""), str)
                if isinstance(source, str) or is_named:
                    operation = source.get("operation", Operation.SET) if isinstance(source, Mapping) else Operation.SET
                    yield Entry(("properties", name), PropertyMapping(name, term(source), Operation(operation)))


def column_uses(value: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Yield every column that an annotation names, with the place that names it."""
    key = value.get("sync_key")
    for kind, column in key.items() if isinstance(key, Mapping) else ():
        if isinstance(column, str):
            yield ("sync_key", kind), column
    for name in ("distinct_id", "event", "timestamp", "cursor"):
        yield from _named_column((name,), value.get(name))
    yield from _column_of_creation(value.get("create_with"))
    groups = value.get("groups")
    for group_type, source in groups.items() if isinstance(groups, Mapping) else ():
        yield from _named_column(("groups", group_type), source)
    for entry in entries(value):
        if isinstance(entry.mapping.source, Column):
            yield entry.steps, entry.mapping.source.name
    exclude = value.get("exclude")
    for place, column in enumerate(exclude) if isinstance(exclude, list) else ():
        yield from _named_column(("exclude", place), column)


def columns_of_all(draft: Draft) -> Iterator[ModelColumn]:
    """Yield the declared columns that `properties: all` sends; none when the properties are listed."""
    if draft.value.get("properties") != ALL:
        return
    left_out = {column.lower() for steps, column in column_uses(draft.value) if steps in NO_PROPERTY_OF_ALL}
    left_out |= {column.lower() for steps, column in column_uses(draft.value) if steps[0] == "exclude"}
    annotated = {one.column: one.value for one in draft.node.column_annotations}
    for declared in draft.node.ref.columns:
        column = column_from(declared.name, annotated.get(declared.name))
        history = draft.node.ref.history
        is_added = history is not None and is_bookkeeping(history, column)
        if not column.exclude and not is_added and column.name.lower() not in left_out:
            yield column


def _named_column(steps: Steps, source: object) -> Iterator[tuple[Steps, str]]:
    if isinstance(source, str):
        yield steps, source
    elif isinstance(source, Mapping) and isinstance(source.get("column"), str):
        yield (*steps, "column"), source["column"]


def _column_of_creation(create_with: object) -> Iterator[tuple[Steps, str]]:
    """A plain text is a choice there, not a column."""
    if isinstance(create_with, Mapping):
        yield from _named_column(("create_with",), create_with)


def term(source: str | Mapping[str, Any]) -> Term:
    """Return what a text (a column), `{column: ...}` or `{value: ...}` stands for."""
    if isinstance(source, str):
        return Column(source)
    return Column(source["column"]) if "column" in source else Constant(source.get("value"))


def truth(flag: object) -> bool:
    """Return a YAML yes or no as a bool; dbt 2 reads `yes` as a text."""
    return flag is True or (isinstance(flag, str) and flag.lower() in _TRUE)


def column_from(name: str, annotation: object) -> ModelColumn:
    """Return a column with what its own annotation asks for."""
    if not isinstance(annotation, Mapping):
        return ModelColumn(name)
    operation = annotation.get("operation")
    return ModelColumn(
        name=name,
        property=annotation.get("property"),
        operation=None if operation is None else Operation(operation),
        exclude=truth(annotation.get("exclude", False)),
    )


def annotated_model(node: Node) -> ModelRef:
    """Return the model of a node, its columns with what their own annotations ask for; these must be right."""
    ref = node.ref
    annotated = {one.column: column_from(one.column, one.value) for one in node.column_annotations}
    columns = (replace(annotated.get(column.name, column), data_type=column.data_type) for column in ref.columns)
    return replace(ref, columns=tuple(columns))


def _sorted_properties(value: Mapping[str, Any]) -> tuple[PropertyMapping, ...]:
    """Return the mappings by property name.

    dbt writes the keys of a `config(meta=...)` in SQL in another order at every parse, and the order of the mapping
    must not look like a change of it.
    """
    return tuple(sorted((entry.mapping for entry in entries(value)), key=lambda mapping: mapping.property))


def _sync_key(value: Mapping[str, str]) -> SyncKey:
    ((kind, column),) = value.items()
    return SyncKey(KeyKind(kind), column)


def _distinct_id(value: Mapping[str, Any], key: SyncKey) -> Column | None:
    if key.kind is KeyKind.DISTINCT_ID:
        return Column(key.column)
    return Column(value["distinct_id"]) if "distinct_id" in value else None


def _create_with(value: Mapping[str, Any], key: SyncKey, behavior: Behavior) -> CreateWith | None:
    written = value.get("create_with")
    if written is None or key.kind is not KeyKind.EMAIL or behavior is not Behavior.UPDATE_OR_CREATE:
        return None
    return Column(written["column"]) if isinstance(written, Mapping) else Creation(written)


def cursor_from(value: object) -> Cursor | None:
    """Return what a column or `{column: ..., lookback: ...}` stands for; None where there is none."""
    match value:
        case str():
            return Cursor(value)
        case Mapping():
            return Cursor(value["column"], duration(value.get("lookback", "0 days")))
        case _:
            return None
