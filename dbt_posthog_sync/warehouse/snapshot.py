"""The snapshot of one sync: what PostHog has accepted, as (sync key, row hash) in a base table and a log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dbt_posthog_sync.destinations import Refusal
from dbt_posthog_sync.errors import LeaseLost
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import SyncArguments
from dbt_posthog_sync.warehouse.positions import Positions, listed
from dbt_posthog_sync.warehouse.state import State, StoredSync
from dbt_posthog_sync.warehouse.tables import table_prefix

# A fold rewrites the base once. Below this a log is cheaper to read than a base is to write.
_FOLD_AT_LEAST = 1_000
_FOLD_SHARE = 10


class Snapshot:
    """Reads and appends to the snapshot of one sync; every write needs the lease."""

    def __init__(self, warehouse: Warehouse, state: State, arguments: SyncArguments) -> None:
        self._warehouse = warehouse
        self._state = state
        self._arguments = arguments

    def live_keys(self, stored: StoredSync) -> int:
        """How many keys PostHog has: as the last run left it, or counted when that run did not end."""
        return stored.live_keys if stored.is_settled else self._count("count_snapshot")

    def is_empty(self, stored: StoredSync) -> bool:
        """True before anything was delivered, also by a run that did not end."""
        return stored.base_rows == 0 and self._count("count_log") == 0

    def record_removed(self) -> int:
        """Write a tombstone for every removed key, and say how many."""
        return self._warehouse.run("record_removed", sync=self._arguments.for_macro())

    def confirm(self, positions: Positions) -> None:
        """Write down that PostHog accepted the rows at these positions.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        macro_sync = self._arguments.for_macro()
        for count, argument in positions.parts():
            rows = {"sync": macro_sync, "positions": argument}
            if not self._arguments.resolved.fans_out:
                self._check_written(self._warehouse.run("confirm", **rows), count)
                continue
            with self._warehouse.transaction():
                self._check_written(self._warehouse.run("mark_delivered", **rows), count)
                self._warehouse.run("confirm_complete_keys", **rows)

    def confirm_baseline(self, *, has_staged: bool) -> int:
        """Take good staged rows as known, with the marker of it, all of it or nothing, and say how many.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        with self._warehouse.transaction():
            self.hold_lease()
            known = self._confirmed_baseline() if has_staged else 0
            self.mark_baseline()
        return known

    def _confirmed_baseline(self) -> int:
        written = self._warehouse.run("confirm_baseline", sync=self._arguments.for_macro())
        return written if written >= 0 else self.count_baseline()

    def count_baseline(self) -> int:
        """How many rows `confirm_baseline` would take."""
        return self._count("count_baseline")

    def mark_baseline(self) -> None:
        """Note that rows present at the first run are not taken as known any more."""
        self._warehouse.run("mark_baseline", sync=self._arguments.for_macro())

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Keep rows that the destination refused, with its words.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        by_reason: defaultdict[tuple[str, bool], Positions] = defaultdict(Positions)
        for refusal in refusals:
            by_reason[refusal.reason, refusal.heals].add((refusal.position,))
        macro_sync = self._arguments.for_macro()
        with self._warehouse.transaction():
            # Rows of an earlier run, refused again with the same words, stay one row: so two statements a reason.
            self.hold_lease()
            for (reason, heals), positions in by_reason.items():
                for part in positions.parts():
                    words = {"sync": macro_sync, "positions": part.argument, "reason": reason}
                    self._warehouse.run("see_refused_again", **words)
                    self._warehouse.run("insert_refused", **words, heals=heals)

    def keep_doubted(self, positions: Sequence[int]) -> None:
        """Drop the staged rows, but for those that PostHog may have unknown to us; the next run goes on from these.

        Args:
            positions: rows of this run that were sent without an answer.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        arguments = self._arguments
        self._warehouse.run("keep_doubted", sync=arguments.for_macro(), positions=listed(positions))
        if self._count("count_staged") == 0:
            self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="changes")
            self._state.keep_staged(arguments, None)

    def has_left_unrejected(self) -> bool:
        """True when an interrupted run left rows that no retry would take up."""
        return self._count("count_left_unrejected") > 0

    def drop_previous(self) -> None:
        """Drop what an interrupted run had staged, when nothing of it is pending any more."""
        arguments = self._arguments
        self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="previous")
        self._state.keep_staged(arguments, None)

    def drop_left_behind(self, stored: StoredSync) -> None:
        """Drop tables of this sync that are in use no more, and that somebody still read when they should have gone."""
        arguments = self._arguments
        in_use = {stored.base_table, stored.log_table, stored.changes_table}
        prefix = table_prefix(arguments.resolved) + "__"
        column = int(self._warehouse.evaluate("table_name_column"))
        for row in self._warehouse.rows("read_tables_of", schema=arguments.schema, prefix=prefix):
            if str(row[column]) not in in_use:
                self._warehouse.run("drop_left_table", schema=arguments.schema, name=str(row[column]))

    def settle_moved(self, *, has_moved: bool) -> tuple[str, int]:
        """Keep which rows moved in this run, and reject those that moved in the last one too.

        Args:
            has_moved: true when rows of this run were another at delivery than at staging.

        Returns:
            Why they were rejected, and how many.
        """
        macro_sync = self._arguments.for_macro()
        if not has_moved:
            self._warehouse.run("forget_moved", sync=macro_sync)
            return "", 0
        for macro in ("see_volatile_again", "insert_volatile", "forget_moved", "insert_moved"):
            self._warehouse.run(macro, sync=macro_sync)
        reason, count = self._warehouse.rows("count_volatile", sync=macro_sync)[0]
        return str(reason), int(count)

    def fold_if_due(self, stored: StoredSync) -> None:
        """Fold the log into a new base when it has passed about a tenth of it."""
        logged = self._count("count_log")
        if logged < _FOLD_AT_LEAST or logged * _FOLD_SHARE < stored.base_rows:
            return
        self._replace("fold")

    def forget(self) -> None:
        """Begin anew with an empty snapshot (`--full-refresh`): every row counts as new."""
        # A window of before would hide the rows that are to be sent again if this run is interrupted.
        self._replace("create_base_table", window_start=None)

    def _replace(self, build_base: str, **values: str | None) -> None:
        """Swap base and log for new ones in one transaction; only rows that were read are gone from the log."""
        arguments = self._arguments
        new = arguments.but(tables=arguments.tables.generation(arguments.tables.generation_number + 1))
        with self._warehouse.transaction():
            # The update of the lease's row keeps every other run out until the commit.
            self.hold_lease()
            if build_base == "fold":
                macro_sync = arguments.for_macro()
                macro_sync["tables"]["new_base"] = {"name": new.tables.base, "temporary": False, "scratch": False}
                self._state.create_snapshot(new.for_macro(), "fold", source=macro_sync)
            else:
                self._state.create_snapshot(new.for_macro(), build_base)
            rows = int(self._warehouse.rows("count_base", sync=new.for_macro())[0][0])
            self._state.update(
                arguments.resolved.id,
                arguments.run,
                {
                    "base_table": new.tables.base,
                    "log_table": new.tables.log,
                    "base_rows": rows,
                    "live_keys": rows,
                    **values,
                },
            )
            for part in ("base", "log"):
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part=part)
        self._warehouse.run_if_any("gather_statistics", sync=new.for_macro(), part="base")
        self._arguments = new

    @property
    def arguments(self) -> SyncArguments:
        """The sync's arguments with the tables that are in force."""
        return self._arguments

    def hold_lease(self) -> None:
        """Make sure that the lease is still this run's.

        Raises:
            LeaseLost: another run took over.
        """
        run = self._arguments.run
        self._state.lease(self._arguments.resolved.id, run.shard).hold(run)

    def _count(self, macro: str) -> int:
        return int(self._warehouse.rows(macro, sync=self._arguments.for_macro())[0][0])

    def _check_written(self, written: int, expected: int) -> None:
        if written == expected:
            return
        self.hold_lease()
        if written >= 0:
            raise LeaseLost(f"The warehouse confirmed {written} of {expected} rows; the run stops here.")
