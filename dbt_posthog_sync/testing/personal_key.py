"""Personal API keys: who they are, what they may do, and how much of it PostHog allows."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dbt_posthog_sync.testing.wire import Reply

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """A personal API key.

    Attributes:
        value: the key.
        scopes: what it may do; `*` is everything, and writing includes reading.
        expired: PostHog answers 401 as for a key that never was.
        current_project: number of the project that its owner looked at last.
    """

    value: str = field(repr=False)
    scopes: tuple[str, ...] = (EVERYTHING,)
    expired: bool = False
    current_project: int = 1

    def may(self, scope: str) -> bool:
        """Tell whether the key has a scope."""
        kind, _, action = scope.partition(":")
        return (
            EVERYTHING in self.scopes or scope in self.scopes or (action == "read" and f"{kind}:write" in self.scopes)
        )


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """How many requests of a kind are answered; None for any number. What is beyond is answered 429.

    Attributes:
        queries: HogQL queries within the window.
        persons: readings of persons within the window.
        deletes: deletions of persons within the window.
        concurrent_queries: queries under way at once; PostHog has three.
        window_seconds: what PostHog calls a minute.
    """

    queries: int | None = None
    persons: int | None = None
    deletes: int | None = None
    concurrent_queries: int | None = 3
    window_seconds: float = 60.0


class Throttle:
    """Counts the requests of a window. Safe to use from several threads."""

    def __init__(self, limits: ApiLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: dict[str, deque[float]] = {}
        self._queries = 0

    def refusal(self, kind: str) -> Reply | None:
        """The 429 for one more request of this kind, which is counted where there is none."""
        most: int | None = getattr(self._limits, kind, None)
        if most is None:
            return None
        with self._lock:
            now, window = self._clock(), self._limits.window_seconds
            begun = self._begun.setdefault(kind, deque())
            while begun and begun[0] + window <= now:
                begun.popleft()
            if len(begun) >= most:
                wait = (begun[0] if begun else now) + window - now
                return _throttled(max(int(wait + 0.999), 1))
            begun.append(now)
        return None

    def begin_query(self) -> bool:
        """Take the place of a running query; false where all are taken."""
        with self._lock:
            most = self._limits.concurrent_queries
            if most is not None and self._queries >= most:
                return False
            self._queries += 1
            return True

    def end_query(self) -> None:
        """Give the place back."""
        with self._lock:
            self._queries -= 1


def _throttled(seconds: int) -> Reply:
    """DRF's answer to one request too many."""
    refusal = {
        "type": "throttled_error",
        "code": "throttled",
        "detail": f"Request was throttled. Expected available in {seconds} seconds.",
        "attr": None,
    }
    return Reply.from_json(429, refusal, headers=(("Retry-After", str(seconds)),))
