"""A resolved sync: one annotation matched to the columns its relation really has.

Resolving finds every problem that the manifest alone cannot show (a missing column, a type that cannot be sent)
and fixes what the macros need: which columns are read, how each becomes JSON, and a fingerprint of all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from dbt_posthog_sync.column_type import ColumnType, Family
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.reserved_name import reserved_property
from dbt_posthog_sync.sync import (
    Column,
    Constant,
    KeyKind,
    ModelColumn,
    ObjectType,
    OnChange,
    Operation,
    PropertyMapping,
    Sync,
    Term,
)

_URL_PROPERTY = "$current_url"
_CHANGE_TEXT_TYPES = frozenset({"citext", "interval"})
_UNORDERED = frozenset(
    {Family.BOOLEAN, Family.JSON, Family.JSON_TEXT, Family.ARRAY, Family.STRUCT, Family.MAP, Family.UNSUPPORTED}
)


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as the warehouse has it.

    Attributes:
        name: exact spelling in the warehouse.
        type: its type.
        hash_as_text: true when equality of the type ignores visible text, or the type has no hash.
    """

    name: str
    type: ColumnType
    hash_as_text: bool = False

    def for_macro(self) -> dict[str, Any]:
        """The column as the macros read it."""
        return {"name": self.name, "type": self.type.for_macro(), "hash_as_text": self.hash_as_text}


@dataclass(frozen=True, slots=True)
class ResolvedProperty:
    """One property with its value: a column of the relation, or a constant."""

    name: str
    source: RelationColumn | Constant
    operation: Operation


