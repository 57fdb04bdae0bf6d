"""Cases in which PostHog, or the way to it, fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbt_posthog_sync.testing import (
    Arrival,
    CutAnswer,
    CutRequest,
    Delay,
    EventResults,
    ExpiredKey,
    Fault,
    FaultPlan,
    LoseAnswer,
    Script,
    Status,
    Verdict,
    When,
    always,
)
from faults.case import Act, Case, Seen, last_words
from faults.model import PEOPLE
from faults.scene import Scene
from faults.traffic import Busy

_BAD = "malformed_event_properties"
_BUSY_REQUESTS = 8
_LARGEST_BATCH = 200
_EVERY = 20


def under(plan: Callable[[int], FaultPlan]) -> Act:
    """A run under a fault plan, which is made for the number of rows."""

    def act(scene: Scene) -> Seen:
        scene.traffic.meet(plan(scene.rows))
        ended = scene.run()
        met = scene.traffic.faults
        problems = () if met else ("no request met the fault",)
        return Seen(f"{scene.traffic.requests} requests, {met} met the fault", (ended.code,), problems)

    return act


def _one_in_twenty(fault: Fault) -> Callable[[int], FaultPlan]:
    return lambda _rows: When(lambda arrival: arrival.number % _EVERY == 1, fault)


def _first(requests: int, fault: Fault) -> Callable[[int], FaultPlan]:
    return lambda _rows: Script((fault,) * requests)


def _busy(*, as_date: bool) -> Act:
    """The first requests are told when to come back, and none may come sooner."""
    seconds = 3

    def act(scene: Scene) -> Seen:
        scene.traffic.meet(Busy(_BUSY_REQUESTS, seconds, as_date))
        ended = scene.run()
        times = scene.traffic.times
        waited = times[_BUSY_REQUESTS] - times[0]
        # An HTTP date has whole seconds.
        problems = ("it came back too soon",) if waited < seconds - as_date else ()
        return Seen(f"{_BUSY_REQUESTS} x 429, came back after {waited:.1f} s", (ended.code,), problems)

    return act


def _expired_key(scene: Scene) -> Seen:
    good = scene.batches // 2
    scene.traffic.meet(Script(after=good, then=ExpiredKey()))
    ended = scene.run()
    named = "" if "401" in ended.out + ended.err else "the message does not say 401"
    return Seen(f"401 from request {good + 1} on", (ended.code,), (named,) if named else ())


# Rows that PostHog does not take.


def one_bad(rows: int) -> tuple[int, ...]:
    """One row in the middle."""
    return (rows // 2,)


def _some_bad(rows: int) -> tuple[int, ...]:
    """One row in a hundred."""
    return tuple(range(50, rows + 1, 100))


def _is_among(bad: frozenset[int]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda event: event["properties"]["order_id"] in bad


def dropped(rows: Callable[[int], tuple[int, ...]]) -> Callable[[int], FaultPlan]:
    """The plan of a v1 that drops these rows."""

    def plan(number: int) -> FaultPlan:
        is_bad = _is_among(frozenset(rows(number)))
        return When(always, EventResults(lambda event: Verdict("drop", _BAD) if is_bad(event) else None))

    return plan


def _poisoned(rows: Callable[[int], tuple[int, ...]]) -> Callable[[int], FaultPlan]:
    """The plan of a v0 that answers 400 to every batch with one of these rows."""

    def plan(number: int) -> FaultPlan:
        is_bad = _is_among(frozenset(rows(number)))
        return When(lambda arrival: any(map(is_bad, arrival.events)), Status(400, "failed to parse request"))

    return plan


def _too_large(arrival: Arrival) -> bool:
    return len(arrival.events) > _LARGEST_BATCH


def _never_answered(scene: Scene) -> Seen:
    scene.traffic.meet(When(always, LoseAnswer()))
    ended = scene.run()
    return Seen(f"{scene.traffic.requests} requests, none answered: {last_words(ended)[:60]}", (ended.code,))


def cases() -> tuple[Case, ...]:
    """All of them."""
    storm = under(_first(24, Status(503)))
    lost = under(_one_in_twenty(LoseAnswer()))
    too_large = under(lambda _rows: When(_too_large, Status(413)))
    impatient = {"retry_seconds": 2}
    return (
        Case("500-three-times", under(_first(3, Status(500))), (0,), may_repeat=False),
        Case("503-storm", storm, (0,), may_repeat=False),
        Case("503-storm-v0", storm, (0,), protocol="v0", may_repeat=False),
        Case("503-without-end", under(_first(999_999, Status(503))), (4,), delivery=impatient, may_repeat=False),
        Case("429-in-seconds", _busy(as_date=False), (0,), may_repeat=False),
        Case("429-as-date", _busy(as_date=True), (0,), may_repeat=False),
        Case("429-as-date-v0", _busy(as_date=True), (0,), protocol="v0", may_repeat=False),
        Case("timeouts", under(_first(8, Delay(3.0))), (0,), delivery={"timeout_seconds": 1}),
        Case("timeouts-v0", under(_first(8, Delay(3.0))), (0,), protocol="v0", delivery={"timeout_seconds": 1}),
        Case("request-cut", under(_one_in_twenty(CutRequest())), (0,), may_repeat=False),
        Case("request-cut-v0", under(_one_in_twenty(CutRequest())), (0,), protocol="v0", may_repeat=False),
        Case("answer-cut", under(_one_in_twenty(CutAnswer())), (0,)),
        Case("answer-cut-v0", under(_one_in_twenty(CutAnswer())), (0,), protocol="v0"),
        Case("answer-lost", lost, (0,)),
        Case("answer-lost-v0", lost, (0,), protocol="v0"),
        Case("answer-lost-persons", lost, (0,), model=PEOPLE),
        Case("answer-never", _never_answered, (4,), delivery=impatient),
        Case("answer-never-persons", _never_answered, (4,), model=PEOPLE, delivery=impatient),
        Case("key-expires", _expired_key, (4,), may_repeat=False),
        Case("key-expires-v0", _expired_key, (4,), protocol="v0", may_repeat=False),
        Case("413-large-batches", too_large, (0,), may_repeat=False, at_least=20_000),
        *_bad_rows(),
    )


def _bad_rows() -> tuple[Case, ...]:
    drops, poisons = dropped(one_bad), _poisoned(one_bad)
    drops_some, poisons_some = dropped(_some_bad), _poisoned(_some_bad)
    some_v0 = under(poisons_some)
    return (
        Case("one-bad-row", under(drops), (1,), refused=one_bad, lasting=drops, may_repeat=False),
        Case("one-bad-row-v0", under(poisons), (1,), protocol="v0", refused=one_bad, lasting=poisons, may_repeat=False),
        Case("bad-rows-1%", under(drops_some), (1,), refused=_some_bad, lasting=drops_some, may_repeat=False),
        Case("bad-rows-1%-v0", some_v0, (1,), protocol="v0", refused=_some_bad, lasting=poisons_some, may_repeat=False),
    )
