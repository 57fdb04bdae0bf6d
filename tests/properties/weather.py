"""What may happen to a run on its way: answers of PostHog, a pause in which the world goes on, a second session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from models import POISON

from dbt_posthog_sync.testing import Arrival, EventResults, Fault, Status, Verdict
from dbt_posthog_sync.warehouse import Warehouse
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
