"""A resolved sync: one annotation matched to the columns its relation really has, which `resolver` does.

It fixes what the macros need: which columns are read, how each becomes JSON, and a fingerprint of all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.column_type import ColumnType, Family
from dbt_posthog_sync.sync import (
    Behavior,
    Constant,
    KeyKind,
    LoopsObject,
    ObjectType,
    OnChange,
    OnSeveral,
    Operation,
    Sync,
)

_CHANGE_TEXT_TYPES = frozenset({"citext", "interval"})


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
        create_with: column with the distinct_id of a person that is made; None where none is.
        email: column with the address of a contact of Loops; None where there is none.
        user_id: column with the id of a contact of Loops; None where there is none.
        columns: every column of the relation.
        valid_to: column by which a snapshot's current rows are known; None where all rows are read.
        is_deleted: column that marks a snapshot's rows of deleted things; None where none does, or all rows are read.
        rows: SQL that takes the relation's place where not all of its rows are read; empty where they are.
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
    create_with: RelationColumn | None = None
    email: RelationColumn | None = None
    user_id: RelationColumn | None = None
    columns: tuple[RelationColumn, ...] = ()
    valid_to: RelationColumn | None = None
    is_deleted: RelationColumn | None = None
    rows: str = ""

    @property
    def id(self) -> str:
        """Identity of the sync's state: project and name, nothing that a rename of the model changes."""
        return self.sync.id

    @property
    def key_is_composed(self) -> bool:
        """True for pages keyed by visitor: one visitor has many views, so time and address belong to the key."""
        return self.sync.object is ObjectType.PAGE and self.sync.sync_key.kind is KeyKind.DISTINCT_ID

    @property
    def key_is_email(self) -> bool:
        """True when a row is named by the e-mail address of its person."""
        return self.sync.sync_key.kind is KeyKind.EMAIL

    @property
    def key_is_address(self) -> bool:
        """True when a contact of Loops is named by its e-mail address, which Loops compares without regard to case."""
        return self.sync.sync_key.kind is KeyKind.ADDRESS

    @property
    def deletes(self) -> bool:
        """True when the persons of the rows are deleted."""
        return self.sync.behavior is Behavior.DELETE

    @property
    def fans_out(self) -> bool:
        """True when one row may mean several persons."""
        return self.key_is_email and self.sync.on_several is OnSeveral.ALL

    @property
    def sends_events(self) -> bool:
        """True for events and pages, which stay when the row is gone; false for persons, groups and contacts."""
        return self.sync.object in (ObjectType.EVENT, ObjectType.PAGE, LoopsObject.EVENTS)

    @property
    def compares_keys_only(self) -> bool:
        """True when a row that was sent once is never sent again, so that hashes need no comparing."""
        return self.sends_events and self.sync.on_change is OnChange.IGNORE

    @property
    def keeps_moment(self) -> bool:
        """True when the snapshot keeps the row's own time: persons and groups whose annotation names a timestamp."""
        return not self.sends_events and self.timestamp is not None

    @property
    def hashed_columns(self) -> tuple[RelationColumn, ...]:
        """The columns whose content makes the row hash, in order of name, each once."""
        candidates: list[RelationColumn | Constant | None] = [self.distinct_id, self.event, self.timestamp]
        candidates += [self.email, self.user_id]
        candidates += [source for _, source in self.groups]
        candidates += [mapping.source for mapping in self.properties]
        return self._hashed({c.name: c for c in candidates if isinstance(c, RelationColumn)})

    def _hashed(self, found: dict[str, RelationColumn]) -> tuple[RelationColumn, ...]:
        is_all_of_the_key = not (self.key_is_composed or self.key_is_email or self.key_is_address)
        names = set(found) - {self.key.name} if is_all_of_the_key else set(found)
        return tuple(found[name] for name in sorted(names))

    def hashed_before(self, mapping: Mapping[str, Any]) -> tuple[tuple[RelationColumn, ...], tuple[str, ...]]:
        """The columns that made the row hash under an earlier mapping, and the names of those that are gone.

        Args:
            mapping: what `mapping()` was then; object and sync key must be the same as today.
        """
        parts = [mapping["distinct_id"], mapping["event"], mapping["timestamp"]]
        parts += [mapping.get("email"), mapping.get("user_id")]
        parts += [source for _, source in mapping["groups"]] + [source for _, source, _ in mapping["properties"]]
        names = {part["column"] for part in parts if part and "column" in part}
        known = {column.name: column for column in self.columns}
        gone = tuple(sorted(names - set(known)))
        return self._hashed({name: known[name] for name in names if name in known}), gone

    def mapping(self) -> dict[str, Any]:
        """Everything that decides what is sent for a row; stored with the state, so that a change can be explained.

        What came with a later version stands there only where it is used, or every row would look changed by it.
        """
        later: dict[str, Any] = {}
        if self.sync.unset:
            later["unset"] = sorted(self.sync.unset)
        if self.key_is_email:
            later["on_several"] = self.sync.on_several.value
        if self.sync.loops is not None:
            later["email"], later["user_id"] = _described(self.email), _described(self.user_id)
            later["mailing_lists"] = [list(pair) for pair in self.sync.loops.mailing_lists]
        if self.deletes:
            later["behavior"] = self.sync.behavior.value
        return {
            "object": self.sync.object.value,
            "sync_key": [self.sync.sync_key.kind.value, self.key.name],
            "distinct_id": _described(self.distinct_id),
            "event": _described(self.event),
            "timestamp": _described(self.timestamp),
            "time_zone": self.sync.time_zone,
            # By name: the order of the model's columns, which `properties: all` follows, means nothing.
            "properties": sorted([p.name, _described(p.source), p.operation.value] for p in self.properties),
            "groups": sorted([name, _described(source)] for name, source in self.groups),
            "group_type": self.sync.group_type,
            "nulls": self.sync.nulls.value,
            "on_change": self.sync.on_change.value,
            **later,
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
