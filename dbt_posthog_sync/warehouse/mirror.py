"""The mirror: a table of the state schema with the persons that PostHog has, loaded anew when it is too old."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from dbt_posthog_sync.directory import Directory, FoundPerson
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import SyncArguments, sendable
from dbt_posthog_sync.warehouse.state import State

_ABANDONED_SECONDS = 6 * 3600  # no load takes as long: who began it is dead
_CHOSEN_SECONDS = 60  # another run may have chosen a mirror this moment, and reads it soon


class Mirror:
    """Persons by one kind of key, of one PostHog project."""

    def __init__(self, warehouse: Warehouse, state: State) -> None:
        self._warehouse = warehouse
        self._state = state

    def current(self, arguments: SyncArguments, max_age: timedelta) -> str | None:
        """Name of the table that is loaded and young enough; None when there is none."""
        for table, loaded_for, _ in self._registered(arguments):
            is_young = loaded_for is not None and loaded_for < max_age.total_seconds()
            if is_young and self._state.has_table(table):
                return table
        return None

    def load(self, arguments: SyncArguments, directory: Directory) -> str:
        """Load every person into a new table, put it into force, drop those that nobody needs, and return its name."""
        schema, kind = self._state.schema, arguments.resolved.sync.sync_key.kind
        table = f"persons_by_{kind.value}__{uuid.uuid4().hex[:8]}"
        where = {"schema": schema, "table": table}
        self._warehouse.run("insert_mirror", **where, kind=kind.value, destination=arguments.destination)
        rows = load_everyone(self._warehouse, directory, arguments.with_mirror(table))
        self._warehouse.run("end_mirror", **where, rows=rows)
        self._drop_older(arguments, table)
        return table

    def _registered(self, arguments: SyncArguments) -> list[tuple[str, int | None, int]]:
        if not self._state.exists():
            return []
        rows = self._warehouse.rows(
            "read_mirrors",
            schema=self._state.schema,
            kind=arguments.resolved.sync.sync_key.kind.value,
            destination=arguments.destination,
        )
        return [(str(table), None if loaded is None else int(loaded), int(begun)) for table, loaded, begun in rows]

    def _drop_older(self, arguments: SyncArguments, current: str) -> None:
        for table, loaded_for, begun_for in self._registered(arguments):
            is_needed = begun_for < _ABANDONED_SECONDS if loaded_for is None else loaded_for < _CHOSEN_SECONDS
            if table == current or is_needed:
                continue
            self._warehouse.run("drop_left_table", schema=self._state.schema, name=table)
            if not self._state.has_table(table):  # somebody who still reads it keeps it until a later load
                self._warehouse.run("forget_mirror", schema=self._state.schema, table=table)


def load_everyone(warehouse: Warehouse, directory: Directory, arguments: SyncArguments) -> int:
    """Fill the table of identities with every person that PostHog has, and return how many rows it has."""
    macro_sync = arguments.for_macro()
    sync = arguments.resolved.sync
    warehouse.run("create_identities_table", sync=macro_sync)
    rows = 0
    for page in directory.everyone(sync.sync_key.kind, needed_by=sync.model.name):
        warehouse.run("insert_identities", sync=macro_sync, rows=json_rows(page))
        rows += len(page)
    warehouse.run_if_any("gather_statistics", sync=macro_sync, part="identities")
    return rows


def load_those(warehouse: Warehouse, directory: Directory, arguments: SyncArguments) -> Iterator[int]:
    """Fill the table of identities with the persons of the keys that are new or changed, page by page.

    Yields:
        How many keys were asked for so far; whoever stops here leaves the rest unasked.
    """
    macro_sync = arguments.for_macro()
    sync = arguments.resolved.sync
    after: str | None = None  # an empty text is a key as well
    asked = 0
    while keys := _keys_after(warehouse, arguments, after):
        found = list(directory.those(sync.sync_key.kind, keys, needed_by=sync.model.name))
        if found:
            warehouse.run("insert_identities", sync=macro_sync, rows=json_rows(found))
        warehouse.run("insert_unknown_identities", sync=macro_sync, keys=json_rows([key] for key in keys))
        after, asked = keys[-1], asked + len(keys)
        yield asked


_KEYS_OF_A_PAGE = 10_000  # 50 requests of 200 distinct_ids


def _keys_after(warehouse: Warehouse, arguments: SyncArguments, after: str | None) -> Sequence[str]:
    rows = warehouse.rows("keys_to_look_up", sync=arguments.for_macro(), after=after, most=_KEYS_OF_A_PAGE)
    return [str(key) for (key,) in rows]


def json_rows(rows: Iterable[FoundPerson | Sequence[str]]) -> str:
    """Rows of texts as one JSON text."""
    return json.dumps([[None if text is None else sendable(text) for text in row] for row in rows], ensure_ascii=False)
