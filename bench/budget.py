"""The budget: where each microsecond of a row goes, found by taking the steps of a run one after the other.

Everything here is the program's own code and SQL. It runs in a process of its own (`apart`), so that the program's
memory and DuckDB's file lock are not the benchmark's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypeVar

from lab import manifest_for, prepared_warehouse

from bench.model import EVENTS, TABLE, Place
from bench.program import KEY
from dbt_posthog_sync.annotation import syncs_from
from dbt_posthog_sync.batch import BatchCutter, BatchLimits, LaneBatch
from dbt_posthog_sync.carrier import new_identity
from dbt_posthog_sync.cli import collect_less_garbage
from dbt_posthog_sync.courier import rows_of
from dbt_posthog_sync.destinations.posthog import V0_PATH, PostHog, PostHogConfig, gzipped
from dbt_posthog_sync.destinations.posthog_answers import HttpAnswer, v0_outcome
from dbt_posthog_sync.http import new_session, post
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.warehouse import Columns, Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity, SyncArguments
from dbt_posthog_sync.warehouse.lease import Holder
from dbt_posthog_sync.warehouse.positions import Positions
from dbt_posthog_sync.warehouse.snapshot import Snapshot

_SAMPLE = 100_000
_CONFIRMED_AT_ONCE = 500_000
_SLICE_BYTES = 46_000
_RUN_ID = "00000000-0000-4000-8000-000000000000"

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds that one step costs a row: of the warehouse by the clock, of Python in CPU time."""

    where: str
    step: str
    microseconds: float


def apart(work: Callable[..., _Found], *arguments: object) -> _Found:
    """Do it in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


@dataclass
class _Watch:
    """Seconds of a step, by the clock and by this process's CPU."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def _destination(host: str) -> PostHog:
    return PostHog(PostHogConfig(host, KEY, _RUN_ID, protocol="v0"))


def _planner(warehouse: Warehouse, place: Place, state: str, identity: str) -> tuple[Planner, ResolvedSync]:
    planner = Planner(warehouse, PlanSettings(schema=state, destination=identity))
    return planner, planner.resolve(syncs_from(manifest_from(manifest_for(place.server, {TABLE: EVENTS}))))[0]


def bare_diff(place: Place, folder: Path, host: str, times: int) -> float:
    """Median seconds of the diff statement alone, on the state that a run of this project left behind."""
    with prepared_warehouse(place.server, folder) as warehouse:
        planner, resolved = _planner(warehouse, place, folder.name, _destination(host).identity)
        arguments = planner.arguments(resolved, planner.state.read(resolved.id), RunIdentity("bench"))
        return median(_diff_seconds(warehouse, arguments.for_macro()) for _ in range(times))


def _diff_seconds(warehouse: Warehouse, macro_sync: object) -> float:
    watch = _Watch()
    with warehouse.transaction():
        warehouse.run("drop_sync_table", sync=macro_sync, part="diff")
        with watch.running():
            warehouse.run("diff", sync=macro_sync)
    return watch.wall


