"""The planner: match annotations to the warehouse, stage what changed, and say what a run would do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dbt_posthog_sync.build_choice import BuildChoice, RunScope, choice_of
from dbt_posthog_sync.continuity import Continuity
from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.errors import AnnotationError, UnsafePlan
from dbt_posthog_sync.plan import Plan, PlannedDeletion, Sample
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.resolver import clashes, resolve
from dbt_posthog_sync.settings import Deletion
from dbt_posthog_sync.sync import LoopsObject, ModelRef, ObjectType, Operation, Sync
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity, SyncArguments
from dbt_posthog_sync.warehouse.build import Build, Builds, digest_for_hook, stages_at_build
from dbt_posthog_sync.warehouse.columns import columns_of
from dbt_posthog_sync.warehouse.held_rows import HeldRows
from dbt_posthog_sync.warehouse.identities import IdentityResolver, IdentitySettings, LookUpProgress
from dbt_posthog_sync.warehouse.snapshot import Snapshot
from dbt_posthog_sync.warehouse.staging import Staged, Staging
from dbt_posthog_sync.warehouse.state import State, StoredSync
from dbt_posthog_sync.warehouse.tables import CHANGES, RETRIED, SyncTables, table_prefix

_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What planning depends on beside the sync.

    Attributes:
        schema: the state schema.
        destination: identity of the receiver; None when no key is at hand, which skips the comparison.
        max_message_bytes: largest message the destination takes.
        oldest_first: true when events must be sent in order of time (PostHog Cloud asks imports for it).
        full_scan: look at every row, whatever the cursor says.
        full_refresh: forget what was delivered and send everything again.
        rebaseline: take the rows that are present as delivered, and send nothing.
        only_rejects: look only at rows that are rejected.
        identities: where it is found which persons PostHog has.
        deletion: what a sync that deletes persons may do.
        held_rows: by the name of a sync, the rows of it that failed dbt tests hold back.
        requests_per_second: at which rate messages go, one by one; None where they go in batches.
    """

    schema: str
    destination: str | None
    max_message_bytes: int = 900 * 1024
    oldest_first: bool = False
    full_scan: bool = False
    full_refresh: bool = False
    rebaseline: bool = False
    only_rejects: bool = False
    identities: IdentitySettings = field(default_factory=IdentitySettings)
    deletion: Deletion = field(default_factory=Deletion)
    held_rows: Mapping[str, tuple[HeldRows, ...]] = field(default_factory=dict)
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A staged sync: its plan, and what delivering it needs.

    Attributes:
        plan: what a run would do.
        arguments: the sync with the tables of this run.
        stored: what the warehouse remembered before this run; None before the first.
        removed: keys to write down as gone from the model.
        next_window_start: where the next run's cursor window starts if this run completes.
    """

    plan: Plan
    arguments: SyncArguments
    stored: StoredSync | None
    removed: int = 0
    next_window_start: str | None = None


class Planner:
    """Resolves and stages syncs in one warehouse.

    Args:
        directory: asked for persons where a sync needs to know them; None where nobody must be asked.
        looked_up: told while persons are looked up.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        settings: PlanSettings,
        directory: Directory | None = None,
        looked_up: LookUpProgress | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self.state = State(warehouse, settings.schema)
        self.builds = Builds(warehouse, settings.schema)
        self.directory = directory
        watched = {"progress": looked_up} if looked_up is not None else {}
        self._identities = IdentityResolver(warehouse, self.state, settings.identities, directory, **watched)

    def stop(self) -> None:
        """Look nobody up any more; what was not asked for is left to the next run. Safe in a signal handler."""
        self._identities.stop()

    def resolve(self, syncs: Iterable[Sync]) -> tuple[ResolvedSync, ...]:
        """Match every sync to its relation.

        Raises:
            AnnotationError: with every problem of every sync; nothing has been written or sent.
        """
        resolved: list[ResolvedSync] = []
        problems: list[Problem] = []
        syncs = tuple(syncs)
        missing = self._warehouse.missing(sync.model.parts for sync in syncs)
        for sync in syncs:
            if sync.model.parts in missing:
                problems += {_not_built(sync.model)} - set(problems)  # a model may have several syncs
                continue
            found, faults = self._resolve_one(sync)
            problems += faults
            if found is not None:
                resolved.append(found)
        problems += clashes(resolved)
        if problems:
            raise AnnotationError(*problems)
        return tuple(resolved)

    def _resolve_one(self, sync: Sync) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
        resolved, problems = resolve(sync, columns_of(self._warehouse, sync.model.relation_name))
        return resolved and self._with_rows(resolved), problems

    def _with_rows(self, resolved: ResolvedSync) -> ResolvedSync:
        """The sync with the select that its rows come from, where those are not all of the relation."""
        history = resolved.sync.model.history
        if history is None or resolved.valid_to is None:
            return resolved
        rows = self._warehouse.evaluate(
            "current_rows",
            relation=resolved.sync.model.relation_name,
            valid_to=resolved.valid_to.name,
            open_end=history.open_end,
            is_deleted=resolved.is_deleted.name if resolved.is_deleted else None,
        )
        return replace(resolved, rows=rows)

    def plan(self, resolved: ResolvedSync, run: RunIdentity) -> Prepared:
        """Stage into temporary tables and say what a run would do. Writes nothing that outlives the session.

        Raises:
            UnsafePlan: the state belongs to something else than this sync and destination.
        """
        stored = self.state.read(resolved.id) if self.state.exists() else None
        tables = self._tables(resolved, stored)
        temporary = replace(tables, changes=f"{table_prefix(resolved)}__plan", temporary=True)
        return self.stage(self._arguments(resolved, stored, temporary, run), stored)

    def check_not_renamed(self, resolved: ResolvedSync, known_names: frozenset[str]) -> None:
        """Stop at a sync without state whose model or mapping another sync had that no annotation names any more.

        Raises:
            UnsafePlan: with the former name, and how to go on with its state.
        """
        if not self.state.exists() or self.state.read(resolved.id) is not None:
            return
        names = self.state.abandoned_names(self.arguments(resolved, None, RunIdentity("")), known_names)
        if names:
            name, reads_the_same = names[0]
            what = f"this model was synced as `{name}`"
            if not reads_the_same:
                what = f"`{name}` was synced with the very same mapping, perhaps from this model under its former name,"
            raise UnsafePlan(
                f"{resolved.sync.name}: {what} before, and no annotation has that name any more. A new name is a new "
                f"sync and would send every row again. Go on with that state by --adopt {name}, or by `name: {name}` "
                "in the annotation; or begin anew with --force."
            )

    def arguments(self, resolved: ResolvedSync, stored: StoredSync | None, run: RunIdentity) -> SyncArguments:
        """What the macros need for a run of this sync; staged rows go to a table of this run's own."""
        tables = self._tables(resolved, stored)
        kind = RETRIED if self._settings.only_rejects else CHANGES
        own = replace(tables, changes=f"{table_prefix(resolved)}{kind}{run.epoch}")
        return self._arguments(resolved, stored, own, run)

    def stage(self, arguments: SyncArguments, stored: StoredSync | None) -> Prepared:
        """Stage the sync and build its plan.

        Raises:
            UnsafePlan: the state belongs to something else than this sync and destination.
            StateError: a table of the state is gone.
        """
        settings = self._settings
        continuity = self._continuity(arguments, stored) if stored is not None else None
        if arguments.resolved.deletes:
            self._check_deletion(arguments.resolved.sync.name)
        if continuity is not None:
            continuity.check()
        snapshot = Snapshot(self._warehouse, self.state, arguments)
        if settings.only_rejects:
            _check_ended(arguments, snapshot)
        is_empty = stored is None or (not settings.full_refresh and snapshot.is_empty(stored))
        arguments = self._for_this_run(arguments, stored, continuity, is_empty=is_empty)
        if arguments.resolved.sync.needs_identities:
            arguments = self._identities.prepare(arguments)
        live_keys = snapshot.live_keys(stored) if stored is not None and not arguments.is_first else 0
        staging = Staging(self._warehouse, self.state)
        staged = staging.stage(arguments, live_keys=live_keys, knows_rejects=arguments.has_rejects)
        takes_as_known = settings.rebaseline or self._takes_as_known(arguments, stored, is_empty=is_empty)
        plan = Plan(
            sync_name=arguments.resolved.sync.name,
            model=arguments.resolved.sync.model.name,
            object=arguments.resolved.sync.object.value,
            staged=staged.rows,
            live_keys=live_keys,
            removed=staged.removed or _events_gone(staged, stored),
            outside=staged.outside,
            takes_as_known=takes_as_known,
            deletion=self._deletion(arguments, stored),
            known=self._known(staged) if takes_as_known else 0,
            only_rejects=settings.only_rejects,
            mapping_changed=stored is not None and stored.fingerprint != arguments.resolved.fingerprint,
            dropped_properties=_dropped_properties(arguments.resolved, stored),
            requests_per_second=settings.requests_per_second,
            hash_changed=continuity is not None and continuity.hash_changed(),
        )
        return Prepared(plan, staged.arguments, stored, staged.removed, staged.next_window_start)

    def _for_this_run(
        self, arguments: SyncArguments, stored: StoredSync | None, continuity: Continuity | None, *, is_empty: bool
    ) -> SyncArguments:
        """The arguments with what the state and the settings of this run say of the sync."""
        settings = self._settings
        is_first = (is_empty or settings.full_refresh) and not settings.only_rejects and arguments.build is None
        arguments = arguments.but(
            is_first=is_first,
            forgets=settings.full_refresh,
            only_rejects=settings.only_rejects,
            has_doubts=self._has_doubts(arguments, stored),
            window_start=None if is_first or settings.only_rejects else self._window_start(arguments.resolved, stored),
            has_rejects=stored is not None and self.state.has_rejected(arguments.resolved.id),
            has_erased=not arguments.resolved.deletes and self.state.exists() and self.state.has_erased(),
        )
        if arguments.build is not None:
            arguments = arguments.but(window_start=arguments.build.window_start)
        if continuity is not None and settings.rebaseline and not is_first:
            arguments = arguments.but(former=continuity.former())
        return arguments

    def kept_builds(self, resolved: ResolvedSync) -> tuple[Build, ...]:
        """Builds that wait with their messages, the oldest first; none where they cannot come before the run."""
        settings = self._settings
        if settings.full_refresh or settings.rebaseline or settings.only_rejects:
            return ()
        waiting = self.builds.waiting(self.arguments(resolved, None, RunIdentity("")))
        return tuple(build for build in waiting if build.keeps_every)

    def choose(self, arguments: SyncArguments, built_by: str | None) -> BuildChoice:
        """Whether the run delivers what a build staged, or stages by itself.

        Raises:
            UnsafePlan: the run would send a later state of rows before earlier ones that wait.
        """
        settings, resolved = self._settings, arguments.resolved
        late = {"--full-refresh": settings.full_refresh, "retry": settings.only_rejects}
        late |= {"--shard": arguments.run.shard is not None}
        scope = RunScope(
            epoch=arguments.run.epoch,
            digest=digest_for_hook(arguments) if stages_at_build(resolved) else None,
            asks_for_scan=settings.full_scan or any(late.values()),
            discards=settings.rebaseline,
            must_come_after=next((option for option, is_meant in late.items() if is_meant), ""),
            built_by=built_by,
        )
        return choice_of(resolved.sync.name, self.builds.waiting(arguments), scope)

    def _check_deletion(self, name: str) -> None:
        if self._settings.rebaseline:
            raise UnsafePlan(
                f"{name}: --rebaseline would take the persons as deleted, and no later run would delete them. Leave "
                "this sync out with --exclude."
            )
        if self._settings.full_refresh:
            raise UnsafePlan(
                f"{name}: --full-refresh would delete everybody again who was ever asked for. Leave this sync out with "
                "--exclude; a row whose `timestamp` is later than it was deletes its person again."
            )

    def with_samples(self, prepared: Prepared) -> Plan:
        """The plan with a few messages as they would be sent."""
        if prepared.plan.estimated_events == 0 or prepared.plan.deletion is not None:
            return prepared.plan
        rows = self._warehouse.rows("samples", sync=prepared.arguments.for_macro(), most=_SAMPLES)
        messages = (Row(position, lane, message.encode()) for position, lane, message in rows)
        samples = (Sample(row.uuid, row.head.decode(), row.properties.decode()) for row in messages)
        return replace(prepared.plan, samples=tuple(samples))

    def _arguments(
        self, resolved: ResolvedSync, stored: StoredSync | None, tables: SyncTables, run: RunIdentity
    ) -> SyncArguments:
        settings = self._settings
        arguments = SyncArguments.of(resolved, settings.schema, settings.destination or "", tables, run)
        return arguments.but(
            max_message_bytes=settings.max_message_bytes,
            oldest_first=settings.oldest_first and resolved.sends_events,
            uuid_name=stored.uuid_name if stored is not None else None,
            held=settings.held_rows.get(resolved.sync.name, ()),
        )

    def _tables(self, resolved: ResolvedSync, stored: StoredSync | None) -> SyncTables:
        tables = SyncTables.named(resolved)
        if stored is None:
            return tables
        previous = stored.changes_table
        if previous is not None and not self.state.has_table(previous):
            previous = None  # it only remembers staging times; somebody has tidied up
        return SyncTables(stored.base_table, stored.log_table, tables.changes, tables.diff, previous)

    def _has_doubts(self, arguments: SyncArguments, stored: StoredSync | None) -> bool:
        if stored is None or (self._settings.full_refresh and not self._continuity(arguments, stored).has_same_keys()):
            return False
        return (stored.has_doubtful and not self._settings.only_rejects) or arguments.tables.previous is not None

    def _continuity(self, arguments: SyncArguments, stored: StoredSync) -> Continuity:
        settings = self._settings
        return Continuity(
            self.state, arguments, stored, destination=settings.destination, full_refresh=settings.full_refresh
        )

    def _window_start(self, resolved: ResolvedSync, stored: StoredSync | None) -> str | None:
        if stored is None or stored.window_start is None or resolved.cursor is None or self._settings.full_scan:
            return None
        if stored.fingerprint != resolved.fingerprint and not resolved.compares_keys_only:
            return None  # another annotation changes the messages of all rows, wherever they are
        column, start = json.loads(stored.window_start)
        return str(start) if column == resolved.cursor.name else None

    def _takes_as_known(self, arguments: SyncArguments, stored: StoredSync | None, *, is_empty: bool) -> bool:
        is_new = stored is None or (stored.baseline_at is None and is_empty)
        return is_new and not arguments.resolved.sync.backfill and not self._settings.full_refresh

    def _deletion(self, arguments: SyncArguments, stored: StoredSync | None) -> PlannedDeletion | None:
        if not arguments.resolved.deletes:
            return None
        # Such a sync takes no rows as known, so that the mark of it says when a first run has shown what it would do.
        is_first = stored is None or stored.baseline_at is None
        return PlannedDeletion(self._settings.deletion.max_persons, self._settings.deletion.events, is_first=is_first)

    def _known(self, staged: Staged) -> int:
        """Rows that are taken as known instead of sent."""
        arguments = staged.arguments
        if not staged.rows.has_table or (arguments.former is None and not arguments.has_doubts):
            return staged.rows.pending
        return Snapshot(self._warehouse, self.state, staged.arguments).count_baseline()


