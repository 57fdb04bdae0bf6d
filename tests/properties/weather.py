"""What may happen to a run on its way: answers of PostHog, a pause in which the world goes on, a second session."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from models import POISON
from mortal import Killed, MortalWarehouse

from dbt_posthog_sync.testing import Arrival, EventResults, Fault, Status, Verdict
from dbt_posthog_sync.warehouse import ResultRow, Warehouse
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

_Result = TypeVar("_Result")


class Weather:
    """A fault plan: these faults for the next requests, then fair weather; a poisoned row is refused at any time.

    A pause happens while one request waits for its answer: PostHog has read it and acts on it only afterwards.
    """

    def __init__(
        self, faults: tuple[Fault | None, ...] = (), pause_at: int = 0, pause: Callable[[], object] | None = None
    ) -> None:
        self._faults = faults
        self._pause_at = pause_at
        self._pause = pause
        self._lock = threading.Lock()
        self._number = 0
        self._paused: Future[object] | None = None

    def raise_problem(self) -> None:
        """Raise what went wrong in the pause: the thread that paused is the server's."""
        if self._paused is not None:
            self._paused.result()

    def fault_for(self, arrival: Arrival) -> Fault | None:
        """See `FaultPlan`."""
        with self._lock:
            self._number += 1
            number = self._number
        if number == self._pause_at and self._pause is not None:
            with ThreadPoolExecutor(1) as pool:
                self._paused = pool.submit(self._pause)
        fault = self._faults[number - 1] if number <= len(self._faults) else None
        return spelled(fault, arrival) or refusal(arrival)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run something happens: before a statement (the so-manieth of all or of a macro), or in a request."""

    statement: int = 1
    macro: str = ""
    request: int = 0


NOWHERE = Place(statement=400)
"""After so many statements a run of eight rows is taken for one that never ends."""


class EventfulWarehouse(MortalWarehouse):
    """Dies at one place, and lets something else happen at another one; not inside a transaction."""

    def __init__(
        self, warehouse: Warehouse, dies_at: Place, pause_at: Place, pause: Callable[[], object] | None
    ) -> None:
        super().__init__(warehouse, NOWHERE.statement)
        self._dies_at = dies_at
        self._pause_at = pause_at
        self._pause = None if pause_at.request else pause
        self._seen: Counter[str] = Counter()
        self._is_in_transaction = False

    def run(self, macro: str, **arguments: Any) -> int:
        self._note(macro)
        return super().run(macro, **arguments)

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        self._note(macro)
        return super().rows(macro, **arguments)

    def stream(
        self, macro: str, *, own_connection: bool = True, **arguments: Any
    ) -> AbstractContextManager[Iterator[Sequence[ResultRow]]]:
        self._note(macro)
        return super().stream(macro, own_connection=own_connection, **arguments)

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        self._is_in_transaction = True
        try:
            with super().transaction(one_view=one_view):
                yield
        finally:
            self._is_in_transaction = False

    def _note(self, macro: str) -> None:
        self._seen[macro] += 1
        self._seen[""] += 1
        if self._is_reached(self._dies_at):
            raise Killed
        if self._pause is not None and not self._is_in_transaction and self._is_reached(self._pause_at):
            pause, self._pause = self._pause, None
            pause()

    def _is_reached(self, place: Place) -> bool:
        return place.request == 0 and self._seen[place.macro] >= place.statement


def spelled(fault: Fault | None, arrival: Arrival) -> Fault | None:
    """The fault as the protocol of the request can say it, where that is no final word about a single row."""
    if isinstance(fault, EventResults) and arrival.protocol == "v0":
        return Status(503)  # v0 has no word for one event: PostHog would lose it and answer that all is well
    if isinstance(fault, Status) and fault.code in (400, 413) and len(arrival.events) < 2:
        return None  # a refusal of one message stays until the row changes; only poisoned rows meet that
    return fault


def refusal(arrival: Arrival) -> Fault | None:
    """Poisoned rows are dropped with a word on v1, and make v0 refuse the whole request."""
    if not any(is_poisoned(event) for event in arrival.events):
        return None
    if arrival.protocol == "v0":
        return Status(400, body="a poisoned row")
    return EventResults(lambda event: Verdict("drop", "poison") if is_poisoned(event) else None)


def is_poisoned(event: Mapping[str, Any]) -> bool:
    """True for a message that carries the poison in any property, also inside `$set` and its like."""
    values = [event.get("properties", {})]
    while values:
        value = values.pop()
        if value == POISON:
            return True
        values += value.values() if isinstance(value, dict) else ()
    return False


def in_another_session(warehouse: Warehouse, work: Callable[[], _Result]) -> _Result:
    """Do the work on a thread and a connection of its own, as another process would."""
    assert isinstance(warehouse, DbtWarehouse)

    def enter_and_work() -> _Result:
        with warehouse:
            return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter_and_work).result()
