"""The model: one table of twelve columns, annotated as events, and what its warehouse says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from lab import Server, duckdb_server, postgres_server

TABLE = "bench_orders"
DAYS = 30
DUCKDB_MEMORY_MB = 1024

EVENTS: Mapping[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer_id",
    "event": {"value": "ordered"},
    "timestamp": "ordered_at",
    "properties": "all",
    "exclude": ["ordered_at"],  # it is the message's timestamp already
    # The default compares keys only, because an event once sent stays as it is. This one hashes every row.
    "on_change": "resend",
}

_COLUMNS = """
  i as order_id,
  i % {people} + 1 as customer_id,
  i % 5000 as account_id,
  'c' || (i % {people} + 1) || '@example.com' as email,
  case i % 4 when 0 then 'free' when 1 then 'team' when 2 then 'business' else 'enterprise' end as plan,
  case i % 3 when 0 then 'DE' when 1 then 'FR' else 'PT' end as country,
  '"' || substr(md5(cast(i as varchar)), 1, 8) || '"' as note,
  cast((i * 7919 % 100000) / 100.0 as decimal(12, 2)) as amount,
  cast(i % 9 + 1 as integer) as quantity,
  i % 7 = 0 as is_first,
  cast('{start}' as timestamptz) + {past} as ordered_at,
  cast('{{"steps": [1, ' || i % 10 || ']}}' as {json}) as details
"""


@dataclass(frozen=True)
class Place:
    """Where the table is; it travels to other processes, which a connection cannot.

    Attributes:
        kind: postgres or duckdb.
        address: a libpq connection string, or the folder of a DuckDB file.
    """

    kind: str
    address: str

    @property
    def server(self) -> Server:
        """How to reach it."""
        if self.is_postgres:
            return postgres_server(self.address)
        server = duckdb_server(Path(self.address))
        return replace(server, output={**server.output, "settings": {"memory_limit": f"{DUCKDB_MEMORY_MB}MB"}})

    @property
    def is_postgres(self) -> bool:
        """True for the one that has statistics to ask."""
        return self.kind == "postgres"

    def build(self, rows: int) -> None:
        """Build the table as dbt would, indexed on its time; rows are spread evenly over the last days."""
        span = timedelta(days=DAYS)
        micros = f"i * {int(span / timedelta(microseconds=1)) // rows}"
        past = f"interval '1 microsecond' * ({micros})" if self.is_postgres else f"to_microseconds({micros})"
        source = "generate_series(cast(1 as bigint), {0})" if self.is_postgres else "range(cast(1 as bigint), {0} + 1)"
        columns = _COLUMNS.format(
            people=max(rows // 10, 1),
            start=datetime.now(timezone.utc) - span,
            past=past,
            json="jsonb" if self.is_postgres else "json",
        )
        self.server.sql(f"create table {TABLE} as select {columns} from {source.format(rows)} as numbers(i)")
        if self.is_postgres:  # DuckDB keeps the bounds of each block, which is all that times in order need
            self.server.sql(f"create index on {TABLE} (ordered_at)")

    def change_one_percent(self, number: int) -> None:
        """Change one row in a hundred, others each time."""
        self.server.sql(f"update {TABLE} set amount = amount + 1 where order_id % 100 = {number % 100}")

    def settle(self) -> None:
        """Let maintenance happen now and not in the middle of a run."""
        connection = self.server.connect()
        try:
            if self.is_postgres:
                connection.autocommit = True
                connection.cursor().execute(f"vacuum (analyze) {TABLE}")
                connection.cursor().execute("checkpoint")
            else:
                connection.commit()
                connection.execute("checkpoint")
        finally:
            connection.close()

    def written(self) -> tuple[int, int]:
        """Bytes of temporary files and of write-ahead log that Postgres has written so far."""
        if not self.is_postgres:
            return 0, 0
        ((temp, wal),) = self.server.sql(
            "select temp_bytes, pg_current_wal_lsn() - '0/0' from pg_stat_database where datname = current_database()"
        )
        return int(temp), int(wal)

    def state_size(self, state: str) -> StateSize:
        """Bytes of a snapshot on Postgres."""
        listed = f"select tablename from pg_tables where schemaname = '{state}' and tablename ~ "
        (base,), (log,) = (self.server.sql(f"{listed}'__{part}_[0-9]+$'")[0] for part in ("base", "log"))
        rows = int(self.server.sql(f"select count(*) from {state}.{base}")[0][0])
        fresh = [self._fresh(f"select * from {state}.{table}") for table in (base, log)]
        unfolded = self._fresh(f"select *, cast(1 as bigint), cast(0 as smallint) from {state}.{base}")
        return StateSize(rows, self._size(f"{state}.{base}") + self._size(f"{state}.{log}"), sum(fresh), unfolded)

    def _fresh(self, select: str) -> int:
        self.server.sql(f"create table {TABLE}_fresh as {select}")
        size = self._size(f"{TABLE}_fresh")
        self.server.sql(f"drop table {TABLE}_fresh")
        return size

    def _size(self, table: str) -> int:
        return int(self.server.sql(f"select pg_total_relation_size('{table}')")[0][0])


@dataclass(frozen=True, slots=True)
class StateSize:
    """Bytes of base and log.

    Attributes:
        rows: rows of the base.
        real: what is there.
        fresh: what the same rows take when they are freshly written.
        unfolded: what all rows take in the log, where they are before the first fold, which no one can watch.
    """

    rows: int
    real: int
    fresh: int
    unfolded: int
