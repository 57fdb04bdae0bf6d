"""The kinds of models that the sync machine plays with: how each is built, annotated and found again in PostHog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Protocol

from dbt_posthog_sync.testing import Project, StoredEvent

KEYS = tuple(f"k{number}" for number in range(8))
POISON = "poison"
"""PostHog refuses a row with this note as long as the row has it."""
NOTES = ("a", "b", "c", None)
LATE, EARLY, MIDDLE, NEWEST, FUTURE = "2024-01-01", "2024-01-03", "2024-01-04", "2024-01-08", "2099-01-01"
CURSORS = (EARLY, MIDDLE, MIDDLE, NEWEST, LATE, FUTURE, None)


class Flaw(str, Enum):
    """What makes a row one that must not be sent."""

    NONE = "none"
    TWICE = "twice"  # the model has the row two times
    KEYLESS = "keyless"
    ILLEGAL = "illegal"  # the distinct id is one of PostHog's bugs
    TIMELESS = "timeless"
    AHEAD = "ahead"  # the time is in the future
    MOVED = "moved"  # another person than the one it was delivered with


@dataclass(frozen=True, slots=True)
class Cell:
    """What a model has under one key.

    Attributes:
        note: the content.
        flaw: what is wrong with the row.
        loaded: day of the cursor column.
    """

    note: str | None
    flaw: Flaw = Flaw.NONE
    loaded: str | None = None

    @property
    def is_good(self) -> bool:
        """True when PostHog must have the row at rest."""
        return self.flaw is Flaw.NONE and self.note != POISON


class Unchecked(Enum):
    """Values of a property about which the protocol promises less than equality."""

    ABSENT = "absent"
    PRESENT = "present"


class Kind(Protocol):
    """One kind of model.

    Attributes:
        name: prefix of its table and name of its events.
        flaws: what can be wrong with its rows.
        mappings: parts of its annotation that a user may change, the first one to begin with.
        is_event: PostHog keeps each row as one event, which stays.
        follows_changes: a change of a delivered row is sent.
        has_cursor: it is looked at through a window.
    """

    name: str
    flaws: tuple[Flaw, ...]
    mappings: tuple[Mapping[str, Any], ...]
    is_event: bool
    follows_changes: bool
    has_cursor: bool

    def annotation(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """The annotation with one of the mappings."""
        ...

    def columns(self, key: str, cell: Cell) -> dict[str, str]:
        """SQL of each column of a row."""
        ...

    def expected(self, note: str | None, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """The properties that a row with this note gives."""
        ...

    def key_of(self, message: StoredEvent) -> str | None:
        """The row that a message is about, if it is one of this kind."""
        ...

    def said(self, message: StoredEvent) -> dict[str, Any]:
        """The properties that a message carries."""
        ...

    def kept(self, project: Project, key: str) -> Mapping[str, Any] | None:
        """What PostHog has of a row; None for nothing."""
        ...


def text(value: str | None) -> str:
    """A text or null as SQL."""
    return "cast(null as varchar(40))" if value is None else f"cast('{value}' as varchar(40))"


def moment(value: str | None) -> str:
    """A time or null as SQL."""
    return "cast(null as timestamp)" if value is None else f"cast('{value}' as timestamp)"


def select(kind: Kind, rows: Mapping[str, Cell]) -> str:
    """The select that builds a model of these rows, or an empty one of the same columns."""
    listed = [kind.columns(key, cell) for key, cell in rows.items() for _ in range(2 if cell.flaw is Flaw.TWICE else 1)]
    lines = [_line(columns) for columns in listed or [kind.columns("none", Cell(None))]]
    return " union all ".join(lines) + ("" if listed else " limit 0")


def _line(columns: Mapping[str, str]) -> str:
    return "select " + ", ".join(f"{sql} as {name}" for name, sql in columns.items())


def matches(kept: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """True when PostHog's properties are the expected ones; others may stand beside them."""
    return all(_is(kept, name, value) for name, value in expected.items())


def _is(kept: Mapping[str, Any], name: str, value: object) -> bool:
    if isinstance(value, Unchecked):
        return (name in kept) is (value is Unchecked.PRESENT)
    return name in kept and kept[name] == value


