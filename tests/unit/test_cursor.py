"""A query's rows come in chunks, whatever dbt's wrapper around a driver leaves out."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from dbt_posthog_sync.warehouse import cursor

ONE_TO_THREE = "with n(value) as (select 1 union all select value + 1 from n where value < 3) select value from n"


class Runner:
    """A connection that runs statements itself, as dbt-databricks has it."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")

    def execute(self, statement: str) -> sqlite3.Cursor:
        return self._connection.execute(statement)


class Frame:
    """What a Spark session makes of a select; nothing is fetched at once."""

    def toLocalIterator(self) -> Any:  # noqa: N802 - Spark's name
        return iter([[1], [2], [3]])


class SessionCursor:
    """dbt-spark's cursor of a Spark session."""

    def __init__(self) -> None:
        self._df = Frame()


class Wrapper:
    """dbt-spark's wrapper: what it wraps can do more."""

    def __init__(self, wrapped: Any) -> None:
        self._cursor = wrapped

    def cursor(self) -> Wrapper:
        return self

    def execute(self, statement: str) -> None:
        if hasattr(self._cursor, "execute"):
            self._cursor.execute(statement)


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(sqlite3.connect(":memory:"), id="a connection"),
        pytest.param(Runner(), id="a connection that runs statements itself"),
        pytest.param(Wrapper(sqlite3.connect(":memory:").cursor()), id="a wrapped cursor"),
        pytest.param(Wrapper(SessionCursor()), id="a Spark session"),
    ],
)
def test_rows_come_in_chunks(handle: Any) -> None:
    found = list(cursor.chunks(cursor.executed(handle, ONE_TO_THREE, ""), 2))
    assert [[tuple(row) for row in chunk] for chunk in found] == [[(1,), (2,)], [(3,)]]


def test_a_client_without_cursors_is_wrapped_by_its_module() -> None:
    found = cursor.executed(":memory:", ONE_TO_THREE, "sqlite3")
    assert found.fetchall() == [(1,), (2,), (3,)]


class Told:
    """The cursor of a statement, with what it says of the rows it wrote."""

    def __init__(self, rowcount: int | None, rows: list[tuple[Any, ...]]) -> None:
        self.description = [("num_affected_rows",)] if rows else []
        self._rows = rows
        if rowcount is not None:
            self.rowcount = rowcount

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


@pytest.mark.parametrize(
    ("told", "expected"),
    [(Told(3, []), 3), (Told(None, [(4, 4)]), 4), (Told(None, []), -1), (Told(-1, [("text",)]), -1)],
    ids=["by the cursor", "by a row", "not at all", "by nothing that counts"],
)
def test_how_many_rows_were_written_is_known_where_the_driver_says_so(told: Told, expected: int) -> None:
    assert expected == cursor.rows_written(told)
