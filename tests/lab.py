"""Real warehouses for tests: a relation to sync, and what the program makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import yaml

from dbt_posthog_sync.warehouse.dbt_adapter import DbtOptions, DbtWarehouse

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A warehouse that tests may write to: how dbt connects, and how a test runs SQL of its own."""

    kind: str
    database: str
    output: Mapping[str, Any]
    connect: Callable[[], Any]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL on a connection of its own and commit."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return [tuple(row) for row in rows]
        finally:
            connection.close()


def duckdb_server(folder: Path) -> Server:
    """A DuckDB file."""
    path = folder / "lab.duckdb"
    output = {"type": "duckdb", "path": str(path), "schema": "main"}
    return Server("duckdb", "lab", output, lambda: _committing(duckdb.connect(str(path))))


def _committing(connection: Any) -> Any:
    connection.execute("begin")
    return connection


def postgres_server(dsn: str) -> Server:
    """A Postgres database, reached by a libpq connection string."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    output = {
        "type": "postgres",
        "host": parts.get("host", "localhost"),
        "port": int(parts.get("port", 5432)),
        "user": parts.get("user", "postgres"),
        "password": parts.get("password", ""),
        "dbname": parts.get("dbname", "postgres"),
        "schema": "public",
        "threads": 1,
    }
    return Server("postgres", str(output["dbname"]), output, lambda: psycopg2.connect(dsn))


def write_project(folder: Path, output: Mapping[str, Any]) -> Path:
    """A dbt project folder with a profile for one server; nothing in it is parsed by dbt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dbt_project.yml").write_text("name: lab\nversion: 1.0.0\nprofile: lab\n")
    profile = {"lab": {"target": "dev", "outputs": {"dev": dict(output)}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    return folder


@contextmanager
def opened(folder: Path, server: Server) -> Iterator[DbtWarehouse]:
    """The warehouse as the program opens it."""
    project = write_project(folder, server.output)
    with DbtWarehouse(DbtOptions(project_dir=project, profiles_dir=project)) as warehouse:
        yield warehouse


def fresh_name(prefix: str) -> str:
    """A name that no other test of this process uses."""
    return f"{prefix}_{next(_numbers)}"


def values(rows: Sequence[Sequence[str]]) -> str:
    """Rows of SQL expressions as a `values` list."""
    return ", ".join("(" + ", ".join(row) + ")" for row in rows)
