"""Deliveries to a destination that follows a script, with a clock that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.delivery import (
    Delivered,
    Delivery,
    DeliverySettings,
    Outcome,
    Refused,
    Repeated,
    Surroundings,
)
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    Refusal,
    RequestIdentity,
    Row,
    Rows,
)
from dbt_posthog_sync.destinations import Outcome as SendOutcome
from dbt_posthog_sync.errors import (
    DestinationRefused,
    DestinationUnavailable,
)
from dbt_posthog_sync.http import RetryPolicy

Script = Callable[[Batch, int], SendOutcome]


def row(position: int, *, lane: int = 0, historical: bool = False, size: int = 10, uuid: str = "") -> Row:
    return Row.of(position, (uuid or str(position)).zfill(36), lane, historical, b"h" * size, b"")


AROUND = len(row(0, size=0).message)  # what a message has beside its head


def positions(batch: Batch) -> tuple[int, ...]:
    return batch.positions


def accept(batch: Batch, _attempt: int) -> SendOutcome:
    return Answered(positions(batch))


class Scripted:
    """A destination that answers by a function and remembers what it was sent."""

    identity = "scripted"
    max_message_bytes = 1000

    def __init__(self, script: Script = accept) -> None:
        self.script = script
        self.sent: list[tuple[tuple[int, ...], RequestIdentity, int, Batch]] = []

    def send(self, batch: Batch, identity: RequestIdentity, attempt: int) -> SendOutcome:
        self.sent.append((positions(batch), identity, attempt, batch))
        return self.script(batch, attempt)

    @property
    def batches(self) -> list[tuple[int, ...]]:
        return [entry[0] for entry in self.sent]


class FakeTime:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def surroundings(self) -> Surroundings:
        return Surroundings(clock=self.clock, pause=self.pause, random=lambda: 0.0)


def settings(
    *,
    messages: int = 500,
    in_flight: int = 1,
    retry: RetryPolicy | None = None,
    live: float | None = None,
    historical: float | None = None,
) -> DeliverySettings:
    return DeliverySettings(
        limits=BatchLimits(messages=messages),
        in_flight=in_flight,
        retry=retry or RetryPolicy(attempts=4),
        events_per_second=live,
        historical_events_per_second=historical,
        tick_seconds=5.0,
    )


class Run:
    """What came out of a delivery, up to its error; why it repeated requests, apart from the rest."""

    def __init__(
        self,
        destination: Scripted,
        rows: Iterable[Row],
        config: DeliverySettings | None = None,
        time: FakeTime | None = None,
    ) -> None:
        self.time = time or FakeTime()
        self.outcomes: list[Outcome] = []
        self.repeated: list[str] = []
        self.error: BaseException | None = None
        delivery = Delivery(destination, config or settings(), surroundings=self.time.surroundings())
        try:
            for outcome in delivery.run([Rows.of(rows)]):
                if isinstance(outcome, Repeated):
                    self.repeated.append(outcome.reason)
                else:
                    self.outcomes.append(outcome)
        except (DestinationRefused, DestinationUnavailable, RuntimeError) as error:
            self.error = error

    @property
    def delivered(self) -> list[int]:
        return sorted(p for o in self.outcomes if isinstance(o, Delivered) for p in o.positions)

    @property
    def refusals(self) -> list[Refusal]:
        return sorted(
            (r for o in self.outcomes if isinstance(o, Refused) for r in o.refusals), key=lambda r: r.position
        )

    @property
    def refused(self) -> list[int]:
        return [refusal.position for refusal in self.refusals]


def rows(count: int, **options: int) -> list[Row]:
    return [row(n, **options) for n in range(count)]  # type: ignore[arg-type]


def delivery_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("delivery")]
