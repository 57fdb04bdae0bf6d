"""The commands of `destinations`: PostHog's destinations for Loops, kept as the exposures with `via: posthog` say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from dbt_posthog_sync.options import connection_options, project_options

if TYPE_CHECKING:
    from dbt_posthog_sync.destination_desk import DestinationDesk

# Imports inside the commands are late on purpose: `--help` must wait neither for dbt nor for the network.
# ruff: noqa: PLC0415


def _example(command: str) -> str:
    return f"\b\nExample:\n  {command}"


_names = click.argument("names", metavar="[EXPOSURE]...", nargs=-1)


def _change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    adopt = click.option("--adopt", is_flag=True, help="Take over a destination of the same name made by hand.")
    resend = click.option("--resend-keys", is_flag=True, help="Give PostHog every key again, changed or not.")
    return adopt(resend(command))


@click.group("destinations", epilog=_example("dbt-posthog-sync destinations plan"))
def destinations() -> None:
    """Keep PostHog's destinations for Loops as dbt exposures say.

    For exposures with `via: posthog`. Needs a personal API key with the scopes hog_function:read and, but for plan and
    status, hog_function:write.
    """


@destinations.command(epilog=_example("dbt-posthog-sync destinations plan"))
@_names
@_change_options
@project_options
def plan(**values: Any) -> None:
    """Show what apply would create, change and disable in PostHog.

    Nothing is written. Exit code 1 when an exposure is blocked.
    """
    sys.exit(_desk(values).plan())


@destinations.command(epilog=_example("dbt-posthog-sync destinations apply --target prod"))
@_names
@_change_options
@project_options
@connection_options
def apply(**values: Any) -> None:
    """Create, change, enable and disable destinations in PostHog.

    A new destination is created disabled, tested with its request mocked, and then enabled. One whose exposure is gone
    is disabled, never deleted. What somebody has changed in PostHog meanwhile is not overwritten. Without a name, every
    exposure is taken. Exit code 1 when something was left undone.
    """
    sys.exit(_desk(values).apply())


@destinations.command(epilog=_example("dbt-posthog-sync destinations test loops_contacts"))
@_names
@click.option("--rows", default=3, type=click.IntRange(1, 100), help="Most rows to try for each exposure.")
@click.option("--live", is_flag=True, help="Then send the first row that makes a request to Loops.")
@project_options
@connection_options
def test(**values: Any) -> None:
    """Test with rows of the models which requests Loops would get.

    PostHog runs the destination as the exposure says it, whether it is applied or not, with requests mocked, and the
    exact requests are printed; the key is masked. With the scope person:read, persons are as PostHog has them. Exit
    code 1 when a test fails or there is no row.
    """
    sys.exit(_desk(values).test(values["rows"], live=values["live"]))


@destinations.command(epilog=_example("dbt-posthog-sync destinations status --output json"))
@_names
@project_options
def status(**values: Any) -> None:
    """Show whether destinations are as the exposures say, and how they fare.

    Exit code 1 when one is missing, differs or is blocked.
    """
    sys.exit(_desk(values).status())


def _desk(values: Mapping[str, Any]) -> DestinationDesk:
    from dbt_posthog_sync.command import load_project
    from dbt_posthog_sync.destination_desk import DestinationDesk

    project = load_project(values["project_dir"], values["target_path"])
    return DestinationDesk(project, values, os.environ)
