"""The cases: what is run, what is measured of it, and the target it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType

from bench.budget import apart, bare_diff
from bench.model import DAYS, DUCKDB_MEMORY_MB, EVENTS, Place, Written
from bench.program import BrokenRun, Project, SyncEnded
from bench.rivals import best_settings, run_rival
from bench.sink import Sink, Tally
from bench.table import Figure

LATENCY = 0.1
MILLION = 1_000_000
_START_SECONDS = 2.5
_PEAK_MB = 220.0
_TRIAL_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run: the program, the sink, and what the warehouse wrote meanwhile."""

    sync: SyncEnded
    tally: Tally
    written: Written

    @property
    def deliver(self) -> float:
        """Seconds from the stream's statement to the last confirmation, which is more than to the last answer."""
        return self.sync.phases["deliver"]


@dataclass
class Bench:
    """One warehouse with the table built, and what the cases share.

    Attributes:
        place: the warehouse.
        rows: rows of the table.
        runs: runs of each case.
        folder: where projects are written.
        sink: the sink that answers in v0, with no delay.
        stack: closes the sinks of single cases at the end.
        delivery_rate: what `delivery` found, which ratios are to.
        changes: how often rows were changed.
    """

    place: Place
    rows: int
    runs: int
    folder: Path
    sink: Sink
    stack: ExitStack
    delivery_rate: float = 0.0
    changes: int = 0
    _projects: dict[str, Project] = field(default_factory=dict)

    # What the cases are made of.

    def project(self, state: str, sink: Sink, annotation: Mapping[str, object] = EVENTS) -> Project:
        """The project of this state schema, written once."""
        if state not in self._projects:
            self._projects[state] = Project.written(self.folder, self.place, state, sink.url, annotation)
        return self._projects[state]

    def sample(self, project: Project, sink: Sink) -> Sample:
        """Run a project once and measure."""
        self.place.settle()
        sink.tally()
        before = self.place.written()
        sync = project.run()
        return Sample(sync, sink.tally(), self.place.written().since(before))

    def first_runs(self, state: str, sink: Sink) -> list[Sample]:
        """First runs, each with everything to deliver.

        Raises:
            BrokenRun: not every row arrived.
        """
        project = self.project(state, sink)
        samples = []
        for _ in range(self.runs):
            self.place.forget(state)
            samples.append(self.sample(project, sink))
            if samples[-1].tally.events != self.rows:
                raise BrokenRun(f"{samples[-1].tally.events:,} of {self.rows:,} events arrived")
        return samples

    def delivered(self) -> Project:
        """The project whose rows are all delivered; by a first run now, when no case did it before."""
        if "plain" not in self._projects:
            self.first_runs("plain", self.sink)
        return self._projects["plain"]

    def target(self, value: float) -> float | None:
        """A target, where there are rows enough for it to hold."""
        return value if self.rows >= MILLION else None

    @property
    def peak_target(self) -> float:
        """Most memory of the process; DuckDB works inside it."""
        return _PEAK_MB if self.place.is_postgres else _PEAK_MB + DUCKDB_MEMORY_MB

    def of(self, samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
        """Median over the runs."""
        return median(map(value, samples))

    def rate(self, samples: Sequence[Sample]) -> float:
        """Events delivered a second."""
        return self.rows / self.of(samples, lambda sample: sample.deliver)


def delivery(bench: Bench) -> list[Figure]:
    """First runs against the plain sink: rate of delivery, whole run, memory, and what it writes."""
    samples = bench.first_runs("plain", bench.sink)
    bench.delivery_rate = bench.rate(samples)
    of, per_row = bench.of, 1 / bench.rows
    seconds = of(samples, lambda s: s.sync.process.seconds)
    figures = [
        Figure("delivery", "events delivered", bench.delivery_rate, "/s", at_least=bench.target(200_000)),
        Figure("delivery", "first request to last answer", of(samples, lambda s: s.tally.seconds), "s"),
        *_phases("delivery", samples),
        Figure("delivery", "whole first run", seconds, "s", at_most=bench.target(15 * bench.rows / MILLION)),
        Figure("delivery", "the rest: start and end of the process", _rest(samples), "s"),
        Figure("delivery", "CPU of the program", of(samples, lambda s: s.sync.process.cpu_seconds), "s"),
        Figure("delivery", "CPU of the sink", of(samples, lambda s: s.tally.cpu_seconds), "s"),
        _peak("delivery", bench, samples),
        Figure("delivery", "a message, JSON", of(samples, lambda s: s.tally.json_bytes) * per_row, "bytes"),
        Figure("delivery", "a message, compressed", of(samples, lambda s: s.tally.wire_bytes) * per_row, "bytes"),
        Figure("delivery", "requests", of(samples, lambda s: s.tally.requests)),
    ]
    return figures + (_state(bench, samples) if bench.place.is_postgres else [])


def v1(bench: Bench) -> list[Figure]:
    """The same where every message has its own answer."""
    sink = bench.stack.enter_context(Sink("v1"))
    samples = bench.first_runs("v1", sink)
    return [
        Figure("v1", "events delivered", bench.rate(samples), "/s"),
        Figure("v1", "CPU of the program", bench.of(samples, lambda s: s.sync.process.cpu_seconds), "s"),
        Figure("v1", "CPU of the sink", bench.of(samples, lambda s: s.tally.cpu_seconds), "s"),
        _peak("v1", bench, samples),
    ]


def latency(bench: Bench) -> list[Figure]:
    """The same where every answer takes a tenth of a second."""
    sink = bench.stack.enter_context(Sink(latency=LATENCY))
    samples = bench.first_runs("latency", sink)
    return [
        Figure("latency", "events delivered, 100 ms a request", bench.rate(samples), "/s", bench.target(50_000)),
        _peak("latency", bench, samples),
    ]


def rivals(bench: Bench) -> list[Figure]:
    """posthog-python with its best settings, and a loop with requests; the ratios are to `delivery` of this run."""
    if not bench.delivery_rate:
        delivery(bench)
    chosen, tried = best_settings(bench.place, min(bench.rows, _TRIAL_ROWS), bench.sink)
    figures = [Figure("rivals", f"posthog-python, trial: {one.name}", one.rate, "/s") for one in tried]
    figures.append(Figure("rivals", "posthog-python, defaults: events lost", 100 * (1 - tried[0].arrived), "%"))
    best = run_rival("posthog", chosen, bench.rows, bench.place, bench.sink)
    loop = run_rival("requests", "-", bench.rows, bench.place, bench.sink)
    return [
        *figures,
        Figure("rivals", f"posthog-python, best: {chosen}", best.rate, "/s"),
        Figure("rivals", "posthog-python, peak memory", best.peak_mb, "MB"),
        Figure("rivals", "requests loop, 100 a batch", loop.rate, "/s"),
        Figure("rivals", "requests loop, peak memory", loop.peak_mb, "MB"),
        Figure("rivals", "delivery / posthog-python", bench.delivery_rate / best.rate, "x", bench.target(18)),
        Figure("rivals", "delivery / requests loop", bench.delivery_rate / loop.rate, "x", bench.target(4)),
    ]


def no_change(bench: Bench) -> list[Figure]:
    """Runs with nothing to do, and the diff statement alone.

    Raises:
        BrokenRun: a request was made.
    """
    project = bench.delivered()
    samples = [bench.sample(project, bench.sink) for _ in range(bench.runs)]
    if any(sample.tally.requests for sample in samples):
        raise BrokenRun("A run with nothing to do made requests.")
    diff = apart(bare_diff, bench.place, project.folder, project.state, bench.sink.url, bench.runs)
    seconds = bench.of(samples, lambda s: s.sync.process.seconds)
    return [
        Figure("no change", "the diff statement alone", diff, "s"),
        Figure("no change", "whole run", seconds, "s", at_most=bench.target(1.5 * diff + _START_SECONDS)),
        *_phases("no change", samples),
        Figure("no change", "the rest: start and end of the process", _rest(samples), "s"),
        Figure("no change", "requests", 0, at_most=0),
        *_writes("no change", bench, samples),
        _peak("no change", bench, samples),
    ]


def changed(bench: Bench) -> list[Figure]:
    """Runs with one row in a hundred changed; the time without a change is measured beside it.

    Raises:
        BrokenRun: other rows than the changed ones were sent.
    """
    project = bench.delivered()
    quiet, samples = [], []
    for _ in range(bench.runs):
        quiet.append(bench.sample(project, bench.sink))
        bench.changes += 1
        bench.place.change_one_percent(bench.changes)
        samples.append(bench.sample(project, bench.sink))
    share = bench.rows // 100
    if any(sample.tally.events != share for sample in samples):
        raise BrokenRun(f"Other than {share:,} events arrived after so many rows had changed.")
    unchanged = bench.of(quiet, lambda s: s.sync.process.seconds)
    seconds = bench.of(samples, lambda s: s.sync.process.seconds)
    most = bench.target(1.3 * unchanged + share / 200_000)
    return [
        Figure("changed 1 %", "whole run without a change", unchanged, "s"),
        Figure("changed 1 %", "whole run", seconds, "s", at_most=most),
        *_phases("changed 1 %", samples),
        *_writes("changed 1 %", bench, samples),
        _peak("changed 1 %", bench, samples),
        *([_bloat("changed 1 %", bench)] if bench.place.is_postgres else []),
    ]


def cursor(bench: Bench) -> list[Figure]:
    """Runs that look at a thousandth of the rows, by an indexed column of times; nothing in it changed."""
    window = {"column": "ordered_at", "lookback": f"{DAYS * 86400 // 1000} seconds"}
    annotation = {**EVENTS, "name": "windowed", "cursor": window, "backfill": False}
    bench.place.forget("windowed")
    project = bench.project("windowed", bench.sink, annotation)
    project.run()  # takes all rows as known, which sends nothing
    samples = [bench.sample(project, bench.sink) for _ in range(bench.runs)]
    seconds = bench.of(samples, lambda s: s.sync.process.seconds)
    return [
        Figure("cursor", "rows in the window", bench.of(samples, lambda s: s.sync.counts["unchanged"])),
        Figure("cursor", "whole run", seconds, "s", at_most=bench.target(4)),
        *_phases("cursor", samples),
        _peak("cursor", bench, samples),
    ]


CASES: Mapping[str, Callable[[Bench], list[Figure]]] = MappingProxyType(
    {
        "delivery": delivery,
        "no_change": no_change,
        "changed": changed,
        "cursor": cursor,
        "v1": v1,
        "latency": latency,
        "rivals": rivals,
    }
)
"""The cases in the order they are run."""


def _phases(case: str, samples: Sequence[Sample]) -> list[Figure]:
    names = samples[0].sync.phases
    return [
        Figure(case, f"phase {name}", median(sample.sync.phases.get(name, 0.0) for sample in samples), "s")
        for name in names
    ]


def _rest(samples: Sequence[Sample]) -> float:
    return median(sample.sync.process.seconds - sum(sample.sync.phases.values()) for sample in samples)


def _peak(case: str, bench: Bench, samples: Sequence[Sample]) -> Figure:
    peak = max(sample.sync.process.peak_mb for sample in samples)
    return Figure(case, "peak memory of the program", peak, "MB", at_most=bench.peak_target)


def _writes(case: str, bench: Bench, samples: Sequence[Sample]) -> list[Figure]:
    if not bench.place.is_postgres:
        return []
    return [
        Figure(case, "temporary files", bench.of(samples, lambda s: s.written.temp) / 1e6, "MB"),
        Figure(case, "write-ahead log", bench.of(samples, lambda s: s.written.wal) / 1e6, "MB"),
    ]


def _state(bench: Bench, samples: Sequence[Sample]) -> list[Figure]:
    size = bench.place.state_size("plain")
    return [
        *_writes("delivery", bench, samples),
        Figure(
            "delivery", "state a row, before the fold", size.unfolded / size.rows, "bytes", at_most=bench.target(60)
        ),
        Figure("delivery", "state a row, after the fold", size.real / size.rows, "bytes", at_most=bench.target(60)),
        _bloat("delivery", bench),
    ]


def _bloat(case: str, bench: Bench) -> Figure:
    size = bench.place.state_size("plain")
    return Figure(case, "state tables / the same rows freshly written", size.real / size.fresh, "x")
