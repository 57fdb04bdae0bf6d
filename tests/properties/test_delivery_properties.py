"""Whatever a destination answers, no row is lost or doubled, order within a lane holds and no limit is passed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from hypothesis import event, given, settings
from hypothesis import strategies as st

from dbt_posthog_sync.batch import ENVELOPE_BYTES, BatchLimits
from dbt_posthog_sync.delivery import Delivered, Delivery, DeliverySettings, Doubted, Refused, Repeated, Surroundings
from dbt_posthog_sync.destinations import (
    SEAM,
    Answered,
    Batch,
    Outcome,
    Poisoned,
    Refusal,
    RequestIdentity,
    Row,
    Rows,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import RetryPolicy

ATTEMPTS = 6
LONGEST_HEAD = 60
LARGEST = LONGEST_HEAD + len('"uuid":"",') + 36 + len(SEAM)


@dataclass(frozen=True)
class Fate:
    """What the destination does with a row: its end, and how many attempts it takes to get there."""

    end: str
    asked_again: int = 0
    silent: int = 0
    trouble: int = 0


FATES = st.one_of(
    st.just(Fate("good")),
    st.builds(
        Fate,
        end=st.sampled_from(["good", "good", "dropped", "poison", "too large"]),
        asked_again=st.integers(0, 2),
        silent=st.integers(0, 2),
        trouble=st.integers(0, 2),
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Row], list[Fate]]:
    fates = draw(st.lists(FATES, max_size=60))
    rows = [
        Row.of(
            position=n,
            uuid=f"{draw(st.integers(0, 40)) if draw(st.booleans()) else n + 100:036}",
            lane=draw(st.integers(0, 5)),
            historical=draw(st.booleans()),
            head=b"h" * (LONGEST_HEAD + 1 if fate.end == "too large" else draw(st.integers(0, LONGEST_HEAD))),
            properties=b"",
        )
        for n, fate in enumerate(fates)
    ]
    return rows, fates


@dataclass
class Moody:
    """Answers by the fates of the rows; checks what every destination is promised."""

    fates: list[Fate]
    rows: Sequence[Row]
    limits: BatchLimits
    capacity: int
    lanes: int
    identity: str = "moody"
    max_message_bytes: int = LARGEST
    busy: set[int] = field(default_factory=set)
    calls: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    attempts: dict[str, tuple[int, str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, batch: Batch, identity: RequestIdentity, attempt: int) -> Outcome:
        lanes = {self.rows[position].lane % self.lanes for position in batch.positions}
        with self.lock:
            self._check(batch, identity, attempt, lanes)
            self.busy |= lanes
        outcome = self._answer(batch, attempt)
        with self.lock:
            self.busy -= lanes
            accepted = outcome.accepted if isinstance(outcome, Answered) else ()
            self.calls.append((batch.positions, accepted))
        return outcome

    def _check(self, batch: Batch, identity: RequestIdentity, attempt: int, lanes: set[int]) -> None:
        messages = [self.rows[position] for position in batch.positions]
        sizes = [len(message) + ENVELOPE_BYTES for message in batch.messages]
        last, created_at = self.attempts.get(identity.request_id, (0, identity.created_at))
        promises = {
            "not empty": bool(messages),
            "the right messages": [message.message for message in messages] == list(batch.messages),
            "count": len(messages) <= self.limits.messages,
            "bytes": sum(sizes) <= self.limits.bytes or len(messages) == 1,
            "message size": max(sizes) <= LARGEST + ENVELOPE_BYTES,
            "one age": {message.historical for message in messages} == {batch.historical},
            "no uuid twice": len({message.uuid for message in messages}) == len(messages),
            "one lane": len(lanes) == 1,
            "one in flight per lane": not lanes & self.busy,
            "attempts counted": attempt == last + 1 <= ATTEMPTS,
            "same created_at": created_at == identity.created_at,
            "in order": [m.position for m in messages] == sorted(m.position for m in messages),
        }
        self.attempts[identity.request_id] = (attempt, identity.created_at)
        self.broken += [promise for promise, kept in promises.items() if not kept]

    def _answer(self, batch: Batch, attempt: int) -> Outcome:
        fates = {position: self.fates[position] for position in batch.positions}
        if len(fates) > self.capacity:
            return TooLarge("too many")
        if any(fate.end == "poison" for fate in fates.values()):
            return Poisoned("some row is bad")
        if attempt <= next(iter(fates.values())).trouble:
            return TryAgain("503")
        late = {p for p, fate in fates.items() if attempt <= fate.asked_again}
        silent = {p for p, fate in fates.items() if attempt <= fate.silent} - late
        ready = [p for p in fates if p not in late | silent]
        return Answered(
            accepted=tuple(p for p in ready if fates[p].end == "good"),
            refused=tuple(Refusal(p, "dropped") for p in ready if fates[p].end == "dropped"),
            retry=tuple(sorted(late)),
        )


def accepted_in_order(rows: list[Row], destination: Moody) -> bool:
    """An earlier row of a lane may be accepted after a later one only if it was in the same request, to be repeated."""
    accepted_at = {p: n for n, (_, accepted) in enumerate(destination.calls) for p in accepted}
    for later in rows:
        for earlier in islice(rows, later.position):
            same = (earlier.lane, earlier.historical) == (later.lane, later.historical)
            if not same or earlier.position not in accepted_at or later.position not in accepted_at:
                continue
            call = accepted_at[later.position]
            if accepted_at[earlier.position] > call and earlier.position not in destination.calls[call][0]:
                return False
    return True


@settings(max_examples=100, deadline=None)
@given(
    case=cases(),
    messages=st.integers(1, 12),
    bytes_=st.integers(ENVELOPE_BYTES, 8 * ENVELOPE_BYTES),
    capacity=st.integers(1, 12),
    in_flight=st.integers(1, 4),
    chunk=st.integers(1, 20),
)
def test_every_row_has_one_outcome_and_every_promise_holds(
    case: tuple[list[Row], list[Fate]], messages: int, bytes_: int, capacity: int, in_flight: int, chunk: int
) -> None:
    rows, fates = case
    limits = BatchLimits(messages, bytes_)
    destination = Moody(fates, rows, limits, capacity, in_flight)
    config = DeliverySettings(limits, in_flight, RetryPolicy(attempts=ATTEMPTS))
    surroundings = Surroundings(clock=lambda: 0.0, pause=lambda _: None)
    outcomes: list[Delivered | Refused | Doubted | Repeated] = []
    stopped = False
    chunks = [Rows.of(rows[start : start + chunk]) for start in range(0, len(rows), chunk)]
    try:
        for outcome in Delivery(destination, config, surroundings=surroundings).run(chunks):
            assert isinstance(outcome, (Delivered, Refused, Doubted, Repeated))
            outcomes.append(outcome)
    except DestinationRefused:
        stopped = True
        event("stopped because nothing but poison was met")
    delivered = [p for o in outcomes if isinstance(o, Delivered) for p in o.positions]
    refused = [r.position for o in outcomes if isinstance(o, Refused) for r in o.refusals]

    assert destination.broken == []
    assert max(Counter(delivered + refused).values(), default=1) == 1
    assert all(fates[p].end == "good" for p in delivered)
    assert all(fates[p].end != "good" for p in refused)
    assert sorted(p for _, accepted in destination.calls for p in accepted) == sorted(delivered)
    assert accepted_in_order(rows, destination)
    assert not [t for t in threading.enumerate() if t.name.startswith("delivery")]
    if stopped:
        assert not [p for p in refused if fates[p].end == "poison"]
    else:
        assert sorted(delivered + refused) == list(range(len(rows)))


@settings(max_examples=40, deadline=None)
@given(case=cases(), in_flight=st.integers(1, 4), dies_after=st.integers(0, 12))
def test_an_outage_loses_and_refuses_nothing(
    case: tuple[list[Row], list[Fate]], in_flight: int, dies_after: int
) -> None:
    rows, _ = case
    destination = Dying([Fate("good")] * len(rows), rows, BatchLimits(4), 100, in_flight, max_message_bytes=LARGEST + 1)
    destination.dies_after = dies_after
    config = DeliverySettings(BatchLimits(4), in_flight, RetryPolicy(attempts=3))
    surroundings = Surroundings(clock=lambda: 0.0, pause=lambda _: None)
    delivered: list[int] = []
    doubted: list[int] = []

    def run() -> None:
        for outcome in Delivery(destination, config, surroundings=surroundings).run([Rows.of(rows)]):
            if isinstance(outcome, Repeated):
                continue
            assert isinstance(outcome, (Delivered, Doubted))
            (delivered if isinstance(outcome, Delivered) else doubted).extend(outcome.positions)

    if destination.outlives(len(rows)):
        run()
        assert sorted(delivered) == list(range(len(rows)))
    else:
        with suppress(DestinationUnavailable):
            run()
    assert len(set(delivered)) == len(delivered)
    assert not set(doubted) & set(delivered)
    assert sorted(delivered) == sorted(p for _, accepted in destination.calls for p in accepted)


class Dying(Moody):
    """Works for some requests and then for none."""

    dies_after = 0

    def outlives(self, rows: int) -> bool:
        return rows <= self.dies_after  # at most one request for each row

    def _answer(self, batch: Batch, attempt: int) -> Outcome:
        with self.lock:
            alive = len(self.calls) < self.dies_after
        return super()._answer(batch, attempt) if alive else TryAgain("503")
