"""The fault suite itself: quick cases at a small size, and proof that it notices what it is there to notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import table
from faults.answers import under
from faults.case import Case, Finding, Seen, tried
from faults.catalogue import all_cases, chosen
from faults.model import PEOPLE
from faults.postgres import Postgres
from faults.scene import Scene

from dbt_posthog_sync.testing import EventResults, LoseAnswer, Verdict, When, always

ROWS = 2_000


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server that may be killed."""
    with Postgres() as server:
        yield server


@pytest.mark.parametrize("name", ["killed-committed-settled", "answer-lost-persons", "warehouse-killed"])
def test_a_quick_case_is_good(name: str, own_postgres: Postgres, tmp_path: Path) -> None:
    finding = tried(chosen([name])[0], ROWS, own_postgres, tmp_path)
    assert finding.problems == ()
    assert finding.verdict is not None
    assert (finding.verdict.lost, finding.verdict.kept) == (0, 0)


def test_a_lost_row_and_another_exit_code_are_noticed(own_postgres: Postgres, tmp_path: Path) -> None:
    def loses(_rows: int) -> When:
        """A v0 that says Ok and keeps all but one row."""
        drop = Verdict("drop")
        return When(always, EventResults(lambda event: drop if event["properties"]["order_id"] == 7 else None))

    finding = tried(Case("loses", under(loses), (1,), protocol="v0", lasting=loses), ROWS, own_postgres, tmp_path)
    assert finding.verdict is not None
    assert (finding.verdict.lost, finding.verdict.repeated, finding.verdict.kept) == (1, 0, 0)
    assert finding.problems == ("exit 0 where 1 was expected", "1 rows are lost")


def test_a_repeat_that_is_kept_is_noticed(own_postgres: Postgres, tmp_path: Path) -> None:
    def forgets(scene: Scene) -> Seen:
        """Persons whose time of staging is forgotten between two runs are other messages."""
        scene.traffic.meet(When(lambda arrival: arrival.number == 1, LoseAnswer()))
        code = scene.run().code
        changes = scene.sql("select changes_table from {state}.syncs")[0][0]
        scene.sql(f"drop table {{state}}.{changes}")
        return Seen("", (code,))

    impatient = {"retry_seconds": 0}
    finding = tried(Case("forgets", forgets, (4,), model=PEOPLE, delivery=impatient), ROWS, own_postgres, tmp_path)
    assert finding.verdict is not None
    assert finding.verdict.kept > 0
    assert finding.verdict.kept == finding.verdict.repeated
    assert finding.problems == (f"{finding.verdict.kept} repeats would be kept",)


def test_names_are_unique_and_a_case_that_needs_more_rows_is_skipped(own_postgres: Postgres, tmp_path: Path) -> None:
    names = [case.name for case in all_cases()]
    assert sorted(set(names)) == sorted(names)
    finding = tried(chosen(["killed-before-later-confirm"])[0], ROWS, own_postgres, tmp_path)
    assert finding == Finding("killed-before-later-confirm", skipped="needs 20,000 rows")
    assert "skipped: needs 20,000 rows" in next(iter(table.lines(finding)))
