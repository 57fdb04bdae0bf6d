"""Injected faults as values, and plans that say which request meets which fault.

A plan is anything with `fault_for(arrival) -> Fault | None`. One plan is asked about ingestion requests, another about
the private API and the key checks (`StandIn.inject(api=...)`); each numbers its requests from 1.

    Script((Status(503),) * 3)                                    the first three requests fail
    Script(after=2, then=ExpiredKey())                            the key expires in the middle
    When(lambda arrival: arrival.attempt == 1, LoseAnswer())      every first attempt loses its answer
    When(always, EventResults(lambda event: Verdict("retry")))    v1 wants every event again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Literal, Protocol, TypeAlias

from dbt_posthog_sync.testing.captured import Choice

ArrivalKind: TypeAlias = Literal["v0", "v1", "api"]
"""What a request is: ingestion by its protocol, or `api` for the private API and the key checks."""


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with this status and keep nothing.

    Attributes:
        code: HTTP status.
        body: text of the answer; empty for PostHog's own words where it has some.
        retry_after: seconds, or the time at which to come back (sent as an HTTP date), or None for no header.
        content_type: for `body`, such as a proxy's HTML page.
    """

    code: int
    body: str = ""
    retry_after: float | datetime | None = None
    content_type: str = "text/plain; charset=utf-8"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The Retry-After header, or nothing."""
        return retry_after_header(self.retry_after)


@dataclass(frozen=True, slots=True)
class ExpiredKey:
    """Answer 401 as PostHog does for a key that no longer exists, and keep nothing."""


@dataclass(frozen=True, slots=True)
class CutRequest:
    """Close the connection after half of the request's body, and keep nothing.

    A plan that looked at the events has read the whole body by then; the connection still closes without answer.
    """


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Read the request, then close the connection without an answer, and keep nothing."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Keep the events, then close the connection without an answer: the client cannot know."""


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """Keep the events, then close the connection in the middle of the answer's body."""


@dataclass(frozen=True, slots=True)
class EventResults:
    """Force the results of single events.

    Attributes:
        choice: is given an event as it stood in the request and returns its verdict, or None to leave it alone.
        retry_after: replaces PostHog's own Retry-After when an event is to be retried; None keeps it.
    """

    choice: Choice
    retry_after: float | datetime | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then go on with the other fault or as usual."""

    seconds: float
    then: Fault | None = None


Fault: TypeAlias = Status | ExpiredKey | CutRequest | CloseConnection | LoseAnswer | CutAnswer | EventResults | Delay


class Arrival:
    """A request as a plan sees it.

    Attributes:
        number: ingestion requests are counted from 1, in the order in which their headers arrive, and so are those of
            the private API and the key checks together.
        protocol: v0, v1 or api.
        path: without the query.
        attempt: what the client says in PostHog-Attempt; 1 on v0.
    """

    __slots__ = ("_read", "attempt", "number", "path", "protocol")

    def __init__(
        self,
        number: int,
        protocol: ArrivalKind,
        path: str,
        attempt: int = 1,
        read: Callable[[], tuple[dict[str, Any], ...]] = tuple,
    ) -> None:
        self.number = number
        self.protocol = protocol
        self.path = path
        self.attempt = attempt
        self._read = read

    @property
    def events(self) -> tuple[Mapping[str, Any], ...]:
        """Events as they were sent, read from the body when asked for; empty where the request is unreadable."""
        return self._read()


class FaultPlan(Protocol):
    """Says which request meets which fault. Called from several threads at once."""

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """Return the fault of this request, or None for none."""
        ...


@dataclass(frozen=True, slots=True)
class Script:
    """Faults by request number: the first request meets the first fault, None stands for none.

    Attributes:
        faults: for requests 1, 2, 3 and so on.
        after: with `then`, the number of the last request that is left alone; counted from the end of `faults`.
        then: the fault of every request after that.
    """

    faults: tuple[Fault | None, ...] = ()
    after: int = 0
    then: Fault | None = None

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        if arrival.number <= len(self.faults):
            return self.faults[arrival.number - 1]
        return self.then if arrival.number > len(self.faults) + self.after else None


@dataclass(frozen=True, slots=True)
class When:
    """The same fault for every request that a function picks."""

    picks: Callable[[Arrival], bool]
    fault: Fault

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        return self.fault if self.picks(arrival) else None


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Several plans; the first that has a fault for a request decides."""

    plans: tuple[FaultPlan, ...]

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        return next((fault for plan in self.plans if (fault := plan.fault_for(arrival)) is not None), None)


def always(arrival: Arrival) -> bool:  # noqa: ARG001 - the shape of When.picks
    """Pick every request."""
    return True


def retry_after_header(value: float | datetime | None) -> tuple[tuple[str, str], ...]:
    """Spell Retry-After as seconds or as an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return ()
    if isinstance(value, datetime):
        return (("Retry-After", format_datetime(value, usegmt=True)),)
    return (("Retry-After", f"{value:g}"),)
