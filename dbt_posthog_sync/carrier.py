"""Carrying one batch to the destination: attempts, waits, halving, and what is known of each message at the end.

Runs on the threads of `delivery`, several at once.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from typing import TypeAlias

from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    Destination,
    Poisoned,
    Refusal,
    RequestIdentity,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import RetryPolicy

SUSPECT_LIMIT = 20
"""Messages that may fail one by one before anything is accepted; that many put the fault on the request."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination accepted these messages, by its own word.

    Attributes:
        positions: which messages.
        warned: how many of them were stored without person processing.
    """

    positions: tuple[int, ...]
    warned: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination does not accept these messages, each for its reason."""

    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Suspected:
    """These messages failed one by one without being named: the rows are at fault if the destination accepts others."""

    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Doubted:
    """These messages were sent and the destination's word about them never came: it may have them or not."""

    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A request failed as a whole and is sent again: its messages wait. The reason is one line for people."""

    reason: str


Report: TypeAlias = Delivered | Refused | Suspected | Doubted | Repeated


def new_identity() -> RequestIdentity:
    """Make the identity of a new request."""
    now = datetime.now(timezone.utc)
    return RequestIdentity(str(uuid.uuid4()), now.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance, to be replaced in tests.

    Attributes:
        clock: seconds of a clock that never goes back.
        pause: waits so many seconds; None waits until a stop is asked for at the latest.
        random: a number in [0, 1).
        new_identity: identity of a new request.
    """

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] | None = None
    random: Callable[[], float] = random.random
    new_identity: Callable[[], RequestIdentity] = new_identity


class Pace:
    """Holds messages to a rate, and all of them back where the destination asks for it; threads take turns."""

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def reserve(self, messages: int) -> float:
        """Seconds to wait before these messages may go; they are counted as gone."""
        with self._lock:
            now = self._clock()
            start = max(self._free_at, now)
            if self._per_second:
                self._free_at = start + messages / self._per_second
            return start - now

    def hold(self, seconds: float) -> None:
        """Let nothing more go for so long."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages a second, live and historical; None is no limit."""

    live: Pace
    historical: Pace

    def hold(self, seconds: float) -> None:
        """Let nothing more go for so long: what one lane is told by the destination is meant for all."""
        self.live.hold(seconds)
        self.historical.hold(seconds)