def _check_ended(arguments: SyncArguments, snapshot: Snapshot) -> None:
    """Stop at a retry beside rows that an interrupted run left."""
    if arguments.tables.previous is not None and snapshot.has_left_unrejected():
        raise UnsafePlan(
            f"{arguments.resolved.sync.name}: its last run did not end, and retrying now would forget how far it came. "
            "Let `dbt-posthog-sync run` finish it; it tries every rejected row that changed. Then retry."
        )


def window_text(resolved: ResolvedSync, start: str | None) -> str | None:
    """How a window's start is kept: with its column, because another column's values would mean something else."""
    return json.dumps([resolved.cursor.name, start]) if resolved.cursor is not None and start is not None else None


def _dropped_properties(resolved: ResolvedSync, stored: StoredSync | None) -> tuple[str, ...]:
    """Properties of persons and contacts that the last complete run wrote, and this one would not write or remove."""
    if stored is None or resolved.sync.object not in (ObjectType.PERSON, LoopsObject.CONTACTS):
        return ()
    before = {name for name, _, operation in json.loads(stored.mapping)["properties"] if operation == Operation.SET}
    return tuple(sorted(before - {p.name for p in resolved.properties} - set(resolved.sync.unset)))


def _events_gone(staged: Staged, stored: StoredSync | None) -> int:
    """Rows of an event or page model that the last run saw and this one does not; PostHog keeps their events."""
    arguments, rows = staged.arguments, staged.rows
    if stored is None or stored.model_rows is None or arguments.is_first or arguments.window_start is not None:
        return 0
    if arguments.only_rejects:
        return 0
    return max(0, stored.model_rows - rows.matched) if arguments.resolved.sends_events else 0


def _not_built(model: ModelRef) -> Problem:
    advice = f"Build it first: dbt build --select {model.name}; check --target. Or leave it out: --exclude {model.name}"
    if model.resource_type == "source":
        advice = "Load it first, since dbt builds no sources. Check the source's schema, and the target."
    problem = f"the relation {model.relation_name} does not exist in the warehouse."
    return Problem(problem, advice, model.name, model.file)
