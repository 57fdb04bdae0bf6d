"""The lease: who holds it is told at once, a dead one expires, and a run that lost it writes nothing more."""

from __future__ import annotations

import time
from typing import Any

import pytest
from lab import Lab, Server

from dbt_posthog_sync.errors import LeaseLost, UnsafePlan
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.warehouse.lease import Holder, Lease

PERSONS: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["note"],
}
FIRST, SECOND = Holder("run-1", "anna, process 1", "laptop"), Holder("run-2", "ci, process 2", "runner")


def lease(lab: Lab) -> Lease:
    """The lease of some sync."""
    state = lab.planner().state
    state.ensure()
    return state.lease("some")


def test_the_second_is_told_who_holds_it_where_since_when_and_how_alive(shared_lab: Lab) -> None:
    lease(shared_lab).take(FIRST)
    shared_lab.sql("update {state}.leases set taken_at = taken_at - interval '10' minute")
    with pytest.raises(UnsafePlan, match=r"anna, process 1 on laptop, for 10 min, last heard of \d s ago.*--steal"):
        lease(shared_lab).take(SECOND)


def test_the_second_does_not_wait_for_what_the_first_has_under_way(shared_lab: Lab) -> None:
    held = lease(shared_lab)
    run = held.take(FIRST)
    with _open_transaction(shared_lab.server, f"update {shared_lab.schema}.leases set heartbeat_at = now()"):
        begun = time.monotonic()
        with pytest.raises(UnsafePlan, match="under way"):
            lease(shared_lab).take(SECOND)
        assert time.monotonic() - begun < 2
    held.hold(run)


class _open_transaction:  # noqa: N801 - used as a function
    """A statement that is not committed yet."""

    def __init__(self, server: Server, statement: str) -> None:
        self._connection = server.connect()
        self._connection.cursor().execute(statement)

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
        self._connection.close()


def test_a_dead_lease_is_taken_over_and_the_dead_cannot_write(shared_lab: Lab) -> None:
    run = lease(shared_lab).take(FIRST)
    shared_lab.sql("update {state}.leases set heartbeat_at = heartbeat_at - interval '10' minute")
    taken = lease(shared_lab).take(SECOND)
    assert taken.epoch == run.epoch + 1
    with pytest.raises(LeaseLost):
        lease(shared_lab).hold(run)
    lease(shared_lab).release(run)  # does nothing to the new holder
    lease(shared_lab).hold(taken)


def test_steal_takes_a_living_one(shared_lab: Lab) -> None:
    run = lease(shared_lab).take(FIRST)
    lease(shared_lab).take(SECOND, steal=True)
    with pytest.raises(LeaseLost):
        lease(shared_lab).hold(run)


def test_a_released_lease_is_free(shared_lab: Lab) -> None:
    first = lease(shared_lab)
    first.release(first.take(FIRST))
    assert lease(shared_lab).take(SECOND).epoch == 2


def test_a_run_that_lost_its_lease_changes_nothing_of_the_state(shared_lab: Lab) -> None:
    shared_lab.build("select 'a' as id, '1' as note")
    shared_lab.run(PERSONS)
    (sync_id,) = shared_lab.sql("select sync_id from {state}.syncs")[0]
    state = shared_lab.planner().state
    old = state.lease(sync_id).take(FIRST)
    state.lease(sync_id).take(SECOND, steal=True)
    with pytest.raises(LeaseLost):
        state.update(sync_id, old, {"changes_table": "of the old run"})
    assert shared_lab.sql("select changes_table from {state}.syncs") == [(None,)]


def test_a_whole_run_is_refused_while_another_holds_the_lease(shared_lab: Lab) -> None:
    shared_lab.build("select 'a' as id, '1' as note")
    shared_lab.run(PERSONS)
    (sync_id,) = shared_lab.sql("select sync_id from {state}.syncs")[0]
    shared_lab.planner().state.lease(sync_id).take(FIRST)
    shared_lab.build("select 'a' as id, '2' as note")
    run = shared_lab.run(PERSONS)
    assert (run.status, run.exit_code) == (RunStatus.UNSAFE, 1)
    assert "anna, process 1 on laptop" in run.message
    assert len(shared_lab.posthog.project.received) == 1
