"""The rate of requests to a server that counts them: a token bucket that yields when the server says too many."""

from __future__ import annotations

import threading
from collections.abc import Callable

FIRST_HOLD_SECONDS = 1.0
LONGEST_HOLD_SECONDS = 30.0
SLOWEST = 0.5
"""Requests a second below which no refusal brings the rate."""
_GAIN = 0.1
"""Share of the asked rate that a second without a refusal gives back."""


class RequestRate:
    """Says when the next request may go; threads share it.

    The bucket holds one token, so requests are spread evenly: a burst on top of the rate would be refused. A refusal
    halves the rate, at most once a second because those under way are refused together, and holds everything back,
    twice as long as the one before; passed requests give the rate back little by little.
    """

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._asked = per_second
        self._rate = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()
        self._hold = FIRST_HOLD_SECONDS
        self._slowed_at: float | None = None

    @property
    def per_second(self) -> float:
        """Requests a second at the moment."""
        return self._rate

    def reserve(self) -> float:
        """Seconds to wait before one request; it is counted as gone."""
        with self._lock:
            now = self._clock()
            start = max(self._free_at, now)
            self._free_at = start + 1.0 / self._rate
            return start - now

    def refused(self, retry_after: float | None) -> None:
        """Take note that the server refused a request as one too many; `retry_after` is what it asked for."""
        with self._lock:
            now = self._clock()
            if self._slowed_at is None or now - self._slowed_at >= FIRST_HOLD_SECONDS:
                self._slowed_at = now
                self._rate = max(self._rate / 2.0, min(SLOWEST, self._asked))
                self._free_at = max(self._free_at, now + max(self._hold, retry_after or 0.0))
                self._hold = min(self._hold * 2.0, LONGEST_HOLD_SECONDS)

    def passed(self) -> None:
        """Take note that the server answered a request."""
        with self._lock:
            self._hold = FIRST_HOLD_SECONDS
            self._rate = min(self._asked, self._rate + self._asked * _GAIN / self._rate)
