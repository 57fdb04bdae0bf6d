"""The command line: options to values, values to text. The only place that exits."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from dbt_posthog_sync import __version__
from dbt_posthog_sync.command import checked_syncs, load_project, open_session, session_options
from dbt_posthog_sync.destinations_command import destinations
from dbt_posthog_sync.errors import SyncError, UserError
from dbt_posthog_sync.options import (
    ReportingCommand,
    SelectingCommand,
    ShardParameter,
    comparison_options,
    connection_options,
    gate_options,
    project_options,
    review_options,
    scan_options,
    selection_options,
    sending_options,
)
from dbt_posthog_sync.sending import check_combination, check_gate, mock, send
from dbt_posthog_sync.terminal import say, tell_github_of

_BUG, _STOPPED = 3, 130
# Imports inside the commands are late on purpose: `--help` and `validate` must not wait for dbt.
# ruff: noqa: PLC0415


def _example(command: str) -> str:
    """The last lines of a command's help."""
    return f"\b\nExample:\n  {command}"


class _Program(click.Group):
    """All commands."""

    command_class = ReportingCommand


@click.group(
    cls=_Program,
    epilog=_example("dbt build && dbt-posthog-sync run"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="dbt-posthog-sync")
def cli() -> None:
    """Send exactly the rows that changed from dbt models to PostHog, and on to Loops."""


@cli.command(epilog=_example("dbt-posthog-sync init orders --object event"))
@click.argument("model", required=False)
@click.option(
    "--object",
    "object_name",
    type=click.Choice(["event", "person", "page", "group"]),
    default="person",
    help="What rows of the model become.",
)
@project_options
def init(model: str | None, object_name: str, project_dir: Path | None, target_path: Path | None, output: str) -> None:
    """Write posthog_sync.yml, and print a first annotation for MODEL.

    An existing posthog_sync.yml is left as it is.
    """
    from dbt_posthog_sync.project import project_folder
    from dbt_posthog_sync.reporter import as_json
    from dbt_posthog_sync.settings import SETTINGS_FILE
    from dbt_posthog_sync.starter import first_annotation, write_settings

    folder = project_folder(project_dir)
    path = folder / SETTINGS_FILE
    annotation = first_annotation(folder / (target_path or "target"), model, object_name) if model else None
    is_new = write_settings(path)
    say(f"{'Wrote' if is_new else 'Left as it is:'} {path}")
    if output == "json":
        click.echo(as_json("init", settings=str(path), written=is_new, annotation=annotation))
    elif annotation:
        say("Put this into the YAML file of the model, check the columns, and run dbt parse:")
        click.echo(annotation, nl=False)


@cli.command(cls=SelectingCommand, epilog=_example("dbt parse && dbt-posthog-sync validate"))
@selection_options
@project_options
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write what is found as JUnit XML too.")
def validate(**values: Any) -> None:
    """Check settings and annotations against the manifest, without a warehouse and without dbt.

    Only a selection that the manifest cannot answer, such as state:modified, calls dbt.
    """
    from dbt_posthog_sync.reporter import as_json, exposure_values, exposures_text, sync_values, syncs_text

    project, syncs = checked_syncs(values)
    forwarded = tuple(exposure for exposure in project.exposures if exposure.sync is None)
    if values["output"] == "json":
        exposures = [exposure_values(exposure) for exposure in forwarded]
        click.echo(as_json("validate", syncs=[sync_values(sync) for sync in syncs], exposures=exposures))
        return
    if syncs:
        click.echo(syncs_text(syncs))
        say(f"{len(syncs)} {'sync is' if len(syncs) == 1 else 'syncs are'} valid.")
    if forwarded:
        click.echo(exposures_text(forwarded))
        say(f"{len(forwarded)} {'exposure' if len(forwarded) == 1 else 'exposures'} via PostHog: valid.")


@cli.command(epilog=_example("dbt-posthog-sync diff --state base/target --output markdown"))
@comparison_options
def diff(state: Path, project_dir: Path | None, target_path: Path | None, output: str) -> None:
    """Compare the syncs with those of an earlier manifest, and say what a run would send again.

    Needs neither a warehouse nor dbt. Where posthog_sync.yml was another one, put it beside that manifest.
    """
    from dbt_posthog_sync.comparison_report import comparison_markdown, comparison_text, comparison_values
    from dbt_posthog_sync.reporter import as_json

    found = load_project(project_dir, target_path).compared_with(state, os.environ)
    texts = {
        "text": lambda: comparison_text(found),
        "json": lambda: as_json("diff", **comparison_values(found)),
        "markdown": lambda: comparison_markdown(found),
    }
    click.echo(texts[output]())
    tell_github_of(lambda: comparison_markdown(found), ())


@cli.command(cls=SelectingCommand, epilog=_example("dbt-posthog-sync plan --select orders"))
@selection_options
@scan_options
@gate_options
@review_options
@connection_options
def plan(**values: Any) -> None:
    """Show what a run would send, without sending anything.

    Staged rows live in temporary tables; nothing in the warehouse changes.
    """
    from dbt_posthog_sync.planning import show_plans

    check_combination({"mock": False, **values})
    sys.exit(show_plans(values))


@cli.command(cls=SelectingCommand, epilog=_example("dbt-posthog-sync run --target prod"))
@selection_options
@scan_options
@gate_options
@click.option("--mock", is_flag=True, help="Print the exact requests instead of sending them; needs no key.")
@click.option("--adopt", metavar="OLD_NAME", help="Go on with the state of a sync that was renamed; select one sync.")
@click.option("--shard", type=ShardParameter(), help="Run one of n parts, such as 2/4, beside runs of the others.")
@click.option(
    "--after-dbt", type=click.Choice(["build", "run", "retry"]), help="Run your dbt first, in the same words."
)
@click.option("--verify", is_flag=True, help="Then count in PostHog what landed; needs the personal API key.")
@sending_options
@project_options
@connection_options
def run(**values: Any) -> None:
    """Send the rows that changed since the last run.

    With --after-dbt, dbt is run first with the same selection, connection and variables; what it ran is synced.

    \b
    Exit codes:
      0 done            1 rows rejected, syncs held back, stopped by a guard, or a part of dbt's build failed
      2 wrong usage or annotation, or dbt ran nothing
      3 a bug           4 warehouse or PostHog unreachable         130, 143 interrupted, terminated
    """
    check_combination(values)
    if values["mock"]:
        sys.exit(mock(values))
    sys.exit(send("run", values))


@cli.command(cls=SelectingCommand, epilog=_example("dbt-posthog-sync retry --select orders"))
@selection_options
@gate_options
@sending_options
@project_options
@connection_options
def retry(**values: Any) -> None:
    """Retry the rows that are rejected, and no others.

    `run` tries a rejected row when it changes. Use this when the cause was elsewhere: in PostHog, or in its settings.
    """
    check_gate(values)
    sys.exit(send("retry", {**values, "only_rejects": True}))


@cli.command(epilog=_example("dbt-posthog-sync verify 5f0c5a0e-5f4b-4a53-9d3a-0f6f4f8f7a10"))
@click.argument("run_id", required=False)
@click.option("--wait", default=60, type=click.IntRange(min=0), help="Seconds without anything new that end the wait.")
@project_options
@connection_options
def verify(run_id: str | None, wait: int, **values: Any) -> None:
    """Verify in PostHog that what a run sent has landed, and tell PostHog's warnings about it.

    Without RUN_ID the last run that sent anything. Needs a personal API key with the scope query:read. Exit code 4 when
    messages are missing, 1 when PostHog noted that it lost something of them or the run wrote no end down.
    """
    from dbt_posthog_sync.verification import verify_dispatch

    with open_session(values) as session:
        api, sent = session.private_api(), session.dispatch(run_id)
    sys.exit(verify_dispatch(api, sent, values["output"], wait))


@cli.command(epilog=_example("dbt-posthog-sync status --target prod"))
@click.option("--last", default=10, type=click.IntRange(min=1), help="How many sync runs to show.")
@project_options
@connection_options
def status(**values: Any) -> None:
    """Show what is synced, how the last runs went, and which rows are rejected."""
    from dbt_posthog_sync.reporter import as_json, status_text

    with open_session(values) as session:
        found = session.status(values["last"])
    click.echo(as_json("status", **found) if values["output"] == "json" else status_text(found))


@cli.command(epilog=_example("dbt-posthog-sync debug --target prod"))
@click.option("--send-test-event", is_flag=True, help="Send one event, and read it back with the personal API key.")
@project_options
@connection_options
def debug(send_test_event: bool, **values: Any) -> None:
    """Check settings, annotations, warehouse, keys and region, and say what to do.

    Every part is checked, also when another one fails. Nothing is left in the warehouse, and nothing is sent to PostHog
    without --send-test-event.
    """
    from dbt_posthog_sync.examination import Examination
    from dbt_posthog_sync.verification import tell_checks

    examination = Examination(session_options(values), send_test_event=send_test_event)
    sys.exit(tell_checks(examination.checks(), values["output"]))


@cli.command(epilog=_example("dbt-posthog-sync schema > posthog_sync.schema.json"))
@click.option("--settings", is_flag=True, help="The schema of posthog_sync.yml instead.")
@click.option("--editor", is_flag=True, help="The schema of dbt's YAML files instead, as far as annotations go.")
def schema(settings: bool, editor: bool) -> None:
    """Print the JSON Schema of annotations, for editors and reviews.

    In a dbt project, --editor knows the defaults of its posthog_sync.yml, which annotations need not write.
    """
    from dbt_posthog_sync.editor_schema import editor_schema
    from dbt_posthog_sync.project import defaults_of
    from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, SETTINGS_SCHEMA

    if editor and settings:
        raise click.UsageError("--editor and --settings are two schemas: print one after the other.")
    if editor:
        click.echo(json.dumps(editor_schema(defaults_of(Path.cwd(), os.environ)), ensure_ascii=False, indent=2))
        return
    name = SETTINGS_SCHEMA if settings else ANNOTATION_SCHEMA
    click.echo((Path(__file__).parent / name).read_text(encoding="utf-8"), nl=False)


@cli.command("package-path", epilog=_example("dbt-posthog-sync package-path"))
def package_path() -> None:
    """Print the folder of the dbt package in this installation, for `local:` in packages.yml.

    The package brings the post-hook. Its version is that of the program, and both must be the same.
    """
    from dbt_posthog_sync.warehouse.dbt_adapter import package_path

    click.echo(package_path())


@cli.command(epilog=_example("dbt-posthog-sync sandbox --port 8010 --loops-port 8011"))
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8010, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--loops-port", type=click.IntRange(0, 65535), help="Port on which Loops is played too.")
def sandbox(host: str, port: int, loops_port: int | None) -> None:
    """Start a local stand-in for PostHog, and one for Loops, for demos and tests."""
    from dbt_posthog_sync.testing import LoopsStandIn, StandInConfig, serve

    config = StandInConfig()
    ports, ready = f"{host}:{port}", "The stand-in for {} answers at {} with the key {}. Ctrl-C ends it."
    keys = f"{config.tokens[0]}, and the personal key {config.personal_keys[0].value}"
    try:
        with contextlib.ExitStack() as stack:
            if loops_port is not None:
                ports = f"{ports} or {host}:{loops_port}"
                loops = stack.enter_context(LoopsStandIn(host=host, port=loops_port))
                config = StandInConfig(loops_url=loops.url)
                say(ready.format("Loops", loops.url, loops.api_key))
            serve(host, port, config, ready=lambda url: say(ready.format("PostHog", url, keys)))
    except OSError as error:
        raise UserError(f"{ports} cannot be listened on: {error.strerror}. Name another --port.") from error


cli.add_command(destinations)


def _complain(error: SyncError) -> int:
    if isinstance(error, UserError) and len(error.problems) > 1:
        say(f"{len(error.problems)} problems:")
        for problem in error.problems:
            say(f"- {problem}")
    else:
        say(f"Error: {error}")
    return error.exit_code


def collect_less_garbage() -> None:
    """Start a fifth faster: what dbt loads is never garbage, so look through it seldom, and at exit not at all."""
    gc.set_threshold(10_000, 20, 100)
    atexit.register(gc.freeze)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    collect_less_garbage()
    try:
        cli.main(standalone_mode=False)
    except SyncError as error:
        sys.exit(_complain(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("Stopped.")
        sys.exit(_STOPPED)
    except Exception as error:  # noqa: BLE001 - where a bug becomes a message
        say(f"This is a bug in dbt-posthog-sync {__version__}: {type(error).__name__}: {' '.join(str(error).split())}")
        if os.environ.get("DBT_POSTHOG_SYNC_TRACEBACK"):
            traceback.print_exc()
        else:
            say("Set DBT_POSTHOG_SYNC_TRACEBACK=1 to see where, and please report it.")
        sys.exit(_BUG)
    sys.exit(0)
