"""Staging: let the warehouse find what changed, and which of it may be sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dbt_posthog_sync.plan import StagedRows
from dbt_posthog_sync.warehouse import ResultRow, Warehouse
from dbt_posthog_sync.warehouse.arguments import SyncArguments
from dbt_posthog_sync.warehouse.state import State

_UNCHANGED, _ADDED, _CHANGED = 0, 1, 2
_FEW_CHANGES = 200_000  # about 30 MB in each process of the warehouse


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


@dataclass(slots=True)
class _Found:
    """Counts of the staged rows.

    Attributes:
        rows: all of them.
        repeats: of these, how many stand for a further person of a row that means several.
        changed_repeats: how many of them may be sent and are changed.
        pending: rows that may be sent, by kind.
        rejected: rows by the reason that rejects them.
        skipped: rows by the reason why they are left out.
        examples: one sync key for each reason.
    """

    rows: int = 0
    repeats: int = 0
    changed_repeats: int = 0
    pending: dict[int, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, summary: Iterable[ResultRow]) -> _Found:
        found = cls()
        for kind, reason, count, example, is_skip, repeats in summary:
            found.rows += int(count)
            found.repeats += int(repeats)
            if not reason:
                found.pending[int(kind)] = int(count)
                found.changed_repeats += int(repeats) if int(kind) == _CHANGED else 0
                continue
            by_reason = found.skipped if is_skip else found.rejected
            by_reason[reason] = by_reason.get(reason, 0) + int(count)
            found.examples[reason] = example
        return found


@dataclass(frozen=True, slots=True)
class Staged:
    """What one staging found, all of it in one view of the model.

    Attributes:
        arguments: the sync as it holds from now on.
        rows: the counts.
        removed: keys that PostHog has and the model has no more; they are kept in a temporary table.
        outside: rows outside the cursor's window.
        next_window_start: where the next run's window starts when this run completes.
    """

    arguments: SyncArguments
    rows: StagedRows
    removed: int = 0
    outside: int = 0
    next_window_start: str | None = None


class Staging:
    """Stages the changes of one sync, in tables of the run or in temporary ones."""

    def __init__(self, warehouse: Warehouse, state: State) -> None:
        self._warehouse = warehouse
        self._state = state

    def stage(self, arguments: SyncArguments, *, live_keys: int, knows_rejects: bool) -> Staged:
        """Write the staged rows and count them.

        Args:
            arguments: the sync; `is_first` skips the diff.
            live_keys: keys that PostHog has.
            knows_rejects: true when `rejected_rows` exists and earlier refusals must be honoured.
        """
        with self._warehouse.transaction(one_view=True):
            diff = _Diff()
            if arguments.build is not None:
                build = arguments.build
                diff = _Diff(build.unchanged, build.added, build.changed)
            elif not arguments.is_first:
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="diff")
                self._warehouse.run("diff", sync=arguments.for_macro())
                diff = self._summarised(arguments)
                few = diff.added + diff.changed <= _FEW_CHANGES
                arguments = arguments.but(has_null_keys=diff.null_keys > 0, has_few_changes=few)
            arguments = arguments.but(has_places=self._has_places(arguments))
            rows = self._rows(arguments, diff, knows_rejects=knows_rejects)
            if not arguments.is_first:
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="diff")
            self._renew_doubts(arguments, rows)
            removed = self._removed(arguments) if self._may_have_removed(arguments, diff, live_keys) else 0
            return Staged(
                arguments, rows, removed, self._rows_outside(arguments, rows.rows), self._next_window_start(arguments)
            )

    def _rows(self, arguments: SyncArguments, diff: _Diff, *, knows_rejects: bool) -> StagedRows:
        if not arguments.is_first and diff.added + diff.changed == 0:
            return StagedRows(rows=diff.rows, unchanged=diff.rows, matched=diff.matched)
        if not arguments.is_first and arguments.build is None:
            self._warehouse.run_if_any("gather_statistics", sync=arguments.for_macro(), part="diff")
        self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="changes")
        self._warehouse.run("stage", sync=arguments.for_macro())
        self._warehouse.run_if_any("index_staged", sync=arguments.for_macro())
        self._reject(arguments, knows_rejects=knows_rejects)
        return self._counted(arguments, diff)

    def _has_places(self, arguments: SyncArguments) -> bool:
        relation = arguments.resolved.sync.model.relation_name
        if not arguments.may_have_places or not self._warehouse.evaluate("read_has_places", relation=relation).strip():
            return False
        return bool(self._warehouse.rows("read_has_places", relation=relation)[0][0])

    def _may_have_removed(self, arguments: SyncArguments, diff: _Diff, live_keys: int) -> bool:
        """The second look at the model is needed only where the numbers differ; events that left it stay sent."""
        if arguments.build is not None:
            return arguments.build.removed > 0
        if arguments.is_first or arguments.window_start is not None or arguments.resolved.sends_events:
            return False
        if arguments.only_rejects or arguments.run.shard is not None:
            return False
        return diff.matched != live_keys

    def _removed(self, arguments: SyncArguments) -> int:
        self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="removed")
        self._warehouse.run("stage_removed", sync=arguments.for_macro())
        return int(self._warehouse.rows("count_removed", sync=arguments.for_macro())[0][0])

    def _renew_doubts(self, arguments: SyncArguments, rows: StagedRows) -> None:
        """Rows in doubt are staged now; what a run that is perhaps alive may send on top of them is the new doubt."""
        if arguments.tables.temporary:
            return
        macro_sync = arguments.for_macro()
        follows = arguments.has_doubts and arguments.tables.previous is not None
        if follows:
            self._warehouse.run("keep_absent_doubts", sync=macro_sync, has_staged=rows.has_table)
        if not rows.has_table:
            return
        # In an order that forgets no doubt where each statement stands for itself and the run is killed between two:
        # once the name is kept, these staged rows are the ones that an interrupted run left behind.
        takes_over = arguments.run.took_over and follows
        if takes_over and not self._warehouse.evaluate("transaction_statements"):
            self._warehouse.run("insert_doubtful", sync=macro_sync)
        self._state.keep_staged(arguments, arguments.tables.changes)
        if arguments.has_doubts and not arguments.only_rejects:
            self._warehouse.run("forget_doubtful", sync=macro_sync)
        if takes_over:
            self._warehouse.run("insert_doubtful", sync=macro_sync)
        if arguments.tables.previous is not None:
            self._warehouse.run("drop_sync_table", sync=macro_sync, part="previous")

    def _summarised(self, arguments: SyncArguments) -> _Diff:
        rows = self._warehouse.rows("summarise_diff", sync=arguments.for_macro())
        counts = {int(kind): int(count) for kind, count, _ in rows}
        nulls = sum(int(null_keys) for kind, _, null_keys in rows if int(kind) != _UNCHANGED)
        return _Diff(counts.get(_UNCHANGED, 0), counts.get(_ADDED, 0), counts.get(_CHANGED, 0), nulls)

    def _reject(self, arguments: SyncArguments, *, knows_rejects: bool) -> None:
        macro_sync = arguments.for_macro()
        if int(self._warehouse.rows("count_repeated_keys", sync=macro_sync)[0][0]) > 0:
            self._warehouse.run("reject_duplicates", sync=macro_sync)
        if arguments.resolved.create_with is not None:
            self._warehouse.run("reject_shared_creations", sync=macro_sync)
        if arguments.build is not None and not arguments.resolved.compares_keys_only and not arguments.is_first:
            self._warehouse.run("reject_moved_identities", sync=macro_sync)
        asked_for = arguments.only_rejects or arguments.forgets  # somebody who knows better
        if arguments.has_doubts and arguments.resolved.sends_events and not asked_for:
            self._warehouse.run("reject_doubtful_identities", sync=macro_sync)
        if arguments.resolved.keeps_moment and not arguments.is_first:
            self._warehouse.run("reject_stale", sync=macro_sync)
        for held in arguments.held:
            self._warehouse.run("reject_held", sync=macro_sync, held=held.for_macro())
        if knows_rejects and not arguments.only_rejects:
            self._warehouse.run("reject_refused_before", sync=macro_sync)

    def _counted(self, arguments: SyncArguments, diff: _Diff) -> StagedRows:
        found = _Found.of(self._warehouse.rows("summarise_changes", sync=arguments.for_macro()))
        staged = found.rows
        rows = staged
        if not arguments.is_first:
            rows = diff.rows + found.repeats + self._twins_outside(arguments, staged - found.repeats, diff)
        return StagedRows(
            rows=rows,
            # A duplicate pulls its unchanged twin into the staged rows: it is rejected, so it is not unchanged.
            unchanged=rows - staged,
            added=found.pending.get(_ADDED, 0),
            changed=found.pending.get(_CHANGED, 0),
            changed_repeats=found.changed_repeats,
            rejected=tuple(sorted(found.rejected.items())),
            skipped=tuple(sorted(found.skipped.items())),
            examples=tuple(sorted(found.examples.items())),
            matched=diff.matched,
            is_first=arguments.is_first,
            has_table=True,
        )

    def _twins_outside(self, arguments: SyncArguments, staged: int, diff: _Diff) -> int:
        """Rows of a staged key that the window did not show: they are staged too, to be seen as duplicates."""
        if arguments.window_start is None or staged == diff.added + diff.changed:
            return 0
        if arguments.build is not None:  # the model may have moved on since
            return max(0, staged - diff.added - diff.changed)
        return int(self._warehouse.rows("count_staged_outside", sync=arguments.for_macro())[0][0])

    def _next_window_start(self, arguments: SyncArguments) -> str | None:
        """Where the next run's window starts when this run completes."""
        if arguments.build is not None:
            return arguments.build.next_window_start
        if arguments.resolved.cursor is None or arguments.only_rejects or arguments.run.shard is not None:
            return None
        found = self._warehouse.rows("read_window_start", sync=arguments.for_macro())[0][0]
        return None if found is None else str(found)

    def _rows_outside(self, arguments: SyncArguments, looked_at: int) -> int:
        """Rows of the model that lie outside the cursor's window."""
        if arguments.window_start is None:
            return 0
        if arguments.build is not None:
            return max(0, (arguments.build.model_rows or 0) - looked_at)
        return int(self._warehouse.rows("count_model", sync=arguments.for_macro())[0][0]) - looked_at
