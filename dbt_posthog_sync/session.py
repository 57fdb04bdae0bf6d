"""A session: one command's warehouse, destination and syncs, put together from settings and options."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from dbt_posthog_sync.access import Access
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.destinations import RenderedRequest
from dbt_posthog_sync.errors import SettingsError, StateError, UnsafePlan
from dbt_posthog_sync.forwarding.feed import Feed, feed_of
from dbt_posthog_sync.gate import Gate, HeldBack
from dbt_posthog_sync.kept_builds import runs_of
from dbt_posthog_sync.mock import LeftOut, mocked_requests
from dbt_posthog_sync.onlooker import Onlooker
from dbt_posthog_sync.plan import Plan, PlannedForwarding
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.project import Project
from dbt_posthog_sync.proof import Dispatch
from dbt_posthog_sync.receivers import POSTHOG, Receiver, Receivers
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.runner import Runner, RunSettings
from dbt_posthog_sync.session_options import SessionOptions
from dbt_posthog_sync.settings import SETTINGS_FILE, Settings
from dbt_posthog_sync.status import status_of
from dbt_posthog_sync.sync import LoopsObject, ObjectType, Sync
from dbt_posthog_sync.sync_run import SyncRun
from dbt_posthog_sync.warehouse.arguments import RunIdentity
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse
from dbt_posthog_sync.warehouse.held_rows import hold
from dbt_posthog_sync.warehouse.identities import IdentitySettings, LookUpProgress
from dbt_posthog_sync.warehouse.state import State
from dbt_posthog_sync.warehouse.target import target_problem

_TURNS = (
    ObjectType.GROUP,
    ObjectType.PERSON,
    ObjectType.EVENT,
    ObjectType.PAGE,
    LoopsObject.CONTACTS,
    LoopsObject.EVENTS,
)


@dataclass(frozen=True, slots=True)
class PlanFound:
    """A plan, and what would stop a run, if anything would; the plan is None where that is known before staging."""

    plan: Plan | None
    objection: str | None = None


class Session:
    """Use as a context manager: the warehouse is connected inside."""

    def __init__(
        self, project: Project, syncs: tuple[Sync, ...], options: SessionOptions, gate: Gate | None = None
    ) -> None:
        self._project = project
        self._syncs = syncs
        self._options = options
        self._gate = gate or Gate()
        self._run_id = str(uuid.uuid4())
        self._stack = ExitStack()
        self._runner: Runner | None = None
        self._feeds: dict[str, Feed | None] = {}
        self._is_stopped = False

    def __enter__(self) -> Session:
        options = self._options
        self._warehouse = DbtWarehouse(options.dbt_options(self._project.folder))
        problem = target_problem(self._project.manifest, self._project.target_path, self._syncs, self._warehouse)
        if problem is not None:
            raise SettingsError(problem)
        if options.sends:
            self._check_target()
        self._check_adoption()
        self._held_back: tuple[HeldBack, ...] = ()
        self._hold_back(self._gate.held_back(self._syncs))
        self._receivers = Receivers(self._settings, options.environ, self._run_id, needs_keys=options.sends)
        self._receivers.read_keys(self._syncs, mock=options.mock)
        self._stack.callback(self._receivers.close)
        self._access = Access(self._settings, options.environ)
        with ExitStack() as opening:
            opening.callback(self._access.close)
            opening.enter_context(self._warehouse)
            held = hold(self._warehouse, self._gate, self._syncs)
            self._hold_back(held.syncs)
            self._held_rows = held.rows
            self._stack.enter_context(opening.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def held_back(self) -> tuple[HeldBack, ...]:
        """The selected syncs that dbt's results hold back; nothing below plans or runs them."""
        return self._held_back

    def plans(self) -> Iterator[PlanFound]:
        """Plan every sync; staged rows are temporary.

        Raises:
            StateError: the state schema was written by a newer program.
        """
        self._state()
        for resolved, planner, _ in self._routed():
            plan = None
            try:
                planner.check_not_renamed(resolved, self._known_names)
                plan = planner.with_samples(planner.plan(resolved, RunIdentity(self._run_id)))
                if (feed := self._feed(resolved.sync)) is not None:
                    plan = replace(plan, forwarding=PlannedForwarding(feed.exposures, feed.events_per_second))
                plan.guard(self._settings.limits)
            except UnsafePlan as error:
                yield PlanFound(plan, str(error))
            else:
                yield PlanFound(plan)

    def mocked(self) -> Iterator[tuple[str, RenderedRequest | LeftOut | UnsafePlan]]:
        """Every request that a run would send, by sync; or why they cannot be shown.

        Raises:
            StateError: the state schema was written by a newer program.
        """
        self._state()
        for resolved, planner, receiver in self._routed():
            try:
                prepared = planner.plan(resolved, RunIdentity(self._run_id))
            except UnsafePlan as error:
                yield resolved.sync.name, error
                continue
            for request in mocked_requests(self._warehouse, receiver.destination, prepared, receiver.delivery):
                yield resolved.sync.name, request

    def runs(self, onlooker: Onlooker) -> Iterator[SyncRun]:
        """Run every sync, one after the other; those that are held back are told first."""
        yield from (one.as_run(self._run_id, self._project.manifest.invocation_id) for one in self._held_back)
        if not self._syncs:
            return
        settings = self._run_settings()
        away: set[str] = set()
        for resolved, planner, receiver in self._routed(onlooker.looks_up):
            if self._is_stopped:
                return
            self._runner = Runner(
                self._warehouse,
                receiver.destination,
                planner,
                replace(settings, delivery=receiver.delivery),
                onlooker=onlooker,
            )
            if receiver.name in away:
                reason = f"Not run: {receiver.name} took nothing from the sync before it."
                yield self._runner.skipped(resolved, reason)
                continue
            for run in runs_of(self._runner, planner, resolved):
                if run.is_posthog_away:
                    away.add(receiver.name)
                yield run

    def _routed(self, looked_up: LookUpProgress | None = None) -> list[tuple[ResolvedSync, Planner, Receiver]]:
        """Every sync with its receiver and a planner for it; all syncs are resolved before any is planned."""
        posthog = self._receivers.posthog()
        planner = self._planner(posthog, looked_up)
        routed = []
        for resolved in sorted(planner.resolve(self._syncs), key=_turn):
            is_posthog = resolved.sync.loops is None
            receiver = posthog if is_posthog else self._receivers.of(resolved, mock=self._options.mock)
            if (feed := self._feed(resolved.sync)) is not None:
                shards = self._options.shard.of if self._options.shard else 1
                receiver = receiver.paced(feed.events_per_second / shards)
            routed.append((resolved, planner if is_posthog else self._planner(receiver), receiver))
        return routed

    @property
    def has_settings(self) -> bool:
        """False where nobody wrote down where to send, and from which targets."""
        return (self._project.folder / SETTINGS_FILE).exists()

    @property
    def whereto(self) -> str:
        """Where PostHog is, in words."""
        return self._settings.host.words

    def feeds(self) -> Mapping[str, Feed]:
        """The selected syncs that PostHog hands on to Loops, by name: they are sent slowly."""
        found = {sync.name: self._feed(sync) for sync in self._syncs}
        return {name: feed for name, feed in found.items() if feed is not None}

    def _feed(self, sync: Sync) -> Feed | None:
        """The feed that a sync is; where a column names its events, the warehouse says whether it holds the name."""

        def has_event(name: str) -> bool:
            planner = Planner(self._warehouse, PlanSettings(self._settings.state_schema, destination=None))
            arguments = planner.arguments(planner.resolve([sync])[0], None, RunIdentity(self._run_id))
            return bool(self._warehouse.rows("has_event", sync=arguments.for_macro(), name=name))

        if sync.name not in self._feeds:
            self._feeds[sync.name] = feed_of(sync, self._project.exposures, has_event)
        return self._feeds[sync.name]

    def stop(self) -> None:
        """Finish what is in flight and end. Safe in a signal handler."""
        self._is_stopped = True
        if self._runner is not None:
            self._runner.stop()

    @property
    def run_id(self) -> str:
        """Id of what this session runs."""
        return self._run_id

    @property
    def is_stopped(self) -> bool:
        """True after `stop`."""
        return self._is_stopped

    def private_api(self) -> PrivateApi:
        """PostHog's private API, by the personal API key.

        Raises:
            SettingsError: there is no such key.
        """
        return self._access.private_api()

    def dispatch(self, run_id: str | None) -> Dispatch:
        """What a run sent, by the record in the warehouse; None stands for the last one that sent anything.

        Raises:
            StateError: there is no such run.
        """
        state = self._state()
        last = state.runs(1, delivered=True) or state.runs(1) if state.exists() else []
        # What is delivered of a kept build is a run of its own, with a number behind the id.
        found = state.dispatch(run_id or str(last[0][0]).partition(".")[0]) if last else None
        if found is None:
            what = f"the run {run_id}" if run_id else "any run"
            raise StateError(
                Problem(
                    f"the state schema `{state.schema}` does not know {what}.",
                    "`dbt-posthog-sync status --output json` lists the runs; check --target.",
                )
            )
        return found

    def status(self, most: int) -> dict[str, Any]:
        """What the state schema says: syncs, last runs, rejected rows."""
        return status_of(self._state(), most)

    @property
    def _settings(self) -> Settings:
        return self._project.settings

    def _hold_back(self, held: Iterable[HeldBack]) -> None:
        self._held_back += tuple(held)
        names = {one.sync.name for one in self._held_back}
        self._syncs = tuple(sync for sync in self._syncs if sync.name not in names)

    def _state(self) -> State:
        """The state schema for reading, at this program's version where there is one."""
        state = State(self._warehouse, self._settings.state_schema)
        if state.exists():
            state.bring_up_to_date()
        return state

    def _planner(self, receiver: Receiver, looked_up: LookUpProgress | None = None) -> Planner:
        asks = receiver.name == POSTHOG and not self._options.mock
        return Planner(
            self._warehouse,
            PlanSettings(
                schema=self._settings.state_schema,
                destination=receiver.identity,
                max_message_bytes=receiver.destination.max_message_bytes,
                oldest_first=receiver.oldest_first,
                requests_per_second=receiver.requests_per_second,
                full_scan=self._options.full_scan,
                full_refresh=self._options.full_refresh,
                rebaseline=self._options.rebaseline,
                only_rejects=self._options.only_rejects,
                identities=self._identity_settings(),
                deletion=self._settings.deletion,
                held_rows=self._held_rows,
            ),
            self._access.directory(self._syncs, self._receivers.project_key) if asks else None,
            looked_up,
        )

    def _identity_settings(self) -> IdentitySettings:
        identities = self._settings.identities
        model = self._project.identity_model
        return IdentitySettings(identities.source, identities.max_age, model, self._settings.project_id)

    def _run_settings(self) -> RunSettings:
        delivery = self._settings.delivery
        return RunSettings(
            run_id=self._run_id,
            owner=f"{getpass.getuser()}, process {os.getpid()}",
            host=socket.gethostname(),
            dbt_invocation_id=self._project.manifest.invocation_id or None,
            limits=None if self._options.force else self._settings.limits,
            full_refresh=self._options.full_refresh,
            only_rejects=self._options.only_rejects,
            adopt=self._options.adopt,
            shard=self._options.shard,
            steal=self._options.steal,
            courier=CourierSettings(delivery.confirm_seconds, delivery.stream_minutes * 60),
            known_names=self._known_names,
            targets=self._settings.targets,
            built_by=self._gate.built_by,
        )

    @property
    def _known_names(self) -> frozenset[str]:
        return frozenset(sync.name for sync in self._project.syncs)

    def _check_target(self) -> None:
        target = self._warehouse.target_name
        if not self._settings.may_send(target):
            allowed = ", ".join(self._settings.targets)
            raise SettingsError(
                Problem(
                    f"the dbt target `{target}` may not send; `targets` allows {allowed}.",
                    "Choose one of them with --target, or add this one. `plan` and `run --mock` work with every "
                    "target.",
                    file=self._settings.file,
                    path="$.targets",
                )
            )

    def _check_adoption(self) -> None:
        if self._options.adopt is not None and len(self._syncs) != 1:
            raise SettingsError(
                Problem(
                    f"--adopt {self._options.adopt} is about one sync, and {len(self._syncs)} are selected.",
                    "Select the one that was renamed: --select NAME.",
                )
            )


def _turn(resolved: ResolvedSync) -> tuple[int, str]:
    """When a sync's turn comes, whatever the order of dbt's manifest.

    Persons that are deleted come first, so that nothing is sent to them in the same run; what describes a person or a
    group comes before the events that PostHog reads beside it; Loops comes last.
    """
    return 0 if resolved.deletes else _TURNS.index(resolved.sync.object) + 1, resolved.sync.name
