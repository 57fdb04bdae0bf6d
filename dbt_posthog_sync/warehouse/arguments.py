"""A resolved sync as the macros read it: one dictionary, built once, every name JSON-encoded here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_posthog_sync.column_type import Family
from dbt_posthog_sync.resolved_sync import RelationColumn, ResolvedProperty, ResolvedSync
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.sync import Constant, Creation, ObjectType
from dbt_posthog_sync.warehouse.build import Build
from dbt_posthog_sync.warehouse.held_rows import HeldRows
from dbt_posthog_sync.warehouse.tables import SyncTables

_EVENT_OF_OBJECT = {ObjectType.PAGE: "$pageview", ObjectType.PERSON: "$set", ObjectType.GROUP: "$groupidentify"}
# PostHog's v1 protocol reads these beside the event, v0 inside its properties
# (PostHog/posthog-python: posthog/capture_v1.py).
_ENVELOPE_FIELDS = {"$session_id": "session_id", "$window_id": "window_id"}
_WIDE = frozenset({Family.TEXT, Family.JSON, Family.JSON_TEXT, Family.ARRAY, Family.STRUCT, Family.MAP})
_LARGEST_EXACT = 2**53  # a double tells every whole number up to here from its neighbours
_LANES = 64


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The run a statement belongs to; every write checks it.

    Attributes:
        run_id: id of the sync run.
        epoch: epoch of the lease, 0 where no lease is held.
        took_over: true when the holder before did not release the lease: it may still be alive and sending.
        shard: the part of the rows that it is about; None for all of them.
    """

    run_id: str
    epoch: int = 0
    took_over: bool = False
    shard: Shard | None = None

    def lease_id(self, sync_id: str) -> str:
        """Under which name this run holds the sync or its part of it."""
        return self.shard.lease_id(sync_id) if self.shard is not None else sync_id


