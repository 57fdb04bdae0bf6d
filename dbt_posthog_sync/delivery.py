"""Delivery: rows in, outcomes out, with several batches in flight and bounded memory.

```
chunks of rows -> BatchCutter -> lane 0: queue -> thread -> Carrier -> Destination
   (caller's                     lane 1: queue -> thread -> Carrier -> Destination
    thread)                      ...
outcomes <---------------------- one queue of reports <---'
```

A row's lane decides its thread, and a thread finishes one batch before it begins the next: that keeps the order of
one distinct_id. Live and historical rows of a lane are two orders, because they may not share a batch; historical
events carry no person properties, so nothing depends on the order between the two.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue
from typing import TypeAlias

from dbt_posthog_sync.batch import BatchCutter, BatchLimits, LaneBatch
from dbt_posthog_sync.carrier import (
    Carrier,
    Delivered,
    Doubted,
    Pace,
    Rates,
    Refused,
    Repeated,
    Report,
    Surroundings,
    Suspected,
)
from dbt_posthog_sync.destinations import Batch, Destination, Refusal, Rows
from dbt_posthog_sync.errors import SettingsError, SyncError
from dbt_posthog_sync.http import RetryPolicy

__all__ = [
    "Delivered",
    "Delivery",
    "DeliverySettings",
    "Doubted",
    "Outcome",
    "Refused",
    "Repeated",
    "Rows",
    "Surroundings",
    "Waiting",
]

LANE_DEPTH = 2
"""Batches handed to a lane at once: the one in flight, and one that is ready when it returns."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How rows are sent.

    Attributes:
        limits: when a batch is full.
        in_flight: batches on their way at once; each has its thread and its lane.
        retry: how often and how patiently a batch is repeated.
        events_per_second: most live messages a second, or None.
        historical_events_per_second: most historical messages a second, or None.
        tick_seconds: longest silence towards the caller.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    in_flight: int = 8
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    events_per_second: float | None = None
    historical_events_per_second: float | None = None
    tick_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise SettingsError("in_flight must be at least 1.")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing happened for a while; the caller may confirm what it has and show that it is alive."""


class _Signal(Enum):
    STOP = "stop"


Outcome: TypeAlias = Delivered | Refused | Doubted | Repeated | Waiting
_Event: TypeAlias = "Report | int | Future[None] | _Signal"


class Delivery:
    """Delivers the rows of one sync. `run` may be called again with more rows after it ended without an error."""

    def __init__(
        self,
        destination: Destination,
        settings: DeliverySettings | None = None,
        *,
        needs_person: bool = False,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._destination = destination
        self._settings = settings or DeliverySettings()
        self._needs_person = needs_person
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._halted = threading.Event()
        self._stopped = False
        self._error: BaseException | None = None
        self._lanes: tuple[SimpleQueue[Batch | None], ...] = ()
        self._loads: list[int] = []
        self._running = 0
        self._proven = False
        self._suspects: list[Refusal] = []
        self._carrier = self._new_carrier(surroundings or Surroundings())

    def _new_carrier(self, surroundings: Surroundings) -> Carrier:
        settings = self._settings
        rates = Rates(
            live=Pace(settings.events_per_second, surroundings.clock),
            historical=Pace(settings.historical_events_per_second, surroundings.clock),
        )
        return Carrier(
            self._destination, settings.retry, rates, surroundings, halted=self._halted, report=self._events.put
        )

    @property
    def stopped(self) -> bool:
        """Whether `stop` ended the delivery."""
        return self._stopped

    def stop(self) -> None:
        """Finish what is in flight and begin nothing new; `run` then returns. Safe in a signal handler."""
        # SimpleQueue.put is the one reentrant way to reach the thread that this handler may have interrupted.
        self._events.put(_Signal.STOP)

    def run(self, chunks: Iterable[Rows]) -> Generator[Outcome, None, None]:
        """Send the rows and yield outcomes as they come; rows are pulled between the outcomes.

        Rows without an outcome at the end were not confirmed and stay pending. Close the iterator if it is left
        early (`contextlib.closing`): that ends the threads.

        Raises:
            DestinationUnavailable: retries of a batch are used up. This and every other error comes after what was
                in flight has ended and its outcomes were yielded.
            DestinationRefused: the destination refuses the key, the account or every request.
            SyncError: whatever reading the rows raised.
        """
        in_flight = self._settings.in_flight
        self._lanes = tuple(SimpleQueue() for _ in range(in_flight))
        self._loads = [0] * in_flight
        self._running = in_flight
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="delivery")
        try:
            for lane in range(in_flight):
                pool.submit(self._work, lane).add_done_callback(self._events.put)
            yield from self._feed(chunks)
            self._dismiss()
            while self._running:
                yield from self._next()
            if not self._halted.is_set():  # all rows were tried, so the few that failed are at fault
                yield from self._acquit()
        finally:
            if self._running:  # an error of the caller or a bug: the threads are still at work
                self._halted.set()
                self._dismiss()
            pool.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def _work(self, lane: int) -> None:
        """Carry the batches of one lane, on its own thread; an error stops all lanes at once and ends in `_handle`."""
        with ExitStack() as on_error:
            on_error.callback(self._halted.set)
            while (batch := self._lanes[lane].get()) is not None:
                if not self._halted.is_set():
                    self._carrier.carry(batch)
                self._events.put(lane)
            on_error.pop_all()

    def _dismiss(self) -> None:
        for lane in self._lanes:
            lane.put(None)

    def _feed(self, chunks: Iterable[Rows]) -> Iterator[Outcome]:
        cutter = BatchCutter(
            self._settings.limits,
            lanes=self._settings.in_flight,
            max_message_bytes=self._destination.max_message_bytes,
            needs_person=self._needs_person,
        )
        try:
            for rows in chunks:
                yield from self._dispatch(cutter.add(rows))
                yield from self._drain()
                if self._halted.is_set():
                    return
        except SyncError as error:  # the warehouse failed: what is in flight still gets its outcomes
            self._note(error)
        yield from self._dispatch(cutter.rest())

    def _dispatch(self, cuts: Iterator[LaneBatch | Refusal] | Iterator[LaneBatch]) -> Iterator[Outcome]:
        """Hand batches to their lanes, waiting while a lane is full: this is what bounds memory."""
        for cut in cuts:
            if isinstance(cut, Refusal):
                yield Refused((cut,))
                continue
            while self._loads[cut.lane] >= LANE_DEPTH and not self._halted.is_set():
                yield from self._next()
            if self._halted.is_set():
                return
            self._loads[cut.lane] += 1
            self._lanes[cut.lane].put(cut.batch)

    def _next(self) -> Iterator[Outcome]:
        """Wait for one event, and say so when none comes."""
        try:
            event = self._events.get(timeout=self._settings.tick_seconds)
        except Empty:
            yield Waiting()
            return
        yield from self._handle(event)

    def _drain(self) -> Iterator[Outcome]:
        """Handle the events that are there, without waiting."""
        while not self._events.empty():
            yield from self._handle(self._events.get())

    def _handle(self, event: _Event) -> Iterator[Outcome]:
        match event:
            case Delivered():
                self._proven = True
                yield from self._acquit()
                yield event
            case Refused() | Doubted() | Repeated():
                yield event
            case Suspected():
                self._suspects.extend(event.refusals)
                if self._proven:
                    yield from self._acquit()
            case int():  # a lane has finished a batch
                self._loads[event] -= 1
            case Future():
                self._running -= 1
                self._note(event.exception())
            case _Signal.STOP:
                self._stopped = True
                self._halted.set()

    def _acquit(self) -> Iterator[Outcome]:
        """Give out the refusals that were held until something was accepted; see `Carrier._suspect`."""
        if self._suspects:
            yield Refused(tuple(self._suspects))
            self._suspects.clear()

    def _note(self, error: BaseException | None) -> None:
        """Stop all lanes on an error; the first one is the one to be raised."""
        if error is not None:
            self._error = self._error or error
            self._halted.set()
