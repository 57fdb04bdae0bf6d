"""The state schema: which syncs exist, who runs them, how their runs went. Keys and hashes live in `snapshot`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dbt_posthog_sync import __version__
from dbt_posthog_sync.errors import LeaseLost, StateError, WarehouseUnavailable
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.proof import Dispatch, dispatch_of
from dbt_posthog_sync.shard import Shard, shard_of_lease
from dbt_posthog_sync.sync_run import SyncRun
from dbt_posthog_sync.warehouse import ResultRow, Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity, SyncArguments
from dbt_posthog_sync.warehouse.lease import LEASE_SECONDS, Lease

SCHEMA_VERSION = 5
_TABLES = (
    "create_schema_version_table",
    "create_syncs_table",
    "create_leases_table",
    "create_rejected_rows_table",
    "create_sync_runs_table",
    "create_moved_rows_table",
    "create_doubtful_rows_table",
    "create_mirrors_table",
    "create_erased_persons_table",
    "create_build_syncs_table",
    "create_build_stagings_table",
)


@dataclass(frozen=True, slots=True)
class StoredSync:
    """What the warehouse remembers of a sync from its earlier runs; fields as in the table `syncs`."""

    destination: str
    key_type: str
    fingerprint: str
    hash_name: str
    hash_canary: str
    base_table: str
    log_table: str
    changes_table: str | None
    base_rows: int
    live_keys: int
    model_rows: int | None
    is_settled: bool
    baseline_at: str | None
    window_start: str | None
    mapping: str
    name: str
    relation: str
    uuid_name: str
    has_doubtful: bool


@dataclass(frozen=True, slots=True)
class Functions:
    """What the program would store for a sync today: type of the key, hash function and its canary."""

    key_type: str
    hash_name: str
    hash_canary: str


class State:
    """Reads and writes the shared tables of the state schema."""

    def __init__(self, warehouse: Warehouse, schema: str) -> None:
        self._warehouse = warehouse
        self._schema = schema
        self._is_known_to_exist = False

    @property
    def schema(self) -> str:
        """Name of the state schema."""
        return self._schema

    def exists(self) -> bool:
        """True when the state schema has been created by an earlier run."""
        self._is_known_to_exist = self._is_known_to_exist or self.has_table("schema_version")
        return self._is_known_to_exist

    def has_table(self, name: str) -> bool:
        """True when the state schema has a table of this name."""
        return not self.missing_tables(name)

    def missing_tables(self, *names: str) -> list[str]:
        """Those of the names that no table of the state schema has."""
        database = self._warehouse.evaluate("target_database")
        missing = self._warehouse.missing((database, self._schema, name) for name in names)
        return [name for name in names if (database, self._schema, name) in missing]

    def ensure(self) -> None:
        """Create what is missing of the state schema, and bring an older one to this program's version.

        Raises:
            StateError: a newer program has written it.
        """
        if not self.exists() or self._version() is None:
            self._create()
        self.bring_up_to_date()

    def bring_up_to_date(self) -> None:
        """Upgrade an existing state schema that an older program wrote, step by step, each step in one transaction.

        Raises:
            StateError: a newer program has written it.
        """
        found = self._version()
        if found is None:  # a run was killed while it created the schema; the next run goes on
            return
        if found > SCHEMA_VERSION:
            raise StateError(
                Problem(
                    f"the state schema `{self._schema}` has version {found}, this program knows {SCHEMA_VERSION}.",
                    "Upgrade dbt-posthog-sync, or set another state_schema in posthog_sync.yml.",
                )
            )
        for version in range(found + 1, SCHEMA_VERSION + 1):
            self._upgrade(version)

    def _upgrade(self, version: int) -> None:
        # dbt's own macros begin and commit, so what they say is asked for before.
        length = int(self._warehouse.evaluate("upgrade_length", version=version))
        listed = self._warehouse.rows("read_staged_tables", schema=self._schema)
        staged = [str(table) for (table,) in listed if self.has_table(table)]
        with self._warehouse.transaction():
            for number in range(length):
                self._warehouse.run("upgrade_statement", schema=self._schema, version=version, number=number)
            for table in staged:
                for number in range(2):
                    self._warehouse.run("upgrade_staged_table", schema=self._schema, name=table, number=number)
            self._record_version(version)

    def _version(self) -> int | None:
        """Version of the state schema; None where a run was killed while it created the schema."""
        found = self._warehouse.rows("read_schema_version", schema=self._schema)[0][0]
        return None if found is None else int(found)

    def _create(self) -> None:
        _insisting(lambda: self._warehouse.evaluate("create_state_schema", schema=self._schema))
        for macro in _TABLES:
            _insisting(partial(self._warehouse.run, macro, schema=self._schema))
        # Last, because a schema with a version is complete.
        self._record_version(SCHEMA_VERSION)
        self._is_known_to_exist = True

    def _record_version(self, version: int) -> None:
        self._warehouse.run("record_schema_version", schema=self._schema, version=version, program=__version__)

    def has_erased(self) -> bool:
        """True when persons were deleted on request, to whom nothing may be sent any more."""
        return bool(self._warehouse.rows("read_erased", schema=self._schema)[0][0])

    def lease(self, sync_id: str, shard: Shard | None = None) -> Lease:
        """The lease of a sync, or of one of its shards."""
        return Lease(self._warehouse, self._schema, sync_id, shard)

    def read(self, sync_id: str, shard: Shard | None = None) -> StoredSync | None:
        """What is remembered of a sync, or None before its first run; the staged rows are those of the shard."""
        lease_id = shard.lease_id(sync_id) if shard is not None else sync_id
        rows = self._warehouse.rows("read_sync", schema=self._schema, sync_id=sync_id, lease_id=lease_id)
        return StoredSync(*rows[0]) if rows else None

    def unfinished_shards(self, sync_id: str) -> tuple[Shard, ...]:
        """Shards whose last run left staged rows behind."""
        rows = self._warehouse.rows("read_shards", schema=self._schema, sync_id=sync_id, seconds=LEASE_SECONDS)
        return tuple(shard_of_lease(str(lease_id)) for lease_id, _, has_rows in rows if has_rows)

    def keep_staged(self, arguments: SyncArguments, table: str | None) -> None:
        """Note which staged rows the run has, for the one that follows if it does not end; None when there are none.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        run, sync_id = arguments.run, arguments.resolved.id
        if run.shard is None:
            self.update(sync_id, run, {"changes_table": table})
            return
        names = {"schema": self._schema, "lease_id": run.lease_id(sync_id), "run_id": run.run_id, "epoch": run.epoch}
        if self._warehouse.run("keep_staged_name", **names, name=table) == 0:  # shards need transactions, so it says
            raise LeaseLost("Another run took over this shard; this one stops and writes nothing more.")

    def id_of(self, project: str, name: str) -> str | None:
        """Id of the sync that has this name in the state; None when there is none."""
        rows = self._warehouse.rows("read_sync_id", schema=self._schema, project=project, name=name)
        return str(rows[0][0]) if rows else None

    def functions(self, arguments: SyncArguments) -> Functions:
        """What would be stored for a sync today."""
        row = self._warehouse.rows("current_functions", sync=arguments.for_macro())[0]
        return Functions(*(str(value) for value in row))

    def abandoned_names(self, arguments: SyncArguments, known: frozenset[str]) -> tuple[tuple[str, bool], ...]:
        """Names that no annotation has any more, of syncs that read the same (true) or have the same mapping (false).

        The sync may have had one of them before it, or its model, was renamed; the likeliest comes first.
        What was sent to PostHog says nothing about Loops, and the other way round.
        """
        resolved = arguments.resolved
        rows = self._warehouse.rows(
            "read_like_syncs",
            schema=self._schema,
            project=resolved.sync.project,
            relation=resolved.sync.model.relation_name,
            fingerprint=resolved.fingerprint,
            sync_id=resolved.id,
            is_loops=resolved.sync.loops is not None,
        )
        return tuple((str(name), bool(reads_the_same)) for name, reads_the_same in rows if str(name) not in known)

    def register(self, arguments: SyncArguments) -> None:
        """Write down a new sync with its empty snapshot, all of it or nothing."""
        macro_sync = arguments.for_macro()
        # The row that makes the sync known comes last, for warehouses where a killed run leaves what went before it.
        with self._warehouse.transaction():
            self.create_snapshot(macro_sync, "create_base_table")
            self._warehouse.run("insert_sync", sync=macro_sync)

    def create_snapshot(self, macro_sync: dict[str, Any], build_base: str, **arguments: Any) -> None:
        """Create base and log of a snapshot that no row names yet; what a killed run left of them goes first."""
        if not self._warehouse.evaluate("transaction_statements"):
            for part in ("base", "log"):
                self._warehouse.run("drop_sync_table", sync=macro_sync, part=part)
        self._warehouse.run(build_base, sync=arguments.get("source", macro_sync))
        self._warehouse.run("create_log_table", sync=macro_sync)

    def update(self, sync_id: str, run: RunIdentity, values: Mapping[str, Any]) -> None:
        """Change columns of a sync's row.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        written = self._warehouse.run(
            "update_sync",
            schema=self._schema,
            sync_id=sync_id,
            lease_id=run.lease_id(sync_id),
            run_id=run.run_id,
            epoch=run.epoch,
            values=dict(values),
        )
        if written < 0:
            self.lease(sync_id, run.shard).hold(run)
        if written == 0:
            raise LeaseLost("Another run took over this sync; this one stops and writes nothing more.")

    def begin_run(self, run: SyncRun, shard: Shard | None = None) -> None:
        """Record that a sync run has begun; but for a shard's, it is the only one that can be under way."""
        values = {
            "run_id": run.run_id,
            "sync_id": run.sync_id,
            "sync_name": run.sync_name,
            "dbt_invocation_id": run.dbt_invocation_id,
            "program_version": __version__,
        }
        if shard is None:
            self._warehouse.run("end_abandoned_runs", schema=self._schema, sync_id=run.sync_id, run_id=run.run_id)
        self._warehouse.run("insert_sync_run", schema=self._schema, run=values)

    def end_run(self, run: SyncRun) -> None:
        """Record how a sync run ended."""
        values = {
            "run_id": run.run_id,
            "sync_id": run.sync_id,
            "status": run.status.value,
            "message": run.message,
            "counts": json.dumps(run.counts.as_dict()),
            "delivered": run.counts.delivered,
            "rejected": run.counts.rejected,
            "requests": run.requests,
            "bytes": run.bytes_sent,
            "seconds": round(run.seconds, 3),
            "phases": json.dumps({name: round(seconds, 3) for name, seconds in run.phases}),
        }
        self._warehouse.run("end_sync_run", schema=self._schema, run=values)

    def runs(self, most: int, *, delivered: bool = False) -> list[ResultRow]:
        """The newest sync runs; columns as in the macro `read_sync_runs`.

        Args:
            most: how many.
            delivered: only those that sent messages to PostHog, or may have, because they were killed.
        """
        return self._warehouse.rows("read_sync_runs", schema=self._schema, most=most, delivered=delivered)

    def dispatch(self, run_id: str) -> Dispatch | None:
        """What one invocation sent; None when the state knows no such run."""
        return dispatch_of(run_id, self._warehouse.rows("read_dispatch", schema=self._schema, run_id=run_id))

    def syncs(self) -> list[ResultRow]:
        """Every sync the warehouse knows; columns as in the macro `read_all_syncs`."""
        return self._warehouse.rows("read_all_syncs", schema=self._schema)

    def rejected(self) -> list[ResultRow]:
        """Open rejects by sync and reason; columns as in the macro `read_rejected`."""
        return self._warehouse.rows("read_rejected", schema=self._schema, with_skipped=False)

    def has_rejected(self, sync_id: str) -> bool:
        """True when rows of a sync are rejected or skipped, and kept to be looked at wherever their cursor stands."""
        return bool(self._warehouse.rows("read_rejected", schema=self._schema, sync_id=sync_id))


def _insisting(create: Callable[[], object]) -> None:
    """Create something, once more if that fails.

    Of several first runs at once, `if not exists` does not keep one from creating what another one just creates. It
    fails when the other is done, and finds it then.
    """
    try:
        create()
    except WarehouseUnavailable:
        create()