@dataclass(frozen=True, slots=True)
class FormerMapping:
    """How the row hash was made under an earlier mapping: its columns, and the number it began with."""

    columns: tuple[RelationColumn, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class IdentityModel:
    """PostHog's export of persons in the warehouse: its relation, and what its columns are called, quoted for SQL.

    Attributes:
        relation: name of the relation.
        project_id: project whose rows count, where the model says which they belong to; None counts all.
        columns: SQL name of a column by what it holds; None where the model has no such column.
    """

    relation: str
    project_id: str | None
    columns: Mapping[str, str | None]

    def for_macro(self) -> dict[str, Any]:
        """The model as the macros read it."""
        return {"relation": self.relation, "project_id": self.project_id, **self.columns}


@dataclass(frozen=True, slots=True)
class SyncArguments:
    """Everything a macro may need to know about one sync in one run.

    Attributes:
        resolved: the sync.
        schema: the state schema.
        destination: identity of the receiver.
        tables: names of the sync's tables.
        run: the run.
        max_message_bytes: largest message the destination takes.
        is_first: true when nothing has been delivered yet, so that no diff is needed.
        has_null_keys: true when the diff met rows without a key.
        has_few_changes: true when the diff found so few rows that a process may hold their keys in memory.
        has_rejects: true when rejected rows are open, which are looked at again wherever their cursor stands.
        window_start: lower end of the cursor's window, as text; None looks at every row.
        forgets: true when nothing of earlier runs counts (`--full-refresh`), their staged rows included.
        has_doubts: true when PostHog may have other contents of some rows than the snapshot says.
        only_rejects: true when only rows that were rejected are looked at (`retry`).
        uuid_name: the sync's name as it stands in uuids, which outlives a rename; None for today's name.
        former: the mapping of the last complete run, where `--rebaseline` meets a changed annotation.
        oldest_first: true when messages must come in order of time.
        has_erased: true when persons were deleted on request, to whom nothing may be sent.
        identity_model: where persons are found without asking PostHog; None where it is asked.
        are_asked: true when only the persons of some keys were asked for, so that others are not known to be absent.
        held: rows that failed dbt tests hold back.
        build: what a build of dbt staged, in place of a diff; None where the run compares by itself.
        has_places: true when staged rows remember where their rows lie, so that messages come in parcels.
    """

    resolved: ResolvedSync
    schema: str
    destination: str
    tables: SyncTables
    run: RunIdentity
    max_message_bytes: int = 900 * 1024
    is_first: bool = False
    has_null_keys: bool = False
    has_few_changes: bool = False
    has_rejects: bool = False
    window_start: str | None = None
    forgets: bool = False
    has_doubts: bool = False
    only_rejects: bool = False
    uuid_name: str | None = None
    former: FormerMapping | None = None
    oldest_first: bool = False
    has_erased: bool = False
    identity_model: IdentityModel | None = None
    are_asked: bool = False
    held: tuple[HeldRows, ...] = ()
    build: Build | None = None
    has_places: bool = False
    _constant: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, resolved: ResolvedSync, schema: str, destination: str, tables: SyncTables, run: RunIdentity
    ) -> SyncArguments:
        """Build the arguments of a sync; what does not change over a run is encoded once."""
        return cls(resolved, schema, destination, tables, run, _constant=_constant_part(resolved))

    def but(self, **changes: Any) -> SyncArguments:
        """The same with some values changed."""
        return replace(self, **changes)

    @property
    def delivers_kept(self) -> bool:
        """True when the run sends what one build kept, and does not look at the model."""
        return self.build is not None and self.build.keeps_every

    @property
    def may_have_places(self) -> bool:
        """True when staged rows are to be sent, of a whole relation, in no order but theirs."""
        is_plain = self.build is None and not self.resolved.rows and not self.oldest_first
        return is_plain and not self.tables.temporary

    @property
    def sees_model(self) -> bool:
        """True when the run looks at the model as a whole, so that it can say what is no more."""
        return not self.only_rejects and self.run.shard is None and not self.delivers_kept

    def with_mirror(self, table: str) -> SyncArguments:
        """The same with the persons of PostHog in this table of the state schema."""
        return replace(self, tables=replace(self.tables, mirror=table))

    def for_hook(self) -> dict[str, Any]:
        """The part of it that does not depend on the run or the state."""
        return {
            **self._constant,
            "schema": self.schema,
            "destination": self.destination,
            "max_message_bytes": self.max_message_bytes,
            "uuid_prefix": self._uuid_prefix(),
        }

    def for_macro(self) -> dict[str, Any]:
        """The dictionary that macros receive as `sync`."""
        keeps_staging_time = not self.resolved.sends_events and self.build is None
        return {
            **self.for_hook(),
            "tables": {**self.tables.for_macro(), "built": self._built()},
            "build": self.build.for_macro() if self.build else None,
            "run_id": self.run.run_id,
            "epoch": self.run.epoch,
            "lease_id": self.run.lease_id(self.resolved.id),
            "shard": {"number": self.run.shard.number, "of": self.run.shard.of} if self.run.shard else None,
            "is_first": self.is_first,
            "has_null_keys": self.has_null_keys,
            "has_few_changes": self.has_few_changes,
            "has_rejects": self.has_rejects,
            "window_start": self.window_start,
            "oldest_first": self.oldest_first,
            "has_doubts": self.has_doubts,
            "has_places": self.has_places,
            "previous_epoch": self.tables.previous_epoch,
            "only_rejects": self.only_rejects,
            "continues_retry": self.tables.continues_retry,
            "has_erased": self.has_erased,
            "identities": self._identities(),
            "former": self._former(),
            "copies_staging_time": keeps_staging_time and not self.forgets and self.tables.previous is not None,
        }

    def _built(self) -> dict[str, Any]:
        return {"name": self.build.rows_table if self.build else None, "temporary": False}

    def _identities(self) -> dict[str, Any] | None:
        sync = self.resolved.sync
        if not sync.needs_identities:
            return None
        create_with = _column(self.resolved.create_with)
        return {
            "on_several": sync.on_several.value,
            "create": "email" if sync.create_with is Creation.EMAIL else create_with,
            "model": self.identity_model.for_macro() if self.identity_model else None,
            "are_asked": self.are_asked,
        }

    def _former(self) -> dict[str, Any] | None:
        if self.former is None:
            return None
        return {"seed": self.former.seed, "columns": [_hashed(column) for column in self.former.columns]}

    def _uuid_prefix(self) -> str:
        sync = self.resolved.sync
        return "\x1f".join((sync.project, sync.object.value, self.uuid_name or sync.name, ""))


