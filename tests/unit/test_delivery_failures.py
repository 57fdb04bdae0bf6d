"""What a delivery does when requests fail, an account is refused, a thread breaks or somebody stops it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from deliveries import Run, Scripted, accept, delivery_threads, positions, row, rows, settings

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.carrier import SUSPECT_LIMIT
from dbt_posthog_sync.delivery import (
    Delivered,
    Delivery,
    DeliverySettings,
    Doubted,
    Outcome,
    Refused,
    Repeated,
    Waiting,
)
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    Poisoned,
    Refusal,
    Rows,
    TryAgain,
)
from dbt_posthog_sync.destinations import Outcome as SendOutcome
from dbt_posthog_sync.errors import (
    DestinationRefused,
    DestinationUnavailable,
    WarehouseUnavailable,
)
from dbt_posthog_sync.http import RetryPolicy

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
    assert run.repeated == ["500"] * 3


def test_used_up_retries_leave_the_rows_pending_and_say_why() -> None:
    destination = Scripted(lambda *_: TryAgain("eu.i.posthog.com: Connection refused"))
    run = Run(destination, rows(10), settings(messages=2))
    assert isinstance(run.error, DestinationUnavailable)
    assert "eu.i.posthog.com: Connection refused; gave up after 4 attempts" in str(run.error)
    assert run.outcomes == [Doubted((0, 1))]
    assert set(destination.batches) == {(0, 1)}
    assert run.repeated == ["eu.i.posthog.com: Connection refused"] * 3  # the fourth attempt is the last


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
    assert [outcome for outcome in outcomes if not isinstance(outcome, Waiting)] == [Repeated("503"), Doubted((0,))]


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
