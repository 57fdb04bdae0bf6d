"""Identities: before a sync is staged, the warehouse is told which persons PostHog has, from one of three sources.

The sources differ in what they cost and how old they are; to the staging they are one relation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.sync import KeyKind, ModelRef
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import IdentityModel, SyncArguments
from dbt_posthog_sync.warehouse.columns import columns_of
from dbt_posthog_sync.warehouse.mirror import Mirror, load_everyone, load_those
from dbt_posthog_sync.warehouse.state import State

_NEEDED = ("distinct_id", "person_id")
_OPTIONAL = ("email", "properties", "created_at", "is_deleted", "team_id", "person_version")
_VERSION = "person_distinct_id_version"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Where persons are found.

    Attributes:
        source: who is asked.
        max_age: age from which on a mirror is loaded anew.
        model: the relation with PostHog's export of persons, for the source that reads it.
        project_id: number of the PostHog project as text, to tell it from others in one export.
    """

    source: IdentitySource = IdentitySource.LOOKUP
    max_age: timedelta = timedelta(hours=1)
    model: ModelRef | None = None
    project_id: str | None = None


LookUpProgress: TypeAlias = Callable[[str, int], None]
"""Called with a sync's name and how many of its keys were looked up so far."""


def _nobody_watches(_name: str, _asked: int) -> None:
    return


class IdentityResolver:
    """Answers, inside the warehouse, which persons of PostHog the keys of a sync mean.

    Args:
        directory: PostHog's own word; None where PostHog must not or cannot be asked (`run --mock`).
        progress: told while keys are looked up.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        state: State,
        settings: IdentitySettings,
        directory: Directory | None = None,
        progress: LookUpProgress = _nobody_watches,
    ) -> None:
        self._warehouse = warehouse
        self._state = state
        self._settings = settings
        self._directory = directory
        self._progress = progress
        self._is_stopped = False

    def stop(self) -> None:
        """Look nobody up any more; rows that were not asked for are left to the next run. Safe in a signal handler."""
        self._is_stopped = True

    def prepare(self, arguments: SyncArguments) -> SyncArguments:
        """Make sure that the persons of new and changed rows can be found, and say where.

        Nothing is asked of PostHog while no row is new or changed.

        Raises:
            UnsafePlan: the source cannot be believed, or PostHog must be asked and must not be reached.
            SyncError: PostHog did not answer; as `PrivateApi.query`.
        """
        if self._settings.source is IdentitySource.MODEL:
            return arguments.but(identity_model=self._model(arguments))
        arguments = arguments.but(are_asked=True)
        self._warehouse.run("drop_sync_table", sync=arguments.for_macro(), part="identities")
        if not self._has_pending(arguments):
            # The staging may still find a row that came this moment; it is left for the next run.
            return self._without_any(arguments)
        if self._settings.source is IdentitySource.MIRROR:
            return self._mirrored(arguments.but(are_asked=False))
        directory = self._asked(arguments)
        self._without_any(arguments)
        name = arguments.resolved.sync.name
        for asked in load_those(self._warehouse, directory, arguments):
            self._progress(name, asked)
            if self._is_stopped:
                break
        return arguments

    def _without_any(self, arguments: SyncArguments) -> SyncArguments:
        self._warehouse.run("create_identities_table", sync=arguments.for_macro())
        return arguments

    def _has_pending(self, arguments: SyncArguments) -> bool:
        macro_sync = arguments.for_macro()
        if arguments.is_first:
            return True
        self._warehouse.run("drop_sync_table", sync=macro_sync, part="diff")
        self._warehouse.run("diff", sync=macro_sync)
        return bool(self._warehouse.rows("read_pending_keys", sync=macro_sync))

    def _mirrored(self, arguments: SyncArguments) -> SyncArguments:
        mirror = Mirror(self._warehouse, self._state)
        table = mirror.current(arguments, self._settings.max_age)
        if table is not None:
            return arguments.with_mirror(table)
        directory = self._asked(arguments)
        if not arguments.tables.temporary:
            return arguments.with_mirror(mirror.load(arguments, directory))
        load_everyone(self._warehouse, directory, arguments)
        return arguments

    def _asked(self, arguments: SyncArguments) -> Directory:
        if self._directory is None:
            raise UnsafePlan(
                f"{arguments.resolved.sync.name}: which persons its rows mean is asked of PostHog, and --mock asks "
                "nobody. `plan` says how many."
            )
        return self._directory

    def _model(self, arguments: SyncArguments) -> IdentityModel:
        model, name = self._settings.model, arguments.resolved.sync.name
        if model is None or not self._warehouse.has_relation(*model.parts):
            relation = model.relation_name if model else "the identity model"
            raise UnsafePlan(
                f"{name}: {relation} does not exist in the warehouse, so no person can be found. Build it."
            )
        columns = self._columns(arguments, model)
        found = IdentityModel(model.relation_name, self._settings.project_id if columns["team_id"] else None, columns)
        self._check_filled(arguments, found)
        return found

    def _columns(self, arguments: SyncArguments, model: ModelRef) -> dict[str, str | None]:
        described = columns_of(self._warehouse, model.relation_name)
        names = {column.name.lower(): column.name for column in described}
        missing = [column for column in _NEEDED if column not in names]
        if arguments.resolved.sync.sync_key.kind is KeyKind.EMAIL and not {"email", "properties"} & set(names):
            missing.append("properties")
        if missing:
            raise UnsafePlan(
                f"{arguments.resolved.sync.name}: the identity model {model.name} has no column "
                f"{' and no column '.join(f'`{column}`' for column in missing)}. It must have the columns of "
                "PostHog's batch export of persons; an `email` of your own may stand for `properties`."
            )
        quoted = {name: str(self._warehouse.evaluate("quoted", name=spelled)) for name, spelled in names.items()}
        columns = {column: quoted.get(column) for column in (*_NEEDED, *_OPTIONAL)}
        columns["distinct_id_version"] = quoted.get(_VERSION)
        if self._settings.project_id is None and columns["team_id"] is not None:
            self._check_one_project(arguments, model, columns["team_id"])
            columns["team_id"] = None
        return columns

    def _check_one_project(self, arguments: SyncArguments, model: ModelRef, team_id: str) -> None:
        first, last = self._warehouse.rows("read_projects", relation=model.relation_name, team_id=team_id)[0]
        if first != last:
            raise UnsafePlan(
                f"{arguments.resolved.sync.name}: the identity model {model.name} has persons of several PostHog "
                f"projects ({first}, {last}), and nothing says which is meant. Write posthog.project_id."
            )

    def _check_filled(self, arguments: SyncArguments, model: IdentityModel) -> None:
        """An empty export would make every person one that PostHog does not have."""
        macro_sync = arguments.but(identity_model=model).for_macro()
        if self._warehouse.rows("read_identity_sample", sync=macro_sync):
            return
        whose = f" of the PostHog project {model.project_id}" if model.project_id else ""
        raise UnsafePlan(
            f"{arguments.resolved.sync.name}: the identity model {model.relation} has no persons{whose}, so that every "
            "row would look like a person whom PostHog does not have. Wait for PostHog's export, or check "
            "posthog.project_id."
        )
