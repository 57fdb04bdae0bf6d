"""The models of the suite: how a table is built, how it is annotated, and what PostHog must hold of each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dbt_posthog_sync.testing import Project, StoredEvent

NO_CUSTOMER = "the distinct_id is missing"


@dataclass(frozen=True, slots=True)
class Message:
    """What PostHog must hold of one row.

    Attributes:
        event: name of the event.
        distinct_id: whose it is.
        timestamp: the row's own time; None where the program chooses it.
        properties: properties of the event, or of the person.
    """

    event: str
    distinct_id: str
    timestamp: datetime | None
    properties: Mapping[str, Any]


class Model(Protocol):
    """One kind of table."""

    @property
    def annotation(self) -> Mapping[str, Any]:
        """How it is annotated."""
        ...

    def select(self, rows: int, broken: Iterable[int]) -> str:
        """The select that builds it, with rows numbered from 1; the broken ones have nobody they belong to."""
        ...

    def columns(self) -> str:
        """What is read of the table to know its messages."""
        ...

    def message(self, row: tuple[Any, ...]) -> tuple[str, Message]:
        """Key and message of a row that was read."""
        ...

    def key(self, event: StoredEvent) -> str:
        """Key of the row that an event is about."""
        ...

    def held(self, project: Project) -> dict[str, list[Message]]:
        """What PostHog holds, by the key of the row it is about."""
        ...


class Orders:
    """Events: some of today, some that are historical."""

    annotation: Mapping[str, Any] = {
        "object": "event",
        "sync_key": {"event_id": "order_id"},
        "distinct_id": "customer",
        "event": {"value": "order completed"},
        "timestamp": "ordered_at",
        "properties": ["order_id", "amount", "note"],
    }

    def select(self, rows: int, broken: Iterable[int]) -> str:
        listed = ",".join(map(str, broken)) or "0"
        customer = f"case when i not in ({listed}) then 'customer-' || i % {rows // 5 + 1} end"
        ordered_at = "cast(current_date as timestamptz) - (i % 5) * interval '1 day' - i * interval '1 second'"
        return (
            f"select i as order_id, {customer} as customer, cast((i % 100003) / 100.0 as numeric(10, 2)) as amount, "
            f"'note ' || chr(233) || ' \"' || i || '\"' as note, {ordered_at} as ordered_at "
            f"from generate_series(1, {rows}) i"
        )

    def columns(self) -> str:
        return "order_id, customer, cast(amount as double precision), note, ordered_at"

    def message(self, row: tuple[Any, ...]) -> tuple[str, Message]:
        order_id, customer, amount, note, ordered_at = row
        properties = {"order_id": order_id, "amount": amount, "note": note}
        return str(order_id), Message("order completed", str(customer), ordered_at, properties)

    def key(self, event: StoredEvent) -> str:
        return str(event.properties["order_id"])

    def held(self, project: Project) -> dict[str, list[Message]]:
        found: dict[str, list[Message]] = {}
        for event in project.events:
            all_properties = event.properties
            properties = {name: all_properties.get(name) for name in ("order_id", "amount", "note")}
            message = Message(event.event, event.distinct_id, event.timestamp, properties)
            found.setdefault(str(properties["order_id"]), []).append(message)
        return found


class People:
    """Persons: what counts is what they have in the end."""

    annotation: Mapping[str, Any] = {
        "object": "person",
        "sync_key": {"distinct_id": "person_id"},
        "properties": ["plan", "score"],
    }

    def select(self, rows: int, broken: Iterable[int]) -> str:
        listed = ",".join(map(str, broken)) or "0"
        return (
            f"select case when i not in ({listed}) then 'person-' || i else ' ' end as person_id, "
            f"'plan ' || i % 7 as plan, i * 3 as score from generate_series(1, {rows}) i"
        )

    def columns(self) -> str:
        return "person_id, plan, score"

    def message(self, row: tuple[Any, ...]) -> tuple[str, Message]:
        person_id, plan, score = row
        return str(person_id), Message("$set", str(person_id), None, {"plan": plan, "score": score})

    def key(self, event: StoredEvent) -> str:
        return event.distinct_id

    def held(self, project: Project) -> dict[str, list[Message]]:
        return {
            person.distinct_ids[0]: [
                Message(
                    "$set",
                    person.distinct_ids[0],
                    None,
                    {name: person.properties.get(name) for name in ("plan", "score")},
                )
            ]
            for person in project.persons
        }


ORDERS: Model = Orders()
PEOPLE: Model = People()
