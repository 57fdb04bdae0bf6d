"""What capture hands on to the project: events that were taken, events that were lost, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from dbt_posthog_sync.testing.wire import Reply, compact_json

Protocol: TypeAlias = Literal["v0", "v1"]
ResultWord: TypeAlias = Literal["ok", "warning", "drop", "retry", "absent"]

_ENVELOPE_BYTES = 400
"""About what PostHog's envelope adds to an event: token, ip, arrival times, names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What v1 says of one event; `absent` leaves the event out of the results and does not keep it."""

    result: ResultWord
    details: str | None = None

    @property
    def is_kept(self) -> bool:
        """Tell whether the event is stored."""
        return self.result in ("ok", "warning")

    def as_json(self) -> dict[str, str]:
        """Return the entry of the results object."""
        return {"result": self.result} if self.details is None else {"result": self.result, "details": self.details}


Choice: TypeAlias = Callable[[Mapping[str, Any]], "Verdict | None"]
"""Overrides the result of an event, which is given as it stood in the request; None leaves it alone."""


def no_choice(event: Mapping[str, Any]) -> Verdict | None:  # noqa: ARG001 - the shape of a Choice
    """Override nothing."""
    return None


@dataclass(frozen=True, slots=True)
class CapturedEvent:
    """One event as capture hands it on.

    Attributes:
        event: its name.
        distinct_id: as capture made it: cut, trimmed or turned into text.
        uuid: canonical text; made by the server where the client sent none.
        timestamp: UTC, after the corrections of the protocol.
        properties: with everything the envelope added.
        protocol: v0 or v1.
        historical: the batch was sent as a historical migration.
        person_processing: false when capture switched person processing off for this event.
    """

    event: str
    distinct_id: str
    uuid: str
    timestamp: datetime
    properties: dict[str, Any]
    protocol: Protocol
    historical: bool = False
    person_processing: bool = True

    def exceeds(self, limit: int | None) -> bool:
        """Tell whether the event with PostHog's envelope is larger than the queue takes.

        The event travels as a JSON string inside JSON, so quotes and backslashes count twice
        (rust/common/types/src/event.rs, `CapturedEvent.data`).
        """
        if limit is None:
            return False
        data = compact_json(self.properties)
        if 6 * len(data) + _ENVELOPE_BYTES < limit:
            return False
        sent = compact_json(data).encode("utf-8", "surrogatepass")
        return len(sent) + _ENVELOPE_BYTES > limit


@dataclass(frozen=True, slots=True)
class LostEvent:
    """An event that was received and will never be seen in PostHog, and why."""

    reason: str
    event: str
    distinct_id: str
    uuid: str

    @classmethod
    def from_captured(cls, reason: str, event: CapturedEvent) -> LostEvent:
        """Give the reason why this event is lost."""
        return cls(reason, event.event, event.distinct_id, event.uuid)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What capture made of one request.

    Attributes:
        reply: the answer.
        token: the project key, trimmed; empty when none was accepted.
        captured: events to keep.
        lost: events that capture itself lost, silently or not.
        received: events in the request, kept or not; 0 for a refused request.
    """

    reply: Reply
    token: str = ""
    captured: tuple[CapturedEvent, ...] = ()
    lost: tuple[LostEvent, ...] = ()
    received: int = 0
