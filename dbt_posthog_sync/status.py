"""The status: what the state schema says of syncs, runs and rejected rows, by the names that are shown."""

from __future__ import annotations

import json
from typing import Any

from dbt_posthog_sync.warehouse import ResultRow
from dbt_posthog_sync.warehouse.state import State

_SYNC_FIELDS = (
    "id",
    "name",
    "model",
    "object",
    "live_keys",
    "updated_at",
    "is_held",
    "owner",
    "host",
    "taken_at",
    "heartbeat_at",
)
_RUN_FIELDS = (
    "run_id",
    "sync",
    "status",
    "message",
    "started_at",
    "ended_at",
    "delivered",
    "rejected",
    "requests",
    "bytes",
    "seconds",
    "program_version",
    "dbt_invocation_id",
    "counts",
    "phases",
)
_KEPT_AS_JSON = ("counts", "phases")
_REJECT_FIELDS = ("sync", "reason", "rows", "example", "first_seen_at", "last_seen_at")


def status_of(state: State, most: int) -> dict[str, Any]:
    """Syncs, the newest runs, and open rejects, each as a dictionary of what a column holds; empty before a first run.

    Args:
        state: the state schema.
        most: how many runs.
    """
    if not state.exists():
        return {"syncs": [], "runs": [], "rejected": []}
    return {
        "syncs": [dict(zip(_SYNC_FIELDS, row, strict=True)) for row in state.syncs()],
        "runs": [_run(row) for row in state.runs(most)],
        "rejected": [dict(zip(_REJECT_FIELDS, row, strict=True)) for row in state.rejected()],
    }


def _run(row: ResultRow) -> dict[str, Any]:
    """A run by its names; what the warehouse keeps as JSON in a text comes out as what it says."""
    run = dict(zip(_RUN_FIELDS, row, strict=True))
    return {**run, **{name: json.loads(run[name]) if run[name] else None for name in _KEPT_AS_JSON}}
