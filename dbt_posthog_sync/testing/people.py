"""Persons as PostHog keeps them: property writes, the size limit, and merges.

Rules: PostHog/posthog: nodejs person-update.ts, person-property-utils.ts, person-merge-service.ts and person-uuid.ts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dbt_posthog_sync.testing.captured import CapturedEvent
from dbt_posthog_sync.testing.identity import is_mergeable
from dbt_posthog_sync.testing.wire import compact_json

MAX_PROPERTIES_BYTES = 655_360
"""The database's limit on one person's properties as JSON: 512 KiB and some slack."""

PERSON_EVENTS = frozenset(["$set", "$identify", "$create_alias", "$merge_dangerously"])
"""Events that exist to change a person."""

_NEVER_TOUCH_PERSONS = frozenset(["$exception", "$$heatmap"])
# fmt: off
_NOISY = frozenset([
    "$current_url", "$pathname", "$referrer", "$referring_domain", "$screen_height", "$screen_width",
    "$viewport_height", "$viewport_width", "$browser", "$browser_version", "$os", "$os_version",
    "$device", "$device_type",
])
# fmt: on
"""Keys that an ordinary event may change without being worth a write; most `$geoip_*` keys are, too."""
_UUID_NAMESPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
_TEAM = 1
_UTF8_BYTES = 4

Warn = Callable[[str, CapturedEvent], None]
"""Takes the type of an ingestion warning and the event that caused it."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as it is now.

    Attributes:
        uuid: UUIDv5 of the first distinct id.
        distinct_ids: the first one made the person.
        properties: current properties.
        is_identified: raised by a merge; such a person cannot be merged into another by `$identify` or an alias.
        created_at: time of the event that made the person.
        is_ghost: made again after a deletion: Postgres has the person, and ClickHouse, which answers queries, goes on
            to hold it for deleted, because the deletion has the higher version.
    """

    uuid: str
    distinct_ids: tuple[str, ...]
    properties: Mapping[str, Any]
    is_identified: bool
    created_at: datetime
    is_ghost: bool = False


@dataclass(slots=True)
class _Entry:
    """A person while it changes.

    `size` is at least the size of the properties as JSON.
    """

    distinct_ids: list[str]
    created_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    is_identified: bool = False
    size: int = 0
    is_ghost: bool = False
    uuid: str = ""

    def snapshot(self) -> Person:
        """Freeze the person."""
        # Made once, when it is first asked for: a digest a person is what reading a million of them would wait for.
        self.uuid = self.uuid or str(uuid.uuid5(_UUID_NAMESPACE, f"{_TEAM}:{self.distinct_ids[0]}"))
        return Person(
            self.uuid,
            tuple(self.distinct_ids),
            dict(self.properties),
            self.is_identified,
            self.created_at,
            self.is_ghost,
        )


class People:
    """All persons of one project. Not thread-safe; the project holds the lock."""

    def __init__(self, warn: Warn) -> None:
        self._by_id: dict[str, _Entry] = {}
        self._deleted_ids: set[str] = set()
        self._warn = warn

    def snapshot(self) -> tuple[Person, ...]:
        """Return every person once, in the order in which they came to be."""
        return tuple(
            entry.snapshot() for distinct_id, entry in self._by_id.items() if entry.distinct_ids[0] == distinct_id
        )

    def get(self, distinct_id: str) -> Person | None:
        """Return the person that has this distinct id."""
        entry = self._by_id.get(distinct_id)
        return None if entry is None else entry.snapshot()

    def __len__(self) -> int:
        return sum(entry.distinct_ids[0] == distinct_id for distinct_id, entry in self._by_id.items())

    def take(self, event: CapturedEvent) -> None:
        """Apply what one event says of persons: a merge first, then properties. Makes the person if there is none."""
        if event.event in _NEVER_TOUCH_PERSONS:
            return
        other = _merged_id(event)
        if other is not None:
            self._merge(event, other)
        self._write(event)

    # Deletion.

    def delete(self, uuids: Collection[str], distinct_ids: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """Delete persons; return the distinct ids of each."""
        wanted = {id(entry): entry for one in distinct_ids if (entry := self._by_id.get(one)) is not None}
        if uuids:
            by_uuid = {entry.snapshot().uuid: entry for entry in self._by_id.values()}
            wanted |= {id(entry): entry for one in uuids if (entry := by_uuid.get(one)) is not None}
        for entry in wanted.values():
            for distinct_id in entry.distinct_ids:
                del self._by_id[distinct_id]
                self._deleted_ids.add(distinct_id)
        return tuple(tuple(entry.distinct_ids) for entry in wanted.values())

    def reset_deleted(self, distinct_id: str) -> None:
        """Let queries see the person of a deleted id again."""
        self._deleted_ids.discard(distinct_id)
        entry = self._by_id.get(distinct_id)
        if entry is not None:
            entry.is_ghost = False

    # Properties.

    def _write(self, event: CapturedEvent) -> None:
        """Apply the property writes of an event, if they are worth it and fit."""
        entry = self._by_id.get(event.distinct_id)
        before = {} if entry is None else entry.properties
        after = _written(before, event.properties)
        if entry is not None and (after == before or _is_noise(event.event, before, after)):
            return
        size = _size_bound(entry, event.properties, after)
        if size > MAX_PROPERTIES_BYTES:
            self._warn("person_properties_size_violation", event)
            return
        if entry is None:
            entry = self._made(event)
        entry.properties, entry.size = after, size

    def _made(self, event: CapturedEvent) -> _Entry:
        """Make the person of an event."""
        entry = _Entry([event.distinct_id], event.timestamp, is_ghost=event.distinct_id in self._deleted_ids)
        self._by_id[event.distinct_id] = entry
        return entry

    # Merges.

    def _merge(self, event: CapturedEvent, other: str) -> None:
        """Merge the person of `other` into the event's own."""
        if other == event.distinct_id:
            return
        if not (is_mergeable(other) and is_mergeable(event.distinct_id)):
            self._warn("cannot_merge_with_illegal_distinct_id", event)
            return
        source, target = self._by_id.get(other), self._by_id.get(event.distinct_id)
        if source is not None and source is target:
            return
        if source is not None and target is not None:
            self._merge_two(event, source, target)
            return
        entry = source or target
        if entry is None:
            entry = self._made(event)
        for distinct_id in (event.distinct_id, other):
            if distinct_id not in self._by_id:
                entry.distinct_ids.append(distinct_id)
                self._by_id[distinct_id] = entry
        entry.is_identified = True

    def _merge_two(self, event: CapturedEvent, source: _Entry, target: _Entry) -> None:
        """Move everything to the target; its values win, the older creation time stays."""
        if source.is_identified and event.event != "$merge_dangerously":
            self._warn("cannot_merge_already_identified", event)
            return
        target.properties = {**source.properties, **target.properties}
        target.size += source.size
        target.created_at = min(source.created_at, target.created_at)
        target.distinct_ids.extend(source.distinct_ids)
        target.is_identified = True
        for distinct_id in source.distinct_ids:
            self._by_id[distinct_id] = target


