"""Cases in which the process is killed with kill -9: at every step of a run, and while it delivers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.testing import LoseAnswer, When, always
from faults.answers import dropped, one_bad
from faults.case import Act, Case, Seen
from faults.doom import Doom, Moment
from faults.model import ORDERS, PEOPLE, Model
from faults.scene import IN_FLIGHT, Scene

_KILLED = -9
_DELIVERY_SECONDS = 20.0
_MOMENTS = 10
_CONFIRMS_NEED_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run: the macro that is its statement, and whether it is part of a transaction."""

    name: str
    macro: str
    in_transaction: bool = False
    nth: int = 1

    def dooms(self) -> tuple[tuple[str, Doom], ...]:
        """Names and dooms of the kills around the step."""
        moments: tuple[Moment, ...] = ("before", "after", "committed") if self.in_transaction else ("before", "after")
        return tuple((f"killed-{moment}-{self.name}", Doom(self.macro, moment, self.nth)) for moment in moments)


_STEPS = (
    Step("schema-created", "create_state_schema"),
    Step("version-written", "record_schema_version"),
    Step("lease-taken", "take_lease"),
    Step("registered", "create_log_table", in_transaction=True),
    Step("staged", "stage", in_transaction=True),
    Step("settled", "resolve_rejected", in_transaction=True),
    Step("folded", "fold", in_transaction=True),
    Step("run-recorded", "end_sync_run"),
    Step("lease-released", "release_lease"),
)
_CONFIRMS = (Step("first-confirm", "confirm"), Step("later-confirm", "confirm", nth=3))


def _killed(doom: Doom) -> Act:
    """A run that kills itself at a statement."""

    def act(scene: Scene) -> Seen:
        ended = scene.run(doom)
        return Seen(f"{scene.traffic.requests} requests before", (ended.code,))

    return act


def _killed_while_confirming(doom: Doom) -> Act:
    """The same, with a delivery that lasts for several confirms."""

    def act(scene: Scene) -> Seen:
        scene.slow(_DELIVERY_SECONDS)
        return _killed(doom)(scene)

    return act


def _killed_with_bad_row(doom: Doom) -> Act:
    """The same, while PostHog drops a row."""

    def act(scene: Scene) -> Seen:
        scene.traffic.meet(dropped(one_bad)(scene.rows))
        return _killed(doom)(scene)

    return act


def _killed_in_delivery(moment: int) -> Act:
    """A run that is killed from outside, between two requests of a delivery that lasts."""

    def act(scene: Scene) -> Seen:
        return _kill(scene, moment)

    return act


def _kill(scene: Scene, moment: int) -> Seen:
    scene.slow(_DELIVERY_SECONDS)
    program = scene.start()
    scene.wait_for_share((moment - 0.5) / _MOMENTS, program)
    # Requests come in step, so each moment also lies at another point between two of them.
    time.sleep(moment / _MOMENTS * _DELIVERY_SECONDS * IN_FLIGHT / scene.batches % 1.0)
    requests = scene.traffic.requests
    code = program.kill().code
    return Seen(f"{requests} of about {scene.batches} requests before", (code,))


def _killed_at_doubts(doom: Doom) -> Act:
    """The run that continues a killed one is killed while it writes down what that one may have sent."""

    def act(scene: Scene) -> Seen:
        first = _kill(scene, 3)
        scene.expire_lease()
        known = scene.traffic.requests
        second = scene.run(doom)
        return Seen(f"{known} requests before, {scene.traffic.requests - known} after", (*first.codes, second.code))

    return act


def _killed_after_outage(doom: Doom) -> Act:
    """A run is killed while it keeps the rows in doubt, after nothing that it sent was answered."""

    def act(scene: Scene) -> Seen:
        scene.traffic.meet(When(always, LoseAnswer()))
        return _killed(doom)(scene)

    return act


def _killed_twice(scene: Scene) -> Seen:
    """The run that continues a killed one is killed as well."""
    first = _kill(scene, 3)
    scene.expire_lease()
    known = scene.traffic.requests
    program = scene.start()
    scene.traffic.wait_for(known + scene.batches // 4, lambda: program.is_running)
    second = program.kill()
    return Seen(f"{known} requests before the first, {scene.traffic.requests} in all", (*first.codes, second.code))


def cases() -> tuple[Case, ...]:
    """All of them."""
    at_steps = [Case(name, _killed(doom), (_KILLED,), at_least=1_000) for step in _STEPS for name, doom in step.dooms()]
    at_confirms = [
        Case(name, _killed_while_confirming(doom), (_KILLED,), at_least=_CONFIRMS_NEED_ROWS)
        for step in _CONFIRMS
        for name, doom in step.dooms()
    ]
    return (*at_steps[:12], *at_confirms, *_at_rejects(), *at_steps[12:], *_in_delivery(), *_at_doubts())


def _at_rejects() -> list[Case]:
    """Rows that the warehouse rejects, and a row that PostHog drops."""
    staged, refused = Step("rejects-written", "insert_rejected"), Step("refused-written", "insert_refused")
    drops = dropped(one_bad)
    bad: dict[str, Any] = {"refused": one_bad, "lasting": drops}
    return [
        *(Case(name, _killed(doom), (_KILLED,), broken=lambda _rows: (3, 7)) for name, doom in staged.dooms()),
        *(Case(name, _killed_with_bad_row(doom), (_KILLED,), **bad) for name, doom in refused.dooms()),
    ]


def _at_doubts() -> list[Case]:
    """Rows of which nobody knows whether PostHog has them."""
    taken = Step("doubts-taken", "insert_doubtful", in_transaction=True)
    kept = Step("doubts-kept", "keep_doubted", in_transaction=True)
    twice, impatient = (_KILLED, _KILLED), {"retry_seconds": 2}
    return [
        *(Case(name, _killed_at_doubts(doom), twice) for name, doom in taken.dooms()),
        *(Case(name, _killed_after_outage(doom), (_KILLED,), delivery=impatient) for name, doom in kept.dooms()),
    ]


def _in_delivery() -> list[Case]:
    return [
        *(_moment(number) for number in range(1, _MOMENTS + 1)),
        _moment(5, protocol="v0"),
        *(_moment(number, model=PEOPLE) for number in (2, 5, 9)),
        Case("killed-twice-in-delivery", _killed_twice, (_KILLED, _KILLED)),
        Case("killed-twice-in-delivery-persons", _killed_twice, (_KILLED, _KILLED), model=PEOPLE),
    ]


def _moment(number: int, model: Model = ORDERS, protocol: str = "v1") -> Case:
    suffix = "-persons" if model is PEOPLE else "-v0" if protocol == "v0" else ""
    name = f"killed-in-delivery-{number}{suffix}"
    return Case(name, _killed_in_delivery(number), (_KILLED,), model=model, protocol=protocol)
