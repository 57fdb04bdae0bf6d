"""The examination: every part that a run needs, checked one after the other, also when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.errors import SettingsError, SyncError
from dbt_posthog_sync.exposure import Via
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.identity_model import identity_model, kept_names
from dbt_posthog_sync.key_check import CLOUD, KeyCheck
from dbt_posthog_sync.loops_key_check import loops_key_checks
from dbt_posthog_sync.manifest import Manifest, read_manifest
from dbt_posthog_sync.personal_key_check import NAME as PERSONAL_KEY
from dbt_posthog_sync.personal_key_check import PersonalKeyCheck
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.project import annotations_of, project_folder, target_folder
from dbt_posthog_sync.scope import needed_scopes, needing
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.session_options import SessionOptions
from dbt_posthog_sync.settings import SETTINGS_FILE, Identities, Settings, read_settings
from dbt_posthog_sync.spelling import listed
from dbt_posthog_sync.sync import Sync
from dbt_posthog_sync.trial_event import NAME as TEST_EVENT
from dbt_posthog_sync.trial_event import TrialEvent
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse
from dbt_posthog_sync.warehouse.rights import probe_rights
from dbt_posthog_sync.warehouse.target import target_problem

PATIENCE = Patience(RetryPolicy(attempts=3, total_seconds=30.0))
"""Who looks at a diagnosis does not want to wait five minutes for it."""

_NO_SETTINGS = "the settings cannot be read"


@dataclass(frozen=True, slots=True)
class Tools:
    """What an examination looks with; tests replace it.

    Attributes:
        patience: how requests are repeated and waited for.
        regions: PostHog Cloud by region.
        needed_scopes: what syncs need of a personal API key.
    """

    patience: Patience = PATIENCE
    regions: Mapping[str, Host] = field(default_factory=lambda: CLOUD)
    needed_scopes: Callable[[Iterable[Sync], Identities], Mapping[str, tuple[str, ...]]] = needed_scopes


class Examination:
    """Checks a project; see `checks`."""

    def __init__(self, options: SessionOptions, tools: Tools | None = None, *, send_test_event: bool = False) -> None:
        self._options = options
        self._tools = tools or Tools()
        self._send_test_event = send_test_event
        self._settings: Settings | None = None
        self._manifest: Manifest | None = None
        self._syncs: tuple[Sync, ...] = ()
        self._forwarded: tuple[str, ...] = ()
        self._may_send = False

    def checks(self) -> Iterator[Check]:
        """Every check, as soon as it is done.

        Raises:
            SettingsError: there is no dbt project to check.
        """
        folder = project_folder(self._options.project_dir)
        yield self._check_settings(folder)
        yield self._check_annotations(folder)
        yield from self._warehouse_checks(folder)
        if self._settings is None:
            for name in ("project API key", "ingestion", PERSONAL_KEY):
                yield Check.not_checked(name, _NO_SETTINGS)
            return
        needs_posthog = not self._syncs or any(sync.loops is None for sync in self._syncs)
        if needs_posthog or self._send_test_event:
            yield from self._posthog_checks(self._settings)
        yield from loops_key_checks(self._syncs, self._settings.loops, self._options.environ)

    # What is written down.

    def _check_settings(self, folder: Path) -> Check:
        name, path = "settings", folder / SETTINGS_FILE
        try:
            self._settings = read_settings(path, self._options.environ)
        except SettingsError as error:
            return Check.of_error(name, error)
        where = self._settings.host.words
        if not path.exists():
            return Check.warning(
                name, f"There is no {SETTINGS_FILE}; the defaults send to {where}.", "Write one: dbt-posthog-sync init."
            )
        return Check.ok(name, f"{SETTINGS_FILE} sends to {where}.")

    def _check_annotations(self, folder: Path) -> Check:
        name = "annotations"
        path = target_folder(folder, self._options.target_path) / "manifest.json"
        identities = self._settings.identities if self._settings else Identities()
        try:
            manifest = self._manifest = read_manifest(path, keep=kept_names(identities))
        except SyncError as error:
            return Check.of_error(name, error)
        annotations = annotations_of(folder, manifest, self._settings)
        self._syncs = annotations.syncs
        self._forwarded = tuple(one.name for one in annotations.exposures if one.route.via is Via.POSTHOG)
        _, model_problems = identity_model(manifest, identities)
        if problems := (*model_problems, *annotations.problems):
            return Check.failed(name, *map(str, problems), exit_code=2)
        if not annotations.syncs:
            return Check.warning(
                name, "No model has a posthog_sync annotation. `dbt-posthog-sync init MODEL` prints a first one."
            )
        count = f"{len(annotations.syncs)} {'sync is' if len(annotations.syncs) == 1 else 'syncs are'} valid."
        if manifest.warnings:
            return Check.warning(name, count, *manifest.warnings)
        return Check.ok(name, count)

    # The warehouse.

    def _warehouse_checks(self, folder: Path) -> Iterator[Check]:
        rest = ["warehouse connection", "state schema", "models"]
        try:
            warehouse = DbtWarehouse(self._options.dbt_options(folder))
        except SyncError as error:
            yield Check.of_error("dbt profile", error)
            for name in rest:
                yield Check.not_checked(name, "the dbt profile cannot be used")
            return
        yield self._check_target(folder, warehouse)
        try:
            with warehouse:
                yield Check.ok(rest.pop(0), f"{warehouse.adapter_type} answers.")
                yield self._check_rights(warehouse)
                rest.pop(0)
                yield self._check_models(warehouse)
                rest.pop(0)
        except SyncError as error:
            if rest:  # else it was the good-bye that failed, which hurts nobody
                yield Check.of_error(rest[0], error)
            for name in rest[1:]:
                yield Check.not_checked(name, "the warehouse cannot be reached")

    def _check_target(self, folder: Path, warehouse: DbtWarehouse) -> Check:
        name, target = "dbt profile", warehouse.target_name
        self._may_send = self._settings is not None and self._settings.may_send(target)
        if self._manifest is not None:
            path = target_folder(folder, self._options.target_path)
            problem = target_problem(self._manifest, path, self._syncs, warehouse)
            if problem is not None:
                return Check.failed(name, str(problem), exit_code=2)
        if self._settings is not None and not self._may_send:
            allowed = ", ".join(self._settings.targets)
            return Check.warning(
                name, f"The target `{target}` may plan and not send: `targets` in posthog_sync.yml allows {allowed}."
            )
        return Check.ok(name, f"The target `{target}` is {warehouse.adapter_type}.")

    def _check_rights(self, warehouse: DbtWarehouse) -> Check:
        name = "state schema"
        if self._settings is None:
            return Check.not_checked(name, _NO_SETTINGS)
        schema = self._settings.state_schema
        try:
            exists = probe_rights(warehouse, schema)
        except SyncError as error:
            return Check.of_error(name, error)
        if exists:
            return Check.ok(name, f"`{schema}` is there and may be written.")
        return Check.ok(name, f"`{schema}` is not there yet and may be created.")

    def _check_models(self, warehouse: DbtWarehouse) -> Check:
        name = "models"
        if self._settings is None:
            return Check.not_checked(name, _NO_SETTINGS)
        planner = Planner(warehouse, PlanSettings(schema=self._settings.state_schema, destination=None))
        try:
            resolved = planner.resolve(self._syncs)
        except SyncError as error:
            return Check.of_error(name, error)
        count = len({one.sync.model.unique_id for one in resolved})
        return Check.ok(name, f"{count} {'relation is' if count == 1 else 'relations are'} there with their columns.")

    # PostHog.

    def _posthog_checks(self, settings: Settings) -> Iterator[Check]:
        tools, environ = self._tools, self._options.environ
        project_key: Secret | None = None
        try:
            project_key = settings.project_key(environ)
        except SettingsError as error:
            yield Check.of_error("project API key", error)
            yield Check.not_checked("ingestion", "there is no project API key")
        else:
            key_check = KeyCheck(settings.host, project_key, tools.regions)
            yield key_check.token()
            yield key_check.ingestion()
        needed = tools.needed_scopes(self._syncs, settings.identities)
        personal = self._personal_key_check(settings, project_key, needed)
        if isinstance(personal, Check):
            yield personal
        else:
            yield from personal.checks()
        if self._send_test_event and project_key is None:
            yield Check.not_checked(TEST_EVENT, "there is no project API key")
        elif self._send_test_event and not self._may_send:
            yield Check.not_checked(TEST_EVENT, "this target may not send, or the dbt profile cannot be used")
        elif self._send_test_event and project_key is not None:
            api = None if isinstance(personal, Check) else personal.api()
            yield TrialEvent(settings, project_key, tools.patience).check(api)

    def _personal_key_check(
        self, settings: Settings, project_key: Secret | None, needed: Mapping[str, tuple[str, ...]]
    ) -> PersonalKeyCheck | Check:
        environ = self._options.environ
        if not environ.get(settings.personal_key_variable, "").strip() and not needed:
            if self._forwarded:
                exposures = listed(self._forwarded)
                return Check.warning(PERSONAL_KEY, f"None is set, and `destinations` needs one for {exposures}.")
            return Check.ok(PERSONAL_KEY, "None is set, and no sync needs one.")
        try:
            key = settings.personal_key(environ)
        except SettingsError as error:
            check = Check.of_error(PERSONAL_KEY, error)
            names = dict.fromkeys(name for names in needed.values() for name in names)
            who = (f"It is there for what reads PostHog: {needing(names)} it.",) if names else ()
            return replace(check, findings=(*check.findings, *who))
        tools = self._tools
        return PersonalKeyCheck(settings, key, project_key, needed, tools.patience, tools.regions, self._forwarded)