def mapped(mapping: Mapping[str, Any], note: str | None) -> dict[str, Any]:
    """The properties that a mapping makes of a note; a null in a person is unset unless the mapping says otherwise."""
    found: dict[str, Any] = {}
    for name, source in mapping["properties"].items():
        if source == "note":
            found[name] = note
        elif isinstance(source, Mapping) and "value" in source:
            found[name] = source["value"]
        elif isinstance(source, Mapping) and note is not None:
            # The first value that arrived stays; which one that was, is no matter of the sync.
            found[name] = Unchecked.PRESENT
    return found


# The table of mappings: a renamed property, another constant, another operation, another meaning of null.
_PLAIN: tuple[Mapping[str, Any], ...] = (
    {"properties": {"plan": "note"}},
    {"properties": {"tier": "note"}},
    {"properties": {"plan": "note", "by": {"value": "dbt"}}},
    {"properties": {"plan": "note", "by": {"value": "etl"}}},
)
_PERSONAL: tuple[Mapping[str, Any], ...] = (
    *_PLAIN,
    {"properties": {"plan": "note"}, "nulls": "send"},
    {"properties": {"plan": "note"}, "nulls": "skip"},
    {"properties": {"plan": "note", "first": {"column": "note", "operation": "set_once"}}},
)


class People:
    """Persons: at rest each has what its row says."""

    name = "people"
    flaws: tuple[Flaw, ...] = (Flaw.NONE, Flaw.TWICE, Flaw.KEYLESS)
    mappings = _PERSONAL
    is_event = False
    follows_changes = True
    has_cursor = False

    def annotation(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "update_or_create", **mapping}

    def columns(self, key: str, cell: Cell) -> dict[str, str]:
        return {"id": text(None if cell.flaw is Flaw.KEYLESS else key), "note": text(cell.note)}

    def expected(self, note: str | None, mapping: Mapping[str, Any]) -> dict[str, Any]:
        found, nulls = mapped(mapping, note), mapping.get("nulls", "unset")
        if nulls == "skip":
            return {name: value for name, value in found.items() if value is not None}
        absent = None if nulls == "send" else Unchecked.ABSENT
        return {name: absent if value is None else value for name, value in found.items()}

    def key_of(self, message: StoredEvent) -> str | None:
        return message.distinct_id if message.event == "$set" else None

    def said(self, message: StoredEvent) -> dict[str, Any]:
        properties = message.properties
        return {**properties.get("$set_once", {}), **properties.get("$set", {})}

    def kept(self, project: Project, key: str) -> Mapping[str, Any] | None:
        person = project.person(key)
        return None if person is None else person.properties


