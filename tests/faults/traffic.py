"""Traffic: the requests of a case as they arrive, and the fault that they meet for now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from dbt_posthog_sync.testing import Arrival, Delay, Fault, FaultPlan, Status

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 120.0


class Unmet(Exception):
    """What a case waits for did not happen."""


class Traffic:
    """A fault plan that counts arrivals, can be replaced at any time, and can be waited on."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._times: list[float] = []
        self._plan: FaultPlan | None = None
        self._faults = 0

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        with self._arrived:
            self._times.append(time.monotonic())
            self._arrived.notify_all()
            plan = self._plan
        fault = None if plan is None else plan.fault_for(arrival)
        with self._arrived:
            self._faults += fault is not None
        return fault

    def meet(self, plan: FaultPlan | None) -> None:
        """Requests from now on meet this plan; None is fair weather."""
        self._plan = plan

    @property
    def requests(self) -> int:
        """Ingestion requests so far."""
        return len(self._times)

    @property
    def faults(self) -> int:
        """How many of them met a fault."""
        return self._faults

    @property
    def times(self) -> tuple[float, ...]:
        """When each request arrived, on a clock that never goes back."""
        with self._arrived:
            return tuple(self._times)

    def wait_for(self, requests: int, still: Callable[[], bool]) -> None:
        """Wait until so many requests have arrived.

        Raises:
            Unmet: `still` has become false before, or nothing comes.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        with self._arrived:
            while len(self._times) < requests:
                if not still() or time.monotonic() > until:
                    raise Unmet(f"{len(self._times)} requests came, and {requests} were waited for")
                self._arrived.wait(_LOOK_SECONDS)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until a condition holds.

    Raises:
        Unmet: it does not come to hold.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise Unmet(what)
        time.sleep(_LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Slowed:
    """Every request takes longer, and then meets another plan."""

    seconds: float
    then: FaultPlan | None = None

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        return Delay(self.seconds, None if self.then is None else self.then.fault_for(arrival))


@dataclass(frozen=True, slots=True)
class Busy:
    """The first requests are answered 429 with the time at which to come back.

    Attributes:
        requests: how many.
        seconds: when to come back.
        as_date: say it as an HTTP date.
    """

    requests: int
    seconds: int
    as_date: bool

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        if arrival.number > self.requests:
            return None
        date = datetime.now(timezone.utc) + timedelta(seconds=self.seconds)
        return Status(429, retry_after=date if self.as_date else self.seconds)
