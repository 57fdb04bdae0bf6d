"""The cases: what is run, what is measured of it, and the target it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType

from bench.budget import apart, bare_diff
from bench.identities import found_persons
from bench.model import DAYS, DUCKDB_MEMORY_MB, EVENTS, Place
from bench.program import BrokenRun, Ended, Project
from bench.rivals import SETTINGS, rivalry
from bench.sink import Sink, Tally
from bench.table import Figure

MILLION = 1_000_000
_TRIAL_ROWS = 20_000
_RIVAL_ROWS = 500_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run: the process, its phases, what arrived, and what Postgres wrote meanwhile."""

    process: Ended
    phases: Mapping[str, float]
    unchanged: int
    tally: Tally
    temp_mb: float
    wal_mb: float


@dataclass
class Bench:
    """One warehouse with the table built, and what the cases share.

    Attributes:
        place: the warehouse.
        rows: rows of the table.
        runs: runs of each case.
        folder: where projects are written, one for each state schema.
        sink: the sink that answers in v0, with no delay.
        stack: closes the sinks of single cases at the end.
        changes: how often rows were changed.
    """

    place: Place
    rows: int
    runs: int
    folder: Path
    sink: Sink
    stack: ExitStack
    changes: int = 0
    _projects: dict[str, Project] = field(default_factory=dict)

    def project(self, state: str, sink: Sink, annotation: Mapping[str, object] = EVENTS) -> Project:
        """The project of this state schema, written once."""
        if state not in self._projects:
            self._projects[state] = Project.written(self.folder / state, self.place, sink.url, annotation)
        return self._projects[state]

    def sample(self, project: Project, sink: Sink) -> Sample:
        """Run a project once and measure."""
        self.place.settle()
        sink.tally()
        before = self.place.written()
        process, result = project.run()
        temp, wal = (after - first for after, first in zip(self.place.written(), before, strict=True))
        phases = {phase["name"]: float(phase["seconds"]) for phase in result["timing"]}
        return Sample(process, phases, int(result["counts"]["unchanged"]), sink.tally(), temp / 1e6, wal / 1e6)

    def first_runs(self, state: str, sink: Sink, runs: int | None = None) -> list[Sample]:
        """First runs, each with everything to deliver; as many as the benchmark was asked for, if not said otherwise.

        Raises:
            BrokenRun: not every row arrived.
        """
        project, samples = self.project(state, sink), []
        for _ in range(runs or self.runs):
            self.place.server.sql(f"drop schema if exists {state} cascade")
            samples.append(self.sample(project, sink))
            if samples[-1].tally.events != self.rows:
                raise BrokenRun(f"{samples[-1].tally.events:,} of {self.rows:,} events arrived")
        return samples

    def delivered(self) -> Project:
        """The project whose rows are all delivered; by a first run now, when no case did it before."""
        if "plain" not in self._projects:
            self.first_runs("plain", self.sink, 1)
        return self._projects["plain"]

    def target(self, value: float) -> float | None:
        """A target, where there are rows enough for it to hold."""
        return value if self.rows >= MILLION else None

    def rate(self, samples: Sequence[Sample]) -> float:
        """Events a second, from the stream's statement to the last answer; what is confirmed meanwhile is in it."""
        return self.rows / median(sample.phases["deliver"] for sample in samples)

    def run_figures(self, case: str, samples: Sequence[Sample], most_seconds: float | None = None) -> list[Figure]:
        """What is measured of every run, in the median."""

        def of(value: Callable[[Sample], float]) -> float:
            return median(map(value, samples))

        phases = {name: median(s.phases[name] for s in samples) for name in samples[0].phases}
        # DuckDB works inside the program's process.
        peak = 220.0 if self.place.is_postgres else 220.0 + DUCKDB_MEMORY_MB
        figures = [
            Figure(case, "whole run", of(lambda s: s.process.seconds), "s", None, most_seconds),
            *(Figure(case, f"phase {name}", seconds, "s") for name, seconds in phases.items()),
            Figure(case, "rest: start and end", of(lambda s: s.process.seconds - sum(s.phases.values())), "s"),
            Figure(case, "CPU of the program", of(lambda s: s.process.cpu_seconds), "s"),
            Figure(case, "CPU of the sink", of(lambda s: s.tally.cpu_seconds), "s"),
            Figure(case, "peak memory, largest", max(s.process.peak_mb for s in samples), "MB", None, peak),
            Figure(case, "requests", of(lambda s: s.tally.requests)),
        ]
        if self.place.is_postgres:
            figures.append(Figure(case, "temporary files", of(lambda s: s.temp_mb), "MB"))
            figures.append(Figure(case, "write-ahead log", of(lambda s: s.wal_mb), "MB"))
        return figures


def delivery(bench: Bench) -> list[Figure]:
    """First runs against the plain sink."""
    samples = bench.first_runs("plain", bench.sink)
    tally = samples[-1].tally
    to_last_answer = median(sample.tally.seconds for sample in samples)
    return [
        Figure("delivery", "events delivered", bench.rate(samples), "/s", bench.target(200_000)),
        Figure("delivery", "first request to last answer", to_last_answer, "s"),
        *bench.run_figures("delivery", samples, bench.target(15 * bench.rows / MILLION)),
        Figure("delivery", "a message, JSON", tally.json_bytes / bench.rows, "bytes"),
        Figure("delivery", "a message, compressed", tally.wire_bytes / bench.rows, "bytes"),
        *_state("delivery", bench),
    ]


