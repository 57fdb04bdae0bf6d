"""The budget: where each microsecond of a row goes, found by taking the steps of a run one after the other.

Everything here is the program's own code and SQL. It runs in a process of its own (`apart`), so that the program's
memory and DuckDB's file lock are not the benchmark's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

from lab import manifest_for, prepared_warehouse

from bench.model import EVENTS, TABLE, Place
from bench.program import KEY
from dbt_posthog_sync.annotation import syncs_from
from dbt_posthog_sync.batch import BatchCutter, BatchLimits, LaneBatch
from dbt_posthog_sync.carrier import new_identity
from dbt_posthog_sync.courier import row_of
from dbt_posthog_sync.destinations.posthog import V0_PATH, PostHog, PostHogConfig, gzipped
from dbt_posthog_sync.destinations.posthog_answers import HttpAnswer, v0_outcome
from dbt_posthog_sync.http import new_session, post
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.warehouse import ResultRow, Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity
from dbt_posthog_sync.warehouse.lease import Holder
from dbt_posthog_sync.warehouse.snapshot import Snapshot

_SAMPLE = 100_000
_CONFIRMED_AT_ONCE = 500_000
_SLICE_BYTES = 46_000
_RUN_ID = "00000000-0000-4000-8000-000000000000"

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step costs.

    Attributes:
        where: warehouse, or python: CPU time of the program's own process.
        step: what is done.
        microseconds: a row.
    """

    where: str
    step: str
    microseconds: float


def apart(work: Callable[_Given, _Found], *arguments: _Given.args, **options: _Given.kwargs) -> _Found:
    """Do it in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments, options)


class _Watch:
    """Seconds of a step, by the clock and by this process's CPU."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    @property
    def elsewhere(self) -> float:
        """Seconds in which somebody else worked."""
        return max(self.wall - self.cpu, 0.0)


def _planner(warehouse: Warehouse, place: Place, state: str, destination: PostHog) -> tuple[Planner, ResolvedSync]:
    planner = Planner(warehouse, PlanSettings(schema=state, destination=destination.identity))
    (sync,) = syncs_from(manifest_from(manifest_for(place.server, {TABLE: EVENTS})))
    return planner, planner.resolve([sync])[0]


def _destination(host: str) -> PostHog:
    return PostHog(PostHogConfig(host, KEY, _RUN_ID, protocol="v0"))


def bare_diff(place: Place, folder: Path, state: str, host: str, times: int) -> float:
    """Median seconds of the diff statement alone, on a state that a run left behind."""
    with prepared_warehouse(place.server, folder) as warehouse:
        planner, resolved = _planner(warehouse, place, state, _destination(host))
        arguments = planner.arguments(resolved, planner.state.read(resolved.id), RunIdentity("bench"))
        return median(_diff_seconds(warehouse, arguments.for_macro()) for _ in range(times))


def _diff_seconds(warehouse: Warehouse, macro_sync: object) -> float:
    watch = _Watch()
    with warehouse.transaction():
        warehouse.run("drop_sync_table", sync=macro_sync, part="diff")
        with watch.running():
            warehouse.run("diff", sync=macro_sync)
    return watch.wall


