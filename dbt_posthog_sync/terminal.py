"""The terminal: talk goes to standard error, data to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click


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
