from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import pytest

from dbt_posthog_sync.batch import ENVELOPE_BYTES, HARD_BATCH_BYTES, BatchLimits
from dbt_posthog_sync.carrier import SUSPECT_LIMIT, Carrier, Pace, Rates, new_identity
from dbt_posthog_sync.delivery import (
    Delivered,
    Delivery,
    DeliverySettings,
    Doubted,
    Outcome,
    Refused,
    Surroundings,
    Waiting,
)
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    Poisoned,
    Refusal,
    RequestIdentity,
    Row,
    Rows,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.destinations import Outcome as SendOutcome
from dbt_posthog_sync.errors import (
    DestinationRefused,
    DestinationUnavailable,
    SettingsError,
    WarehouseUnavailable,
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
    """What came out of a delivery, up to its error."""

    def __init__(
        self,
        destination: Scripted,
        rows: Iterable[Row],
        config: DeliverySettings | None = None,
        time: FakeTime | None = None,
    ) -> None:
        self.time = time or FakeTime()
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        delivery = Delivery(destination, config or settings(), surroundings=self.time.surroundings())
        try:
            for outcome in delivery.run([Rows.of(rows)]):
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


# --- batches --------------------------------------------------------------------------------------------------------


def test_no_rows_make_no_request() -> None:
    destination = Scripted()
    assert Run(destination, []).outcomes == []
    assert destination.sent == []


def test_every_row_is_delivered_in_batches_of_the_set_size() -> None:
    destination = Scripted()
    run = Run(destination, rows(7), settings(messages=3))
    assert destination.batches == [(0, 1, 2), (3, 4, 5), (6,)]
    assert run.delivered == list(range(7))


def test_batches_are_cut_before_they_grow_too_many_bytes() -> None:
    destination = Scripted()
    limits = BatchLimits(bytes=3 * (ENVELOPE_BYTES + AROUND + 10) + 1)
    Run(destination, rows(7), DeliverySettings(limits=limits, in_flight=1))
    assert destination.batches == [(0, 1, 2), (3, 4, 5), (6,)]


def test_live_and_historical_rows_never_share_a_batch() -> None:
    destination = Scripted()
    Run(destination, [row(n, historical=n % 3 == 0) for n in range(6)])
    assert {(entry[0], entry[3].historical) for entry in destination.sent} == {((1, 2, 4, 5), False), ((0, 3), True)}


def test_rows_of_one_lane_go_one_batch_after_the_other() -> None:
    destination = Scripted()
    Run(destination, [row(n, lane=n % 2 + 10) for n in range(8)], settings(messages=2, in_flight=2))
    for parity in (0, 1):
        mine = [p for batch in destination.batches for p in batch if p % 2 == parity]
        assert mine == sorted(mine)
        assert len(mine) == 4


def test_a_uuid_is_never_twice_in_one_batch() -> None:
    destination = Scripted()
    run = Run(destination, [row(0, uuid="a"), row(1, uuid="b"), row(2, uuid="a"), row(3, uuid="a")])
    assert destination.batches == [(0, 1), (2,), (3,)]
    assert run.delivered == [0, 1, 2, 3]


def test_a_message_too_large_for_the_destination_is_refused_unsent() -> None:
    destination = Scripted()
    run = Run(destination, [row(0), row(1, size=1001 - AROUND), row(2, size=1000 - AROUND)])
    assert destination.batches == [(0, 2)]
    assert run.refusals == [Refusal(1, "the message has 1,001 bytes; the destination takes 1,000 at most")]


def test_batches_of_persons_say_so() -> None:
    destination = Scripted()
    list(Delivery(destination, needs_person=True).run([Rows.of([row(0)])]))
    assert destination.sent[0][3].needs_person


@pytest.mark.parametrize(
    "build",
    [
        lambda: BatchLimits(messages=0),
        lambda: BatchLimits(bytes=1),
        lambda: BatchLimits(bytes=HARD_BATCH_BYTES + 1),
        lambda: DeliverySettings(in_flight=0),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(SettingsError):
        build()


def test_a_delivery_may_run_again_with_more_rows() -> None:
    delivery = Delivery(Scripted(), settings())
    assert list(delivery.run([Rows.of([row(0)])])) == [Delivered((0,))]
    assert list(delivery.run([Rows.of([row(1)])])) == [Delivered((1,))]


def test_warned_messages_are_counted() -> None:
    run = Run(Scripted(lambda batch, _: Answered(positions(batch), warned=1)), rows(2))
    assert run.outcomes == [Delivered((0, 1), warned=1)]


def test_request_identities_are_uuids_and_utc_times() -> None:
    identity = new_identity()
    assert len(identity.request_id) == 36
    assert identity.created_at.endswith("Z")


# --- halving and bisecting ------------------------------------------------------------------------------------------


def test_a_batch_that_is_too_large_goes_in_halves_in_order() -> None:
    destination = Scripted(lambda batch, _: TooLarge("413") if len(batch.messages) > 2 else accept(batch, 1))
    run = Run(destination, rows(5))
    assert run.delivered == [0, 1, 2, 3, 4]
    assert [batch for batch in destination.batches if len(batch) <= 2] == [(0, 1), (2,), (3, 4)]


def test_a_single_message_that_is_too_large_is_refused() -> None:
    destination = Scripted(lambda batch, _: TooLarge("413") if 3 in positions(batch) else accept(batch, 1))
    run = Run(destination, rows(5))
    assert (run.delivered, run.refusals) == ([0, 1, 2, 4], [Refusal(3, "413")])


@pytest.mark.parametrize("bad", [{0}, {99}, {50}, {0, 99}, {10, 11, 12, 13}])
def test_poisonous_rows_are_found_and_the_rest_is_delivered(bad: set[int]) -> None:
    destination = Scripted(lambda batch, _: Poisoned("no name") if bad & {*positions(batch)} else accept(batch, 1))
    run = Run(destination, rows(100))
    assert run.error is None
    assert run.refusals == [Refusal(p, "no name") for p in sorted(bad)]
    assert run.delivered == [p for p in range(100) if p not in bad]
    assert len(destination.sent) <= 2 * 7 * len(bad) + 1


def test_halves_are_new_requests() -> None:
    destination = Scripted(lambda batch, _: TooLarge("413") if len(batch.messages) > 1 else accept(batch, 1))
    Run(destination, rows(2))
    assert len({entry[1].request_id for entry in destination.sent}) == 3


def test_when_everything_is_poison_the_delivery_stops_and_rejects_nothing() -> None:
    destination = Scripted(lambda *_: Poisoned("bad request"))
    run = Run(destination, rows(1000), settings(messages=100))
    assert isinstance(run.error, DestinationRefused)
    assert "bad request" in str(run.error)
    assert run.outcomes == []
    assert len([b for b in destination.batches if len(b) == 1]) == SUSPECT_LIMIT


def test_a_few_bad_rows_are_refused_even_when_there_is_no_good_one() -> None:
    run = Run(Scripted(lambda *_: Poisoned("no name")), rows(3))
    assert run.error is None
    assert run.refused == [0, 1, 2]


def test_many_bad_rows_are_refused_once_a_good_one_was_accepted() -> None:
    destination = Scripted(lambda batch, _: accept(batch, 1) if positions(batch) == (0,) else Poisoned("no name"))
    run = Run(destination, rows(100), settings(messages=1))
    assert run.error is None
    assert (run.delivered, run.refused) == ([0], list(range(1, 100)))


# --- retries --------------------------------------------------------------------------------------------------------


def test_only_what_must_be_repeated_is_repeated_with_the_same_identity() -> None:
    def script(batch: Batch, attempt: int) -> SendOutcome:
        if attempt == 1:
            return Answered(accepted=(0,), refused=(Refusal(1, "no"),), retry=(2,), retry_after=9.0)
        return accept(batch, attempt)

    destination = Scripted(script)
    run = Run(destination, rows(4))
    assert destination.batches == [(0, 1, 2, 3), (2, 3)]
    assert destination.sent[0][1] == destination.sent[1][1]
    assert [entry[2] for entry in destination.sent] == [1, 2]
    assert run.outcomes == [Delivered((0,)), Refused((Refusal(1, "no"),)), Delivered((2, 3))]
    assert run.time.pauses == [9.0]


def test_a_failed_request_is_repeated_whole_with_growing_waits() -> None:
    destination = Scripted(lambda batch, attempt: TryAgain("500") if attempt < 4 else accept(batch, attempt))
    run = Run(destination, rows(2))
    assert destination.batches == [(0, 1)] * 4
    assert run.delivered == [0, 1]
    assert run.time.pauses == [1.0, 2.0, 4.0]


def test_used_up_retries_leave_the_rows_pending_and_say_why() -> None:
    destination = Scripted(lambda *_: TryAgain("eu.i.posthog.com: Connection refused"))
    run = Run(destination, rows(10), settings(messages=2))
    assert isinstance(run.error, DestinationUnavailable)
    assert "eu.i.posthog.com: Connection refused; gave up after 4 attempts" in str(run.error)
    assert run.outcomes == [Doubted((0, 1))]
    assert set(destination.batches) == {(0, 1)}


def test_what_was_accepted_before_the_retries_are_used_up_is_yielded() -> None:
    destination = Scripted(lambda batch, _: accept(batch, 1) if 0 in positions(batch) else TryAgain("503"))
    run = Run(destination, rows(10), settings(messages=2))
    assert isinstance(run.error, DestinationUnavailable)
    assert (run.delivered, run.refused) == ([0, 1], [])


def test_a_wait_longer_than_the_budget_is_not_begun() -> None:
    destination = Scripted(lambda *_: TryAgain("429", retry_after=3600.0))
    run = Run(destination, rows(1))
    assert isinstance(run.error, DestinationUnavailable)
    assert "1 attempt." in str(run.error)
    assert run.time.pauses == []


def test_a_row_that_is_never_answered_for_is_refused_and_tried_by_every_run() -> None:
    def script(batch: Batch, _attempt: int) -> SendOutcome:
        return Answered(tuple(p for p in positions(batch) if p != 1))

    run = Run(Scripted(script), rows(3))
    assert run.error is None
    assert run.delivered == [0, 2]
    assert run.refusals == [Refusal(1, "the destination gave no answer for it in 4 attempts", heals=True)]


def test_a_row_that_is_never_stored_while_others_are_does_not_end_the_run() -> None:
    def script(batch: Batch, _attempt: int) -> SendOutcome:
        good = tuple(p for p in positions(batch) if p != 1)
        return Answered(good, retry=(1,) if 1 in positions(batch) else ())

    run = Run(Scripted(script), rows(6), settings(messages=3))
    assert run.error is None
    assert run.delivered == [0, 2, 3, 4, 5]
    assert [(r.position, r.heals) for r in run.refusals] == [(1, True)]


def test_a_destination_that_stores_nothing_leaves_the_rows_pending() -> None:
    run = Run(Scripted(lambda batch, _: Answered(retry=positions(batch))), rows(3))
    assert isinstance(run.error, DestinationUnavailable)
    assert run.outcomes == []


def test_a_destination_that_answers_for_nothing_rejects_no_table() -> None:
    run = Run(Scripted(lambda *_: Answered()), rows(SUSPECT_LIMIT))
    assert isinstance(run.error, DestinationRefused)
    assert run.outcomes == [Doubted(tuple(range(SUSPECT_LIMIT)))]


# --- errors and stops -----------------------------------------------------------------------------------------------


def test_a_refused_key_stops_at_once_after_the_outcomes_that_are_known() -> None:
    def script(batch: Batch, attempt: int) -> SendOutcome:
        if 4 in positions(batch):
            raise DestinationRefused("401")
        return accept(batch, attempt)

    destination = Scripted(script)
    run = Run(destination, rows(1000), settings(messages=2))
    assert isinstance(run.error, DestinationRefused)
    assert run.delivered == [0, 1, 2, 3]
    assert destination.batches == [(0, 1), (2, 3), (4, 5)]
    assert delivery_threads() == []


def test_what_other_lanes_have_in_flight_is_finished_and_yielded_before_the_error() -> None:
    in_flight, failed = threading.Event(), threading.Event()

    def script(batch: Batch, attempt: int) -> SendOutcome:
        if 0 in positions(batch):
            assert in_flight.wait(5)
            failed.set()
            raise DestinationRefused("402")
        in_flight.set()
        assert failed.wait(5)
        return accept(batch, attempt)

    run = Run(Scripted(script), [row(0, lane=0), row(1, lane=1)], settings(in_flight=2))
    assert isinstance(run.error, DestinationRefused)
    assert run.delivered == [1]


def test_a_crash_in_a_thread_surfaces_and_nothing_hangs() -> None:
    def script(_batch: Batch, _attempt: int) -> SendOutcome:
        raise RuntimeError("bug")

    run = Run(Scripted(script), [row(n, lane=n) for n in range(1000)], settings(messages=2, in_flight=4))
    assert isinstance(run.error, RuntimeError)
    assert delivery_threads() == []


def test_a_lost_warehouse_comes_after_the_outcomes() -> None:
    def chunks() -> Iterator[Rows]:
        yield Rows.of([row(0), row(1)])
        raise WarehouseUnavailable("gone")

    outcomes: list[Outcome] = []
    with pytest.raises(WarehouseUnavailable):  # noqa: PT012 (what came before the error is the point)
        for outcome in Delivery(Scripted(), settings(messages=2)).run(chunks()):
            outcomes.append(outcome)
    assert outcomes in ([Delivered((0, 1))], [])  # accepted if it was in flight by then; otherwise never sent
    assert delivery_threads() == []


def test_a_bug_in_the_row_source_ends_the_threads() -> None:
    def chunks() -> Iterator[Rows]:
        yield Rows.of([row(0)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Delivery(Scripted(), settings()).run(chunks()))
    assert delivery_threads() == []


def test_leaving_early_ends_the_threads() -> None:
    delivery = Delivery(Scripted(), settings(messages=1, in_flight=4))
    with closing(delivery.run([Rows.of(row(n, lane=n) for n in range(100))])) as outcomes:
        next(outcomes)
    assert delivery_threads() == []


def test_a_stop_finishes_what_is_in_flight_and_returns() -> None:
    destination = Scripted()
    delivery = Delivery(destination, settings(messages=1))
    delivered: list[int] = []
    for outcome in delivery.run(Rows.of([row(n)]) for n in range(10_000)):
        assert isinstance(outcome, Delivered)
        delivered += outcome.positions
        delivery.stop()
    assert delivery.stopped
    assert len(delivered) < 100
    assert delivered == [batch[0] for batch in destination.batches]
    assert delivery_threads() == []


def test_a_stop_cuts_the_wait_for_a_retry_short() -> None:
    config = DeliverySettings(in_flight=1, retry=RetryPolicy(base=30.0, jitter=0.0), tick_seconds=0.01)
    delivery = Delivery(Scripted(lambda *_: TryAgain("503")), config)
    outcomes: list[Outcome] = []
    for outcome in delivery.run([Rows.of([row(0)])]):
        outcomes.append(outcome)
        delivery.stop()
    assert delivery.stopped
    assert [outcome for outcome in outcomes if not isinstance(outcome, Waiting)] == [Doubted((0,))]


def test_a_stop_before_anything_was_accepted_rejects_nothing() -> None:
    delivery: Delivery

    def script(_batch: Batch, _attempt: int) -> SendOutcome:
        delivery.stop()
        return Poisoned("bad request")

    delivery = Delivery(Scripted(script), settings())
    assert list(delivery.run([Rows.of([row(0)])])) == []


def test_a_slow_destination_holds_back_the_row_source() -> None:
    gate = threading.Event()
    pulled = 0

    def script(batch: Batch, attempt: int) -> SendOutcome:
        assert gate.wait(5)
        return accept(batch, attempt)

    def chunks() -> Iterator[Rows]:
        nonlocal pulled
        for start in range(0, 1000, 10):
            pulled += 10
            yield Rows.of(row(n, lane=n) for n in range(start, start + 10))

    config = DeliverySettings(limits=BatchLimits(messages=5), in_flight=2, tick_seconds=0.01)
    delivered = 0
    for outcome in Delivery(Scripted(script), config).run(chunks()):
        match outcome:
            case Waiting():
                assert pulled <= 50
                gate.set()
            case Delivered():
                delivered += len(outcome.positions)
    assert delivered == 1000


# --- rates ----------------------------------------------------------------------------------------------------------


def test_live_rows_are_held_to_their_rate() -> None:
    run = Run(Scripted(), rows(100), settings(messages=10, live=20.0))
    assert run.time.now == pytest.approx(4.5)  # 10 batches, half a second apart
    assert run.delivered == list(range(100))


def test_historical_rows_have_a_rate_of_their_own() -> None:
    history = [row(n, historical=True) for n in range(100)]
    assert Run(Scripted(), history, settings(messages=10, live=1.0)).time.now == 0
    assert Run(Scripted(), history, settings(messages=10, historical=10.0)).time.now == pytest.approx(9.0)


def test_repeated_messages_count_against_the_rate() -> None:
    destination = Scripted(lambda batch, attempt: TryAgain("503") if attempt == 1 else accept(batch, attempt))
    run = Run(destination, rows(10), settings(live=1.0))
    assert run.time.now == pytest.approx(10.0)


def test_what_one_lane_is_asked_to_wait_holds_all_lanes() -> None:
    asked: list[float] = []
    rates = Rates(Pace(None, lambda: 0.0), Pace(1000.0, lambda: 0.0))

    def script(_batch: Batch, attempt: int) -> SendOutcome:
        return TryAgain("429", retry_after=30.0) if attempt == 1 else Answered((1,))

    def pause(_seconds: float) -> None:
        asked.extend((rates.live.reserve(1), rates.historical.reserve(1)))

    carrier = Carrier(
        Scripted(script),
        RetryPolicy(),
        rates,
        Surroundings(clock=lambda: 0.0, pause=pause),
        halted=threading.Event(),
        report=lambda _report: None,
    )
    carrier.carry(Batch.of([row(1)]))
    assert min(asked) >= 30.0
