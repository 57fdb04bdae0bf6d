"""The budget: how many requests of a kind PostHog answers in a minute and in an hour, and the wait for the next one.

PostHog counts the requests of all keys of a project together (posthog.com/docs/api: rate limits), so whoever shares a
project shares a budget. What others use is not known here: PostHog's 429 tells it.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone

from dbt_posthog_sync.http import RetryPolicy

_MINUTE, _HOUR = 60.0, 3600.0


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Patience:
    """How requests are repeated and waited for; tests replace time and chance.

    Attributes:
        retry: how often and how long one request is repeated.
        clock: seconds of a clock that never goes back.
        pause: waits so many seconds.
        random: a number in [0, 1).
        now: the time of day, UTC, for a Retry-After that is a date.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep
    random: Callable[[], float] = random.random
    now: Callable[[], datetime] = _utc_now


@dataclass(frozen=True, slots=True)
class Allowance:
    """What PostHog allows.

    Attributes:
        per_minute: requests that may begin within 60 seconds.
        per_hour: requests that may begin within 3600 seconds; None where there is no such limit.
        at_once: requests under way at the same time; None where there is no such limit.
    """

    per_minute: int
    per_hour: int | None = None
    at_once: int | None = None


QUERIES = Allowance(per_minute=240, per_hour=2400, at_once=3)
"""posthog.com/docs/api/queries."""

PERSONS = Allowance(per_minute=240)
"""PostHog/posthog: posthog/api/person.py, throttle of a personal key."""

DELETES = Allowance(per_minute=480, per_hour=4800)
"""PostHog/posthog: posthog/api/person.py."""

OTHERS = Allowance(per_minute=480, per_hour=4800)
"""posthog.com/docs/api, everything that is not analytics."""


class Budget:
    """Requests of one kind, shared by every thread that makes them."""

    def __init__(self, allowance: Allowance, patience: Patience) -> None:
        self._allowance = allowance
        self._patience = patience
        self._lock = threading.Lock()
        self._begun: deque[float] = deque(maxlen=max(allowance.per_minute, allowance.per_hour or 0))
        self._closed_until = float("-inf")
        self._slots = threading.BoundedSemaphore(allowance.at_once) if allowance.at_once else nullcontext()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wait until one more request may begin; inside, it is under way."""
        with self._slots:
            wait = self._reserve()
            if wait > 0:
                self._patience.pause(wait)
            yield

    def close(self, seconds: float) -> None:
        """Let no request begin for so many seconds: PostHog asked for it."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._patience.clock() + seconds)

    def _reserve(self) -> float:
        """Seconds until the next request may begin; it is counted as begun then."""
        with self._lock:
            now = self._patience.clock()
            begins = max(now, self._closed_until, self._free(self._allowance.per_minute, _MINUTE))
            if self._allowance.per_hour is not None:
                begins = max(begins, self._free(self._allowance.per_hour, _HOUR))
            self._begun.append(begins)
            return begins - now

    def _free(self, most: int, window: float) -> float:
        """When the oldest of the last `most` requests leaves the window."""
        return self._begun[-most] + window if len(self._begun) >= most else float("-inf")


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of one project; make one of them and share it among everything that asks this project.

    Attributes:
        queries: HogQL queries.
        persons: reading persons.
        deletes: deleting persons.
        others: the project and the user.
    """

    queries: Budget
    persons: Budget
    deletes: Budget
    others: Budget

    @classmethod
    def of_posthog(cls, patience: Patience) -> Budgets:
        """The limits that PostHog Cloud documents; a host of your own has the same unless it was set otherwise."""
        return cls(*(Budget(allowance, patience) for allowance in (QUERIES, PERSONS, DELETES, OTHERS)))
