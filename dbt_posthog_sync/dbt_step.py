"""A dbt step: `run --after-dbt build` runs the user's dbt with the words of the command, before anything else.

It ends before the warehouse is opened, because a DuckDB file admits one process at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from dbt_posthog_sync.build import Build, build_of, results_left
from dbt_posthog_sync.command import dbt_program, selection_of
from dbt_posthog_sync.interruption import Interruption
from dbt_posthog_sync.project import project_folder, target_folder
from dbt_posthog_sync.settings import SETTINGS_FILE, read_settings
from dbt_posthog_sync.terminal import say

_REPEATS = "retry"


def check_step(values: Mapping[str, Any]) -> None:
    """Some flags ask for the contrary of a dbt step."""
    command = values.get("after_dbt")
    if command and values["run_results"]:
        raise click.UsageError(f"--after-dbt reads what dbt {command} leaves, so --run-results has no effect.")
    if command == _REPEATS and not selection_of(values).is_everything:
        raise click.UsageError("dbt retry takes up what failed before, and no selection.")


def build_first(values: Mapping[str, Any]) -> Build:
    """Run dbt, and wait for its end.

    Raises:
        SettingsError: posthog_sync.yml is wrong or the key is missing, which is told before dbt takes its time.
        DbtProgramError: there is no dbt, or it ran nothing.
    """
    folder = project_folder(values["project_dir"])
    target = target_folder(values["project_dir"], values["target_path"])
    settings = read_settings(folder / SETTINGS_FILE, os.environ)
    if not values["mock"]:
        settings.project_key(os.environ)
    command, before = values["after_dbt"], results_left(target)
    program, started = dbt_program(folder, target, values), list[subprocess.Popen[bytes]]()
    with Interruption(lambda _: _stop(started), lambda code: _leave(started, code)) as interruption:
        started.append(program.started([command, *_options(values)]))
        if interruption.caught is not None:  # it came before there was anything to stop
            _stop(started)
        code = started[0].wait()
    if interruption.exit_code is not None:
        return Build(interruption.exit_code, is_interrupted=True)
    return build_of(command, code, before, results_left(target))


def _options(values: Mapping[str, Any]) -> Iterator[str]:
    selection = selection_of(values)
    for name, words in (("--select", selection.select), ("--exclude", selection.exclude)):
        yield from (name, *words) if words else ()
    yield from ("--selector", selection.selector) if selection.selector else ()
    yield from ("--threads", str(values["threads"])) if values["threads"] else ()
    yield from ("--full-refresh",) if values["full_refresh"] else ()


def _stop(started: Iterable[subprocess.Popen[bytes]]) -> None:
    """End dbt with care: it cancels its statements in the warehouse at SIGINT, and leaves them running at SIGTERM."""
    for process in started:
        say("Stopping dbt; nothing is sent. A second signal stops at once.")
        process.send_signal(signal.SIGINT)


def _leave(started: Iterable[subprocess.Popen[bytes]], code: int) -> None:
    for process in started:
        process.kill()
    os._exit(code)
