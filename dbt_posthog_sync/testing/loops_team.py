"""A Loops team in memory: contacts, events, contact properties and mailing lists, by the rules of Loops' API.

The rules are those of loops.so/docs/api-reference (update-contact, send-event, contact-properties, intro). Where it
does not say how Loops words something, the stand-in has words of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OWN_PROPERTIES: Mapping[str, str] = {
    "firstName": "string",
    "lastName": "string",
    "source": "string",
    "userGroup": "string",
    "notes": "string",
    "subscribed": "boolean",
}
"""Properties that every contact has, with their types."""

TYPES = ("string", "number", "boolean", "date")
IDEMPOTENCY_SECONDS = 24 * 3600.0
LONGEST_IDEMPOTENCY_KEY = 100
_ENVELOPE = frozenset({"email", "userId", "mailingLists"})
_OF_EVENT = frozenset({"eventName", "eventProperties"})


@dataclass(frozen=True, slots=True)
class LoopsStandInConfig:
    """What the stand-in plays.

    Attributes:
        api_keys: keys that exist; all of them mean the same team.
        team_name: name of the team, as the key test tells it.
        requests_per_second: how many requests of a second are answered, all keys together; None answers all.
        properties: custom contact properties that exist, name to type.
        mailing_lists: ids of the lists that exist; None takes any id for one.
    """

    api_keys: tuple[str, ...] = ("loops_sandbox",)
    team_name: str = "Sandbox"
    requests_per_second: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    mailing_lists: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class LoopsContact:
    """A contact as Loops shows it.

    Attributes:
        email: the address, or None.
        user_id: the id of the user's own, or None.
        properties: everything else that was set.
        mailing_lists: lists the contact is subscribed to.
        subscribed: false once it was unsubscribed from everything.
        updates: how many requests have written it.
    """

    email: str | None
    user_id: str | None
    properties: Mapping[str, Any]
    mailing_lists: frozenset[str]
    subscribed: bool
    updates: int


@dataclass(frozen=True, slots=True)
class LoopsEvent:
    """An event that Loops took.

    Attributes:
        name: its name.
        email: address that the request named, or None.
        user_id: id that the request named, or None.
        properties: properties of the event.
        idempotency_key: key of the request, or None.
    """

    name: str
    email: str | None
    user_id: str | None
    properties: Mapping[str, Any]
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the team says to a request: a status and a JSON value."""

    status: int
    value: Any

    @classmethod
    def refusal(cls, message: str, status: int = 400) -> Ruling:
        """An answer that nothing was done, and why."""
        return cls(status, {"success": False, "message": message})


