"""The planner: match annotations to the warehouse, stage what changed, and say what a run would do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from dbt_posthog_sync.annotation.clashes import person_clashes, person_fights
from dbt_posthog_sync.column_type import ColumnType
from dbt_posthog_sync.continuity import Continuity
from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.errors import AnnotationError, UnsafePlan
from dbt_posthog_sync.plan import Plan, PlannedDeletion, Sample
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import RelationColumn, ResolvedSync, hashes_as_text
from dbt_posthog_sync.resolver import resolve
from dbt_posthog_sync.settings import Deletion
from dbt_posthog_sync.sync import LoopsObject, ObjectType, Operation, Sync
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import (
    CHANGES,
    RETRIED,
    RunIdentity,
    SyncArguments,
    SyncTables,
    table_prefix,
)
from dbt_posthog_sync.warehouse.identities import IdentityResolver, IdentitySettings, LookUpProgress
from dbt_posthog_sync.warehouse.snapshot import Snapshot
from dbt_posthog_sync.warehouse.staging import Staged, Staging
from dbt_posthog_sync.warehouse.state import State, StoredSync

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
        for sync in syncs:
            found, faults = self._resolve_one(sync)
            problems += faults
            if found is not None:
                resolved.append(found)
        problems += _clashes(resolved)
        if problems:
            raise AnnotationError(*problems)
        return tuple(resolved)

    def _resolve_one(self, sync: Sync) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
        model = sync.model
        if not self._warehouse.has_relation(model.database, model.schema, model.identifier):
            problem = Problem(
                f"the relation {model.relation_name} does not exist in the warehouse.",
                f"Build it first: dbt build --select {model.name}. Check that the target is the one you built.",
                model.name,
                model.file,
            )
            return None, (problem,)
        rows = self._warehouse.rows("describe_columns", relation=model.relation_name)
        return resolve(sync, [_relation_column(*row) for row in rows])

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
        """Stop at a sync without state whose model another sync had that no annotation names any more.

        Raises:
            UnsafePlan: with the former name, and how to go on with its state.
        """
        if not self.state.exists() or self.state.read(resolved.id) is not None:
            return
        names = self.state.abandoned_names(self.arguments(resolved, None, RunIdentity("")), known_names)
        if names:
            raise UnsafePlan(
                f"{resolved.sync.name}: this model was synced as `{names[0]}` before, and no annotation has that name "
                f"any more. A new name is a new sync and would send every row again. Go on with that state by --adopt "
                f"{names[0]}, or by `name: {names[0]}` in the annotation; or begin anew with --force."
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
        if settings.only_rejects and arguments.tables.previous is not None and snapshot.has_left_unrejected():
            raise UnsafePlan(
                f"{arguments.resolved.sync.name}: its last run did not end, and retrying now would forget how far it "
                "came. Let `dbt-posthog-sync run` finish it; it tries every rejected row that changed. Then retry."
            )
        is_empty = stored is None or (not settings.full_refresh and snapshot.is_empty(stored))
        is_first = (is_empty or settings.full_refresh) and not settings.only_rejects
        arguments = arguments.but(
            is_first=is_first,
            forgets=settings.full_refresh,
            only_rejects=settings.only_rejects,
            has_doubts=self._has_doubts(arguments, stored),
            window_start=None if is_first or settings.only_rejects else self._window_start(arguments.resolved, stored),
            has_rejects=stored is not None and self.state.has_rejected(arguments.resolved.id),
            has_erased=not arguments.resolved.deletes and self.state.exists() and self.state.has_erased(),
        )
        if continuity is not None and settings.rebaseline and not is_first:
            arguments = arguments.but(former=continuity.former())
        if arguments.resolved.sync.needs_identities:
            arguments = self._identities.prepare(arguments)
        live_keys = snapshot.live_keys(stored) if stored is not None and not is_first else 0
        staged = Staging(self._warehouse, self.state).stage(
            arguments, live_keys=live_keys, knows_rejects=arguments.has_rejects
        )
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


def _clashes(resolved: Iterable[ResolvedSync]) -> Iterator[Problem]:
    """Persons' properties that two syncs write; `properties: all` shows them only once the columns are known."""
    written = [(one.sync, [p.name for p in one.properties]) for one in resolved if one.sync.object is ObjectType.PERSON]
    for sync, message in person_clashes(written):
        advice = "Let one sync write it, or write `shared: true` in both if they never fight over a person."
        yield Problem(message, advice, sync.model.name, sync.model.file)
    for sync, _, message in person_fights(written):
        yield Problem(message, "Let one sync decide over it.", sync.model.name, sync.model.file)


def _relation_column(name: str, type_text: str, hash_as_text: bool) -> RelationColumn:
    column_type = ColumnType.parse(type_text)
    return RelationColumn(name, column_type, bool(hash_as_text) or hashes_as_text(column_type))
