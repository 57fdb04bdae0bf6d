"""What is confirmed is exactly what was delivered, however the positions lie; on every warehouse."""

from __future__ import annotations

import pytest
from lab import Lab

from dbt_posthog_sync.errors import LeaseLost
from dbt_posthog_sync.warehouse.arguments import SyncArguments
from dbt_posthog_sync.warehouse.lease import Holder
from dbt_posthog_sync.warehouse.positions import Positions
from dbt_posthog_sync.warehouse.snapshot import Snapshot

PEOPLE = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan"},
}
ROWS = 2_000
RUN_ID = "00000000-0000-4000-8000-000000000009"


@pytest.fixture
def staged(lab: Lab) -> tuple[Snapshot, SyncArguments]:
    """A snapshot whose sync has staged rows, and holds its lease."""
    lab.build(f"select 'u' || i as id, 'a' as plan from generate_series(1, {ROWS}) as g(i)")
    planner = lab.planner(lab.destination())
    resolved = lab.resolve(PEOPLE)
    planner.state.ensure()
    identity = planner.state.lease(resolved.id).take(Holder(RUN_ID, "a test", "here"))
    planner.state.register(planner.arguments(resolved, None, identity))
    stored = planner.state.read(resolved.id)
    assert stored is not None
    arguments = planner.stage(planner.arguments(resolved, stored, identity), stored).arguments
    return Snapshot(lab.warehouse, planner.state, arguments), arguments


@pytest.mark.parametrize(
    "positions",
    [
        pytest.param([1], id="the first alone"),
        pytest.param([ROWS], id="the last alone"),
        pytest.param(range(1, ROWS + 1), id="all"),
        pytest.param([7, 3, 4, 12], id="near each other, in any order"),
        pytest.param([1, 2, 9, 10, 11, ROWS - 3], id="far apart"),
        pytest.param([ROWS, 1], id="both ends"),
    ],
)
def test_the_rows_at_these_positions_are_confirmed_and_no_others(
    positions: list[int], staged: tuple[Snapshot, SyncArguments], lab: Lab
) -> None:
    snapshot, arguments = staged
    snapshot.confirm(Positions(positions))
    tables = arguments.tables
    found = lab.sql(
        f"select c.position from {{state}}.{tables.changes} c join {{state}}.{tables.log} g on g.sync_key = c.sync_key"
    )
    assert sorted(positions) == sorted(int(position) for (position,) in found)
    assert len(positions) == lab.sql(f"select count(*) from {{state}}.{tables.log}")[0][0]


@pytest.mark.parametrize("positions", [[1, ROWS + 1], [ROWS - 1, ROWS, ROWS + 1]], ids=["far apart", "near each other"])
def test_a_position_that_is_not_there_stops_the_run(
    positions: list[int], staged: tuple[Snapshot, SyncArguments]
) -> None:
    with pytest.raises(LeaseLost):
        staged[0].confirm(Positions(positions))


def test_more_positions_than_a_statement_has_room_for_are_confirmed_in_parts(
    staged: tuple[Snapshot, SyncArguments], lab: Lab
) -> None:
    snapshot, arguments = staged
    positions = [*range(ROWS, ROWS // 2, -1), 1, 3]
    snapshot.confirm(Positions(positions, bits=3))
    tables = arguments.tables
    found = lab.sql(
        f"select c.position from {{state}}.{tables.changes} c join {{state}}.{tables.log} g on g.sync_key = c.sync_key"
    )
    assert sorted(positions) == sorted(int(position) for (position,) in found)