def _merged_id(event: CapturedEvent) -> str | None:
    """Return the other id that an event wants merged into its own."""
    match event.event:
        case "$identify":
            other = event.properties.get("$anon_distinct_id")
        case "$create_alias" | "$merge_dangerously":
            other = event.properties.get("alias")
        case _:
            return None
    return None if other is None else str(other)


def _written(before: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties after `$set_once` (absent keys only), `$set` and `$unset`."""
    to_set = _as_object(properties.get("$set"))
    once = {key: value for key, value in _as_object(properties.get("$set_once")).items() if key not in before}
    after = {**before, **once, **to_set}
    unset = properties.get("$unset")
    for key in unset if isinstance(unset, list | dict) else ():
        if isinstance(key, str):
            after.pop(key, None)
    return after


def _as_object(value: object) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _is_noise(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether an ordinary event changes nothing but keys that are not worth a write."""
    if name in PERSON_EVENTS:
        return False
    changed = {key for key in before.keys() | after.keys() if key not in before or before[key] != after.get(key)}
    return all(key in _NOISY or key.startswith("$geoip_") for key in changed)


def _size_bound(entry: _Entry | None, properties: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Return at least the size of the properties as JSON, measured only when a running bound nears the limit."""
    added = compact_json([properties.get(name) for name in ("$set", "$set_once")])
    bound = (0 if entry is None else entry.size) + _UTF8_BYTES * len(added)
    return bound if bound <= MAX_PROPERTIES_BYTES else len(compact_json(after).encode("utf-8", "surrogatepass"))