def budget(place: Place, folder: Path, host: str, rows: int) -> list[Cost]:
    """Take the steps of a first run on a fresh state schema, and say what each costs."""
    collect_less_garbage()  # as the command does
    stage, stream, confirm, fold = _Watch(), _Watch(), _Watch(), _Watch()
    with prepared_warehouse(place.server, folder) as warehouse:
        destination = _destination(host)
        planner, resolved = _planner(warehouse, place, folder.name, destination.identity)
        state = planner.state
        state.ensure()
        identity = state.lease(resolved.id).take(Holder(_RUN_ID, "bench", "here"))
        state.register(planner.arguments(resolved, None, identity))
        stored = state.read(resolved.id)
        assert stored is not None
        with stage.running():
            arguments = planner.stage(planner.arguments(resolved, stored, identity), stored).arguments
        sample: list[Columns] = []
        sampled = 0
        with stream.running(), _messages(warehouse, arguments) as chunks:
            for chunk in chunks:
                if sampled < _SAMPLE:
                    sample.append(chunk)
                    sampled += len(chunk[0])
        snapshot = Snapshot(warehouse, state, arguments)
        with confirm.running():
            for start in range(1, rows + 1, _CONFIRMED_AT_ONCE):
                snapshot.confirm(Positions(range(start, min(start + _CONFIRMED_AT_ONCE, rows + 1))))
        with fold.running():
            snapshot.fold_if_due(stored)
        macro_sync = snapshot.arguments.for_macro()
        hashed = warehouse.evaluate("row_hash", columns=macro_sync["hashed_columns"], seed=macro_sync["hash_seed"])
        diff = _diff_seconds(warehouse, macro_sync)
        state.lease(resolved.id).release(identity)
    whole = [
        ("warehouse", "scan of the model", _scan(place, "length(m.note)")),
        ("warehouse", "scan and row hash", _scan(place, hashed)),
        ("warehouse", "diff, nothing changed", diff),
        ("warehouse", "stage, everything new", stage.wall),
        ("warehouse", "stream, drained as fast as it comes", stream.wall),
        ("warehouse", "confirm", max(confirm.wall - confirm.cpu, 0.0)),
        ("warehouse", "fold", fold.wall),
        ("python", "confirm", confirm.cpu),
        ("python", "receive", stream.cpu),
    ]
    return [*(Cost(where, step, seconds * 1e6 / rows) for where, step, seconds in whole), *_carrying(sample, host)]


def _messages(warehouse: Warehouse, arguments: SyncArguments) -> AbstractContextManager[Iterator[Columns]]:
    """All messages, read by one connection."""
    if arguments.has_places:
        return warehouse.stream("message_parcels", readers=1, sync=arguments.for_macro())
    return warehouse.stream("message_stream", sync=arguments.for_macro())


def _scan(place: Place, expression: str) -> float:
    watch = _Watch()
    with watch.running():
        place.server.sql(f"select max({expression}) from {TABLE} m")
    return watch.wall


def _carrying(sample: list[Columns], host: str) -> Iterator[Cost]:
    """What Python does with rows that have come, one step after the other on one thread."""
    destination = _destination(host)
    make, cut, send, compress, posting, understand = (_Watch() for _ in range(6))
    with make.running():
        rows = [rows_of(chunk) for chunk in sample]
    largest = destination.max_message_bytes
    cutter = BatchCutter(BatchLimits(), lanes=8, max_message_bytes=largest, needs_person=False)
    with cut.running():
        pieces = list(chain(*map(cutter.add, rows), cutter.rest()))
    batches = [piece.batch for piece in pieces if isinstance(piece, LaneBatch)]
    with send.running():
        for batch in batches:
            destination.send(batch, new_identity(), 1)
    bodies = [destination.render(batch, new_identity()).body.encode() for batch in batches]
    slices = [[body[at : at + _SLICE_BYTES] for at in range(0, len(body), _SLICE_BYTES)] for body in bodies]
    with compress.running():
        compressed = [gzipped(iter(parts)) for parts in slices]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with new_session(host, pool=1, version="bench") as session, posting.running():
        answers = [post(session, host + V0_PATH, headers, body).content for body in compressed]
    with understand.running():
        for batch, answer in zip(batches, answers, strict=True):
            v0_outcome(batch, HttpAnswer("sink", 200, answer))
    splice = max(send.cpu - compress.cpu - posting.cpu - understand.cpu, 0.0)
    seconds = {"make rows": make.cpu, "cut batches": cut.cpu, "splice messages": splice, "compress": compress.cpu}
    for step, cpu in {**seconds, "post": posting.cpu, "understand answers": understand.cpu}.items():
        yield Cost("python", step, cpu * 1e6 / sum(map(len, rows)))
