"""The society of the identity machine: who is in PostHog, what a model says of them, and whom a row means."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lab import Lab
from models import text
from people import LONG_AGO

from dbt_posthog_sync.testing import CapturedEvent, Person, Project

ADDRESSES = ("a@x.io", "b@x.io", "c@x.io")
SPELLINGS = ("{}", " {}", "{} ", "upper")
IDS = tuple(f"d{number}" for number in range(6))
CRM = {address: f"crm-{address[0]}" for address in ADDRESSES}
POLICIES = ("skip", "all", "newest", "oldest")


def spelled(address: str, spelling: str) -> str:
    """An address in another spelling."""
    return address.upper() if spelling == "upper" else spelling.format(address)


def compared(address: object) -> str:
    """An address as it is compared."""
    return str(address).strip().lower()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the model: its identity (an address or a distinct id, perhaps misspelled) and its content."""

    key: str | None
    note: str
    spelling: str = "{}"


class Society:
    """PostHog's persons as the machine makes, changes and deletes them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._made = 0

    @property
    def project(self) -> Project:
        """What PostHog has."""
        return self._lab.posthog.project

    def appear(self, distinct_id: str, address: str | None, *, has_alias: bool) -> None:
        """A person comes to PostHog, perhaps with a second distinct id; those that come later are newer."""
        if self.project.person(distinct_id) is not None:
            return
        self._say(distinct_id, "$set", {"$set": {} if address is None else {"email": address}})
        if has_alias:
            self._say(distinct_id, "$create_alias", {"alias": f"z-{distinct_id}"})

    def move(self, distinct_id: str, address: str) -> None:
        """A person gets another e-mail address."""
        if self.project.person(distinct_id) is not None:
            self._say(distinct_id, "$set", {"$set": {"email": address}})

    def leave(self, distinct_id: str) -> None:
        """A person is deleted by somebody else, and its distinct ids are as good as new."""
        person = self.project.person(distinct_id)
        self.project.delete_persons(distinct_ids=[distinct_id])
        for one in person.distinct_ids if person is not None else ():
            self.project.reset_distinct_id(one)

    def _say(self, distinct_id: str, event: str, properties: Mapping[str, Any]) -> None:
        self._made += 1
        moment = LONG_AGO + timedelta(minutes=self._made)
        self.project.take([CapturedEvent(event, distinct_id, str(uuid.uuid4()), moment, dict(properties), "v1")])


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a sync makes of its rows.

    Attributes:
        by_email: the key is an address, not a distinct id.
        on_several: the policy.
        create_with: email, column or skip; None for `update_only`.
        deletes: persons are deleted.
        sees_ghosts: the source of identities knows persons that queries do not see.
    """

    by_email: bool
    on_several: str = "skip"
    create_with: str | None = None
    deletes: bool = False
    sees_ghosts: bool = False

    def annotation(self) -> dict[str, Any]:
        """The annotation that says so."""
        found: dict[str, Any] = {"object": "person", "sync_key": {"email": "email"} if self.by_email else {}}
        if not self.by_email:
            found["sync_key"] = {"distinct_id": "id"}
        else:
            found["on_several"] = self.on_several
        if self.deletes:
            return {**found, "behavior": "delete"}
        if self.create_with is None:
            return {**found, "behavior": "update_only", "properties": ["note"]}
        create = {"column": "id"} if self.create_with == "column" else self.create_with
        return {**found, "create_with": create, "properties": ["note", "email"]}

    def of(self, key: str, persons: Iterable[Person]) -> frozenset[str] | None:
        """Distinct ids that a row with this key means; None where nobody can say."""
        shown = [person for person in persons if self.sees_ghosts or not person.is_ghost]
        if not self.by_email:
            return frozenset({key} if any(key in person.distinct_ids for person in shown) else ())
        found = [person for person in shown if compared(person.properties.get("email")) == key]
        if not found:
            return {"email": frozenset({key}), "column": frozenset({CRM[key]})}.get(self.create_with or "", frozenset())
        if len(found) > 1 and self.on_several == "skip":
            return None
        newest_last = sorted(found, key=lambda person: (person.created_at, person.uuid))
        picked = {"newest": newest_last[-1:], "oldest": newest_last[:1]}.get(self.on_several, newest_last)
        return frozenset(min(person.distinct_ids) for person in picked)

    def columns(self, row: Row) -> str:
        """SQL of a row."""
        address = None if row.key is None else spelled(row.key, row.spelling)
        name = row.key if not self.by_email else CRM.get(row.key or "")
        return (
            f"select {text(name)} as id, {text(address if self.by_email else None)} as email, {text(row.note)} as note"
        )

    def select(self, rows: Iterable[Row]) -> str:
        """The select that builds the model."""
        lines = [self.columns(row) for row in rows]
        return " union all ".join(lines or [self.columns(Row(None, ""))]) + ("" if lines else " limit 0")
