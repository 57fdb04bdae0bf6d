"""What one PostHog project keeps of the events it is handed.

Rules: the key that makes two events one is the sort key of `sharded_events` (PostHog/posthog:
posthog/async_migrations/migrations/0010_*.py); which events reach persons and groups is decided as in nodejs
normalizeProcessPersonFlagStep.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from dbt_posthog_sync.testing.captured import CapturedEvent, LostEvent, Protocol
from dbt_posthog_sync.testing.groups import Group, Groups, discard_reason
from dbt_posthog_sync.testing.people import PERSON_EVENTS, People, Person
from dbt_posthog_sync.testing.timestamps import EPOCH
from dbt_posthog_sync.testing.wire import compact_json

_NEED_PERSON = frozenset(["$identify", "$create_alias", "$merge_dangerously", "$groupidentify"])
_PERSON_PROPERTIES = ("$set", "$set_once", "$unset")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is kept; its properties stay JSON text until they are asked for.

    Attributes:
        number: arrivals are counted from 1 within the project.
        event: its name.
        distinct_id: as capture made it.
        uuid: canonical text.
        timestamp: UTC.
        properties_json: properties as compact JSON.
        protocol: v0 or v1.
        historical: the batch was sent as a historical migration.
        personless: stored without person processing.
        created_at: when it was stored.
    """

    number: int
    event: str
    distinct_id: str
    uuid: str
    timestamp: datetime
    properties_json: str
    protocol: Protocol
    historical: bool
    personless: bool
    created_at: datetime = EPOCH

    @property
    def properties(self) -> dict[str, Any]:
        """Properties, parsed anew at each call."""
        parsed: dict[str, Any] = json.loads(self.properties_json)
        return parsed

    @property
    def key(self) -> tuple[str, str, str, str]:
        """UTC day, name, distinct id and uuid: events equal in all four are one, and the last to arrive stays."""
        return (self.timestamp.date().isoformat(), self.event, self.distinct_id, self.uuid)

    def as_json(self) -> dict[str, Any]:
        """Return the event as plain JSON values."""
        return {
            "event": self.event,
            "distinct_id": self.distinct_id,
            "uuid": self.uuid,
            "timestamp": self.timestamp.isoformat().replace("+00:00", "Z"),
            "properties": self.properties,
            "protocol": self.protocol,
            "historical": self.historical,
            "personless": self.personless,
        }


@dataclass(frozen=True, slots=True)
class IngestionWarning:
    """Something PostHog altered or left out and tells only in its own user interface and in HogQL.

    Attributes:
        type: PostHog's name of it.
        event: name of the event.
        distinct_id: of the event.
        uuid: of the event.
        at: when it was noted.
        lib: `$lib` of the event.
        lib_version: `$lib_version` of the event.
    """

    type: str
    event: str
    distinct_id: str
    uuid: str
    at: datetime
    lib: str = ""
    lib_version: str = ""


