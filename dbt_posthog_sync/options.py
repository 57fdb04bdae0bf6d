"""Options of the command line that several commands share; dbt's words for dbt's ideas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from dbt_posthog_sync.dbt_program import EXECUTABLE_VARIABLE
from dbt_posthog_sync.errors import SyncError
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.terminal import tell_github

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class ReportingCommand(click.Command):
    """Tells GitHub what is wrong where it runs a command, at the lines that are wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SyncError as error:
            tell_github(error, ctx.params.get("project_dir"))
            raise


class SelectingCommand(ReportingCommand):
    """Takes several words after one `--select` or `--exclude`, as dbt does: `-s orders people`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each further word an option of its own."""
        return super().parse_args(ctx, list(_spread(args)))


def _spread(args: Iterable[str]) -> Iterator[str]:
    option, has_value = "", False
    for arg in args:
        if arg.startswith("-"):
            option, equals, _ = arg.partition("=")
            has_value = bool(equals)
        elif has_value and option in _SELECTING:
            yield option
        else:
            has_value = True
        yield arg


_SELECTING = frozenset({"--select", "-s", "--exclude"})


class ShardParameter(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """`2/4`: the second of four parts."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Read the text of the option."""
        try:
            return value if isinstance(value, Shard) else Shard.from_text(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)


_folder = click.Path(file_okay=False, path_type=Path)

folder_options = _options(
    click.option("--project-dir", type=_folder, envvar="DBT_PROJECT_DIR", help="Folder of dbt_project.yml."),
    click.option("--target-path", type=_folder, envvar="DBT_TARGET_PATH", help="Folder of dbt's manifest.json."),
)
project_options = _options(
    folder_options,
    click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of what is printed."),
)
review_options = _options(
    folder_options,
    click.option(
        "--output", type=click.Choice(["text", "json", "markdown"]), default="text", help="Form of what is printed."
    ),
)
selection_options = _options(
    click.option(
        "--select", "-s", "select_words", metavar="WORDS", multiple=True, help="Syncs to take, in dbt's words."
    ),
    click.option(
        "--exclude", "exclude_words", metavar="WORDS", multiple=True, help="Syncs to leave out, in dbt's words."
    ),
    click.option("--selector", metavar="NAME", help="A selector of the project's selectors.yml instead; asks dbt."),
    click.option("--state", type=_folder, envvar="DBT_STATE", help="Folder of dbt's artifacts for `state:`."),
    click.option(
        "--dbt-executable",
        metavar="PATH",
        envvar=EXECUTABLE_VARIABLE,
        help="dbt, for what only dbt can select; without it, the one on the PATH.",
    ),
)
connection_options = _options(
    click.option("--profiles-dir", type=_folder, envvar="DBT_PROFILES_DIR", help="Folder of profiles.yml."),
    click.option("--profile", envvar="DBT_PROFILE", help="Name of the profile."),
    click.option("--target", "-t", envvar="DBT_TARGET", help="Name of the dbt target."),
    click.option("--threads", type=click.IntRange(min=1), help="Threads, as the profile may use them."),
    click.option("--vars", "variables", default="{}", help="YAML of variables, as the profile may use them."),
)
comparison_options = _options(
    click.option(
        "--state", type=_folder, envvar="DBT_STATE", required=True, help="Folder with the manifest.json of before."
    ),
    review_options,
)
gate_options = _options(
    click.option(
        "--run-results",
        type=click.Path(dir_okay=False, path_type=Path),
        multiple=True,
        help="A run_results.json of dbt that may hold models back, instead of the one in the target folder.",
    ),
    click.option("--no-gate", is_flag=True, help="Hold no model back for what dbt's run_results.json says."),
)
scan_options = _options(
    click.option("--full-scan", is_flag=True, help="Look at every row, whatever the cursor says."),
    click.option("--full-refresh", is_flag=True, help="Forget what was delivered and send everything again."),
    click.option("--rebaseline", is_flag=True, help="Take the present rows as delivered, and send nothing."),
)
sending_options = _options(
    click.option("--force", is_flag=True, help="Pass the guards against accidents."),
    click.option("--steal", is_flag=True, help="Take over from a run that holds the lease."),
    click.option("--allow-rejected", is_flag=True, help="Exit 0 although rows were rejected."),
)