class LoopsTeam:
    """One team. Safe to ask from several threads."""

    def __init__(self, config: LoopsStandInConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._config = config
        self._lock = threading.RLock()
        self._contacts: list[dict[str, Any]] = []
        self._events: list[LoopsEvent] = []
        self._properties = dict(config.properties)
        self._keys_seen: dict[str, float] = {}

    @property
    def contacts(self) -> tuple[LoopsContact, ...]:
        """Every contact, in the order in which they were made."""
        with self._lock:
            return tuple(_contact(one) for one in self._contacts)

    @property
    def events(self) -> tuple[LoopsEvent, ...]:
        """Every event, in the order in which they came."""
        with self._lock:
            return tuple(self._events)

    @property
    def properties(self) -> Mapping[str, str]:
        """Custom contact properties, name to type."""
        with self._lock:
            return dict(self._properties)

    def list_properties(self) -> Ruling:
        """`GET /v1/contacts/properties`."""
        with self._lock:
            known = {**OWN_PROPERTIES, **self._properties}
        return Ruling(200, [{"key": name, "label": name, "type": kind} for name, kind in known.items()])

    def create_property(self, body: Any) -> Ruling:
        """`POST /v1/contacts/properties`."""
        name, kind = (body.get("name"), body.get("type")) if isinstance(body, dict) else (None, None)
        if not isinstance(name, str) or not name or kind not in TYPES:
            return Ruling.refusal("name and type are required")
        with self._lock:
            if name in self._properties or name in OWN_PROPERTIES or name in _ENVELOPE | _OF_EVENT:
                return Ruling.refusal(f"The property name {name} is taken")
            self._properties[name] = str(kind)
        return Ruling(200, {"success": True})

    def list_mailing_lists(self) -> Ruling:
        """`GET /v1/lists`."""
        return Ruling(200, [{"id": one, "name": one, "isPublic": True} for one in self._config.mailing_lists or ()])

    def find_contact(self, email: str, user_id: str) -> Ruling:
        """`GET /v1/contacts/find`."""
        with self._lock:
            found = [one for one in self._contacts if _is_meant(one, email or None, user_id or None)]
            return Ruling(200, [_shown(one) for one in found])

    def update_contact(self, body: Any) -> Ruling:
        """`PUT /v1/contacts/update`."""
        with self._lock:
            fault = self._fault(body, _ENVELOPE)
            return Ruling.refusal(fault) if fault else self._write(body, frozenset())

    def send_event(self, body: Any, idempotency_key: str | None) -> Ruling:
        """`POST /v1/events/send`."""
        with self._lock:
            fault = self._fault(body, _ENVELOPE | _OF_EVENT) or _event_fault(body, idempotency_key)
            if fault:
                return Ruling.refusal(fault)
            if idempotency_key is not None and self._was_seen(idempotency_key):
                return Ruling.refusal("The Idempotency-Key has been used in the last 24 hours", 409)
            written = self._write(body, _OF_EVENT)
            if written.status != 200:
                return written
            if idempotency_key is not None:
                self._keys_seen[idempotency_key] = self._clock()
            properties = dict(body.get("eventProperties") or {})
            self._events.append(
                LoopsEvent(body["eventName"], body.get("email"), body.get("userId"), properties, idempotency_key)
            )
            return Ruling(200, {"success": True})

    def _was_seen(self, key: str) -> bool:
        seen = self._keys_seen.get(key)
        return seen is not None and self._clock() - seen < IDEMPOTENCY_SECONDS

    def _fault(self, body: Any, envelope: frozenset[str]) -> str | None:
        """What is wrong with the part of a body that is about the contact."""
        if not isinstance(body, dict):
            return "The body is not a JSON object"
        email, user_id = body.get("email"), body.get("userId")
        if not _is_text(email) and not _is_text(user_id):
            return "email or userId is required"
        if email is not None and (not isinstance(email, str) or "@" not in email):
            return "email is not a valid address"
        if user_id is not None and not isinstance(user_id, str):
            return "userId is not a string"
        return self._lists_fault(body.get("mailingLists", {})) or self._property_fault(body, envelope)

    def _lists_fault(self, lists: Any) -> str | None:
        if not isinstance(lists, dict) or not all(isinstance(flag, bool) for flag in lists.values()):
            return "mailingLists is not an object of booleans"
        known = self._config.mailing_lists
        unknown = [one for one in lists if known is not None and one not in known]
        return f"There is no mailing list {unknown[0]}" if unknown else None

    def _property_fault(self, body: Mapping[str, Any], envelope: frozenset[str]) -> str | None:
        known = {**OWN_PROPERTIES, **self._properties}
        for name, value in body.items():
            if name in envelope:
                continue
            if name not in known:
                return f"There is no contact property {name}"
            if not _fits(known[name], value):
                return f"The contact property {name} is of type {known[name]}"
        return None

    def _write(self, body: Mapping[str, Any], apart: frozenset[str]) -> Ruling:
        """Update the contact that is meant, or make it. Address and id find it, and the other one is overwritten."""
        email, user_id = body.get("email"), body.get("userId")
        meant = [one for one in self._contacts if _is_meant(one, email, user_id)]
        if len(meant) > 1:
            return Ruling.refusal("email and userId belong to different contacts")
        if not meant:
            meant = [{"subscribed": True, "lists": set(), "updates": 0, "values": {}, "id": len(self._contacts) + 1}]
            self._contacts += meant
        contact = meant[0]
        contact.update({key: body[key] for key in ("email", "userId") if _is_text(body.get(key))})
        contact["updates"] += 1
        for name, value in body.items():
            if name == "subscribed":
                contact["subscribed"] = bool(value)
            elif name not in _ENVELOPE | apart:
                contact["values"][name] = value
        for name, flag in body.get("mailingLists", {}).items():
            (contact["lists"].add if flag else contact["lists"].discard)(name)
        return Ruling(200, {"success": True, "id": f"contact_{contact['id']}"})


def _event_fault(body: Mapping[str, Any], idempotency_key: str | None) -> str | None:
    if not _is_text(body.get("eventName")):
        return "eventName is required"
    properties = body.get("eventProperties", {})
    if not isinstance(properties, dict):
        return "eventProperties is not an object"
    nested = [name for name, value in properties.items() if isinstance(value, (dict, list))]
    if nested:
        return f"The event property {nested[0]} is not a string, number, boolean or date"
    if idempotency_key is not None and not 0 < len(idempotency_key) <= LONGEST_IDEMPOTENCY_KEY:
        return "The Idempotency-Key is longer than 100 characters"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_meant(contact: Mapping[str, Any], email: str | None, user_id: str | None) -> bool:
    has_address = email is not None and str(contact.get("email", "")).lower() == email.lower()
    return has_address or (user_id is not None and contact.get("userId") == user_id)


def _fits(kind: str, value: Any) -> bool:
    """Tell whether a value may go into a property; null empties it."""
    match kind:
        case "boolean":
            return value is None or isinstance(value, bool)
        case "number":
            return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        case "date":
            return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))
    return value is None or isinstance(value, str)


def _shown(contact: Mapping[str, Any]) -> dict[str, Any]:
    lists = dict.fromkeys(sorted(contact["lists"]), True)
    known = {key: contact.get(key) for key in ("email", "userId")}
    return {**known, "subscribed": contact["subscribed"], "mailingLists": lists, **contact["values"]}


def _contact(contact: Mapping[str, Any]) -> LoopsContact:
    values = {name: value for name, value in contact["values"].items() if value is not None}
    lists, subscribed = frozenset(contact["lists"]), contact["subscribed"]
    return LoopsContact(contact.get("email"), contact.get("userId"), values, lists, subscribed, contact["updates"])