class Companies:
    """Groups: as persons, but a null is written."""

    name = "companies"
    flaws: tuple[Flaw, ...] = (Flaw.NONE, Flaw.TWICE, Flaw.KEYLESS)
    mappings = _PLAIN
    is_event = False
    follows_changes = True
    has_cursor = False

    def annotation(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {"object": "group", "sync_key": {"group_key": "id"}, "group_type": "company", **mapping}

    def columns(self, key: str, cell: Cell) -> dict[str, str]:
        return {"id": text(None if cell.flaw is Flaw.KEYLESS else key), "note": text(cell.note)}

    def expected(self, note: str | None, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return mapped(mapping, note)

    def key_of(self, message: StoredEvent) -> str | None:
        return str(message.properties["$group_key"]) if message.event == "$groupidentify" else None

    def said(self, message: StoredEvent) -> dict[str, Any]:
        return dict(message.properties.get("$group_set", {}))

    def kept(self, project: Project, key: str) -> Mapping[str, Any] | None:
        group = project.group("company", key)
        return None if group is None else group.properties


class Events:
    """Events; every other one is recent, the others are historical.

    What PostHog goes by (name, person, time) depends on the key alone, except where the row is flawed: if it changed
    while a message is under way, PostHog would keep both, and nothing that a sync can do would help.
    """

    is_event = True

    def __init__(self, name: str, *, follows_changes: bool, has_cursor: bool = False) -> None:
        self.name = name
        self.flaws: tuple[Flaw, ...] = (Flaw.NONE, Flaw.TWICE, Flaw.KEYLESS, Flaw.ILLEGAL, Flaw.TIMELESS, Flaw.AHEAD)
        self.mappings: tuple[Mapping[str, Any], ...] = tuple(
            {"properties": {"id": "id", **mapping["properties"]}} for mapping in _PLAIN
        )
        self.follows_changes = follows_changes
        self.has_cursor = has_cursor
        self._now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)

    def annotation(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        cursor = {"cursor": {"column": "loaded", "lookback": "1 day"}} if self.has_cursor else {}
        return {
            "object": "event",
            "sync_key": {"event_id": "id"},
            "distinct_id": "person",
            "event": {"value": self.name},
            "timestamp": "seen_at",
            "on_change": "resend" if self.follows_changes else "ignore",
            **cursor,
            **mapping,
        }

    def columns(self, key: str, cell: Cell) -> dict[str, str]:
        return {
            "id": text(None if cell.flaw is Flaw.KEYLESS else key),
            "person": text(_person(key, cell)),
            "seen_at": moment(_seen_at(self._now, key, cell)),
            "note": text(cell.note),
            "loaded": moment(cell.loaded),
        }

    def expected(self, note: str | None, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return mapped(mapping, note)

    def key_of(self, message: StoredEvent) -> str | None:
        return str(message.properties["id"]) if message.event == self.name else None

    def said(self, message: StoredEvent) -> dict[str, Any]:
        return message.properties

    def kept(self, project: Project, key: str) -> Mapping[str, Any] | None:
        return only(self, project, key)


class Pages:
    """Page views keyed by their visitor: visitor, time and address together are the key."""

    name = "pages"
    flaws: tuple[Flaw, ...] = (Flaw.NONE, Flaw.TWICE, Flaw.KEYLESS, Flaw.ILLEGAL)
    mappings: tuple[Mapping[str, Any], ...] = tuple(
        {"properties": {"$current_url": "url", **mapping["properties"]}} for mapping in _PLAIN
    )
    is_event = True
    follows_changes = True
    has_cursor = False

    def __init__(self) -> None:
        self._now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)

    def annotation(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "object": "page",
            "sync_key": {"distinct_id": "visitor"},
            "timestamp": "seen_at",
            "on_change": "resend",
            **mapping,
        }

    def columns(self, key: str, cell: Cell) -> dict[str, str]:
        visitor = "null" if cell.flaw is Flaw.ILLEGAL else f"visitor{int(key[1:]) % 3}" if key in KEYS else "none"
        return {
            "visitor": text(None if cell.flaw is Flaw.KEYLESS else visitor),
            "seen_at": moment(_seen_at(self._now, key, cell)),
            "url": text(f"https://shop.example/{key}"),
            "note": text(cell.note),
        }

    def expected(self, note: str | None, mapping: Mapping[str, Any]) -> dict[str, Any]:
        return mapped(mapping, note)

    def key_of(self, message: StoredEvent) -> str | None:
        return str(message.properties["$current_url"]).rsplit("/", 1)[1] if message.event == "$pageview" else None

    def said(self, message: StoredEvent) -> dict[str, Any]:
        return message.properties

    def kept(self, project: Project, key: str) -> Mapping[str, Any] | None:
        return only(self, project, key)


def only(kind: Kind, project: Project, key: str) -> Mapping[str, Any] | None:
    """The properties of the one event that PostHog keeps of a row."""
    found = [kind.said(event) for event in project.events if kind.key_of(event) == key]
    assert len(found) <= 1, f"PostHog keeps {key} of {kind.name} {len(found)} times"
    return found[0] if found else None


def _person(key: str, cell: Cell) -> str:
    return {Flaw.ILLEGAL: "null", Flaw.MOVED: f"q{key}"}.get(cell.flaw, f"p{key}")


def _seen_at(now: datetime, key: str, cell: Cell) -> str | None:
    match cell.flaw:
        case Flaw.TIMELESS:
            return None
        case Flaw.AHEAD:
            return str(now + timedelta(days=3))
    number = int(key[1:]) if key in KEYS else 0
    return str(now - timedelta(minutes=5)) if number % 2 else f"2024-01-02 03:04:0{number}"


def all_kinds() -> tuple[Kind, ...]:
    """One model of each kind."""
    return (
        People(),
        Events("seen", follows_changes=False),
        Events("ordered", follows_changes=True),
        Events("loaded", follows_changes=False, has_cursor=True),
        Pages(),
        Companies(),
    )