def other_sink(case: str, protocol: str, seconds: float, target: float | None, bench: Bench) -> list[Figure]:
    """First runs against a sink with another protocol, or one that takes its time."""
    samples = bench.first_runs(case, bench.stack.enter_context(Sink(protocol, seconds)))
    least = bench.target(target) if target else None
    return [Figure(case, "events delivered", bench.rate(samples), "/s", least), *bench.run_figures(case, samples)]


def no_change(bench: Bench) -> list[Figure]:
    """Runs with nothing to do, and the diff statement alone.

    Raises:
        BrokenRun: a request was made.
    """
    project = bench.delivered()
    samples = [bench.sample(project, bench.sink) for _ in range(bench.runs)]
    if any(sample.tally.requests for sample in samples):
        raise BrokenRun("A run with nothing to do made requests.")
    diff = apart(bare_diff, bench.place, project.folder, bench.sink.url, bench.runs)
    figures = bench.run_figures("no_change", samples, bench.target(1.5 * diff + 2.5))
    return [Figure("no_change", "diff statement alone", diff, "s"), *figures]


def changed(bench: Bench) -> list[Figure]:
    """Runs with one row in a hundred changed, each after one without a change.

    Raises:
        BrokenRun: other rows than the changed ones were sent.
    """
    project, quiet, samples = bench.delivered(), [], []
    for _ in range(bench.runs):
        quiet.append(bench.sample(project, bench.sink).process.seconds)
        bench.changes += 1
        bench.place.change_one_percent(bench.changes)
        samples.append(bench.sample(project, bench.sink))
    share = bench.rows // 100
    if any(sample.tally.events != share for sample in samples):
        raise BrokenRun(f"Other than {share:,} events arrived after so many rows had changed.")
    figures = bench.run_figures("changed", samples, bench.target(1.3 * median(quiet) + share / 200_000))
    return [Figure("changed", "run without a change", median(quiet), "s"), *figures, *_state("changed", bench)]


def cursor(bench: Bench) -> list[Figure]:
    """Runs that look at a thousandth of the rows, by an indexed column of times; nothing in it changed."""
    window = {"column": "ordered_at", "lookback": f"{DAYS * 86400 // 1000} seconds"}
    project = bench.project("windowed", bench.sink, {**EVENTS, "name": "windowed", "cursor": window, "backfill": False})
    project.run()  # takes all rows as known, which sends nothing
    samples = [bench.sample(project, bench.sink) for _ in range(bench.runs)]
    rows = median(sample.unchanged for sample in samples)
    return [Figure("cursor", "rows looked at", rows), *bench.run_figures("cursor", samples, bench.target(4))]


def rivals(bench: Bench) -> list[Figure]:
    """posthog-python by its best settings, a loop with requests, and between the two the program once more."""
    few, many = min(bench.rows, _TRIAL_ROWS), min(bench.rows, _RIVAL_ROWS)
    tried = [rivalry("posthog", settings, few, bench.place, bench.sink) for settings in SETTINGS]
    chosen = max((one for one in tried if one.arrived == 1.0), key=lambda one: one.rate).settings
    best = rivalry("posthog", chosen, many, bench.place, bench.sink)
    rate = bench.rate(bench.first_runs("beside", bench.sink))
    loop = rivalry("requests", "-", many, bench.place, bench.sink)
    return [
        *(Figure("rivals", f"posthog-python, trial: {one.settings}", one.rate, "/s") for one in tried),
        Figure("rivals", "posthog-python, trial: defaults lose", 100 * (1 - tried[0].arrived), "%"),
        Figure("rivals", "rows that each rival sends", many),
        Figure("rivals", f"posthog-python, best: {chosen}", best.rate, "/s"),
        Figure("rivals", "posthog-python, peak memory", best.peak_mb, "MB"),
        Figure("rivals", "requests loop, 100 a batch", loop.rate, "/s"),
        Figure("rivals", "requests loop, peak memory", loop.peak_mb, "MB"),
        Figure("rivals", "delivery beside them", rate, "/s"),
        Figure("rivals", "delivery / posthog-python", rate / best.rate, "x", bench.target(18)),
        Figure("rivals", "delivery / requests loop", rate / loop.rate, "x", bench.target(4)),
    ]


def persons(bench: Bench) -> list[Figure]:
    """Persons by e-mail address, found by a mirror and in an export; a mirror of a million asks at most 25 times."""
    return found_persons(bench.place, bench.folder, bench.rows, 25 if bench.rows <= MILLION else None)


CASES: Mapping[str, Callable[[Bench], list[Figure]]] = MappingProxyType(
    {
        "delivery": delivery,
        "no_change": no_change,
        "changed": changed,
        "cursor": cursor,
        "v1": partial(other_sink, "v1", "v1", 0.0, None),
        "latency": partial(other_sink, "latency", "v0", 0.1, 50_000),
        "rivals": rivals,
        "persons": persons,
    }
)
"""The cases in the order they are run."""


def _state(case: str, bench: Bench) -> list[Figure]:
    if not bench.place.is_postgres:
        return []
    size = bench.place.state_size("plain")
    most = bench.target(60)
    return [
        Figure(case, "state a row, all in the log", size.unfolded / size.rows, "bytes"),
        Figure(case, "state a row, as it is", size.real / size.rows, "bytes", None, most),
        Figure(case, "state / the same rows freshly written", size.real / size.fresh, "x"),
    ]
