"""The runner: one sync from stage to record. What a kill leaves behind at any line, the next run continues."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_posthog_sync.courier import Courier, CourierSettings, Tally
from dbt_posthog_sync.delivery import Delivery, DeliverySettings
from dbt_posthog_sync.destinations.posthog import PostHog
from dbt_posthog_sync.errors import (
    DestinationRefused,
    DestinationUnavailable,
    SyncError,
    UnsafePlan,
    WarehouseUnavailable,
)
from dbt_posthog_sync.plan import Limits, Plan
from dbt_posthog_sync.planner import Planner, Prepared, window_text
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.sync import ObjectType
from dbt_posthog_sync.sync_run import Counts, RunStatus, SyncRun
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity
from dbt_posthog_sync.warehouse.snapshot import Snapshot
from dbt_posthog_sync.warehouse.state import HEARTBEAT_SECONDS

Progress = Callable[[str, int, int], None]
"""Called with a sync's name, rows settled so far, and rows to deliver."""


def _no_progress(_name: str, _settled: int, _total: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run behaves.

    Attributes:
        run_id: id shared by all syncs of this invocation.
        owner: who runs, as shown to a second run: user, host and process.
        dbt_invocation_id: id of the dbt invocation whose manifest was read.
        limits: guards; None passes every guard (`--force`).
        full_refresh: forget what was delivered and send everything again.
        steal: take the lease from a run that holds it.
        courier: how rows are carried and confirmed.
        delivery: how batches travel.
        known_names: names of all syncs of the project, to notice one that was renamed.
    """

    run_id: str
    owner: str
    dbt_invocation_id: str | None = None
    limits: Limits | None = field(default_factory=Limits)
    full_refresh: bool = False
    steal: bool = False
    courier: CourierSettings = field(default_factory=CourierSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    known_names: frozenset[str] = frozenset()


class Runner:
    """Runs syncs, one after the other, against one warehouse and one PostHog project."""

    def __init__(
        self,
        warehouse: Warehouse,
        destination: PostHog,
        planner: Planner,
        settings: RunSettings,
        *,
        progress: Progress = _no_progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warehouse = warehouse
        self._destination = destination
        self._planner = planner
        self._settings = settings
        self._progress = progress
        self._clock = clock
        self._delivery: Delivery | None = None
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """True after `stop`."""
        return self._is_stopped

    def stop(self) -> None:
        """Finish what is in flight, confirm and record it, then end. Safe in a signal handler."""
        self._is_stopped = True
        if self._delivery is not None:
            self._delivery.stop()

    def run(self, resolved: ResolvedSync) -> SyncRun:
        """Run one sync to its end and record it. What goes wrong with this sync is the result's status and message.

        Raises:
            StateError: the state schema was written by a newer program.
            WarehouseUnavailable: the warehouse is gone before the sync began.
        """
        self._planner.state.ensure()
        execution = _Execution(self._destination, self._clock, self._started(resolved))
        try:
            self._check_not_renamed(resolved)
            identity = self._take_lease(resolved)
        except UnsafePlan as error:
            return execution.ended(error)
        state = self._planner.state
        beat = {"schema": state.schema, "sync_id": resolved.id, "run_id": identity.run_id, "epoch": identity.epoch}
        with self._warehouse.repeated("beat_lease", seconds=HEARTBEAT_SECONDS, **beat):
            state.begin_run(execution.run)
            try:
                self._work(resolved, identity, execution)
                ended = execution.ended(None, is_stopped=self._is_stopped)
            except SyncError as error:
                ended = execution.ended(error)
            self._record(ended, identity)
        return ended

    def skipped(self, resolved: ResolvedSync, reason: str) -> SyncRun:
        """A sync that is not begun, with the reason."""
        return self._started(resolved).ended(RunStatus.SKIPPED, reason, exit_code=DestinationUnavailable.exit_code)

    def _started(self, resolved: ResolvedSync) -> SyncRun:
        return SyncRun(
            run_id=self._settings.run_id,
            sync_id=resolved.id,
            sync_name=resolved.sync.name,
            model=resolved.sync.model.name,
            dbt_invocation_id=self._settings.dbt_invocation_id,
        )

    def _take_lease(self, resolved: ResolvedSync) -> RunIdentity:
        settings = self._settings
        return self._planner.state.take_lease(resolved.id, settings.run_id, settings.owner, steal=settings.steal)

    def _check_not_renamed(self, resolved: ResolvedSync) -> None:
        state, settings = self._planner.state, self._settings
        if settings.limits is None or state.read(resolved.id) is not None:
            return
        arguments = self._planner.arguments(resolved, None, RunIdentity(settings.run_id))
        names = state.abandoned_names(arguments, settings.known_names)
        if names:
            raise UnsafePlan(
                f"{resolved.sync.name}: this model was synced as `{names[0]}` before, and no annotation has that name "
                "any more. A new name is a new sync and would send every row again. Write "
                f"`name: {names[0]}` in the annotation to go on with its state, or run with --force to begin anew."
            )

    def _work(self, resolved: ResolvedSync, identity: RunIdentity, execution: _Execution) -> None:
        planner, state = self._planner, self._planner.state
        stored = state.read(resolved.id)
        if stored is None:
            state.register(planner.arguments(resolved, None, identity))
            stored = state.read(resolved.id)
        with execution.phase("stage"):
            prepared = planner.stage(planner.arguments(resolved, stored, identity), stored)
        execution.plan = prepared.plan
        if self._settings.limits is not None:
            prepared.plan.guard(self._settings.limits)
        with execution.phase("begin"):
            snapshot = self._begin(prepared)
        with execution.phase("deliver"):
            self._deliver(prepared, snapshot, execution)
        if execution.tally.is_complete:
            with execution.phase("record"):
                self._settle(prepared, snapshot, execution.tally, execution.known)

    def _begin(self, prepared: Prepared) -> Snapshot:
        """Write everything that must be written before the first message goes."""
        state, plan = self._planner.state, prepared.plan
        snapshot = Snapshot(self._warehouse, state, prepared.arguments)
        if self._settings.full_refresh and prepared.stored is not None:
            snapshot.forget()
        if self._settings.full_refresh and not prepared.arguments.resolved.sync.backfill:
            # Asked for everything: an interruption must not turn the rest into rows that are taken as known.
            self._warehouse.run("mark_baseline", schema=state.schema, sync_id=prepared.arguments.resolved.id)
        if prepared.removed:
            snapshot.record_removed()
        if plan.staged.rejected_rows:
            for macro in ("see_rejected_again", "insert_rejected"):
                self._warehouse.run(macro, sync=snapshot.arguments.for_macro())
        state.update(prepared.arguments.resolved.id, {"is_settled": False})
        return snapshot

    def _deliver(self, prepared: Prepared, snapshot: Snapshot, execution: _Execution) -> None:
        plan, sync = prepared.plan, prepared.arguments.resolved.sync
        if plan.takes_as_known:
            execution.known = snapshot.confirm_baseline()
        if plan.estimated_events == 0:
            execution.tally.is_complete = True
            return
        needs_person = sync.object in (ObjectType.PERSON, ObjectType.GROUP)
        self._delivery = Delivery(self._destination, self._settings.delivery, needs_person=needs_person)
        if self._is_stopped:
            return
        courier = Courier(self._warehouse, snapshot, self._delivery, self._settings.courier, self._clock)
        total = plan.estimated_events
        courier.deliver(plan.staged, execution.tally, lambda settled: self._progress(plan.sync_name, settled, total))

    def _settle(self, prepared: Prepared, snapshot: Snapshot, tally: Tally, known: int) -> None:
        """After a complete delivery: drop the staged rows and write down what the next run compares with."""
        state, plan, arguments = self._planner.state, prepared.plan, snapshot.arguments
        sync_id = arguments.resolved.id
        functions = state.functions(arguments)
        values: dict[str, Any] = {
            "changes_table": None,
            "fingerprint": arguments.resolved.fingerprint,
            "mapping": arguments.for_macro()["mapping"],
            "model": arguments.resolved.sync.model.unique_id,
            "relation": arguments.resolved.sync.model.relation_name,
            "key_type": functions.key_type,
            "hash_name": functions.hash_name,
            "hash_canary": functions.hash_canary,
            "live_keys": plan.live_keys + plan.staged.added - prepared.removed,
            "model_rows": plan.staged.rows + plan.outside,
            "is_settled": tally.delivered + known == plan.staged.pending,
        }
        if tally.streamed == plan.estimated_events:
            values["window_start"] = window_text(arguments.resolved, prepared.next_window_start)
        with self._warehouse.transaction():
            state.hold_lease(sync_id, arguments.run)
            if plan.staged.has_table:
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="changes")
            elif arguments.tables.previous is not None:
                self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="previous")
            self._warehouse.run("resolve_rejected", sync=arguments.for_macro())
            state.update(sync_id, values)
        stored = state.read(sync_id)
        if stored is not None:
            snapshot.fold_if_due(stored)

    def _record(self, ended: SyncRun, identity: RunIdentity) -> None:
        state = self._planner.state
        try:
            state.end_run(ended)
            state.release_lease(ended.sync_id, identity)
        except WarehouseUnavailable:
            if ended.status is not RunStatus.ERROR:
                raise
            # The warehouse went away in the middle: that is the result already, and the lease expires by itself.


class _Execution:
    """What one execution of a sync has come to; becomes its record whatever happens."""

    def __init__(self, destination: PostHog, clock: Callable[[], float], run: SyncRun) -> None:
        self.run = run
        self.plan: Plan | None = None
        self.tally = Tally()
        self.known = 0
        self._destination = destination
        self._clock = clock
        self._phases: list[tuple[str, float]] = []
        self._requests = destination.requests_sent
        self._bytes = destination.bytes_sent

    def phase(self, name: str) -> _Phase:
        """Measure a phase of the run."""
        return _Phase(name, self._clock, self._phases)

    def ended(self, error: SyncError | None, *, is_stopped: bool = False) -> SyncRun:
        """The record of how it ended; checks that the sums add up when nothing went wrong."""
        counts, reasons = self._counts(), self._reasons()
        run = replace(
            self.run,
            counts=counts,
            reasons=reasons,
            phases=tuple(self._phases),
            requests=self._destination.requests_sent - self._requests,
            bytes_sent=self._destination.bytes_sent - self._bytes,
        )
        if error is not None:
            status = RunStatus.UNSAFE if isinstance(error, UnsafePlan) else RunStatus.ERROR
            is_away = isinstance(error, DestinationUnavailable | DestinationRefused)
            return replace(run, is_posthog_away=is_away).ended(status, str(error), exit_code=error.exit_code)
        counts.check()
        if is_stopped:
            return run.ended(RunStatus.INTERRUPTED, "Stopped. What PostHog accepted is confirmed; the rest is pending.")
        if counts.rejected:
            return run.ended(RunStatus.REJECTED, exit_code=1)
        return run.ended(RunStatus.SUCCESS)

    def _counts(self) -> Counts:
        if self.plan is None:
            return Counts()
        staged, tally = self.plan.staged, self.tally
        open_rows = staged.pending - tally.delivered - tally.refused - self.known
        moved = staged.pending - tally.streamed if tally.is_complete and not self.known else 0
        if self.plan.takes_as_known:
            moved = open_rows if tally.is_complete else 0
        return Counts(
            rows=staged.rows,
            unchanged=staged.unchanged,
            delivered=tally.delivered,
            rejected=staged.rejected_rows + tally.refused,
            known=self.known,
            moved=moved,
            pending=open_rows - moved,
            outside=self.plan.outside,
            removed=self.plan.removed,
            warned=tally.warned,
        )

    def _reasons(self) -> tuple[tuple[str, int], ...]:
        staged = dict(self.plan.staged.rejected) if self.plan else {}
        for reason, rows in self.tally.refusals.items():
            staged[reason] = staged.get(reason, 0) + rows
        return tuple(sorted(staged.items()))


class _Phase:
    """Adds the seconds of a phase to a list when it ends, also by an error."""

    def __init__(self, name: str, clock: Callable[[], float], phases: list[tuple[str, float]]) -> None:
        self._name = name
        self._clock = clock
        self._phases = phases
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(self, *_: object) -> None:
        self._phases.append((self._name, self._clock() - self._begun))
