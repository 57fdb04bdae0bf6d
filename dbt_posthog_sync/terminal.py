"""The terminal: talk goes to standard error, data to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbt_posthog_sync.errors import SettingsError, SyncError, UserError
from dbt_posthog_sync.onlooker import Onlooker

if TYPE_CHECKING:
    from dbt_posthog_sync.github import GitHub

# Imports inside the functions are late on purpose: only a step of GitHub's needs them.
# ruff: noqa: PLC0415


def say(text: str) -> None:
    """Tell something to people; it is no data."""
    click.echo(text, err=True)


class _Log(Onlooker):
    """Tells what holds a run up, each reason once; how far it is would only fill a log."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def repeats(self, sync: str, reason: str) -> None:
        if (sync, reason) not in self._told:
            self._told.add((sync, reason))
            say(f"{sync}: {reason}; trying again.")


class _ProgressBar(_Log):
    """On a terminal, where a line is written over again."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ""

    def looks_up(self, sync: str, keys: int) -> None:
        self._show(f"{sync}: {keys:,} keys looked up ")

    def settles(self, sync: str, rows: int, total: int) -> None:
        self._show(f"{sync}: {rows:,} of {total:,}")
        if rows >= total:
            self._end()

    def repeats(self, sync: str, reason: str) -> None:
        self._end()
        super().repeats(sync, reason)

    def _show(self, line: str) -> None:
        self._line = line
        click.echo(f"\r{line}", err=True, nl=False)

    def _end(self) -> None:
        if self._line:
            self._line = ""
            click.echo(err=True)


def onlooker() -> Onlooker:
    """Who watches a run on standard error."""
    return _ProgressBar() if sys.stderr.isatty() and not os.environ.get("CI") else _Log()


def github() -> GitHub | None:
    """The step of a GitHub workflow that this process runs in; None elsewhere."""
    from dbt_posthog_sync.github import GitHub

    return GitHub.of(os.environ)


def tell_github(error: SyncError, project_dir: Path | None) -> None:
    """Where this is a step of GitHub's, point at what is wrong, and write it into the step's summary."""
    step = github()
    if step is None:
        return
    from dbt_posthog_sync.project import project_folder
    from dbt_posthog_sync.summary import problems_markdown

    try:
        folder = project_folder(project_dir)
    except SettingsError:  # that is the error, or it is about no file of a project
        folder = Path.cwd()
    for line in step.of_error(error, folder):
        say(line)
    step.add_summary(problems_markdown(error.problems if isinstance(error, UserError) else (error,)))


def tell_github_of(markdown: Callable[[], str], troubles: Iterable[tuple[str, str]]) -> None:
    """Where this is a step of GitHub's, add to its summary, and point at what went wrong.

    Args:
        markdown: makes the text for the summary.
        troubles: for each trouble, `error` or `warning`, and what to say.
    """
    step = github()
    if step is None:
        return
    from dbt_posthog_sync.github import command

    step.add_summary(markdown())
    for kind, text in troubles:
        say(command(kind, text))
