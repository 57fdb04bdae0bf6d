"""A case: a fault, what it must come to, and how the program recovers from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dbt_posthog_sync.testing import FaultPlan
from faults.judge import Verdict, verdict
from faults.model import ORDERS, Model
from faults.postgres import NoSmallDisk, Postgres
from faults.program import Ended
from faults.scene import Scene, Setup
from faults.traffic import Unmet

_MOST_RUNS = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened under the fault.

    Attributes:
        text: in a few words.
        codes: exit codes of the runs, in the order in which they were started.
        problems: what should have been otherwise.
    """

    text: str
    codes: tuple[int, ...]
    problems: tuple[str, ...] = ()


Act: TypeAlias = Callable[[Scene], Seen]


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: what it is chosen by.
        act: runs the program under the fault.
        codes: the exit codes that these runs must have.
        model: what kind of table.
        protocol: v1 or v0.
        delivery: settings that are not the program's defaults.
        broken: rows that nobody could send, by the number of rows.
        refused: rows that PostHog never takes, by the number of rows.
        lasting: what requests meet afterwards, by the number of rows; None is fair weather.
        may_repeat: false where no row may arrive twice.
        at_least: rows without which the fault cannot happen.
    """

    name: str
    act: Act
    codes: tuple[int, ...]
    model: Model = ORDERS
    protocol: str = "v1"
    delivery: Mapping[str, Any] = field(default_factory=dict)
    broken: Callable[[int], tuple[int, ...]] = lambda _rows: ()
    refused: Callable[[int], tuple[int, ...]] = lambda _rows: ()
    lasting: Callable[[int], FaultPlan | None] = lambda _rows: None
    may_repeat: bool = True
    at_least: int = 0

    @property
    def note(self) -> str:
        """The settings that are not the program's defaults, as text."""
        return ", ".join(f"{name} {value}" for name, value in self.delivery.items())


@dataclass(frozen=True, slots=True)
class Finding:
    """What a case came to.

    Attributes:
        case: its name.
        seen: what happened under the fault.
        verdict: the stand-in against the table at rest; None where it did not come to that.
        codes: exit codes of the runs under the fault.
        seconds: how long everything took.
        problems: what is not as it must be; empty when all is well.
        skipped: why it was not tried; empty when it was.
    """

    case: str
    seen: str = ""
    verdict: Verdict | None = None
    codes: tuple[int, ...] = ()
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def is_good(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems


def tried(case: Case, rows: int, postgres: Postgres, folder: Path) -> Finding:
    """Try a case on a fresh table and a fresh state schema."""
    if rows < case.at_least:
        return Finding(case.name, skipped=f"needs {case.at_least:,} rows")
    begun = time.monotonic()
    setup = Setup(case.model, case.protocol, case.delivery, case.broken(rows))
    with Scene.opened(setup, rows, postgres, folder) as scene:
        try:
            seen = case.act(scene)
        except NoSmallDisk as reason:
            return Finding(case.name, skipped=str(reason))
        except Unmet as problem:
            return Finding(case.name, seconds=time.monotonic() - begun, problems=(str(problem),))
        problems = [*seen.problems, *_rest(case, scene)]
        expected = scene.expected(frozenset(case.refused(rows)))
        found = verdict(scene.posthog.project, case.model, expected)
    if seen.codes != case.codes:
        problems.insert(0, f"exit {_listed(seen.codes)} where {_listed(case.codes)} was expected")
    if len(expected) + len(setup.broken) + len(case.refused(rows)) != rows:
        problems.append(f"the suite looked at {len(expected)} rows only")
    text = f"{seen.text} ({case.note})" if case.note else seen.text
    problems += _objections(case, found)
    return Finding(case.name, text, found, seen.codes, time.monotonic() - begun, tuple(problems))


def _objections(case: Case, found: Verdict) -> list[str]:
    """What is wrong with a verdict."""
    problems = [f"{found.lost} rows are lost"] if found.lost else []
    problems += [f"{found.kept} repeats would be kept"] if found.kept else []
    if found.repeated and not case.may_repeat:
        problems.append(f"{found.repeated} rows arrived twice where none may")
    return problems


def _rest(case: Case, scene: Scene) -> list[str]:
    """Run without the fault until a run sends nothing, and say what is wrong with these runs."""
    scene.traffic.meet(case.lasting(scene.rows))
    scene.expire_lease()
    rejects = len(case.broken(scene.rows)) + len(case.refused(scene.rows))
    problems = []
    for _ in range(_MOST_RUNS):
        before = len(scene.posthog.requests)
        ended = scene.run()
        if ended.code != bool(rejects):
            return [f"a clean run ended with exit {ended.code}: {last_words(ended)}"]
        if len(scene.posthog.requests) == before:
            break
    else:
        problems.append(f"after {_MOST_RUNS} clean runs requests are still sent")
    if scene.open_rejects() != rejects:
        problems.append(f"{scene.open_rejects()} rows are rejected where {rejects} should be")
    return problems


def last_words(ended: Ended) -> str:
    """What a process said last."""
    if ended.hung:
        return "it hung and was killed"
    lines = ended.err.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _listed(codes: tuple[int, ...]) -> str:
    return " ".join(map(str, codes))
