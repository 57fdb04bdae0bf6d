"""The runner: one sync from stage to record. What a kill leaves behind at any line, the next run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_posthog_sync.build_choice import BuildChoice, KeptBuild
from dbt_posthog_sync.courier import Courier, CourierSettings
from dbt_posthog_sync.delivery import Delivery, DeliverySettings
from dbt_posthog_sync.destinations import CountingDestination
from dbt_posthog_sync.eraser import Eraser
from dbt_posthog_sync.errors import (
    DestinationRefused,
    DestinationUnavailable,
    LeaseLost,
    SyncError,
    UnsafePlan,
    WarehouseUnavailable,
)
from dbt_posthog_sync.execution import Execution
from dbt_posthog_sync.onlooker import Onlooker, Watch
from dbt_posthog_sync.plan import Limits, PlannedDeletion
from dbt_posthog_sync.planner import Planner, Prepared, window_text
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.sync import ObjectType
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.adoption import Adoption
from dbt_posthog_sync.warehouse.arguments import RunIdentity, SyncArguments
from dbt_posthog_sync.warehouse.lease import HEARTBEAT_SECONDS, Holder, Lease
from dbt_posthog_sync.warehouse.snapshot import Snapshot
from dbt_posthog_sync.warehouse.state import StoredSync


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run behaves.

    Attributes:
        run_id: id shared by all syncs of this invocation.
        owner: who runs, as shown to a second run: user and process.
        host: the machine it runs on.
        dbt_invocation_id: id of the dbt invocation whose manifest was read.
        limits: guards; None passes every guard (`--force`).
        full_refresh: forget what was delivered and send everything again.
        only_rejects: send only rows that are rejected (`retry`).
        adopt: former name of the sync, whose state it goes on with.
        steal: take the lease from a run that holds it.
        courier: how rows are carried and confirmed.
        delivery: how batches travel.
        known_names: names of all syncs of the project, to notice one that was renamed.
        shard: the part of each sync's rows that is run; None for all of them.
        targets: dbt targets that may send, for the post-hook; none means all.
        built_by: by dbt's id of a model, the invocation that built it last.
    """

    run_id: str
    owner: str
    host: str
    dbt_invocation_id: str | None = None
    limits: Limits | None = field(default_factory=Limits)
    full_refresh: bool = False
    only_rejects: bool = False
    adopt: str | None = None
    steal: bool = False
    courier: CourierSettings = field(default_factory=CourierSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    known_names: frozenset[str] = frozenset()
    shard: Shard | None = None
    targets: tuple[str, ...] = ()
    built_by: Mapping[str, str] = field(default_factory=dict)


class Runner:
    """Runs syncs, one after the other, against one warehouse and one destination."""

    def __init__(
        self,
        warehouse: Warehouse,
        destination: CountingDestination,
        planner: Planner,
        settings: RunSettings,
        *,
        onlooker: Onlooker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warehouse = warehouse
        self._destination = destination
        self._planner = planner
        self._settings = settings
        self.shard = settings.shard
        self._onlooker = onlooker or Onlooker()
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
        self._planner.stop()
        if self._delivery is not None:
            self._delivery.stop()

    def run(self, resolved: ResolvedSync, kept: KeptBuild | None = None) -> SyncRun:
        """Run one sync to its end and record it. What goes wrong with this sync is the result's status and message.

        Args:
            resolved: the sync.
            kept: what to send in place of the model as it is.

        Raises:
            StateError: the state schema was written by a newer program.
            WarehouseUnavailable: the warehouse is gone before the sync began.
        """
        state = self._planner.state
        state.ensure()
        execution = Execution(self._destination, self._clock, self._started(resolved, kept))
        if self._settings.only_rejects and not state.has_rejected(resolved.id):
            return execution.ended(None)
        try:
            may_be_sending = self._adopt(resolved)
            if self._settings.limits is not None:
                self._planner.check_not_renamed(resolved, self._settings.known_names)
            lease = state.lease(resolved.id, self._settings.shard)
            identity = lease.take(self._holder(execution.run.run_id), steal=self._settings.steal)
            identity = replace(identity, took_over=identity.took_over or may_be_sending)
        except UnsafePlan as error:
            return execution.ended(error)
        held = identity.lease_id(resolved.id)
        beat = {"schema": state.schema, "sync_id": held, "run_id": identity.run_id, "epoch": identity.epoch}
        with self._warehouse.repeated("beat_lease", seconds=HEARTBEAT_SECONDS, **beat):
            state.begin_run(execution.run, identity.shard)
            try:
                self._work(resolved, identity, execution, kept)
                ended = execution.ended(None, is_stopped=self._is_stopped)
            except SyncError as error:
                ended = execution.ended(_true_cause(error, lease, identity))
            self._record(ended, identity)
        return ended

    def skipped(self, resolved: ResolvedSync, reason: str) -> SyncRun:
        """A sync that is not begun, with the reason."""
        return self._started(resolved).ended(RunStatus.SKIPPED, reason, exit_code=DestinationUnavailable.exit_code)

    def _started(self, resolved: ResolvedSync, kept: KeptBuild | None = None) -> SyncRun:
        run_id = self._settings.run_id
        return SyncRun(
            run_id=run_id if kept is None else f"{run_id}.{kept.number}",
            sync_id=resolved.id,
            sync_name=resolved.sync.name,
            model=resolved.sync.model.name,
            unique_id=resolved.sync.model.unique_id,
            dbt_invocation_id=self._settings.dbt_invocation_id,
        )

    def _holder(self, run_id: str) -> Holder:
        return Holder(run_id, self._settings.owner, self._settings.host)

    def _adopt(self, resolved: ResolvedSync) -> bool:
        settings = self._settings
        if settings.adopt is None:
            return False
        adoption = Adoption(self._warehouse, self._planner.state, self._holder(settings.run_id))
        return adoption.adopt(settings.adopt, resolved, settings.known_names, steal=settings.steal)

    def _work(
        self, resolved: ResolvedSync, identity: RunIdentity, execution: Execution, kept: KeptBuild | None
    ) -> None:
        planner, state = self._planner, self._planner.state
        stored = state.read(resolved.id, identity.shard) or self._registered(resolved, identity)
        with execution.phase("stage"):
            arguments = planner.arguments(resolved, stored, identity)
            choice = self._choice(arguments, kept)
            execution.run = replace(execution.run, message=choice.note)
            prepared = planner.stage(arguments.but(build=choice.build), stored)
        execution.plan = prepared.plan
        self._guard(prepared)
        with execution.phase("begin"):
            snapshot = self._begin(prepared)
        try:
            with execution.phase("deliver"):
                courier = self._deliver(prepared, snapshot, execution)
            with execution.phase("confirm"):
                if courier is not None:
                    courier.confirm(execution.tally)
        except (DestinationUnavailable, DestinationRefused):
            self._keep_doubted(prepared, snapshot, execution)
            raise
        if not execution.tally.is_complete:
            self._keep_doubted(prepared, snapshot, execution)
            return
        with execution.phase("record"):
            self._settle(prepared, snapshot, execution, choice)

    def _choice(self, arguments: SyncArguments, kept: KeptBuild | None) -> BuildChoice:
        if kept is not None:
            return kept.choice
        return self._planner.choose(arguments, self._settings.built_by.get(arguments.resolved.sync.model.unique_id))

    def _registered(self, resolved: ResolvedSync, identity: RunIdentity) -> StoredSync | None:
        """A new sync, written down; runs of several shards may do so at once."""
        state = self._planner.state
        try:
            state.register(self._planner.arguments(resolved, None, identity))
        except WarehouseUnavailable:
            if identity.shard is None or state.read(resolved.id) is None:
                raise
        return state.read(resolved.id, identity.shard)

    def _guard(self, prepared: Prepared) -> None:
        """Stop before anything is sent when the plan looks like an accident; rows staged for nothing are not kept.

        A shard does not see the model as a whole, and compares with nothing.
        """
        if self._settings.limits is None or prepared.arguments.run.shard is not None:
            return
        try:
            prepared.plan.guard(self._settings.limits)
        except UnsafePlan:
            snapshot = Snapshot(self._warehouse, self._planner.state, prepared.arguments)
            if prepared.plan.staged.has_table:
                with self._warehouse.transaction():
                    snapshot.keep_doubted(())
            if prepared.plan.shows_deletion:
                snapshot.mark_baseline()  # somebody was told who would be deleted
            raise

    def _begin(self, prepared: Prepared) -> Snapshot:
        """Write everything that must be written before the first message goes."""
        state, plan = self._planner.state, prepared.plan
        snapshot = Snapshot(self._warehouse, state, prepared.arguments)
        if self._settings.full_refresh and prepared.stored is not None:
            snapshot.forget()
        if self._settings.full_refresh and not prepared.arguments.resolved.sync.backfill:
            # Asked for everything: an interruption must not turn the rest into rows that are taken as known.
            snapshot.mark_baseline()
        if prepared.arguments.resolved.deletes and plan.staged.has_table:
            self._remember_erased(snapshot, are_deleted=plan.staged.pending > 0)
        if prepared.removed:
            snapshot.record_removed()
        if plan.staged.rejected_rows or plan.staged.skipped_rows:
            for macro in ("see_rejected_again", "insert_rejected"):
                self._warehouse.run(macro, sync=snapshot.arguments.for_macro())
        values: dict[str, Any] = {"is_settled": False}
        if prepared.arguments.window_start is None and not plan.only_rejects and not prepared.arguments.delivers_kept:
            # A run that looks at every row finds some below the window; if it is cut off, the next must look there too.
            values["window_start"] = None
        state.update(prepared.arguments.resolved.id, prepared.arguments.run, values)
        return snapshot

    def _remember_erased(self, snapshot: Snapshot, *, are_deleted: bool) -> None:
        """Before anybody is deleted, and also of those whom PostHog does not have."""
        if are_deleted:
            snapshot.mark_baseline()
        self._warehouse.run("insert_erased_keys", sync=snapshot.arguments.for_macro())

    def _deliver(self, prepared: Prepared, snapshot: Snapshot, execution: Execution) -> Courier | None:
        """Deliver; what the courier that is returned has not confirmed yet is left to be confirmed."""
        plan, sync = prepared.plan, prepared.arguments.resolved.sync
        if plan.takes_as_known:
            execution.known = snapshot.confirm_baseline(has_staged=plan.staged.has_table)
        if plan.estimated_events == 0:
            execution.tally.is_complete = True
            return None
        watch = Watch(self._onlooker, plan.sync_name, plan.estimated_events)
        if plan.deletion is not None:
            self._eraser(snapshot, plan.deletion).erase(execution.tally, watch, lambda: self._is_stopped)
            return None
        needs_person = sync.object in (ObjectType.PERSON, ObjectType.GROUP)
        self._delivery = Delivery(self._destination, self._settings.delivery, needs_person=needs_person)
        if self._is_stopped:
            return None
        courier = Courier(self._warehouse, snapshot, self._delivery, self._settings.courier, self._clock)
        courier.deliver(plan.staged, execution.tally, watch)
        return courier

    def _eraser(self, snapshot: Snapshot, deletion: PlannedDeletion) -> Eraser:
        directory = self._planner.directory
        if directory is None:
            raise UnsafePlan("Persons can only be deleted with a personal API key.")
        return Eraser(self._warehouse, snapshot, directory, deletes_events=deletion.events)

    def _keep_doubted(self, prepared: Prepared, snapshot: Snapshot, execution: Execution) -> None:
        """An end that was not a kill: what was never sent is not in doubt and need not be remembered."""
        if prepared.plan.staged.has_table:
            with self._warehouse.transaction():
                snapshot.keep_doubted(execution.tally.doubted)

    def _settle(self, prepared: Prepared, snapshot: Snapshot, execution: Execution, choice: BuildChoice) -> None:
        """After a complete delivery: drop the staged rows and write down what the next run compares with."""
        state, plan, arguments = self._planner.state, prepared.plan, snapshot.arguments
        tally, sync_id = execution.tally, arguments.resolved.id
        left_by_baseline = plan.takes_as_known and execution.known < plan.staged.pending
        with self._warehouse.transaction():
            state.lease(sync_id, arguments.run.shard).hold(arguments.run)
            if not plan.takes_as_known:
                # What moved since a build is no sign of a row that moves by itself.
                has_moved = tally.streamed < plan.estimated_events and arguments.build is None
                reason, tally.volatile = snapshot.settle_moved(has_moved=has_moved)
                tally.refuse(reason, tally.volatile)
            self._drop_staged(prepared, snapshot, tally.doubted)
            self._planner.builds.forget(choice.settled)
            if not arguments.delivers_kept:
                self._warehouse.run("resolve_rejected", sync=arguments.for_macro())
            values = self._values_of_rows(prepared, execution)
            if arguments.sees_model:
                values |= self._values_of_model(prepared)
            if arguments.sees_model and not left_by_baseline and tally.streamed == plan.estimated_events:
                # Only then is every row below it settled.
                values["window_start"] = window_text(arguments.resolved, prepared.next_window_start)
            state.update(sync_id, arguments.run, values)
        stored = state.read(sync_id)
        if stored is not None and arguments.run.shard is None:
            self._tell_hook(snapshot)
            if not (arguments.delivers_kept and state.unfinished_shards(sync_id)):  # which need what they left
                snapshot.drop_left_behind(stored)
                snapshot.fold_if_due(stored)

    def _tell_hook(self, snapshot: Snapshot) -> None:
        with self._warehouse.transaction():
            snapshot.hold_lease()
            self._planner.builds.tell_hook(snapshot.arguments, self._settings.targets)

    def _drop_staged(self, prepared: Prepared, snapshot: Snapshot, doubted: list[int]) -> None:
        if prepared.plan.staged.has_table:
            snapshot.keep_doubted(doubted)
        elif prepared.arguments.tables.previous is not None:
            snapshot.drop_previous()

    def _values_of_rows(self, prepared: Prepared, execution: Execution) -> dict[str, Any]:
        """What the state keeps of the rows of this run."""
        plan, fans_out = prepared.plan, prepared.arguments.resolved.fans_out
        if prepared.arguments.run.shard is not None or prepared.arguments.delivers_kept:
            return {"is_settled": False}  # others may be under way or follow; the next run of the whole sync counts
        return {
            "live_keys": plan.live_keys + plan.staged.added - prepared.removed,
            # Persons are counted where a row means several, so that only a look at the keys tells how many there are.
            "is_settled": execution.tally.delivered + execution.known == plan.staged.pending and not fans_out,
        }

    def _values_of_model(self, prepared: Prepared) -> dict[str, Any]:
        """What the state keeps of the model and its annotation, which a run over all of it has seen."""
        plan, arguments = prepared.plan, prepared.arguments
        resolved, functions = arguments.resolved, self._planner.state.functions(arguments)
        return {
            "fingerprint": resolved.fingerprint,
            "mapping": arguments.for_macro()["mapping"],
            "model": resolved.sync.model.unique_id,
            "relation": resolved.sync.model.relation_name,
            "key_type": functions.key_type,
            "hash_name": functions.hash_name,
            "hash_canary": functions.hash_canary,
            # Without rejected rows: once mended, they come as new ones and not as ones that were there.
            "model_rows": plan.staged.rows + plan.outside - plan.staged.rejected_rows - plan.staged.skipped_rows,
        }

    def _record(self, ended: SyncRun, identity: RunIdentity) -> None:
        state = self._planner.state
        try:
            state.end_run(ended)
            state.lease(ended.sync_id, identity.shard).release(identity)
        except WarehouseUnavailable:
            if ended.status is not RunStatus.ERROR:
                raise
            # The warehouse went away in the middle: that is the result already, and the lease expires by itself.


def _true_cause(error: SyncError, lease: Lease, identity: RunIdentity) -> SyncError:
    """A run that lost its lease finds its tables gone; the lease is what it must speak of."""
    if not isinstance(error, WarehouseUnavailable):
        return error
    try:
        lease.hold(identity)
    except LeaseLost as lost:
        return lost
    except WarehouseUnavailable:
        return error
    return error
