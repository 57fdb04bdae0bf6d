"""The terminal: talk goes to standard error, data to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbt_posthog_sync.errors import SettingsError, SyncError, UserError

if TYPE_CHECKING:
    from dbt_posthog_sync.github import GitHub

# Imports inside the functions are late on purpose: only a step of GitHub's needs them.
# ruff: noqa: PLC0415


def say(text: str) -> None:
    """Tell something to people; it is no data."""
    click.echo(text, err=True)


def progress_bar() -> Callable[[str, int, int], None] | None:
    """Progress on a terminal's standard error; nothing where nobody watches."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        return None

    def show(name: str, settled: int, total: int) -> None:
        if not total:
            click.echo(f"\r{name}: {settled:,} keys looked up ", err=True, nl=False)
            return
        end = "\n" if settled >= total else ""
        click.echo(f"\r{name}: {settled:,} of {total:,}{end}", err=True, nl=False)

    return show


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
