"""How rows become batches, what is halved and bisected, and how fast they go."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from deliveries import AROUND, Run, Scripted, accept, positions, row, rows, settings

from dbt_posthog_sync.batch import ENVELOPE_BYTES, HARD_BATCH_BYTES, BatchLimits
from dbt_posthog_sync.carrier import SUSPECT_LIMIT, Carrier, Pace, Rates, new_identity
from dbt_posthog_sync.delivery import (
    Delivered,
    Delivery,
    DeliverySettings,
    Surroundings,
)
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    Poisoned,
    Refusal,
    Rows,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.destinations import Outcome as SendOutcome
from dbt_posthog_sync.errors import (
    DestinationRefused,
    SettingsError,
)
from dbt_posthog_sync.http import RetryPolicy

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
