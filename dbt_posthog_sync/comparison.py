"""A comparison: the syncs of two manifests, before and after a change of the project, and what a run would then do.

It knows what the manifests declare. Columns that no YAML file declares, and the rows, are the warehouse's to tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from dbt_posthog_sync.column_type import ColumnType
from dbt_posthog_sync.manifest import Manifest
from dbt_posthog_sync.sync import (
    Behavior,
    Column,
    Constant,
    CreateWith,
    KeyKind,
    LoopsObject,
    ObjectType,
    OnChange,
    Operation,
    PropertyMapping,
    Sync,
    Term,
)

_PROPERTY = "property "
_IDENTITY = frozenset({"object", "sync key", "deletion", "type of the sync key"})
_PARTS_OF_A_PAGE_KEY = frozenset({"timestamp", "time_zone", "property $current_url"})
_SENT_ONCE = (ObjectType.EVENT, ObjectType.PAGE, LoopsObject.EVENTS)
_WITH_PROPERTIES = (ObjectType.PERSON, ObjectType.GROUP, LoopsObject.CONTACTS)
_UNSENT = frozenset({"model", "behavior", "create_with", "on_change", "rows", "cursor", "backfill", "shared"})

_Parts: TypeAlias = Mapping[str, str]


class Change(str, Enum):
    """What became of a sync."""

    NEW = "new"
    GONE = "gone"
    RENAMED = "renamed"
    CHANGED = "changed"


class Effect(str, Enum):
    """What the next run does with the rows that are there."""

    FIRST_LOAD = "first_load"
    TAKEN_AS_KNOWN = "taken_as_known"
    EVERY_ROW = "every_row"
    ONLY_NEW_ROWS = "only_new_rows"
    CHANGED_ROWS = "changed_rows"
    NOTHING = "nothing"
    STOPS = "stops"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is said otherwise than before; None where it is not said at all."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a manifest declares of a sync's model.

    Attributes:
        types: the declared type of each column, by its name in small letters; empty where it has none.
        is_whole: true when a contract makes these columns all there are.
    """

    types: Mapping[str, str]
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two manifests: its syncs, and what it declares of their models by dbt's ids."""

    syncs: tuple[Sync, ...]
    declared: Mapping[str, Declared]

    @classmethod
    def from_manifest(cls, manifest: Manifest, syncs: Iterable[Sync]) -> Side:
        """A manifest with the syncs of its annotations."""
        declared = {
            node.ref.unique_id: Declared(
                {column.name.lower(): column.data_type for column in node.ref.columns}, node.has_contract
            )
            for node in manifest.nodes
        }
        return cls(tuple(syncs), declared)

    def of(self, sync: Sync) -> Declared:
        """What is declared of the sync's model."""
        return self.declared.get(sync.model.unique_id, Declared({}))


