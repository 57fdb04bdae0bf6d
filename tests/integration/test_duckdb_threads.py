"""DuckDB works inside the program's process: its threads while rows are carried, and what it makes us fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, duckdb_server, fresh_name, prepared_warehouse

from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse.arguments import RunIdentity

PROCESSORS = os.cpu_count() or 1
EVENTS: Mapping[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "id",
    "event": {"value": "seen"},
    "timestamp": "at",
    "properties": ["id"],
}
MODEL = "select i as id, timestamptz '2026-11-01 00:00:00+00' as at from range(1, 11) s(i)"


@contextmanager
def file_lab(folder: Path, posthog: StandIn, settings: Mapping[str, Any]) -> Iterator[Lab]:
    """A DuckDB file of its own, because its settings belong to all connections of a process."""
    server = duckdb_server(folder)
    server = replace(server, output={**server.output, "settings": dict(settings)})
    with prepared_warehouse(server, folder / "project") as warehouse:
        lab = Lab(server, posthog, warehouse, fresh_name("model"), fresh_name("state"))
        lab.build(MODEL)
        yield lab


def threads(lab: Lab) -> int:
    return int(lab.sql("select current_setting('threads')")[0][0])


@pytest.mark.skipif(PROCESSORS < 2, reason="there is no processor to leave to anybody")
def test_one_processor_is_left_to_python_once_rows_are_sent(tmp_path: Path, posthog: StandIn) -> None:
    with file_lab(tmp_path, posthog, {}) as lab:
        lab.sql(f"set global threads = {PROCESSORS}")
        assert lab.run(EVENTS).counts.delivered == 10
        assert threads(lab) == PROCESSORS - 1


def test_a_number_of_threads_that_the_profile_sets_stays(tmp_path: Path, posthog: StandIn) -> None:
    with file_lab(tmp_path, posthog, {"threads": PROCESSORS + 3}) as lab:
        assert threads(lab) == PROCESSORS + 3
        assert lab.run(EVENTS).counts.delivered == 10
        assert threads(lab) == PROCESSORS + 3


def test_a_lane_is_a_small_integer(tmp_path: Path, posthog: StandIn) -> None:
    """A hugeint, which integers of different signs add up to, takes longer to fetch than all the rest of a row."""
    with file_lab(tmp_path, posthog, {}) as lab:
        prepared = lab.planner().plan(lab.resolve(EVENTS), RunIdentity("types"))
        lane = lab.warehouse.evaluate("streamed_lane", sync=prepared.arguments.for_macro())
        assert lab.server.sql(f"select distinct typeof({lane}) from {lab.table} m") == [("INTEGER",)]
