"""The desk of `destinations`: what its commands do between their options and their exit code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from dbt_posthog_sync.access import Access
from dbt_posthog_sync.destination_trials import RowTrials, SampledRow, sampled_rows
from dbt_posthog_sync.errors import SettingsError, SyncError, UserError
from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.forwarding.advice import advice_on, advice_on_strangers
from dbt_posthog_sync.forwarding.change import Change, Create, Disable, Keep, Update
from dbt_posthog_sync.forwarding.report import (
    change_text,
    change_values,
    status_text,
    status_values,
    trial_text,
    trial_values,
)
from dbt_posthog_sync.forwarding.trial import Trial
from dbt_posthog_sync.forwarding.wanted import Blocked, WantedFunction
from dbt_posthog_sync.hog_function_api import HogFunctionApi
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.project import Project
from dbt_posthog_sync.provisioner import Provision, Provisioner, Wish, live_key
from dbt_posthog_sync.reporter import as_json
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.session_options import SessionOptions
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.terminal import say
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

_NEEDED_BY = "`destinations`"
_LEFT_UNDONE = 1


class DestinationDesk:
    """One command on the destinations of a project.

    Args:
        project: the dbt project.
        values: options of the command.
        environ: the environment, with the keys.

    Raises:
        UserError: a name is that of no exposure with `via: posthog`.
    """

    def __init__(self, project: Project, values: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._project = project
        self._values = values
        self._environ = environ
        self._exposures = project.forwarded
        _check_names(values["names"], self._exposures)

    def plan(self) -> int:
        """Tell what `apply` would do, and return the exit code."""
        with self._provisioner() as provisioner:
            provision = provisioner.look()
        notes = self._notes(provision)
        if self._is_json:
            changes = [change_values(one) for one in provision.changes]
            click.echo(as_json("destinations_plan", changes=changes, notes=notes))
        else:
            self._tell([change_text(one) for one in provision.changes], notes)
        return _LEFT_UNDONE if _has_blocked(provision.changes) else 0

    def apply(self) -> int:
        """Do it, tell what was done, and return the exit code."""
        self._check_target()
        with self._provisioner() as provisioner:
            provision = provisioner.look()
            provisioner.check(provision)
            done, code = [], _LEFT_UNDONE if _has_blocked(provision.changes) else 0
            for change in provision.changes:
                error = self._applied(provisioner, change)
                code = max(code, error.exit_code if error else 0)
                done.append({**change_values(change), "done": error is None, "error": str(error) if error else None})
        if self._is_json:
            click.echo(as_json("destinations_apply", changes=done))
        if not provision.changes:
            say(_NOTHING)
        return code

    def _applied(self, provisioner: Provisioner, change: Change) -> SyncError | None:
        """Do one change and tell it; an error is told and keeps nothing else from being done."""
        error: SyncError | None = None
        is_unproven = False
        try:
            if isinstance(change, Create | Update | Disable):
                is_unproven = provisioner.apply(change).is_unproven
        except SyncError as raised:
            error = raised
        if not self._is_json:
            click.echo(change_text(change).replace("would be ", "was not " if error else ""))
        if error is not None:
            say(f"Error: {error}")
        if is_unproven:
            say("Note: its filters pass the made-up event of the test over; `destinations test` tries rows.")
        return error

    def status(self) -> int:
        """Tell how the destinations are, and return the exit code."""
        with self._provisioner() as provisioner:
            provision = provisioner.look()
            totals = [provisioner.totals(one) for one in provision.changes]
        found = list(zip(provision.changes, totals, strict=True))
        notes = self._notes(provision)
        if self._is_json:
            click.echo(as_json("destinations_status", destinations=[status_values(*one) for one in found], notes=notes))
        else:
            self._tell([status_text(*one) for one in found], list(advice_on_strangers(provision.strangers)))
        return 0 if all(isinstance(one, Keep) for one in provision.changes) else _LEFT_UNDONE

    def test(self, most: int, *, live: bool) -> int:
        """Try rows of the models, tell the requests, and return the exit code."""
        if live:
            self._check_target()
        exposures = self._wish.wanted
        keys = {one.name: live_key(one, self._environ) for one in exposures} if live else {}
        options = self._options.dbt_options(self._project.folder)
        with self._api() as (access, api):
            rows = sampled_rows(self._project, options, exposures, access, most)
            provisioner = Provisioner(HogFunctionApi(api, _NEEDED_BY), self._wish, self._environ)
            trials = RowTrials(api, _NEEDED_BY)
            results = []
            for exposure in exposures:
                tested = _tested(trials, provisioner.wanted(exposure), rows.get(exposure.name, ()), keys)
                results.append(tested)
                if not self._is_json:
                    click.echo(_test_text(tested))
        if trials.without_persons:
            say(
                "The personal API key lacks person:read, so every row was tried as a person that PostHog does not have."
            )
        if self._is_json:
            click.echo(as_json("destinations_test", destinations=[_test_values(one) for one in results]))
        return 0 if all(one.is_good for one in results) else _LEFT_UNDONE

    # What the commands share.

    @property
    def _is_json(self) -> bool:
        return bool(self._values["output"] == "json")

    @property
    def _options(self) -> SessionOptions:
        return SessionOptions.from_command(self._values, self._environ)

    @property
    def _wish(self) -> Wish:
        values = self._values
        return Wish(
            self._project.manifest.project_name,
            self._exposures,
            tuple(values["names"]),
            adopts=bool(values.get("adopt")),
            resends_keys=bool(values.get("resend_keys")),
        )

    @contextmanager
    def _api(self) -> Iterator[tuple[Access, PrivateApi]]:
        settings = self._project.settings
        has_key = bool(self._environ.get(settings.project_key_variable, "").strip())
        project_key = settings.project_key(self._environ).reveal() if has_key else None
        access = Access(settings, self._environ)
        try:
            yield access, access.destinations(project_key)
        finally:
            access.close()

    @contextmanager
    def _provisioner(self) -> Iterator[Provisioner]:
        with self._api() as (_, api):
            yield Provisioner(HogFunctionApi(api, _NEEDED_BY), self._wish, self._environ)

    def _notes(self, provision: Provision) -> list[str]:
        notes = list(advice_on(self._wish.wanted, self._project.syncs))
        notes += advice_on_strangers(provision.strangers)
        notes += [
            f"{name} is not set, so it is not known whether PostHog has its key." for name in provision.without_key
        ]
        return notes

    def _tell(self, lines: Sequence[str], notes: Sequence[str]) -> None:
        for line in lines:
            click.echo(line)
        if not lines:
            say(_NOTHING)
        for note in notes:
            say(f"Note: {note}")

    def _check_target(self) -> None:
        """Only the targets that may send may change what is sent."""
        settings = self._project.settings
        if not settings.targets:
            return
        target = DbtWarehouse(self._options.dbt_options(self._project.folder)).target_name
        if not settings.may_send(target):
            raise SettingsError(
                Problem(
                    f"the dbt target `{target}` may not send; `targets` allows {listed(settings.targets)}.",
                    "Choose one of them with --target, or add this one.",
                    file=settings.file,
                    path="$.targets",
                )
            )


@dataclass(frozen=True, slots=True)
class Tested:
    """What the test of one exposure came to.

    Attributes:
        exposure: which.
        wanted: what its destination should be.
        trials: name of each row, and what came of it with requests mocked.
        sent: the row that was really sent, and what came of it.
        is_withheld: nothing was sent though it was asked for, because PostHog has none of the persons yet.
    """

    exposure: Exposure
    wanted: WantedFunction | Blocked
    trials: tuple[tuple[str, Trial], ...]
    sent: tuple[str, Trial] | None = None
    is_withheld: bool = False

    @property
    def is_good(self) -> bool:
        """True where there was something to try, and nothing failed."""
        all_of_them = (*self.trials, *((self.sent,) if self.sent else ()))
        return (
            not isinstance(self.wanted, Blocked)
            and bool(self.trials)
            and not self.is_withheld
            and not any(one.errors for _, one in all_of_them)
        )


def _tested(
    trials: RowTrials, wanted: WantedFunction | Blocked, rows: Sequence[SampledRow], keys: Mapping[str, Secret]
) -> Tested:
    """Try rows, and with a key send the first of them that makes a request."""
    if isinstance(wanted, Blocked):
        return Tested(wanted.exposure, wanted, ())
    found = list(trials.trials(wanted, rows))
    told = tuple((row.name, trial) for row, trial in found)
    key = keys.get(wanted.exposure.name)
    if key is None:
        return Tested(wanted.exposure, wanted, told)
    speaking = [(row, trial) for row, trial in found if trial.requests]
    # Loops finds a contact by its user id too, so the id that stands for no person would join two contacts.
    first = next((row for row, trial in speaking if not trial.has_unknown_person), None)
    if first is None:
        return Tested(wanted.exposure, wanted, told, is_withheld=bool(speaking))
    return Tested(wanted.exposure, wanted, told, (first.name, trials.live(wanted, first, key)))


_WITHHELD = (
    "  nothing was sent to Loops: as far as the personal API key can see, PostHog has none of these persons yet, and a "
    "made-up `userId` may not reach Loops. Run `dbt-posthog-sync run` first, and give the key person:read."
)
_NOTHING = "No exposure has `via: posthog`, and PostHog has no destination of this dbt project."


def _check_names(names: Sequence[str], exposures: Sequence[Exposure]) -> None:
    known = [one.name for one in exposures]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UserError(
            *(Problem(f"no exposure with `via: posthog` is called `{one}`.", did_you_mean(one, known)) for one in wrong)
        )


def _has_blocked(changes: Sequence[Change]) -> bool:
    return any(isinstance(one, Blocked) for one in changes)


def _test_text(tested: Tested) -> str:
    lines = [f"{tested.exposure.name} ({tested.exposure.object.value})"]
    if isinstance(tested.wanted, Blocked):
        lines.append(f"  {tested.wanted.reason} {tested.wanted.advice}")
    elif not tested.trials:
        lines.append("  no row of its models to try: see `destinations plan`, and whether the models are built")
    lines += itertools.starmap(trial_text, tested.trials)
    if tested.sent is not None:
        lines += ["  sent to Loops:", trial_text(*tested.sent, is_live=True)]
    if tested.is_withheld:
        lines.append(_WITHHELD)
    return "\n".join(lines)


def _test_values(tested: Tested) -> dict[str, Any]:
    return {
        "exposure": tested.exposure.name,
        "object": tested.exposure.object.value,
        "blocked": str(tested.wanted) if isinstance(tested.wanted, Blocked) else None,
        "trials": list(itertools.starmap(trial_values, tested.trials)),
        "sent": trial_values(*tested.sent) if tested.sent else None,
    }