class Carrier:
    """Carries batches to a destination and reports what became of their messages."""

    def __init__(
        self,
        destination: Destination,
        retry: RetryPolicy,
        rates: Rates,
        surroundings: Surroundings,
        *,
        halted: threading.Event,
        report: Callable[[Report], None],
    ) -> None:
        self._destination = destination
        self._retry = retry
        self._rates = rates
        self._clock = surroundings.clock
        self._pause = surroundings.pause or halted.wait
        self._random = surroundings.random
        self._new_identity = surroundings.new_identity
        self._halted = halted
        self._report = report
        self._lock = threading.Lock()
        self._accepted = 0
        self._suspected = 0

    def carry(self, batch: Batch) -> None:
        """Deliver the batch, in halves where it must be; when halted, what is not yet sent is left unsent.

        The left half is finished before the right one begins, so rows of one lane keep their order.

        Raises:
            DestinationUnavailable: the retries are used up; what was not reported is unsent.
            DestinationRefused: see `Destination.send` and `_suspect`.
        """
        pieces = [batch]
        while pieces and not self._halted.is_set():
            rejected = self._attempt(pieces.pop())
            if rejected is None:
                continue
            piece, outcome = rejected
            if len(piece) == 1:
                self._suspect((Refusal(piece.positions[0], outcome.reason),))
                continue
            pieces += reversed(piece.halves())
        for piece in pieces if pieces != [batch] else ():
            # They were sent as part of a larger request, of which PostHog may have kept a part (413 on v0).
            self._doubt(piece)

    def _attempt(self, batch: Batch) -> tuple[Batch, TooLarge | Poisoned] | None:
        """Repeat the batch until each message has an outcome; give back what was rejected as a whole."""
        identity = self._new_identity()
        self._keep_pace(batch)
        started, accepted_before = self._clock(), self._accepted
        for attempt in count(1):
            if self._halted.is_set():
                self._doubt(batch, sent=attempt > 1)
                break
            outcome = self._destination.send(batch, identity, attempt)
            if isinstance(outcome, (TooLarge, Poisoned)):
                return batch, outcome
            if isinstance(outcome, Answered):
                left = self._settle(batch, outcome)
                if left is None:
                    break
                batch = left
            if outcome.retry_after:
                self._rates.hold(outcome.retry_after)
            wait = self._retry.wait(attempt, outcome.retry_after, self._random)
            if not self._retry.allows(attempt, self._clock() - started, wait):
                self._give_up(batch, outcome, attempt, destination_works=self._accepted > accepted_before)
                break
            self._rest(outcome, wait)
            self._keep_pace(batch)
        return None

    def _rest(self, outcome: Answered | TryAgain, seconds: float) -> None:
        """Wait before the next attempt; where nothing got through, say why."""
        if isinstance(outcome, TryAgain):
            self._report(Repeated(outcome.reason))
        self._pause(seconds)

    def _keep_pace(self, batch: Batch) -> None:
        pace = self._rates.historical if batch.historical else self._rates.live
        wait = pace.reserve(len(batch))
        if wait > 0:
            self._pause(wait)

    def _settle(self, batch: Batch, answer: Answered) -> Batch | None:
        """Report what the destination decided, and return the batch of the messages that it did not decide, if any."""
        if answer.accepted:
            with self._lock:
                self._accepted += len(answer.accepted)
            self._report(Delivered(answer.accepted, answer.warned))
        if answer.refused:
            self._report(Refused(answer.refused))
        if len(answer.accepted) + len(answer.refused) == len(batch):
            return None
        return batch.without({*answer.accepted, *(refusal.position for refusal in answer.refused)})

    def _doubt(self, batch: Batch, *, sent: bool = True) -> None:
        if sent:
            self._report(Doubted(batch.positions))

    def _suspect(self, refusals: tuple[Refusal, ...]) -> None:
        """Report messages that failed without being named.

        Where the destination accepts other messages, the rows are at fault. Where it has accepted nothing yet and
        many fail, the request must be (a proxy, a new version of the server): rejecting the whole table one row at a
        time would be wrong, so the delivery ends and the rows stay pending.

        Raises:
            DestinationRefused: too many failed, and none was accepted.
        """
        with self._lock:
            self._suspected += len(refusals)
            suspected, accepted = self._suspected, self._accepted
        if accepted == 0 and suspected >= SUSPECT_LIMIT:
            raise DestinationRefused(
                f"The first {suspected} messages failed one by one and none was accepted: {refusals[0].reason}. The "
                "fault is hardly in the rows: check host, protocol and proxies. No row was rejected; all are pending."
            )
        self._report(Suspected(refusals))

    def _give_up(self, batch: Batch, outcome: Answered | TryAgain, attempts: int, *, destination_works: bool) -> None:
        """Say what the last attempt leaves: nothing is refused because of the network.

        Raises:
            DestinationUnavailable: the destination did not work while this batch was tried.
        """
        if isinstance(outcome, TryAgain):
            self._doubt(batch)
            raise DestinationUnavailable(_unavailable(outcome.reason, attempts))
        positions = batch.positions
        asked = set(outcome.retry)
        silent = f"the destination gave no answer for it in {attempts} attempts"
        unanswered = tuple(Refusal(p, silent, heals=True) for p in positions if p not in asked)
        if unanswered:
            self._report(Doubted(tuple(refusal.position for refusal in unanswered)))
            self._suspect(unanswered)
        if not asked:
            return
        # A message that is never stored while others are must not end every run before the rows behind it.
        if not destination_works:
            raise DestinationUnavailable(_unavailable("the destination stores nothing for now", attempts))
        again = f"the destination asked to send it again, {attempts} times"
        self._report(Refused(tuple(Refusal(p, again, heals=True) for p in positions if p in asked)))


def _unavailable(reason: str, attempts: int) -> str:
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return f"{reason}; gave up after {times}. Rows that were not confirmed are still pending: run again later."
