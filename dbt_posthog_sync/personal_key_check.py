"""The check of the personal API key: whether it is one, what it may do, and which project it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.errors import ScopeMissing, SyncError
from dbt_posthog_sync.hog_function_api import HogFunctionApi
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.http import host_of
from dbt_posthog_sync.key_check import CLOUD
from dbt_posthog_sync.private_answer import KeyStanding
from dbt_posthog_sync.private_api import PrivateApi, private_api_config
from dbt_posthog_sync.scope import (
    HOG_FUNCTION_READ,
    HOG_FUNCTION_WRITE,
    PERSON_READ,
    PROJECT_READ,
    QUERY_READ,
    needing,
    useful_scopes,
)
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Settings

NAME, SCOPES, PROJECT = "personal API key", "scopes", "PostHog project"
_NEEDED_BY = "debug"
_WHERE = "PostHog > Settings > Account > Personal API keys"


@dataclass(frozen=True, slots=True)
class PersonalKeyCheck:
    """Asks PostHog about a personal API key. Changes nothing.

    Attributes:
        settings: where PostHog is, and which project.
        personal_key: the key.
        project_key: the key that events are sent with; None where there is none.
        needed: what the syncs need, by scope: the names of the syncs.
        patience: how requests are repeated and waited for.
        regions: PostHog Cloud by region, where the key is tried when the host does not accept it.
        forwarded: names of the exposures whose destinations PostHog keeps.
    """

    settings: Settings
    personal_key: Secret = field(repr=False)
    project_key: Secret | None = field(repr=False)
    needed: Mapping[str, tuple[str, ...]]
    patience: Patience
    regions: Mapping[str, Host] = field(default_factory=lambda: CLOUD)
    forwarded: tuple[str, ...] = ()

    def api(self, host: Host | None = None) -> PrivateApi:
        """A client with this key."""
        return PrivateApi(private_api_config(self.settings, self.personal_key, host), patience=self.patience)

    def checks(self) -> Iterator[Check]:
        """The key, its scopes, its project; the later ones only where the key is good."""
        api = self.api()
        try:
            standing = api.who_am_i()
            if standing is KeyStanding.INVALID:
                wanted = (f"It needs `{scope}`, which {needing(names)}." for scope, names in self.needed.items())
                yield Check.failed(NAME, *self._refused(), *wanted)
                yield Check.not_checked(SCOPES, "the personal API key is not valid")
                yield Check.not_checked(PROJECT, "the personal API key is not valid")
                return
        except SyncError as error:
            yield Check.of_error(NAME, error)
            yield Check.not_checked(SCOPES, "the private API does not answer")
            yield Check.not_checked(PROJECT, "the private API does not answer")
            return
        yield Check.ok(NAME, f"{host_of(self.settings.host.api)} accepts it.")
        yield from self._told(SCOPES, lambda: self._scopes(api))
        yield from self._told(PROJECT, lambda: self._project(api))
        api.close()

    def _told(self, name: str, check: Callable[[], Check]) -> Iterator[Check]:
        try:
            yield check()
        except SyncError as error:
            yield Check.of_error(name, error)

    def _refused(self) -> tuple[str, ...]:
        """Advice for a key that the host does not accept."""
        host = self.settings.host
        said = f"{host_of(host.api)} does not accept it: it is wrong, expired or revoked."
        advice = f"Make a new one in {_WHERE} and put it into {self.settings.personal_key_variable}."
        for region, other in self.regions.items():
            if host.region in (None, region):
                continue
            try:
                if self.api(other).who_am_i() is not KeyStanding.INVALID:
                    return said, f"It is one of {region}: check host, or make a key in {host.region}."
            except SyncError:
                return said, f"{advice} The region {region} could not be asked."
        return said, advice

    def _scopes(self, api: PrivateApi) -> Check:
        """Try each scope by a request that reads next to nothing."""
        has: list[str] = []
        lacks: list[str] = []
        probes = {**_PROBES, **(_DESTINATION_PROBES if self.forwarded else {})}
        useful = useful_scopes(self.forwarded)
        for scope, probe in probes.items():
            try:
                probe(api)
                has.append(scope)
            except ScopeMissing:
                lacks.append(scope)
        missing = [
            f"It lacks `{scope}`, which {needing(self.needed[scope])}." for scope in lacks if scope in self.needed
        ]
        wished = [f"It lacks `{scope}`, for {useful[scope]}." for scope in lacks if scope in useful]
        wished = [line for line in wished if not any(line.split("`")[1] in other for other in missing)]
        untried = [
            f"`{scope}`, which {needing(names)}, is not tried here."
            for scope, names in self.needed.items()
            if scope not in _PROBES
        ]
        found = f"It has {', '.join(has) or 'none of those that are tried here'}."
        if missing:
            return Check.failed(SCOPES, *missing, *wished, f"Add them to the key in {_WHERE}.")
        if wished:
            return Check.warning(SCOPES, found, *wished, f"Add them to the key in {_WHERE} if you want that.")
        return Check.ok(SCOPES, found, *untried)

    def _project(self, api: PrivateApi) -> Check:
        """Compare the project of the personal key with that of the project key."""
        try:
            project = api.project(needed_by=_NEEDED_BY)
        except ScopeMissing as error:
            return Check.warning(PROJECT, f"Not checked, because the personal API key lacks `{error.scope}`.")
        if self.project_key is None:
            return Check.warning(PROJECT, f"{project.id}, and there is no project API key to compare it with.")
        is_same = project.project_key == self.project_key
        if self.settings.project_id is None and self.needed:
            names = dict.fromkeys(name for names in self.needed.values() for name in names)
            return Check.failed(
                PROJECT, f"No posthog.project_id is set, which {needing(names)}.", _WHICH_PROJECT, exit_code=2
            )
        if self.settings.project_id is None:
            return Check.warning(
                PROJECT,
                f"No posthog.project_id is set, and PostHog takes the one that the key's owner looked at last: now "
                f"{project.id}, " + ("the project of the project API key." if is_same else "another project."),
                f"Write `project_id: {project.id}` under posthog." if is_same else _WHICH_PROJECT,
            )
        if is_same:
            return Check.ok(PROJECT, f"{project.id}, the project of the project API key.")
        return Check.failed(
            PROJECT,
            f"Project {project.id} has another project API key than {self.settings.project_key_variable}: events would "
            f"go to one project, and another one would be read.",
            _WHICH_PROJECT,
            exit_code=2,
        )


def _read_project(api: PrivateApi) -> None:
    api.project(needed_by=_NEEDED_BY)


def _read_person(api: PrivateApi) -> None:
    api.persons_by_distinct_ids(["dbt-posthog-sync:debug"], needed_by=_NEEDED_BY)


def _ask_query(api: PrivateApi) -> None:
    api.query("select 1 limit 2", name="dbt-posthog-sync debug", needed_by=_NEEDED_BY)


_PROBES: Mapping[str, Callable[[PrivateApi], None]] = {
    QUERY_READ: _ask_query,
    PERSON_READ: _read_person,
    PROJECT_READ: _read_project,
}


def _read_functions(api: PrivateApi) -> None:
    HogFunctionApi(api, _NEEDED_BY).check_reading()


def _write_functions(api: PrivateApi) -> None:
    HogFunctionApi(api, _NEEDED_BY).check_writing()


_DESTINATION_PROBES: Mapping[str, Callable[[PrivateApi], None]] = {
    HOG_FUNCTION_READ: _read_functions,
    HOG_FUNCTION_WRITE: _write_functions,
}
_WHICH_PROJECT = (
    "Open the project of the events in PostHog and write the number in its address as `project_id` under posthog."
)