class Project:
    """Events, persons and groups of one project. Safe to use from several threads."""

    def __init__(self, *, person_processing: bool = True) -> None:
        self._person_processing = person_processing
        self._lock = threading.RLock()
        self._version = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._version += 1
            self._received: list[StoredEvent] = []
            self._arrivals = 0
            self._events: dict[tuple[str, str, str, str], StoredEvent] = {}
            self._lost: list[LostEvent] = []
            self._warnings: list[IngestionWarning] = []
            self._people = People(self._warn)
            self._groups = Groups()

    def take(self, captured: Iterable[CapturedEvent], lost: Iterable[LostEvent] = ()) -> None:
        """Keep what capture hands on, in order, in one step that no reader sees half of."""
        with self._lock:
            self._version += 1
            self._lost.extend(lost)
            for event in captured:
                self._take(event)

    def lose(self, reason: str, captured: Iterable[CapturedEvent]) -> None:
        """Note events that reach no project."""
        with self._lock:
            self._lost.extend(LostEvent.from_captured(reason, event) for event in captured)

    @property
    def version(self) -> int:
        """A number that is higher after each change."""
        return self._version

    def delete_persons(
        self, *, uuids: Collection[str] = (), distinct_ids: Iterable[str] = (), delete_events: bool = False
    ) -> int:
        """Delete persons, and their events at once where PostHog would wait for the weekend; return how many."""
        with self._lock:
            self._version += 1
            deleted = self._people.delete(uuids, distinct_ids)
            if delete_events:
                gone = {distinct_id for ids in deleted for distinct_id in ids}
                self._received = [event for event in self._received if event.distinct_id not in gone]
                self._events = {key: event for key, event in self._events.items() if event.distinct_id not in gone}
            return len(deleted)

    def reset_distinct_id(self, distinct_id: str) -> None:
        """Let queries see the person of a deleted distinct id again (`reset_person_distinct_id`)."""
        with self._lock:
            self._version += 1
            self._people.reset_deleted(distinct_id)

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """Events with repeats removed, as queries see them after PostHog's background merges."""
        with self._lock:
            return tuple(self._events.values())

    @property
    def received(self) -> tuple[StoredEvent, ...]:
        """Every event that was kept, repeats included, in the order of arrival."""
        with self._lock:
            return tuple(self._received)

    @property
    def lost(self) -> tuple[LostEvent, ...]:
        """Events that were received and will never be seen, each with the reason."""
        with self._lock:
            return tuple(self._lost)

    @property
    def warnings(self) -> tuple[IngestionWarning, ...]:
        """Ingestion warnings, in order."""
        with self._lock:
            return tuple(self._warnings)

    @property
    def persons(self) -> tuple[Person, ...]:
        """Every person once."""
        with self._lock:
            return self._people.snapshot()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every group once."""
        with self._lock:
            return self._groups.snapshot()

    @property
    def group_types(self) -> tuple[str, ...]:
        """Group types in use, at most five."""
        with self._lock:
            return self._groups.types

    def person(self, distinct_id: str) -> Person | None:
        """Return the person with this distinct id."""
        with self._lock:
            return self._people.get(distinct_id)

    def group(self, group_type: str, key: str) -> Group | None:
        """Return one group."""
        with self._lock:
            return self._groups.get(group_type, key)

    def counts(self) -> Counts:
        """Count everything without copying it."""
        with self._lock:
            return Counts(
                events_by_name=_counted(event.event for event in self._events.values()),
                received=len(self._received),
                lost=_counted(event.reason for event in self._lost),
                warnings=_counted(warning.type for warning in self._warnings),
                persons=len(self._people),
                groups_by_type=_counted(group.type for group in self._groups.snapshot()),
            )

    # One event.

    def _take(self, event: CapturedEvent) -> None:
        """Decide what one event reaches, and keep it."""
        reason = self._lost_reason(event)
        if reason is not None:
            self._lost.append(LostEvent.from_captured(reason, event))
            return
        personless = not (self._person_processing and event.person_processing and _wants_person(event))
        if personless:
            kept = {name: value for name, value in event.properties.items() if name not in _PERSON_PROPERTIES}
            event = replace(event, properties=kept)
        else:
            self._people.take(event)
            problem = self._groups.take(event)
            if problem is not None:
                self._warn(problem, event)
        self._store(event, personless=personless)

    def _lost_reason(self, event: CapturedEvent) -> str | None:
        """Say why an event is not even stored, or None."""
        if not self._person_processing and event.event in PERSON_EVENTS | _NEED_PERSON:
            return "person processing is off for the project"
        if event.event in _NEED_PERSON and not _wants_person(event):
            return "invalid_event_when_process_person_profile_is_false"
        return discard_reason(event)

    def _store(self, event: CapturedEvent, *, personless: bool) -> None:
        """Keep the event, in place of an equal one."""
        self._arrivals += 1
        stored = StoredEvent(
            number=self._arrivals,
            event=event.event,
            distinct_id=event.distinct_id,
            uuid=event.uuid,
            timestamp=event.timestamp,
            properties_json=compact_json(event.properties),
            protocol=event.protocol,
            historical=event.historical,
            personless=personless,
            created_at=datetime.now(timezone.utc),
        )
        self._received.append(stored)
        self._events[stored.key] = stored

    def _warn(self, kind: str, event: CapturedEvent) -> None:
        """Note an ingestion warning."""
        library, version = (str(event.properties.get(name, "")) for name in ("$lib", "$lib_version"))
        now = datetime.now(timezone.utc)
        self._warnings.append(IngestionWarning(kind, event.event, event.distinct_id, event.uuid, now, library, version))


def _wants_person(event: CapturedEvent) -> bool:
    """Tell whether the event itself allows persons. Only the boolean false forbids them; other values mean true."""
    return event.properties.get("$process_person_profile") is not False


def _counted(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Count names."""
    return tuple(sorted(Counter(names).items()))


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a project holds; pairs are (name, count), sorted by name.

    Attributes:
        events_by_name: events with repeats removed.
        received: events kept, repeats included.
        lost: events never seen again, by reason.
        warnings: ingestion warnings, by type.
        persons: number of persons.
        groups_by_type: number of groups of each type.
    """

    events_by_name: tuple[tuple[str, int], ...]
    received: int
    lost: tuple[tuple[str, int], ...]
    warnings: tuple[tuple[str, int], ...]
    persons: int
    groups_by_type: tuple[tuple[str, int], ...]
