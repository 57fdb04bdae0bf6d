"""The tables of a project as HogQL sees them, in SQLite's memory; written anew only after the project has changed."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from dbt_posthog_sync.testing.hogql import HogQlError, Translation
from dbt_posthog_sync.testing.people import Person
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.timestamps import lenient
from dbt_posthog_sync.testing.wire import compact_json

_CREATE = {
    "persons": "create table persons (id text primary key not null, properties text, created_at text, "
    "is_identified int) without rowid",
    "person_distinct_ids": "create table person_distinct_ids (distinct_id text primary key not null, "
    "person_id text not null) without rowid",
    "events": "create table events (uuid text, event text, distinct_id text, timestamp text, created_at text, "
    "properties text, person_id text)",
    "system.ingestion_warnings": "create table ingestion_warnings (source text, type text, details text, "
    "timestamp text)",
}
_INDEX = {
    "person_distinct_ids": "create index by_person on person_distinct_ids (person_id)",
    "events": "create index by_uuid on events (uuid)",
}


def _moment(value: datetime) -> str:
    """A time as text that sorts as the time does."""
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Tables:
    """One project's tables. Safe to use from several threads, one query at a time."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._versions: dict[str, int] = {}
        self._people: tuple[int, tuple[Person, ...]] = (-1, ())
        _add_functions(self._connection)

    def rows(self, query: Translation, *, sees_events: bool = True) -> tuple[list[str], list[list[Any]]]:
        """Names of the columns, and the rows.

        Args:
            query: what to run.
            sees_events: false for a query that comes before the events have been ingested.

        Raises:
            HogQlError: SQLite does not understand it.
        """
        with self._lock:
            for table in query.tables:
                self._bring_up_to_date(table)
            self._people = (-1, ())  # a million of them are large
            if not sees_events and "events" in query.tables:
                self._connection.execute("delete from events")
                self._versions.pop("events", None)
            try:
                cursor = self._connection.execute(query.sql, dict(query.parameters))
                return [name for name, *_ in cursor.description], [list(row) for row in cursor]
            except sqlite3.Error as error:
                raise HogQlError(f"The query cannot be run: {error}") from error

    def _bring_up_to_date(self, table: str) -> None:
        version = self._project.version
        if self._versions.get(table) == version:
            return
        name = table.removeprefix("system.")
        self._connection.execute(f"drop table if exists {name}")
        self._connection.execute(_CREATE[table])
        rows = _ROWS[table](self._project, self._persons(version))
        self._connection.execute("begin")
        self._connection.executemany(f"insert into {name} values ({','.join('?' * _columns(table))})", rows)  # noqa: S608
        self._connection.execute("commit")
        if table in _INDEX:
            self._connection.execute(_INDEX[table])
        self._versions[table] = version

    def _persons(self, version: int) -> tuple[Person, ...]:
        """Every person, read once for all tables of a query."""
        if self._people[0] != version:
            self._people = (version, self._project.persons)
        return self._people[1]


def _columns(table: str) -> int:
    return _CREATE[table].count(",") + 1


def _persons(_: Project, people: Sequence[Person]) -> Iterable[Sequence[Any]]:
    for person in people:
        if not person.is_ghost:
            yield person.uuid, compact_json(person.properties), _moment(person.created_at), int(person.is_identified)


def _distinct_ids(_: Project, people: Sequence[Person]) -> Iterable[Sequence[Any]]:
    for person in people:
        if not person.is_ghost:
            for distinct_id in person.distinct_ids:
                yield distinct_id, person.uuid


def _events(project: Project, people: Sequence[Person]) -> Iterable[Sequence[Any]]:
    """Every arrival: PostHog removes repeats in the background, and until then queries see them."""
    owners = {distinct_id: person.uuid for person in people for distinct_id in person.distinct_ids}
    for event in project.received:
        owner = owners.get(event.distinct_id)
        moments = _moment(event.timestamp), _moment(event.created_at)
        yield event.uuid, event.event, event.distinct_id, *moments, event.properties_json, owner


def _warnings(project: Project, _: Sequence[Person]) -> Iterable[Sequence[Any]]:
    for warning in project.warnings:
        details = {
            "distinctId": warning.distinct_id,
            "eventUuid": warning.uuid,
            "event": warning.event,
            "lib": warning.lib,
            "libVersion": warning.lib_version,
        }
        yield "plugin-server", warning.type, compact_json(details), _moment(warning.at)


_ROWS: Mapping[str, Callable[[Project, Sequence[Person]], Iterable[Sequence[Any]]]] = {
    "persons": _persons,
    "person_distinct_ids": _distinct_ids,
    "events": _events,
    "system.ingestion_warnings": _warnings,
}


# ClickHouse's functions that SQLite has not.


def _add_functions(connection: sqlite3.Connection) -> None:
    def add(name: str, arguments: int, function: Callable[..., Any]) -> None:
        connection.create_function(name, arguments, function, deterministic=True)

    add("hogql_lower_utf8", 1, lambda text: None if text is None else str(text).lower())
    add("hogql_length", 1, lambda text: None if text is None else len(str(text).encode()))
    add("hogql_starts_with", 2, lambda text, start: None if text is None else int(str(text).startswith(str(start))))
    add("hogql_moment", 1, _read_moment)
    add("hogql_json_string", 2, _json_string)
    connection.create_function("hogql_now", 0, lambda: _moment(datetime.now(timezone.utc)))
    connection.create_aggregate("hogql_arg_min", 2, _ArgMin)  # type: ignore[arg-type]
    connection.create_aggregate("hogql_arg_max", 2, _ArgMax)  # type: ignore[arg-type]


def _read_moment(text: object) -> str | None:
    moment = lenient(str(text), datetime.now(timezone.utc))
    return None if moment is None else _moment(moment)


def _json_string(text: str, name: str) -> str:
    """A member of a JSON object where it is a text, else the empty one."""
    value = json.loads(text).get(name)
    return value if isinstance(value, str) else ""


class _ArgMin:
    """The first value belonging to the smallest key; rows without a key do not count."""

    def __init__(self) -> None:
        self.best: tuple[Any, Any] | None = None

    def step(self, value: Any, key: Any) -> None:
        if key is not None and (self.best is None or self.is_better(key, self.best[0])):
            self.best = (key, value)

    def finalize(self) -> Any:
        return None if self.best is None else self.best[1]

    @staticmethod
    def is_better(key: Any, than: Any) -> bool:
        return bool(key < than)


class _ArgMax(_ArgMin):
    """The first value belonging to the largest key."""

    @staticmethod
    def is_better(key: Any, than: Any) -> bool:
        return bool(key > than)
