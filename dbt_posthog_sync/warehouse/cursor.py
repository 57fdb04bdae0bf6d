"""Cursors of dbt's connections, as the Python DB-API has them (PEP 249), where a wrapper of dbt's leaves parts out.

Most adapters hand out their driver's cursor. dbt-databricks runs a statement on the connection itself, dbt-bigquery has
a client instead of a connection, and the wrappers of dbt-spark cannot fetch row by row, though what they wrap can.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from dbt_posthog_sync.warehouse import ResultRow


def executed(handle: Any, statement: str, module: str) -> Any:
    """Run a statement on a connection and return its cursor.

    Args:
        handle: the connection, as dbt holds it.
        statement: SQL without parameters.
        module: DB-API module that makes a connection of a handle without cursors; empty where dbt's has them.
    """
    if module:
        handle = importlib.import_module(module).connect(handle)
    if not hasattr(handle, "cursor"):
        return handle.execute(statement)
    cursor = handle.cursor()
    cursor.execute(statement)
    return cursor


def rows_written(cursor: Any) -> int:
    """How many rows a statement wrote, or -1 where the adapter does not say."""
    count = getattr(cursor, "rowcount", -1)
    if isinstance(count, int) and count >= 0:
        return count
    if not cursor.description:
        return -1
    row = next(iter(cursor.fetchall() or ()), None)
    return int(row[0]) if row and isinstance(row[0], int) else -1


def chunks(cursor: Any, size: int) -> Iterator[Sequence[ResultRow]]:
    """The rows of a query in chunks, none of them held longer than it is wanted."""
    if not hasattr(cursor, "fetchmany"):
        # What a wrapper of dbt-spark wraps: the cursor of a Thrift or ODBC driver, or that of a Spark session.
        cursor = getattr(cursor, "_cursor", cursor)
    frame = getattr(cursor, "_df", None)
    if frame is not None:
        rows = iter(frame.toLocalIterator())  # partition by partition; `collect` would take all of them at once
        while chunk := [tuple(row) for row in islice(rows, size)]:
            yield chunk
        return
    while found := cursor.fetchmany(size):
        yield found
