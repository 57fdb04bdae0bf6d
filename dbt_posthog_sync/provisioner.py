"""The provisioner: make the destinations of a PostHog project what the exposures of a dbt project say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dbt_posthog_sync.errors import ChangedMeanwhile, DestinationUnavailable, SettingsError, UnsafePlan
from dbt_posthog_sync.exposure import Exposure, Forwarding
from dbt_posthog_sync.forwarding import TEMPLATES
from dbt_posthog_sync.forwarding.change import Change, Comparison, Create, Disable, Keep, Update
from dbt_posthog_sync.forwarding.drift import differences
from dbt_posthog_sync.forwarding.function import HogFunction, HogTemplate
from dbt_posthog_sync.forwarding.marker import KeyMark, Marker
from dbt_posthog_sync.forwarding.trial import Trial, made_up_globals
from dbt_posthog_sync.forwarding.wanted import Blocked, WantedFunction, wanted_function
from dbt_posthog_sync.hog_function_api import HogFunctionApi
from dbt_posthog_sync.http import one_line, redacted
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import Secret

MOCKED_KEY = {"value": "mocked"}
"""Stands for the key where requests are mocked: what never leaves needs none."""


@dataclass(frozen=True, slots=True)
class Provision:
    """What was found, and what is to be done.

    Attributes:
        changes: those for functions without an exposure, then one for each exposure.
        strangers: other enabled functions that send to Loops.
        without_key: names of variables that hold no key.
    """

    changes: tuple[Change, ...]
    strangers: tuple[HogFunction, ...] = ()
    without_key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that was done.

    Attributes:
        function: as it is now.
        trial: the test before; None where nothing was to be enabled.
    """

    function: HogFunction
    trial: Trial | None = None

    @property
    def is_unproven(self) -> bool:
        """True where the made-up event of the test made no request: filters or a template passed it over."""
        return self.trial is not None and not self.trial.requests


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a provisioner.

    Attributes:
        project: name of the dbt project.
        exposures: every exposure of the project with `via: posthog`.
        names: exposures to take; empty for all. Functions without one are taken always.
        adopts: take over functions without a marker.
        resends_keys: send every key again.
    """

    project: str
    exposures: tuple[Exposure, ...]
    names: tuple[str, ...] = ()
    adopts: bool = False
    resends_keys: bool = False

    @property
    def wanted(self) -> tuple[Exposure, ...]:
        """The exposures that are taken."""
        return tuple(one for one in self.exposures if not self.names or one.name in self.names)


class Provisioner:
    """Compares and changes the functions of one project.

    Args:
        api: where they are.
        wish: what is asked for.
        environ: where the keys of Loops are.
    """

    def __init__(self, api: HogFunctionApi, wish: Wish, environ: Mapping[str, str]) -> None:
        self._api = api
        self._wish = wish
        self._keys = _keys(wish.wanted, environ)
        self._templates: dict[str, HogTemplate] = {}

    def look(self) -> Provision:
        """Read what PostHog has, and say what `apply` would do. Changes nothing."""
        wish = self._wish
        functions = self._api.functions()
        comparison = self._comparison(functions)
        # Whose exposure is gone goes first, whatever was asked for: beside that of a renamed exposure, both would send.
        changes: list[Change] = [*comparison.retired(wish.exposures)]
        changes += [self._change(exposure, comparison) for exposure in wish.wanted]
        strangers = [one for one in comparison.strangers() if not _is_in(one, changes)]
        missing = tuple(dict.fromkeys(one.api_key for one in wish.wanted if one.api_key not in self._keys))
        return Provision(tuple(changes), tuple(strangers), missing)

    def check(self, provision: Provision) -> None:
        """Refuse before anything is written.

        Raises:
            SettingsError: a function is to be made or given a key, and there is none.
        """
        problems = [
            _no_key(change.wanted.exposure)
            for change in provision.changes
            if (isinstance(change, Create) or (isinstance(change, Update) and change.sends_key))
            and change.wanted.exposure.api_key not in self._keys
        ]
        if problems:
            raise SettingsError(*problems)

    def apply(self, change: Create | Update | Disable) -> Applied:
        """Do one change.

        Raises:
            UnsafePlan: PostHog's test of the function failed, or another one came to be meanwhile; it is not enabled.
            ChangedMeanwhile: somebody has changed the function since it was looked at.
            SyncError: as `PrivateApi.query`.
        """
        match change:
            case Create(wanted):
                return self._create(wanted)
            case Update():
                return self._update(change)
            case Disable(function, _):
                return Applied(self._api.update(function, {"enabled": False}))

    def totals(self, change: Change) -> Mapping[str, int]:
        """How many runs of a function ended how; nothing where there is no function."""
        return self._api.totals(change.function) if isinstance(change, Update | Keep) else {}

    def tried(self, wanted: WantedFunction) -> Trial:
        """Let PostHog run a function over a made-up event, with its request mocked.

        Raises:
            UnsafePlan: its code fails.
        """
        trial = self._api.tried(wanted.configuration(MOCKED_KEY), made_up_globals(wanted))
        if trial.errors or trial.status == "error":
            said = one_line(redacted("; ".join(trial.errors))) or "without a reason"
            name = wanted.exposure.name
            raise UnsafePlan(f"{name}: PostHog's test of the destination failed: {said}. Nothing was enabled.")
        return trial

    def _change(self, exposure: Exposure, comparison: Comparison) -> Change:
        wanted = self.wanted(exposure)
        return wanted if isinstance(wanted, Blocked) else comparison.change_of(wanted)

    def wanted(self, exposure: Exposure) -> WantedFunction | Blocked:
        """What PostHog should hold for an exposure with `via: posthog`."""
        if not isinstance(exposure.route, Forwarding):
            raise ValueError(f"{exposure.name} is not sent by PostHog")
        id = TEMPLATES[exposure.object]
        if id not in self._templates:
            self._templates[id] = self._api.template(id)
        return wanted_function(exposure, exposure.route, self._templates[id])

    def _comparison(self, functions: Sequence[HogFunction]) -> Comparison:
        wish = self._wish
        return Comparison(wish.project, functions, self._keys, wish.adopts, wish.resends_keys)

    def _create(self, wanted: WantedFunction) -> Applied:
        key = self._keys[wanted.exposure.api_key]
        body = wanted.body(key, KeyMark.of(key))
        try:
            self._api.create(wanted.template.id, body, key)
        except DestinationUnavailable:
            # The answer may be what was lost. To ask again could make two of them.
            if not self._made(wanted.exposure):
                raise
        made = self._made(wanted.exposure)
        if len(made) != 1:
            raise UnsafePlan(
                f"{wanted.exposure.name}: {len(made)} functions carry its marker now, so another process works on it "
                "too. Nothing is enabled; delete all but one of them in PostHog, and run this again."
            )
        trial = self.tried(wanted)
        return Applied(self._api.update(made[0], {"enabled": True}), trial)

    def _update(self, change: Update) -> Applied:
        wanted, key = change.wanted, self._keys.get(change.wanted.exposure.api_key)
        marker = Marker.in_text(change.function.description)
        sent, mark = (key, KeyMark.of(key)) if change.sends_key and key else (None, marker.key if marker else None)
        trial = self.tried(wanted)
        try:
            now = self._api.update(change.function, {**wanted.body(sent, mark), "enabled": True}, sent)
        except ChangedMeanwhile as error:
            # A repeat after a lost answer meets its own change.
            now = self._api.function(change.function.id)
            if differences(now, wanted, is_key_other=self._comparison((now,)).is_key_other(now, wanted.exposure)):
                raise ChangedMeanwhile(f"{wanted.exposure.name}: {error}") from error
        return Applied(now, trial)

    def _made(self, exposure: Exposure) -> list[HogFunction]:
        found = ((one, Marker.in_text(one.description)) for one in self._api.functions())
        return [one for one, marker in found if marker is not None and marker.names(exposure)]


def _is_in(function: HogFunction, changes: Sequence[Change]) -> bool:
    """A function that is taken over is no stranger."""
    return any(isinstance(one, Update | Keep) and one.function.id == function.id for one in changes)


def _keys(exposures: Sequence[Exposure], environ: Mapping[str, str]) -> Mapping[str, Secret]:
    found: Iterator[tuple[str, str]] = ((one.api_key, environ.get(one.api_key, "").strip()) for one in exposures)
    # PostHog shows a secret as stars; a copied mask must not become the key.
    return {name: Secret(value) for name, value in found if value.strip("*")}


def _no_key(exposure: Exposure) -> Problem:
    return Problem(
        f"the environment variable {exposure.api_key} holds no key of Loops.",
        "Make one in Loops under Settings > API, and set the variable.",
        exposure.name,
        exposure.file,
        f"{exposure.path}.api_key",
    )


def live_key(exposure: Exposure, environ: Mapping[str, str]) -> Secret:
    """The key of Loops that an exposure names.

    Raises:
        SettingsError: the variable holds none.
    """
    key = _keys((exposure,), environ).get(exposure.api_key)
    if key is None:
        raise SettingsError(_no_key(exposure))
    return key
