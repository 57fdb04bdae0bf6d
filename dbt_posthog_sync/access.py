"""Access: what a session may ask PostHog for with a personal API key, made when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.errors import ScopeMissing, SettingsError, UnsafePlan
from dbt_posthog_sync.private_api import PrivateApi, private_api_config
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import IdentitySource, Settings
from dbt_posthog_sync.sync import Behavior, Sync


class Access:
    """One client of the private API for everything in a session, so that all of it shares PostHog's limits."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._api: PrivateApi | None = None

    def private_api(self) -> PrivateApi:
        """PostHog's private API, by the personal API key.

        Raises:
            SettingsError: there is no such key.
        """
        if self._api is None:
            key = self._settings.personal_key(self._environ)
            self._api = PrivateApi(private_api_config(self._settings, key))
        return self._api

    def close(self) -> None:
        """Close the connections, if there are any."""
        if self._api is not None:
            self._api.close()

    def directory(self, syncs: Sequence[Sync], project_key: str | None) -> Directory | None:
        """The directory of persons for these syncs; None where none of them has to ask PostHog.

        Args:
            syncs: what is planned or run.
            project_key: the key that events are sent with; None where it is not known.

        Raises:
            SettingsError: there is no personal API key, or nothing says which project is meant.
            UnsafePlan: the two keys mean different projects.
            SyncError: PostHog did not answer; as `PrivateApi.query`.
        """
        is_asked = self._settings.identities.source is not IdentitySource.MODEL
        asking = [s for s in syncs if s.behavior is Behavior.DELETE or (s.needs_identities and is_asked)]
        if not asking:
            return None
        models = ", ".join(dict.fromkeys(sync.model.name for sync in asking))
        self._check_settings(models, "persons are looked up in PostHog")
        self._check_project(
            models, project_key, f"in which {models} look{'s' if ',' not in models else ''} for persons"
        )
        return Directory(self.private_api())

    def destinations(self, project_key: str | None) -> PrivateApi:
        """The private API of the one project whose destinations are meant.

        Args:
            project_key: the key that events are sent with; None where it is not known.

        Raises:
            SettingsError: there is no personal API key, or nothing says which project is meant.
            UnsafePlan: the two keys mean different projects.
            SyncError: PostHog did not answer; as `PrivateApi.query`.
        """
        self._check_settings("", "destinations are kept in PostHog")
        self._check_project("`destinations`", project_key, "whose destinations are meant")
        return self.private_api()

    def _check_settings(self, models: str, purpose: str) -> None:
        problems: list[Problem] = []
        try:
            self.private_api()
        except SettingsError as error:
            problems += [replace(problem, model=models) for problem in error.problems]
        if self._settings.project_id is None:
            problems.append(
                Problem(
                    f"{purpose}, and nothing says in which project.",
                    "Write `posthog: {project_id: 12345}`, the number in the address of every page of the project, or "
                    "set POSTHOG_PROJECT_ID.",
                    models,
                    self._settings.file,
                    "$.posthog.project_id",
                )
            )
        if problems:
            raise SettingsError(*problems)

    def _check_project(self, needed_by: str, project_key: str | None, purpose: str) -> None:
        """Persons of another project would be taken for those of this one."""
        if project_key is None:
            return
        try:
            project = self.private_api().project(needed_by=needed_by)
        except ScopeMissing:
            return  # only project:read can tell, and no sync needs it
        if project.project_key != Secret(project_key):
            raise UnsafePlan(
                f"The project API key does not belong to the project {project.id} (`{project.name}`), {purpose}. Check "
                f"posthog.project_id and {self._settings.project_key_variable}."
            )
