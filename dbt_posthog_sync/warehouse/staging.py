"""Staging: let the warehouse find what changed, and which of it may be sent."""

from __future__ import annotations

from dataclasses import dataclass

from dbt_posthog_sync.plan import StagedRows
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import SyncArguments

_UNCHANGED, _ADDED, _CHANGED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Diff:
    """Row counts of the diff by kind; `unchanged` counts rows before duplicates are known."""

    unchanged: int = 0
    added: int = 0
    changed: int = 0
    null_keys: int = 0

    @property
    def rows(self) -> int:
        return self.unchanged + self.added + self.changed

    @property
    def matched(self) -> int:
        return self.unchanged + self.changed


class Staging:
    """Stages the changes of one sync, in tables of the run or in temporary ones."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def stage(self, arguments: SyncArguments, *, knows_rejects: bool) -> tuple[SyncArguments, StagedRows]:
        """Write the staged rows and count them.

        Args:
            arguments: the sync; `is_first` skips the diff.
            knows_rejects: true when `rejected_rows` exists and earlier refusals must be honoured.

        Returns:
            The arguments as they hold from now on, and the counts.
        """
        with self._warehouse.transaction(one_view=True):
            diff = _Diff()
            if not arguments.is_first:
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="diff")
                self._warehouse.run("diff", sync=arguments.for_macro())
                diff = self._summarised(arguments)
                arguments = arguments.but(has_null_keys=diff.null_keys > 0)
                if diff.added + diff.changed == 0:
                    return arguments, StagedRows(rows=diff.rows, unchanged=diff.rows, matched=diff.matched)
            self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="changes")
            self._warehouse.run("stage", sync=arguments.for_macro())
            self._warehouse.run_if_any("index_staged", sync=arguments.for_macro())
            self._reject(arguments, knows_rejects=knows_rejects)
            self._replace_previous(arguments)
            return arguments, self._counted(arguments, diff)

    def _replace_previous(self, arguments: SyncArguments) -> None:
        """From here on these staged rows are the ones that an interrupted run left behind."""
        tables = arguments.tables
        if tables.temporary:
            return
        if tables.previous is not None:
            self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="previous")
        self._warehouse.run(
            "update_sync",
            schema=arguments.schema,
            sync_id=arguments.resolved.id,
            values={"changes_table": tables.changes},
        )

    def _summarised(self, arguments: SyncArguments) -> _Diff:
        rows = self._warehouse.rows("summarise_diff", sync=arguments.for_macro())
        counts = {int(kind): int(count) for kind, count, _ in rows}
        nulls = sum(int(null_keys) for kind, _, null_keys in rows if int(kind) != _UNCHANGED)
        return _Diff(counts.get(_UNCHANGED, 0), counts.get(_ADDED, 0), counts.get(_CHANGED, 0), nulls)

    def _reject(self, arguments: SyncArguments, *, knows_rejects: bool) -> None:
        macro_sync = arguments.for_macro()
        self._warehouse.run("reject_duplicates", sync=macro_sync)
        if macro_sync["keeps_identity"] and not arguments.is_first:
            self._warehouse.run("reject_moved_identities", sync=macro_sync)
        if knows_rejects:
            self._warehouse.run("reject_refused_before", sync=macro_sync)

    def _counted(self, arguments: SyncArguments, diff: _Diff) -> StagedRows:
        counts: dict[tuple[int, str | None], int] = {}
        examples: dict[str, str | None] = {}
        for kind, reason, count, example in self._warehouse.rows("summarise_changes", sync=arguments.for_macro()):
            counts[int(kind), reason] = int(count)
            if reason:
                examples[reason] = example
        staged = sum(counts.values())
        rows = staged if arguments.is_first else diff.rows
        # A duplicate pulls its unchanged twin into the staged rows: it is rejected, so it is not unchanged.
        unchanged = rows - staged
        reasons: dict[str, int] = {}
        for (_, reason), count in counts.items():
            if reason:
                reasons[reason] = reasons.get(reason, 0) + count
        return StagedRows(
            rows=rows,
            unchanged=unchanged,
            added=counts.get((_ADDED, None), 0),
            changed=counts.get((_CHANGED, None), 0),
            rejected=tuple(sorted(reasons.items())),
            examples=tuple(sorted(examples.items())),
            matched=diff.matched,
            is_first=arguments.is_first,
            has_table=True,
        )

    def next_window_start(self, arguments: SyncArguments) -> str | None:
        """Where the next run's window starts when this run completes."""
        if arguments.resolved.cursor is None:
            return None
        found = self._warehouse.rows("read_window_start", sync=arguments.for_macro())[0][0]
        return None if found is None else str(found)

    def rows_outside(self, arguments: SyncArguments, looked_at: int) -> int:
        """Rows of the model that lie outside the cursor's window."""
        if arguments.window_start is None:
            return 0
        return int(self._warehouse.rows("count_model", sync=arguments.for_macro())[0][0]) - looked_at