@dataclass(frozen=True, slots=True)
class SyncChange:
    """What a change of the project means for one sync.

    Attributes:
        sync: the sync as it is now, or was when it is gone.
        change: what became of it.
        effect: what the next run does with the rows that are there.
        differences: what is said otherwise.
        columns: columns it reads that are declared no more (`after` is None), with another type, or for the first
            time (`before` is None; only told where a contract says that they are new).
        left_properties: properties that it wrote and writes no more.
        former_name: the name it had before; None where that is the same.
    """

    sync: Sync
    change: Change
    effect: Effect
    differences: tuple[Difference, ...] = ()
    columns: tuple[Difference, ...] = ()
    left_properties: tuple[str, ...] = ()
    former_name: str | None = None

    @property
    def key_changed(self) -> bool:
        """True when rows are not recognised any more."""
        return any(one.what in _IDENTITY for one in self.differences)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed, sync by sync, and how many syncs did not.

    Attributes:
        changes: in the order of the project, those that are gone last.
        unchanged: how many syncs are as they were.
        max_changed_percent: beyond this share of changed rows a run stops; None where nothing does.
        unread: annotations of before that are wrong, and so count as absent.
    """

    changes: tuple[SyncChange, ...]
    unchanged: int
    max_changed_percent: float | None = None
    unread: int = 0


def compared(before: Side, after: Side) -> Comparison:
    """Compare two manifests of one project; syncs are the same when their names are."""
    was = {sync.name: sync for sync in before.syncs}
    now = {sync.name for sync in after.syncs}
    gone = {sync.name: sync for sync in before.syncs if sync.name not in now}
    changes: list[SyncChange] = []
    for sync in after.syncs:
        found = was.get(sync.name) or _former(sync, gone.values(), {one.former_name for one in changes})
        changes += [_new(sync) if found is None else _changed(found, before.of(found), sync, after.of(sync))]
    kept = tuple(one for one in changes if one.differences or one.columns or one.change is not Change.CHANGED)
    renamed = {one.former_name for one in changes}
    ended = tuple(SyncChange(sync, Change.GONE, Effect.ENDS) for name, sync in gone.items() if name not in renamed)
    return Comparison((*kept, *ended), len(changes) - len(kept))


def _former(sync: Sync, gone: Iterable[Sync], taken: Collection[str | None]) -> Sync | None:
    """The sync that this one was before it got another name: of the same model, or else with the same mapping."""
    left = [one for one in gone if one.name not in taken and one.object is sync.object]
    of_model = [one for one in left if one.model.unique_id == sync.model.unique_id]
    alike = [one for one in left if _sent(_parts(one)) == _sent(_parts(sync))]
    return next(iter([one for one in of_model if one in alike] or of_model or alike), None)


def _new(sync: Sync) -> SyncChange:
    return SyncChange(sync, Change.NEW, Effect.FIRST_LOAD if sync.backfill else Effect.TAKEN_AS_KNOWN)


def _changed(was: Sync, was_declared: Declared, sync: Sync, declared: Declared) -> SyncChange:
    differences = tuple(_differences(_parts(was), _parts(sync)))
    columns = tuple(_column_differences(was, was_declared, sync, declared))
    gone = _surely_gone(sync, columns, declared)
    retyped = {one.what for one in columns if one.after is not None}
    if sync.sync_key.column.lower() in retyped:
        differences = (*differences, *_retyped_key(sync, columns))
    change = SyncChange(
        sync,
        Change.CHANGED if was.name == sync.name else Change.RENAMED,
        Effect.NOTHING,
        differences,
        columns,
        tuple(_left(was, sync, gone)),
        None if was.name == sync.name else was.name,
    )
    return replace(change, effect=_effect(change, has_lost_a_column=bool(gone)))


def _retyped_key(sync: Sync, columns: Iterable[Difference]) -> Iterator[Difference]:
    for one in columns:
        if one.what == sync.sync_key.column.lower():
            yield replace(one, what="type of the sync key")


def _surely_gone(sync: Sync, columns: Iterable[Difference], declared: Declared) -> tuple[str, ...]:
    """Columns that `properties: all` certainly lost: without a contract they may only be declared no more."""
    is_sure = sync.all_properties and declared.is_whole
    return tuple(one.what for one in columns if is_sure and one.after is None)


def _effect(change: SyncChange, *, has_lost_a_column: bool) -> Effect:
    """What the next run does; each line is one of continuity's or the diff's decisions."""
    sync = change.sync
    is_other_message = has_lost_a_column or any(_is_sent(one.what) for one in change.differences)
    is_other_message |= any(one.after is not None for one in change.columns)
    if change.key_changed or change.change is Change.RENAMED:
        return Effect.STOPS
    if not is_other_message:
        resends = sync.on_change is OnChange.RESEND and any(one.what == "on_change" for one in change.differences)
        return Effect.CHANGED_ROWS if resends else Effect.NOTHING
    if _is_keyed_by_visitor(sync) and any(one.what in _PARTS_OF_A_PAGE_KEY for one in change.differences):
        return Effect.EVERY_ROW  # a view is known by visitor, time and address
    if sync.object in _SENT_ONCE and sync.on_change is OnChange.IGNORE:
        return Effect.ONLY_NEW_ROWS
    return Effect.EVERY_ROW


def _is_keyed_by_visitor(sync: Sync) -> bool:
    return sync.object is ObjectType.PAGE and sync.sync_key.kind is KeyKind.DISTINCT_ID


def _left(was: Sync, sync: Sync, gone: Collection[str]) -> Iterator[str]:
    """Properties of persons, groups and contacts that stay where they are although nobody writes them any more.

    Args:
        was: the sync before.
        sync: the sync now.
        gone: columns that `properties: all` certainly lost.
    """
    if sync.object not in _WITH_PROPERTIES or was.object is not sync.object:
        return
    names = {column.name.lower(): column.property or column.name for column in was.model.columns}
    lost = {names[column] for column in gone}
    yield from sorted((_written(was) - _written(sync) | lost) - set(sync.unset))


def _written(sync: Sync) -> set[str]:
    return {mapping.property for mapping in sync.properties}


def _sent(parts: _Parts) -> dict[str, str]:
    return {what: part for what, part in parts.items() if what not in _UNSENT}


def _is_sent(what: str) -> bool:
    return what not in _UNSENT and what not in _IDENTITY


def _differences(before: _Parts, after: _Parts) -> Iterator[Difference]:
    for what in dict.fromkeys((*before, *after)):
        was, now = before.get(what), after.get(what)
        if was != now:
            yield Difference(what, was, now)


def _parts(sync: Sync) -> dict[str, str]:
    """Everything an annotation says, as texts by what they are about."""
    key = sync.sync_key
    parts: dict[str, str | None] = {
        "model": sync.model.unique_id,
        "object": sync.object.value,
        "sync key": f"{key.kind.value}: {key.column.lower()}",
        "behavior": sync.behavior.value,
        "deletion": "yes" if sync.behavior is Behavior.DELETE else None,
        "rows": sync.rows.value if sync.model.history else None,
        "distinct_id": _shown(sync.distinct_id) if key.kind is not KeyKind.DISTINCT_ID and not sync.loops else None,
        "event": _shown(sync.event),
        "timestamp": sync.timestamp and sync.timestamp.lower(),
        "time_zone": sync.time_zone,
        "group_type": sync.group_type,
        "properties": "all" if sync.all_properties else None,
        "exclude": ", ".join(sorted(name.lower() for name in sync.exclude)),
        "nulls": sync.nulls.value if sync.object in (ObjectType.PERSON, LoopsObject.CONTACTS) else None,
        "unset": ", ".join(sorted(sync.unset)),
        "on_several": sync.on_several.value if key.kind is KeyKind.EMAIL else None,
        "create_with": _creation(sync.create_with),
        "on_change": sync.on_change.value if sync.object in (ObjectType.EVENT, ObjectType.PAGE) else None,
        "cursor": f"{sync.cursor.column.lower()}, lookback {sync.cursor.lookback}" if sync.cursor else None,
        "backfill": str(sync.backfill).lower(),
        "shared": "true" if sync.shared else None,
    }
    if sync.loops is not None:
        lists = sync.loops.mailing_lists
        parts |= {"email": _shown(sync.loops.email), "user_id": _shown(sync.loops.user_id)}
        parts["mailing_lists"] = ", ".join(f"{name}: {str(flag).lower()}" for name, flag in lists)
    parts |= {f"group {kind}": _shown(source) for kind, source in sync.groups}
    parts |= {f"{_PROPERTY}{one.property}": _shown_mapping(one) for one in sync.properties}
    parts |= dict(_annotated_columns(sync))
    return {what: part for what, part in parts.items() if part}


def _annotated_columns(sync: Sync) -> Iterator[tuple[str, str]]:
    """What columns say of themselves, which counts under `properties: all`."""
    for column in sync.model.columns if sync.all_properties else ():
        says = [f"property {column.property}"] if column.property else []
        says += [column.operation.value] if column.operation else []
        says += ["left out"] if column.exclude else []
        if says:
            yield f"column {column.name.lower()}", ", ".join(says)


def _shown(term: Term | None) -> str | None:
    match term:
        case Column():
            return term.name.lower()
        case Constant():
            return f"the constant {term.value!r}"
    return None


def _shown_mapping(mapping: PropertyMapping) -> str:
    operation = "" if mapping.operation is Operation.SET else f" ({mapping.operation.value})"
    return f"{_shown(mapping.source)}{operation}"


def _creation(create_with: CreateWith | None) -> str | None:
    if isinstance(create_with, Column):
        return f"column {create_with.name.lower()}"
    return create_with.value if create_with is not None else None


def _column_differences(was: Sync, before: Declared, sync: Sync, after: Declared) -> Iterator[Difference]:
    """The declared columns that are read, of which something else is declared now."""
    if was.all_properties and sync.all_properties and before.is_whole and after.is_whole:
        for name in sorted(_read(sync, after) - set(before.types)):
            yield Difference(name, None, after.types.get(name) or "declared")
    for name in sorted(_read(was, before) & _read(sync, before)):
        if name in before.types and name not in after.types:
            yield Difference(name, before.types[name] or "declared", None)
            continue
        was_type, now_type = before.types.get(name), after.types.get(name)
        if was_type and now_type and _type(was_type) != _type(now_type):
            yield Difference(name, was_type, now_type)


def _read(sync: Sync, declared: Declared) -> set[str]:
    """Columns that a sync reads, in small letters, as far as they can be known without the warehouse."""
    terms: Sequence[Term | None] = (
        sync.distinct_id,
        *((sync.loops.email, sync.loops.user_id) if sync.loops else ()),
        sync.event,
        *(source for _, source in sync.groups),
        *(mapping.source for mapping in sync.properties),
    )
    names = {term.name.lower() for term in terms if isinstance(term, Column)} | {sync.sync_key.column.lower()}
    names |= {sync.timestamp.lower()} if sync.timestamp else set()
    if sync.all_properties:
        left_out = {name.lower() for name in sync.exclude}
        left_out |= {column.name.lower() for column in sync.model.columns if column.exclude}
        names |= set(declared.types) - left_out
    return names


def _type(text: str) -> str:
    """The type as the mapping keeps it, so that another spelling of it is no change."""
    found = ColumnType.parse(text)
    return found.kind if found.is_supported else text.lower()
