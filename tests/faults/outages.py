"""Cases in which the warehouse fails: it is killed, or the disk under the state is full."""

from __future__ import annotations

import signal

from faults.case import Act, Case, Seen, last_words
from faults.doom import Doom
from faults.model import PEOPLE
from faults.scene import Scene
from faults.traffic import wait_until

_DELIVERY_SECONDS = 10.0


def _warehouse_killed(share: float, *, back_at_once: bool = False) -> Act:
    """Postgres is killed in the middle of a delivery; it is back at once, or when the run has ended."""

    def act(scene: Scene) -> Seen:
        scene.slow(_DELIVERY_SECONDS)
        program = scene.start()
        scene.wait_for_share(share, program)
        requests = scene.traffic.requests
        scene.postgres.kill()
        try:
            if back_at_once:
                scene.postgres.restart()
            ended = program.wait()
        finally:
            scene.postgres.restart()
        return Seen(f"{requests} requests before: {last_words(ended)[:90]}", (ended.code,))

    return act


def _disk_full_from_the_start(scene: Scene) -> Seen:
    """There is no room for the state at all."""
    disk = scene.small_disk()
    disk.fill()
    ended = scene.run()
    disk.free()
    return Seen(last_words(ended)[:90], (ended.code,))


def _disk_full_in_delivery(scene: Scene) -> Seen:
    """The room ends while rows are delivered, so that they cannot be confirmed."""
    disk = scene.small_disk()
    scene.slow(_DELIVERY_SECONDS)
    program = scene.start()
    scene.wait_for_share(0.3, program)
    disk.fill()
    ended = program.wait()
    disk.free()
    return Seen(f"{scene.traffic.requests} requests: {last_words(ended)[:90]}", (ended.code,))


def _disk_full_at(macro: str) -> Act:
    """The room ends when a statement is about to run."""

    def act(scene: Scene) -> Seen:
        disk = scene.small_disk()
        program = scene.start(Doom(macro, signal=signal.SIGSTOP))
        wait_until(lambda: not program.is_running or program.is_stopped, f"{macro} was not reached")
        disk.fill()
        program.signal(signal.SIGCONT)
        ended = program.wait()
        disk.free()
        return Seen(f"{scene.traffic.requests} requests: {last_words(ended)[:90]}", (ended.code,))

    return act


def cases() -> tuple[Case, ...]:
    """All of them."""
    return (
        Case("warehouse-killed-early", _warehouse_killed(0.1), (4,)),
        Case("warehouse-killed", _warehouse_killed(0.5), (4,)),
        Case("warehouse-killed-persons", _warehouse_killed(0.5), (4,), model=PEOPLE),
        Case("warehouse-back-at-once", _warehouse_killed(0.9, back_at_once=True), (4,)),
        Case("disk-full-from-the-start", _disk_full_from_the_start, (4,), may_repeat=False),
        Case("disk-full-at-staging", _disk_full_at("stage"), (4,), may_repeat=False),
        Case("disk-full-in-delivery", _disk_full_in_delivery, (4,)),
        Case("disk-full-at-the-fold", _disk_full_at("fold"), (4,), may_repeat=False),
    )