def _constant_part(resolved: ResolvedSync) -> dict[str, Any]:
    sync = resolved.sync
    names = {mapping.name for mapping in resolved.properties}
    is_page = sync.object is ObjectType.PAGE
    sends_events = sync.object in (ObjectType.EVENT, ObjectType.PAGE)
    return {
        "id": resolved.id,
        "name": sync.name,
        "project": sync.project,
        "model": sync.model.unique_id,
        "relation": resolved.rows or sync.model.relation_name,
        "relation_name": sync.model.relation_name,
        "is_stored": sync.model.is_stored,
        "object": sync.object.value,
        "mapping": json.dumps(resolved.mapping(), sort_keys=True, ensure_ascii=False),
        "fingerprint": resolved.fingerprint,
        "key": resolved.key.for_macro() if not resolved.key_is_composed else _composed_key(resolved),
        "key_is_composed": resolved.key_is_composed,
        "key_is_email": resolved.key_is_email,
        "makes_with_email": resolved.key_is_email and sync.create_with is not None and "email" not in names,
        "deletes": resolved.deletes,
        "fans_out": resolved.fans_out,
        "compares_keys_only": resolved.compares_keys_only,
        "keeps_identity": sends_events,
        "keeps_moment": resolved.keeps_moment,
        "distinct_id": _column(resolved.distinct_id),
        "event": _event(resolved),
        "timestamp": _column(resolved.timestamp),
        "time_zone": sync.time_zone,
        "url": _column(resolved.url),
        "cursor": _column(resolved.cursor),
        "lookback_seconds": int(sync.cursor.lookback.total_seconds()) if sync.cursor else 0,
        "hash_seed": resolved.hash_seed,
        "hashed_columns": [_hashed(column) for column in resolved.hashed_columns],
        "properties": [_property(mapping, sends_events) for mapping in resolved.properties],
        "groups": [{"name": _encoded(kind), **_source(source)} for kind, source in resolved.groups],
        "group_type": _encoded(sync.group_type),
        "unset": [_encoded(name) for name in sync.unset],
        "nulls": sync.nulls.value,
        "derives_host": is_page and resolved.url is not None and "$host" not in names,
        "derives_pathname": is_page and resolved.url is not None and "$pathname" not in names,
        "lanes": _LANES,
        "loops": _loops(resolved),
    }


def _loops(resolved: ResolvedSync) -> dict[str, Any] | None:
    terms = resolved.sync.loops
    if terms is None:
        return None
    return {
        "email": _column(resolved.email),
        "user_id": _column(resolved.user_id),
        "mailing_lists": json.dumps(dict(terms.mailing_lists), separators=(",", ":")) if terms.mailing_lists else None,
        "key_is_address": resolved.key_is_address,
        "nested": [
            source.for_macro()
            for source in (mapping.source for mapping in resolved.properties)
            if isinstance(source, RelationColumn) and source.type.family in (Family.JSON, Family.JSON_TEXT)
        ],
    }


def _encoded(value: Any) -> str:
    """A name or a constant as JSON, by the rules that hold for values of the warehouse."""
    if isinstance(value, str):
        value = sendable(value)
    elif isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        value = str(value)
    return json.dumps(value, ensure_ascii=False)


def sendable(text: str) -> str:
    """Text without what PostHog's parser and many warehouses refuse: NUL and halves of pairs become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _column(column: RelationColumn | None) -> dict[str, Any] | None:
    return column.for_macro() if column else None


def _composed_key(resolved: ResolvedSync) -> dict[str, Any]:
    """A key made of several columns is kept as the text of its digest."""
    return {**resolved.key.for_macro(), "type": {"text": "varchar", "family": Family.TEXT.value}}


def _hashed(column: RelationColumn) -> dict[str, Any]:
    return {**column.for_macro(), "is_wide": column.type.family in _WIDE}


def _event(resolved: ResolvedSync) -> dict[str, Any]:
    kind = resolved.sync.object
    fixed = _EVENT_OF_OBJECT.get(kind) if isinstance(kind, ObjectType) else None
    source = Constant(fixed) if fixed else resolved.event
    if isinstance(source, RelationColumn):
        return {"column": source.for_macro()}
    text = sendable(str(source.value)) if source else ""
    return {"column": None, "text": text, "json": _encoded(text)}


def _source(source: RelationColumn | Constant) -> dict[str, Any]:
    if isinstance(source, RelationColumn):
        return {"column": source.for_macro(), "json": None}
    return {"column": None, "json": _encoded(source.value)}


def _property(mapping: ResolvedProperty, sends_events: bool) -> dict[str, Any]:
    envelope = _ENVELOPE_FIELDS.get(mapping.name) if sends_events else None
    source = mapping.source
    if envelope and isinstance(source, Constant) and source.value is not None:
        source = Constant(str(source.value))
    return {
        "name": _encoded(mapping.name),
        "operation": mapping.operation.value,
        "envelope": _encoded(envelope) if envelope else None,
        **_source(source),
    }
