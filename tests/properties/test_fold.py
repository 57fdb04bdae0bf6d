"""A fold rewrites the whole snapshot; whatever interrupts it, nothing that was delivered is forgotten or sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab import Lab
from mortal import Killed, MortalWarehouse, VisitedWarehouse
from weather import in_another_session

from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.warehouse import ResultRow, Warehouse

PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan"},
}
ROWS = 1_000
"""A fold is due from this many rows of the log on."""


class DiesBeforeTheFold(MortalWarehouse):
    """Dies when the log is counted for the second time: the first time says whether anything was delivered before."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__(warehouse, 1_000)
        self._counted = 0

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        self._counted += macro == "count_log"
        if self._counted == 2:
            raise Killed
        return super().rows(macro, **arguments)


def deliver_up_to_the_fold(lab: Lab) -> None:
    """Deliver and settle all rows, and die before the log is folded."""
    lab.build(f"select 'u' || i as id, 'a' as plan from generate_series(1, {ROWS}) as g(i)")
    assert not _runs(lab, DiesBeforeTheFold(lab.warehouse))
    assert base_rows(lab) == 0
    check(lab)


def _runs(lab: Lab, warehouse: MortalWarehouse) -> bool:
    try:
        replace(lab, warehouse=warehouse).run(PEOPLE, steal=True)
    except Killed:
        return False
    return True


def base_rows(lab: Lab) -> int:
    """Rows of the folded base."""
    return int(lab.sql("select base_rows from {state}.syncs")[0][0])


def check(lab: Lab) -> None:
    """All rows are known, and were sent once."""
    run = lab.plan(PEOPLE)
    assert (run.staged.unchanged, run.estimated_events) == (ROWS, 0)
    assert len(lab.posthog.project.received) == ROWS


def test_a_fold_that_is_killed_at_any_statement_forgets_nothing(lab: Lab) -> None:
    deliver_up_to_the_fold(lab)
    statements, died = 10, 0
    while not _runs(lab, MortalWarehouse(lab.warehouse, statements)):
        check(lab)
        statements, died = statements + 1, died + 1
    assert died > 10
    assert base_rows(lab) == ROWS
    check(lab)


def test_a_run_that_loses_its_lease_before_the_fold_leaves_it_to_the_other(lab: Lab) -> None:
    deliver_up_to_the_fold(lab)

    def another_run_folds() -> None:
        in_another_session(lab.warehouse, lambda: lab.run(PEOPLE, steal=True))

    statements, folded = 10, set()
    while statements < 40:
        visited = VisitedWarehouse(lab.warehouse, statements, another_run_folds)
        run = replace(lab, warehouse=visited).run(PEOPLE, steal=True)
        folded.add((run.status, base_rows(lab)))
        check(lab)
        statements += 3
    assert {rows for _, rows in folded} == {ROWS}
    assert {status for status, _ in folded} <= {RunStatus.SUCCESS, RunStatus.ERROR}
