"""Sending: what `run` and `retry` do between their options and their exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from dbt_posthog_sync.command import open_session
from dbt_posthog_sync.terminal import onlooker, say, tell_github_of

if TYPE_CHECKING:
    from dbt_posthog_sync.build import Build
    from dbt_posthog_sync.results import Results
    from dbt_posthog_sync.session import Session
    from dbt_posthog_sync.sync_run import SyncRun

_TOLD_OPTIONS = frozenset(
    {
        "select_words",
        "exclude_words",
        "selector",
        "target",
        "profile",
        "full_scan",
        "full_refresh",
        "rebaseline",
        "adopt",
        "force",
        "shard",
        "no_gate",
        "after_dbt",
    }
)
"""Options that the results file repeats: what was asked for, and nothing about the machine."""

# Imports inside the functions are late on purpose: a wrong option must not wait for dbt.
# ruff: noqa: PLC0415


def check_gate(values: dict[str, Any]) -> None:
    """Results that are named and not to be read are a slip."""
    if values["no_gate"] and values["run_results"]:
        raise click.UsageError("--no-gate reads no run results, so --run-results has no effect.")


def check_combination(values: dict[str, Any]) -> None:
    """Some flags ask for the contrary of each other."""
    check_gate(values)
    if values.get("after_dbt"):
        from dbt_posthog_sync.dbt_step import check_step

        check_step(values)
    if values["rebaseline"] and values["full_refresh"]:
        raise click.UsageError("--rebaseline sends nothing and --full-refresh sends everything: choose one.")
    if values["mock"] and (values["rebaseline"] or values["adopt"]):
        flag = "--rebaseline" if values["rebaseline"] else "--adopt"
        raise click.UsageError(f"{flag} changes the state and sends nothing, so --mock has nothing to show.")
    whole = [name for name in ("full_refresh", "rebaseline", "adopt", "mock") if values.get(name)]
    if values.get("shard") and whole:
        raise click.UsageError(f"--{whole[0].replace('_', '-')} is about a sync as a whole, and --shard about a part.")
    if values["mock"] and values.get("verify"):
        raise click.UsageError("--mock sends nothing, so --verify has nothing to find.")
    of_sending = [name for name in ("steal", "force", "allow_rejected") if values.get(name)]
    if values["mock"] and of_sending:
        raise click.UsageError(f"--mock sends nothing, so --{of_sending[0].replace('_', '-')} has no effect.")


def send(command: str, values: dict[str, Any]) -> int:
    """Run syncs, tell what they came to on standard output and in the results file, and say the exit code."""
    from dbt_posthog_sync.interruption import Interruption
    from dbt_posthog_sync.project import target_folder
    from dbt_posthog_sync.results import Results
    from dbt_posthog_sync.settings import SETTINGS_FILE
    from dbt_posthog_sync.summary import runs_markdown
    from dbt_posthog_sync.verification import verify_dispatch

    folder = target_folder(values["project_dir"], values["target_path"])
    told = {name: value for name, value in values.items() if name in _TOLD_OPTIONS}
    args = {"command": command, **told, "shard": str(told["shard"]) if told.get("shard") else None}
    with Results(folder, args, say) as results:
        build = _build(values)
        results.exit_code = at_least = build.exit_code if build else 0
        if build is not None and build.is_interrupted:
            return results.exit_code
        with (
            open_session({**values, "sends": True, "build": build}) as session,
            Interruption(_stopping(session), _leave) as interruption,
        ):
            if not session.has_settings:
                say(f"There is no {SETTINGS_FILE}: any target may send, to {session.whereto}. Write one with `init`.")
            for name, feed in session.feeds().items():
                rate, to = feed.events_per_second, ", ".join(feed.exposures)
                say(f"{name}: sent at {rate:g} events a second at most, because PostHog hands each on to Loops ({to}).")
            # A missing key is told before anything is sent.
            api = session.private_api() if values.get("verify") else None
            code = _run(session, results, values["output"], allow_rejected=values["allow_rejected"])
            tell_github_of(lambda: runs_markdown(command, results.runs), _troubles(results.runs))
            sent = session.dispatch(session.run_id) if api and results.has_sent and not session.is_stopped else None
        if api is not None and sent is not None:
            code = max(code, verify_dispatch(api, sent, values["output"]))
        results.exit_code = interruption.exit_code or max(at_least, code)
    return results.exit_code


def _troubles(runs: Iterable[SyncRun]) -> Iterator[tuple[str, str]]:
    """What of the runs is to be pointed at: what failed, and what waits for somebody."""
    from dbt_posthog_sync.summary import run_message
    from dbt_posthog_sync.sync_run import RunStatus

    for run in runs:
        if run.status is not RunStatus.SUCCESS:
            kind = "error" if run.status in (RunStatus.ERROR, RunStatus.UNSAFE) else "warning"
            yield kind, f"{run.sync_name}: {run_message(run) or run.status.value}"


def _build(values: Mapping[str, Any]) -> Build | None:
    """What dbt did, where it is asked to go first."""
    if not values.get("after_dbt"):
        return None
    from dbt_posthog_sync.dbt_step import build_first

    return build_first(values)


def _stopping(session: Session) -> Callable[[object], None]:
    def stop(_signal: object) -> None:
        session.stop()
        say("Stopping: what is under way is finished and confirmed. A second signal stops at once.")

    return stop


def _leave(code: int) -> None:
    """End the process now; a run that is killed loses nothing."""
    say("Stopped at once. What was under way is sent again by the next run.")
    sys.stdout.flush()
    os._exit(code)


def _run(session: Session, results: Results, output: str, *, allow_rejected: bool) -> int:
    from dbt_posthog_sync.reporter import as_json, run_text, run_values
    from dbt_posthog_sync.sync_run import RunStatus

    runs: list[SyncRun] = []
    try:
        for sync_run in session.runs(onlooker()):
            runs.append(sync_run)
            results.add(sync_run)
            if output == "text":
                click.echo(run_text(sync_run))
            elif sync_run.message:
                say(f"{sync_run.sync_name}: {sync_run.message}")
    finally:
        if output == "json" and runs:  # also when a later sync fails: what was done is told
            click.echo(as_json("run", runs=[run_values(one) for one in runs]))
    codes = (0 if allow_rejected and one.status is RunStatus.REJECTED else one.exit_code for one in runs)
    return max(codes, default=0)


def mock(values: Mapping[str, Any]) -> int:
    """Print every request that a run would send, and say the exit code: 1 where some cannot be shown."""
    from dbt_posthog_sync.errors import UnsafePlan
    from dbt_posthog_sync.mock import LeftOut
    from dbt_posthog_sync.reporter import as_json, request_text, request_values

    build = _build(values)
    if build is not None and build.is_interrupted:
        return build.exit_code
    requests, code, output = 0, build.exit_code if build else 0, values["output"]
    with open_session({**values, "build": build}) as session:
        for held in session.held_back:
            say(f"{held.sync.name}: {held.reason}")
        for name, request in session.mocked():
            if isinstance(request, UnsafePlan):
                say(f"Not shown: {request}")
                code = max(code, request.exit_code)
                continue
            if isinstance(request, LeftOut):
                rows = "1 row" if request.rows == 1 else f"{request.rows:,} rows"
                say(f"{name}: {rows} would be rejected: {request.reason}")
                continue
            requests += 1
            if output == "json":
                click.echo(as_json("request", sync=name, **request_values(request)))
            else:
                click.echo(request_text(name, request))
    say(f"{requests:,} {'request' if requests == 1 else 'requests'} would be sent; nothing was sent.")
    return code
