"""Builds: what dbt's post-hook staged while it built a model, in tables that the command line makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_posthog_sync import __version__
from dbt_posthog_sync.sync import Keep
from dbt_posthog_sync.warehouse import Warehouse

if TYPE_CHECKING:  # they import this module
    from dbt_posthog_sync.resolved_sync import ResolvedSync
    from dbt_posthog_sync.warehouse.arguments import SyncArguments


@dataclass(frozen=True, slots=True)
class Build:
    """One staging by a build of dbt; fields as in the macro `read_builds`.

    Attributes:
        staging_id: what its rows are found by.
        invocation_id: the dbt invocation that built the model.
        staged_at: when, by the warehouse's clock, as text.
        epoch: epoch of the sync's lease when it was staged: what has a later one has changed the snapshot.
        digest: of what the hook knew of the sync.
        keeps_every: true when it has the messages too (`keep: every`).
        rows_table: table of the state schema that holds its rows.
        unchanged: rows by the diff.
        added: see unchanged.
        changed: see unchanged.
        removed: keys that were gone from the model.
        model_rows: all rows of the model, where a window left some out.
        window_start: lower end of the cursor's window.
        next_window_start: where the next window starts once the rows are settled.
        is_of_this_table: false when the table was built again since; true also where the warehouse cannot tell.
    """

    staging_id: str
    invocation_id: str
    staged_at: str
    epoch: int
    digest: str
    keeps_every: bool
    rows_table: str
    unchanged: int
    added: int
    changed: int
    removed: int
    model_rows: int | None
    window_start: str | None
    next_window_start: str | None
    is_of_this_table: bool

    def for_macro(self) -> dict[str, Any]:
        """The build as the macros read it."""
        return {"staging_id": self.staging_id, "keeps_every": self.keeps_every}


class Builds:
    """Reads what builds have staged, and tells the hook what it must know of a sync."""

    def __init__(self, warehouse: Warehouse, schema: str) -> None:
        self._warehouse = warehouse
        self._schema = schema

    def waiting(self, arguments: SyncArguments) -> tuple[Build, ...]:
        """What builds have staged of a sync and no run has settled, the oldest first."""
        return tuple(Build(*row) for row in self._warehouse.rows("read_builds", sync=arguments.for_macro()))

    def forget(self, builds: Iterable[Build]) -> None:
        """Drop stagings that are done with; rows first, as the hook does, so that no two wait for each other."""
        for build in builds:
            table = {"table": build.rows_table, "staging_id": build.staging_id}
            self._warehouse.run("forget_build_rows", schema=self._schema, **table)
            self._warehouse.run("forget_build", schema=self._schema, staging_id=build.staging_id)

    def tell_hook(self, arguments: SyncArguments, targets: Sequence[str]) -> None:
        """Write down what the post-hook must know of the sync, where it changed; or nothing more, where it has no hook.

        Args:
            arguments: the sync, as a run that is complete had it.
            targets: the dbt targets that may send; none means all.
        """
        resolved = arguments.resolved
        found = self._warehouse.rows("read_build_sync", schema=self._schema, sync_id=resolved.id)
        if not stages_at_build(resolved):
            if found:
                self._forget_sync(resolved.id, str(found[0][4]))
            return
        told = arguments_for_hook(arguments)
        name = _rows_table(arguments)
        values = {
            "digest": digest_for_hook(arguments),
            "targets": json.dumps(list(targets)),
            "known_columns": json.dumps(self._known_columns(resolved), ensure_ascii=False, sort_keys=True),
            "program": __version__,
            "rows_table": name,
            "model": resolved.sync.model.unique_id,
        }
        has_table = bool(self._warehouse.rows("read_tables_of", schema=self._schema, prefix=name))
        if found and tuple(found[0]) == tuple(values.values()) and has_table:
            return
        if found and found[0][4] != name:
            self._warehouse.run("drop_left_table", schema=self._schema, name=str(found[0][4]))
        self._warehouse.run("create_built_table", sync=arguments.for_macro(), name=name)
        self._warehouse.run("forget_build_sync", schema=self._schema, sync_id=resolved.id)
        also = {"sync_id": resolved.id, "arguments": json.dumps(told), "keeps_every": resolved.sync.keep is Keep.EVERY}
        self._warehouse.run("insert_build_sync", schema=self._schema, values={**values, **also})

    def _forget_sync(self, sync_id: str, rows_table: str) -> None:
        self._warehouse.run("forget_build_sync", schema=self._schema, sync_id=sync_id)
        self._warehouse.run("drop_left_table", schema=self._schema, name=rows_table)

    def _known_columns(self, resolved: ResolvedSync) -> dict[str, Any]:
        """Types of the columns, in the warehouse's own words; a build that finds others leaves the staging to a run."""
        rows = self._warehouse.rows("describe_columns", relation=resolved.sync.model.relation_name)
        read = {column.name for column in (*resolved.hashed_columns, resolved.key)}
        others = (resolved.distinct_id, resolved.timestamp, resolved.url, resolved.cursor)
        read |= {one.name for one in (*others, resolved.valid_to, resolved.is_deleted) if one}
        are_all = resolved.sync.all_properties
        return {"are_all": are_all, "columns": {str(row[0]): str(row[1]) for row in rows if are_all or row[0] in read}}


def stages_at_build(resolved: ResolvedSync) -> bool:
    """True when builds of the model stage the sync: it has the hook, and nobody must be asked for its persons."""
    return resolved.sync.model.stages_at_build and not resolved.sync.needs_identities


def arguments_for_hook(arguments: SyncArguments) -> dict[str, Any]:
    """What the hook reads as `sync`; what belongs to a run or changes with the state, it fills in itself."""
    prefix = arguments.tables.diff
    tables = {"changes": f"{prefix}_hook", "diff": f"{prefix}_hook_diff", "removed": f"{prefix}_hook_removed"}
    told = arguments.for_hook()
    told["tables"] = {part: {"name": name, "temporary": True} for part, name in tables.items()}
    return told


def digest_for_hook(arguments: SyncArguments) -> str:
    """Short text that changes whenever the hook must know something else of the sync."""
    told = {**arguments_for_hook(arguments), "keep": arguments.resolved.sync.keep.value}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _rows_table(arguments: SyncArguments) -> str:
    """Name of the table for the hook's rows; another type of the key is another table."""
    kind = hashlib.sha256(arguments.resolved.key.type.text.lower().encode()).hexdigest()[:4]
    return f"{arguments.tables.diff.rsplit('__', 1)[0]}_built_{kind}"