@dataclass(frozen=True, slots=True)
class ResolvedSync:
    """A sync whose columns are known to exist and to be sendable.

    Attributes:
        sync: the annotation.
        key: column of the sync key.
        distinct_id: column of the person; None for groups.
        event: column or constant of the event name; None where the object fixes it.
        timestamp: column of the time; None when the staging time is meant.
        url: column mapped to `$current_url`, for pages.
        properties: every mapping, `properties: all` spelled out.
        groups: (group type, column or constant).
        cursor: column that prunes the scan.
        columns: every column of the relation.
    """

    sync: Sync
    key: RelationColumn
    distinct_id: RelationColumn | None
    event: RelationColumn | Constant | None
    timestamp: RelationColumn | None
    url: RelationColumn | None
    properties: tuple[ResolvedProperty, ...]
    groups: tuple[tuple[str, RelationColumn | Constant], ...]
    cursor: RelationColumn | None
    columns: tuple[RelationColumn, ...] = ()

    @property
    def id(self) -> str:
        """Identity of the sync's state: project and name, nothing that a rename of the model changes."""
        return hashlib.sha256(f"{self.sync.project}\x1f{self.sync.name}".encode()).hexdigest()[:16]

    @property
    def key_is_composed(self) -> bool:
        """True for pages keyed by visitor: one visitor has many views, so time and address belong to the key."""
        return self.sync.object is ObjectType.PAGE and self.sync.sync_key.kind is KeyKind.DISTINCT_ID

    @property
    def sends_events(self) -> bool:
        """True for events and pages, which PostHog keeps when the row is gone; false for persons and groups."""
        return self.sync.object in (ObjectType.EVENT, ObjectType.PAGE)

    @property
    def compares_keys_only(self) -> bool:
        """True when a row that was sent once is never sent again, so that hashes need no comparing."""
        return self.sync.object in (ObjectType.EVENT, ObjectType.PAGE) and self.sync.on_change is OnChange.IGNORE

    @property
    def keeps_moment(self) -> bool:
        """True when the snapshot keeps the row's own time: persons and groups whose annotation names a timestamp."""
        return not self.sends_events and self.timestamp is not None

    @property
    def hashed_columns(self) -> tuple[RelationColumn, ...]:
        """The columns whose content makes the row hash, in order of name, each once."""
        candidates: list[RelationColumn | Constant | None] = [self.distinct_id, self.event, self.timestamp]
        candidates += [source for _, source in self.groups]
        candidates += [mapping.source for mapping in self.properties]
        return self._hashed({c.name: c for c in candidates if isinstance(c, RelationColumn)})

    def _hashed(self, found: dict[str, RelationColumn]) -> tuple[RelationColumn, ...]:
        names = set(found) if self.key_is_composed else set(found) - {self.key.name}
        return tuple(found[name] for name in sorted(names))

    def hashed_before(self, mapping: Mapping[str, Any]) -> tuple[tuple[RelationColumn, ...], tuple[str, ...]]:
        """The columns that made the row hash under an earlier mapping, and the names of those that are gone.

        Args:
            mapping: what `mapping()` was then; object and sync key must be the same as today.
        """
        parts = [mapping["distinct_id"], mapping["event"], mapping["timestamp"]]
        parts += [source for _, source in mapping["groups"]] + [source for _, source, _ in mapping["properties"]]
        names = {part["column"] for part in parts if part and "column" in part}
        known = {column.name: column for column in self.columns}
        gone = tuple(sorted(names - set(known)))
        return self._hashed({name: known[name] for name in names if name in known}), gone

    def mapping(self) -> dict[str, Any]:
        """Everything that decides what is sent for a row; stored with the state, so that a change can be explained."""
        return {
            "object": self.sync.object.value,
            "sync_key": [self.sync.sync_key.kind.value, self.key.name],
            "distinct_id": _described(self.distinct_id),
            "event": _described(self.event),
            "timestamp": _described(self.timestamp),
            "time_zone": self.sync.time_zone,
            "properties": [[p.name, _described(p.source), p.operation.value] for p in self.properties],
            "groups": [[name, _described(source)] for name, source in self.groups],
            "group_type": self.sync.group_type,
            "nulls": self.sync.nulls.value,
            "on_change": self.sync.on_change.value,
        }

    @property
    def fingerprint(self) -> str:
        """Short text that changes whenever a row would be sent as something else.

        `on_change` is left out: it decides whether a row is sent, not what is sent.
        """
        parts = {name: part for name, part in self.mapping().items() if name != "on_change"}
        canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    @property
    def hash_seed(self) -> int:
        """Where the row hash starts: another mapping gives every row another hash, so that it is sent anew."""
        return seed_of(self.fingerprint)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The relation's columns, found as DESIGN 8.26 says: without regard to case when that is unique."""

    model: str
    file: str
    by_name: dict[str, RelationColumn]

    def find(self, name: str) -> RelationColumn | None:
        if name in self.by_name:
            return self.by_name[name]
        matches = self._without_case(name)
        return matches[0] if len(matches) == 1 else None

    def _without_case(self, name: str) -> list[RelationColumn]:
        return [column for key, column in self.by_name.items() if key.lower() == name.lower()]

    def missing(self, name: str, path: str) -> Problem:
        candidates = [f"`{column.name}`" for column in self._without_case(name)]
        if candidates:
            message = f"`{name}` could be {' or '.join(candidates)}."
            return Problem(message, "Write it as the warehouse does.", self.model, self.file, path)
        near = get_close_matches(name.lower(), [key.lower() for key in self.by_name], n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"It has: {', '.join(sorted(self.by_name))}."
        return Problem(f"the relation has no column `{name}`.", hint, self.model, self.file, path)


def resolve(sync: Sync, columns: Sequence[RelationColumn]) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
    """Match a sync to the columns of its relation; returns the resolved sync or every problem found."""
    return _Resolver(sync, columns).resolve()


class _Resolver:
    """Collects problems while it looks up each column once."""

    def __init__(self, sync: Sync, columns: Sequence[RelationColumn]) -> None:
        self._sync = sync
        self._columns = _Columns(sync.model.name, sync.model.file, {c.name: c for c in columns})
        self._problems: list[Problem] = []

    def resolve(self) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
        sync = self._sync
        key = self._identity(sync.sync_key.column, f"sync_key.{sync.sync_key.kind.value}")
        distinct_id = self._identity(sync.distinct_id.name, "distinct_id") if sync.distinct_id else None
        event = self._event(sync.event) if sync.event else None
        timestamp = self._time(sync.timestamp, "timestamp") if sync.timestamp else None
        cursor = self._cursor(sync.cursor.column) if sync.cursor else None
        groups = tuple((kind, self._group(kind, term)) for kind, term in sync.groups)
        properties = self._all_properties() if sync.all_properties else self._listed_properties()
        self._check_excluded()
        self._check_annotated_columns()
        url = next((p.source for p in properties if p.name == _URL_PROPERTY), None)
        if self._problems or key is None:
            return None, tuple(self._problems)
        resolved = ResolvedSync(
            sync=sync,
            key=key,
            distinct_id=distinct_id,
            event=event,
            timestamp=timestamp,
            url=url if isinstance(url, RelationColumn) else None,
            properties=properties,
            groups=tuple((kind, source) for kind, source in groups if source is not None),
            cursor=cursor,
            columns=tuple(self._columns.by_name.values()),
        )
        return resolved, ()

    def _problem(self, message: str, advice: str, path: str) -> None:
        self._problems.append(Problem(message, advice, self._sync.model.name, self._sync.model.file, self._path(path)))

    def _path(self, inside: str) -> str:
        return f"{self._sync.path}.{inside}"

    def _find(self, name: str, path: str) -> RelationColumn | None:
        column = self._columns.find(name)
        if column is None:
            self._problems.append(self._columns.missing(name, self._path(path)))
        return column

    def _sendable(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and not column.type.is_supported:
            self._problem(
                f"column `{column.name}` has type {column.type.text}, which has no JSON form.",
                "Cast it in the model, or leave it out with `exclude`.",
                path,
            )
            return None
        return column

    def _identity(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and not column.type.can_be_identity:
            self._problem(
                f"column `{column.name}` has type {column.type.text}, which cannot name one row or person.",
                "Use a text, integer or uuid column, or cast it to text in the model.",
                path,
            )
        return column

    def _time(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and not column.type.can_be_time:
            self._problem(
                f"column `{column.name}` has type {column.type.text}, which is no point in time.",
                "Cast it to a timestamp in the model.",
                path,
            )
        return column

    def _cursor(self, name: str) -> RelationColumn | None:
        column = self._find(name, "cursor.column")
        if column is not None and column.type.family in _UNORDERED:
            self._problem(
                f"column `{column.name}` has type {column.type.text}, which does not say which row is newer.",
                "Use a timestamp, a date or a number that only grows.",
                "cursor.column",
            )
        return column

    def _event(self, term: Term) -> RelationColumn | Constant | None:
        if isinstance(term, Constant):
            return term
        column = self._find(term.name, "event")
        if column is not None and not column.type.can_be_identity:
            self._problem(
                f"column `{column.name}` has type {column.type.text}, which is no event name.",
                "Use a text column, or write `{value: ...}` for the same name in every row.",
                "event",
            )
        return column

    def _term(self, term: Term, path: str) -> RelationColumn | Constant | None:
        return term if isinstance(term, Constant) else self._sendable(term.name, path)

    def _group(self, kind: str, term: Term) -> RelationColumn | Constant | None:
        path = f"groups.{kind}"
        return term if isinstance(term, Constant) else self._identity(term.name, path)

    def _listed_properties(self) -> tuple[ResolvedProperty, ...]:
        resolved = [self._property(mapping) for mapping in self._sync.properties]
        return tuple(p for p in resolved if p is not None)

    def _property(self, mapping: PropertyMapping) -> ResolvedProperty | None:
        source = self._term(mapping.source, f"properties.{mapping.property}")
        return None if source is None else ResolvedProperty(mapping.property, source, mapping.operation)

    def _all_properties(self) -> tuple[ResolvedProperty, ...]:
        declared = self._declared()
        left_out = self._left_out()
        resolved = []
        for column in self._columns.by_name.values():
            asked = declared.get(column.name, ModelColumn(column.name))
            if column.name in left_out or asked.exclude:
                continue
            if self._sendable(column.name, "properties") is None:
                continue
            operation = asked.operation or Operation.SET
            resolved.append(ResolvedProperty(asked.property or asked.name, column, operation))
        self._check_names(resolved)
        return tuple(resolved)

    def _left_out(self) -> set[str]:
        sync = self._sync
        structural = [sync.distinct_id, sync.event, Column(sync.timestamp) if sync.timestamp else None]
        names = {term.name for term in structural if isinstance(term, Column)}
        found = [self._columns.find(name) for name in (*names, *sync.exclude)]
        return {column.name for column in found if column is not None}

    def _declared(self) -> dict[str, ModelColumn]:
        """What the manifest says of a column, by the name that the warehouse has for it."""
        found = ((self._columns.find(column.name), column) for column in self._sync.model.columns)
        return {column.name: declared for column, declared in found if column is not None}

    def _check_names(self, resolved: Iterable[ResolvedProperty]) -> None:
        seen: set[str] = set()
        for mapping in resolved:
            if mapping.name in seen:
                self._problem(
                    f"two columns become the property `{mapping.name}`.", "Rename or exclude one of them.", "properties"
                )
            reason = reserved_property(mapping.name, self._sync.object)
            if reason:
                self._problem(
                    f"a column becomes the property `{mapping.name}`, which is reserved: {reason}.",
                    "Leave it out with `exclude`, or list the properties and rename it.",
                    "properties",
                )
            seen.add(mapping.name)

    def _check_annotated_columns(self) -> None:
        """A misspelled column would otherwise be sent although its annotation asks to leave it out."""
        for column in self._sync.model.columns:
            is_annotated = column.exclude or column.property is not None or column.operation is not None
            if is_annotated and self._columns.find(column.name) is None:
                node = self._sync.path.partition(".config.meta.")[0]
                self._problems.append(self._columns.missing(column.name, f"{node}.columns[{column.name}]"))

    def _check_excluded(self) -> None:
        for name in self._sync.exclude:
            self._find(name, "exclude")


def seed_of(fingerprint: str) -> int:
    """The number with which the row hash begins under the mapping of this fingerprint."""
    return int(fingerprint[:15], 16)


def _described(source: RelationColumn | Constant | None) -> Any:
    match source:
        case RelationColumn():
            return {"column": source.name, "type": source.type.kind}
        case Constant():
            return {"value": source.value}
    return None


def hashes_as_text(column_type: ColumnType) -> bool:
    """True when a type's own equality would hide a visible change, or the type has no equality.

    Text that compares without regard to case, intervals (`24 hours` equals `1 day`) and JSON kept as text.
    """
    if column_type.text.lower() in _CHANGE_TEXT_TYPES or column_type.family in (Family.INTERVAL, Family.JSON_TEXT):
        return True
    nested = [column_type.element, *(field for _, field in column_type.fields)]
    return any(hashes_as_text(child) for child in nested if child)
