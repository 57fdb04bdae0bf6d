"""Groups as PostHog keeps them: at most five types, and properties written by `$groupidentify` only.

Rules: PostHog/posthog: nodejs group-type-manager and createValidateEventPropertiesStep; posthog.com:
contents/docs/api/capture.mdx and contents/docs/data/ingestion-warnings.mdx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dbt_posthog_sync.testing.captured import CapturedEvent

MAX_GROUP_TYPES = 5
MAX_NAME_CHARS = 400


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is now."""

    type: str
    key: str
    properties: Mapping[str, Any]
    created_at: datetime


@dataclass(slots=True)
class _Entry:
    """A group while it changes."""

    created_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)


class Groups:
    """All groups of one project. Not thread-safe; the project holds the lock."""

    def __init__(self) -> None:
        self._types: dict[str, None] = {}
        self._entries: dict[tuple[str, str], _Entry] = {}

    @property
    def types(self) -> tuple[str, ...]:
        """Group types in the order of their first use, at most five."""
        return tuple(self._types)

    def snapshot(self) -> tuple[Group, ...]:
        """Return every group, in the order in which they came to be."""
        return tuple(_group(key, entry) for key, entry in self._entries.items())

    def get(self, group_type: str, key: str) -> Group | None:
        """Return one group."""
        entry = self._entries.get((group_type, key))
        return None if entry is None else _group((group_type, key), entry)

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, event: CapturedEvent) -> str | None:
        """Apply what one event says of groups; return why something of it was not kept, or None.

        Membership in `$groups` uses up a type and makes no group.
        """
        if event.event == "$groupidentify":
            return self._identify(event)
        named = event.properties.get("$groups")
        full = [not self._has_type(name) for name in named] if isinstance(named, dict) else []
        return "too_many_group_types" if any(full) else None

    def _identify(self, event: CapturedEvent) -> str | None:
        """Write the properties of a group, making it if there is none."""
        group_type, key = event.properties.get("$group_type"), event.properties.get("$group_key")
        if group_type is None or key is None:
            return "group_without_type_or_key"
        if not self._has_type(str(group_type)):
            return "too_many_group_types"
        entry = self._entries.setdefault((str(group_type), str(key)), _Entry(event.timestamp))
        entry.properties.update(event.properties.get("$group_set") or {})
        return None

    def _has_type(self, name: str) -> bool:
        """Tell whether the type exists, making it while there is room."""
        if name not in self._types and len(self._types) < MAX_GROUP_TYPES:
            self._types[name] = None
        return name in self._types


def _group(key: tuple[str, str], entry: _Entry) -> Group:
    """Freeze a group."""
    return Group(key[0], key[1], dict(entry.properties), entry.created_at)


def discard_reason(event: CapturedEvent) -> str | None:
    """Say why a `$groupidentify` is discarded as a whole, or None."""
    if event.event != "$groupidentify":
        return None
    if not isinstance(event.properties.get("$group_set"), dict | None):
        return "group_set_is_no_object"
    if len(str(event.properties.get("$group_key", ""))) > MAX_NAME_CHARS:
        return "group_key_too_long"
    return None
