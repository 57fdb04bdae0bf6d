"""Cases with two runs of one sync, and runs that are told to end or to stand still."""

from __future__ import annotations

import signal
import time

from faults.case import Act, Case, Seen, last_words
from faults.model import PEOPLE
from faults.program import Ended
from faults.scene import Scene
from faults.traffic import wait_until

_DELIVERY_SECONDS = 10.0
_ROBBED_SECONDS = 30.0
"""Long enough that the first run still streams when the second one has staged, also on a slow machine."""

_HANG_SECONDS = 90.0
"""Two runs that wait for each other do so for ever."""

_STREAM_NEEDS_ROWS = 50_000
"""With fewer, the program has read all staged rows before it has sent a quarter of them."""


def _two_runs(scene: Scene) -> Seen:
    """A second run begins while the first delivers."""
    scene.slow(_DELIVERY_SECONDS)
    first = scene.start()
    scene.wait_for_share(0.1, first)
    second = scene.start().wait()
    problems = [] if first.is_running else ["the first run ended before the second"]
    if f"process {first.number}" not in second.err:
        problems.append("the second run did not name the holder")
    return Seen(f"the second run took {second.seconds:.1f} s", (first.wait().code, second.code), tuple(problems))


def _two_first_runs(scene: Scene) -> Seen:
    """Two runs begin together where no state is yet; one of them must do all the work."""
    scene.slow(_DELIVERY_SECONDS)
    programs = scene.start(), scene.start()
    wait_until(lambda: not all(program.is_running for program in programs), "none of the two runs ended")
    stopped, other = sorted(programs, key=lambda program: program.is_running)
    ended = stopped.wait()
    text = f"the one that stopped took {ended.seconds:.1f} s"
    return Seen(text, (other.wait().code, ended.code))


def _told_to_end(*signals: signal.Signals) -> Act:
    """A run gets signals in the middle of its delivery."""

    def act(scene: Scene) -> Seen:
        scene.slow(_DELIVERY_SECONDS)
        program = scene.start()
        scene.wait_for_share(0.4, program)
        begun, requests = time.monotonic(), scene.traffic.requests
        for number in signals:
            program.signal(number)
            time.sleep(0.1)  # two that come at once are one
        ended = program.wait()
        took = time.monotonic() - begun
        return Seen(f"{requests} requests before, {took:.1f} s to end", (ended.code,))

    return act


def _stands_still(share: float) -> Act:
    """A run stands still for longer than its lease, another one takes over, and the first one wakes up."""

    def act(scene: Scene) -> Seen:
        scene.slow(_DELIVERY_SECONDS)
        first = scene.start()
        scene.wait_for_share(share, first)
        first.signal(signal.SIGSTOP)
        wait_until(lambda: first.is_stopped, "the process does not stop")
        requests = scene.traffic.requests
        scene.expire_lease()
        scene.traffic.meet(None)
        second = scene.start().wait(_HANG_SECONDS)
        first.signal(signal.SIGCONT)
        ended = first.wait(_HANG_SECONDS)
        return _taken_over(f"{requests} requests before it stood still", ended, second)

    return act


def _stolen(scene: Scene) -> Seen:
    """A second run takes the lease with `--steal` while the first one is alive and delivers."""
    scene.slow(_ROBBED_SECONDS)
    first = scene.start()
    scene.wait_for_share(0.1, first)
    requests = scene.traffic.requests
    second = scene.start(words=("--steal",)).wait(_HANG_SECONDS)
    return _taken_over(f"{requests} requests before it was robbed", first.wait(_HANG_SECONDS), second)


def _taken_over(text: str, first: Ended, second: Ended) -> Seen:
    problems = tuple(f"the {name} run hung" for name, one in (("first", first), ("second", second)) if one.hung)
    text = f"{text}; the other took {second.seconds:.1f} s; then: {last_words(first)[:90]}"
    return Seen(text, (first.code, second.code), problems)


def cases() -> tuple[Case, ...]:
    """All of them."""
    twice = _told_to_end(signal.SIGINT, signal.SIGINT)
    return (
        Case("two-runs", _two_runs, (0, 1), may_repeat=False),
        Case("two-runs-persons", _two_runs, (0, 1), model=PEOPLE, may_repeat=False),
        Case("two-first-runs-at-once", _two_first_runs, (0, 1), may_repeat=False),
        Case("sigterm", _told_to_end(signal.SIGTERM), (143,), may_repeat=False),
        Case("sigterm-v0", _told_to_end(signal.SIGTERM), (143,), protocol="v0", may_repeat=False),
        Case("sigint", _told_to_end(signal.SIGINT), (130,), may_repeat=False),
        Case("sigint-twice", twice, (130,)),
        Case("stolen", _stolen, (4, 0), at_least=_STREAM_NEEDS_ROWS),
        Case("stolen-persons", _stolen, (4, 0), model=PEOPLE, at_least=_STREAM_NEEDS_ROWS),
        Case("stands-still-early", _stands_still(0.2), (4, 0), at_least=_STREAM_NEEDS_ROWS),
        Case("stands-still-late", _stands_still(0.9), (4, 0)),
        Case("stands-still-persons", _stands_still(0.9), (4, 0), model=PEOPLE),
    )