def budget(place: Place, folder: Path, state: str, host: str, rows: int) -> list[Cost]:
    """Take the steps of a first run on a fresh state schema, and say what each costs."""
    with prepared_warehouse(place.server, folder) as warehouse:
        destination = _destination(host)
        planner, resolved = _planner(warehouse, place, state, destination)
        planner.state.ensure()
        identity = planner.state.lease(resolved.id).take(Holder(_RUN_ID, "bench", "here"))
        planner.state.register(planner.arguments(resolved, None, identity))
        stored = planner.state.read(resolved.id)
        steps = {name: _Watch() for name in ("stage", "stream", "confirm", "fold")}
        with steps["stage"].running():
            prepared = planner.stage(planner.arguments(resolved, stored, identity), stored)
        with (
            steps["stream"].running(),
            warehouse.stream("message_stream", sync=prepared.arguments.for_macro(), resume=False) as chunks,
        ):
            sample = _drained(chunks)
        snapshot = Snapshot(warehouse, planner.state, prepared.arguments)
        with steps["confirm"].running():
            for start in range(1, rows + 1, _CONFIRMED_AT_ONCE):
                snapshot.confirm(range(start, min(start + _CONFIRMED_AT_ONCE, rows + 1)))
        stored = planner.state.read(resolved.id)
        assert stored is not None
        with steps["fold"].running():
            snapshot.fold_if_due(stored)
        macro_sync = snapshot.arguments.for_macro()
        hashed = warehouse.evaluate("row_hash", columns=macro_sync["hashed_columns"], seed=macro_sync["hash_seed"])
        diff = _diff_seconds(warehouse, macro_sync)
        planner.state.lease(resolved.id).release(identity)
    per_row = 1e6 / rows
    return [
        Cost("warehouse", "scan of the model", _scan(place, "max(m.note)") * per_row),
        Cost("warehouse", "scan and row hash", _scan(place, f"max({hashed})") * per_row),
        Cost("warehouse", "diff, nothing changed", diff * per_row),
        Cost("warehouse", "stage, everything new", steps["stage"].wall * per_row),
        Cost("warehouse", "stream, drained as fast as it comes", steps["stream"].wall * per_row),
        Cost("warehouse", "confirm", steps["confirm"].elsewhere * per_row),
        Cost("warehouse", "fold", steps["fold"].wall * per_row),
        Cost("python", "receive", steps["stream"].cpu * per_row),
        *_carrying(sample, destination, host),
        Cost("python", "confirm", steps["confirm"].cpu * per_row),
    ]


def _scan(place: Place, expression: str) -> float:
    watch = _Watch()
    with watch.running():
        place.server.sql(f"select {expression} from {TABLE} m")
    return watch.wall


def _drained(chunks: Iterator[Sequence[ResultRow]]) -> list[ResultRow]:
    sample: list[ResultRow] = []
    for chunk in chunks:
        if len(sample) < _SAMPLE:
            sample.extend(chunk)
    return sample


def _carrying(sample: list[ResultRow], destination: PostHog, host: str) -> Iterator[Cost]:
    """What Python does with rows that have come, one step after the other on one thread."""
    names = ("make rows", "cut batches", "send", "compress", "post", "understand the answers")
    steps = {name: _Watch() for name in names}
    with steps["make rows"].running():
        rows = list(map(row_of, sample))
    largest = destination.max_message_bytes
    cutter = BatchCutter(BatchLimits(), lanes=8, max_message_bytes=largest, needs_person=False)
    with steps["cut batches"].running():
        cut = list(chain(cutter.add(rows), cutter.rest()))
    batches = [one.batch for one in cut if isinstance(one, LaneBatch)]
    with steps["send"].running():
        for batch in batches:
            destination.send(batch, new_identity(), 1)
    bodies = [destination.render(batch, new_identity()).body.encode() for batch in batches]
    sliced = [[body[at : at + _SLICE_BYTES] for at in range(0, len(body), _SLICE_BYTES)] for body in bodies]
    with steps["compress"].running():
        compressed = [gzipped(iter(parts)) for parts in sliced]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with new_session(host, pool=1, version="bench") as session, steps["post"].running():
        answers = [post(session, host + V0_PATH, headers, body).content for body in compressed]
    with steps["understand the answers"].running():
        for batch, answer in zip(batches, answers, strict=True):
            v0_outcome(batch, HttpAnswer("sink", 200, answer))
    cpu = {name: watch.cpu * 1e6 / len(rows) for name, watch in steps.items()}
    parts = cpu["compress"] + cpu["post"] + cpu["understand the answers"]
    cpu["send"] = max(cpu["send"] - parts, 0.0)
    for name in names:
        yield Cost("python", "splice the messages" if name == "send" else name, cpu[name])
