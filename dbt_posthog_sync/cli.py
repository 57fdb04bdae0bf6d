"""The command line: options to values, values to text. The only place that exits, and the only broad except."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from dbt_posthog_sync import __version__
from dbt_posthog_sync.errors import SyncError, UserError

if TYPE_CHECKING:
    from dbt_posthog_sync.plan import Plan
    from dbt_posthog_sync.project import Project
    from dbt_posthog_sync.session import Session, SessionOptions
    from dbt_posthog_sync.sync_run import SyncRun

_Command = TypeVar("_Command", bound=Callable[..., Any])
_INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
_BUG = 3

# Imports inside the commands are late on purpose: `--help` and `validate` must not wait for dbt.
# ruff: noqa: PLC0415


def _example(command: str) -> str:
    """The last lines of a command's help."""
    return f"\b\nExample:\n  {command}"


def _options(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_folder = click.Path(file_okay=False, path_type=Path)
_project_options = _options(
    click.option("--project-dir", type=_folder, envvar="DBT_PROJECT_DIR", help="Folder of dbt_project.yml."),
    click.option("--target-path", type=_folder, envvar="DBT_TARGET_PATH", help="Folder of dbt's manifest.json."),
    click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of what is printed."),
)
_selection_options = _options(
    click.option("--select", "-s", "select_words", multiple=True, help="Syncs to take, in dbt's words."),
    click.option("--exclude", "exclude_words", multiple=True, help="Syncs to leave out, in dbt's words."),
)
_connection_options = _options(
    click.option("--profiles-dir", type=_folder, envvar="DBT_PROFILES_DIR", help="Folder of profiles.yml."),
    click.option("--profile", envvar="DBT_PROFILE", help="Name of the profile."),
    click.option("--target", "-t", envvar="DBT_TARGET", help="Name of the dbt target."),
    click.option("--threads", type=click.IntRange(min=1), help="Threads, as the profile may use them."),
    click.option("--vars", "variables", default="{}", help="YAML of variables, as the profile may use them."),
)
_scan_options = _options(
    click.option("--full-scan", is_flag=True, help="Look at every row, whatever the cursor says."),
    click.option("--full-refresh", is_flag=True, help="Forget what was delivered and send everything again."),
)


@click.group(
    epilog=_example("dbt build && dbt-posthog-sync run"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="dbt-posthog-sync")
def cli() -> None:
    """Send exactly the rows that changed from dbt models to PostHog."""


@cli.command(epilog=_example("dbt-posthog-sync init orders --object event"))
@click.argument("model", required=False)
@click.option(
    "--object",
    "object_name",
    type=click.Choice(["event", "person", "page", "group"]),
    default="person",
    help="What rows of the model become.",
)
@_project_options
def init(model: str | None, object_name: str, project_dir: Path | None, target_path: Path | None, output: str) -> None:
    """Write posthog_sync.yml, and print a first annotation for MODEL.

    An existing posthog_sync.yml is left as it is.
    """
    from dbt_posthog_sync.project import project_folder
    from dbt_posthog_sync.reporter import as_json
    from dbt_posthog_sync.settings import SETTINGS_FILE
    from dbt_posthog_sync.starter import write_settings

    folder = project_folder(project_dir)
    path = folder / SETTINGS_FILE
    annotation = _first_annotation(folder / (target_path or "target"), model, object_name) if model else None
    is_new = write_settings(path)
    _say(f"{'Wrote' if is_new else 'Left as it is:'} {path}")
    if output == "json":
        click.echo(as_json("init", settings=str(path), written=is_new, annotation=annotation))
    elif annotation:
        _say("Put this into the YAML file of the model, check the columns, and run dbt parse:")
        click.echo(annotation, nl=False)


def _first_annotation(target_path: Path, model: str, object_name: str) -> str:
    from dbt_posthog_sync.manifest import read_manifest
    from dbt_posthog_sync.problem import Problem
    from dbt_posthog_sync.spelling import nearest
    from dbt_posthog_sync.starter import starter_annotation
    from dbt_posthog_sync.sync import ObjectType

    manifest = read_manifest(target_path / "manifest.json", keep=(model,))
    for node in manifest.nodes:
        if node.ref.name == model:
            return starter_annotation(node, ObjectType(object_name))
    near = nearest(model, manifest.names)
    advice = f"Did you mean `{near}`?" if near else "Name a model, snapshot or seed of the project."
    raise UserError(Problem(f"the manifest has no model `{model}`.", advice))


@cli.command(epilog=_example("dbt parse && dbt-posthog-sync validate"))
@_selection_options
@_project_options
def validate(
    select_words: tuple[str, ...],
    exclude_words: tuple[str, ...],
    project_dir: Path | None,
    target_path: Path | None,
    output: str,
) -> None:
    """Check settings and annotations against the manifest, without a warehouse and without dbt."""
    from dbt_posthog_sync.reporter import as_json, sync_values, syncs_text

    project = _load(project_dir, target_path)
    syncs = project.selected(select_words, exclude_words)
    if output == "json":
        click.echo(as_json("validate", syncs=[sync_values(sync) for sync in syncs]))
        return
    click.echo(syncs_text(syncs))
    _say(f"{len(syncs)} {'sync is' if len(syncs) == 1 else 'syncs are'} valid.")


@cli.command(epilog=_example("dbt-posthog-sync plan --select orders"))
@_selection_options
@_scan_options
@_project_options
@_connection_options
def plan(**values: Any) -> None:
    """Show what a run would send, without sending anything.

    Staged rows live in temporary tables; nothing in the warehouse changes.
    """
    from dbt_posthog_sync.reporter import as_json, plan_text, plan_values

    output, options = values["output"], _session_options(values)
    objections: list[str] = []
    plans: list[Plan] = []
    with _session(options) as session:
        for found in session.plans():
            plans += [found.plan] if found.plan else []
            objections += [found.objection] if found.objection else []
            if output == "text" and found.plan:
                click.echo(plan_text(found.plan))
    if output == "json":
        click.echo(as_json("plan", plans=[plan_values(one) for one in plans], objections=objections))
    for objection in objections:
        _say(f"A run would stop: {objection}")
    if objections:
        sys.exit(1)


@cli.command(epilog=_example("dbt-posthog-sync run --target prod"))
@_selection_options
@_scan_options
@click.option("--mock", is_flag=True, help="Print the exact requests instead of sending them; needs no key.")
@click.option("--force", is_flag=True, help="Pass the guards against accidents.")
@click.option("--steal", is_flag=True, help="Take over from a run that holds the lease.")
@click.option("--allow-rejected", is_flag=True, help="Exit 0 although rows were rejected.")
@_project_options
@_connection_options
def run(**values: Any) -> None:
    """Send the rows that changed since the last run.

    \b
    Exit codes:
      0 done            1 rows rejected, or stopped by a guard     2 wrong usage or annotation
      3 a bug           4 warehouse or PostHog unreachable         130, 143 interrupted, terminated
    """
    options = _session_options({**values, "sends": not values["mock"]})
    if values["mock"]:
        _mock(options, values["output"])
        return
    with _session(options) as session, _stopped_by_signals(session) as caught:
        code = _run(session, values["output"], allow_rejected=values["allow_rejected"])
    sys.exit(_INTERRUPTED[caught[0]] if caught else code)


def _run(session: Session, output: str, *, allow_rejected: bool) -> int:
    from dbt_posthog_sync.reporter import as_json, run_text, run_values
    from dbt_posthog_sync.sync_run import RunStatus

    runs: list[SyncRun] = []
    try:
        for sync_run in session.runs(_progress_bar()):
            runs.append(sync_run)
            if output == "text":
                click.echo(run_text(sync_run))
            elif sync_run.message:
                _say(f"{sync_run.sync_name}: {sync_run.message}")
    finally:
        if output == "json" and runs:  # also when a later sync fails: what was done is told
            click.echo(as_json("run", runs=[run_values(one) for one in runs]))
    codes = (0 if allow_rejected and one.status is RunStatus.REJECTED else one.exit_code for one in runs)
    return max(codes, default=0)


def _mock(options: SessionOptions, output: str) -> None:
    from dbt_posthog_sync.destinations import Refusal
    from dbt_posthog_sync.reporter import as_json, request_text, request_values

    requests = 0
    with _session(options) as session:
        for name, request in session.mocked():
            if isinstance(request, Refusal):
                _say(f"{name}: one row would be rejected: {request.reason}")
                continue
            requests += 1
            if output == "json":
                click.echo(as_json("request", sync=name, **request_values(request)))
            else:
                click.echo(request_text(name, request))
    _say(f"{requests:,} {'request' if requests == 1 else 'requests'} would be sent; nothing was sent.")


@contextmanager
def _stopped_by_signals(session: Session) -> Iterator[list[signal.Signals]]:
    """Finish what is in flight on the first Ctrl-C or SIGTERM; stop at once on the second."""
    caught: list[signal.Signals] = []

    def stop(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number))
        session.stop()

    before = {number: signal.signal(number, stop) for number in _INTERRUPTED}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress_bar() -> Callable[[str, int, int], None] | None:
    """Progress on a terminal's stderr; nothing where nobody watches."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        return None

    def show(name: str, settled: int, total: int) -> None:
        end = "\n" if settled >= total else ""
        click.echo(f"\r{name}: {settled:,} of {total:,}{end}", err=True, nl=False)

    return show


@cli.command(epilog=_example("dbt-posthog-sync status --target prod"))
@click.option("--last", default=10, type=click.IntRange(min=1), help="How many sync runs to show.")
@_project_options
@_connection_options
def status(**values: Any) -> None:
    """Show what is synced, how the last runs went, and which rows are rejected."""
    from dbt_posthog_sync.reporter import as_json, status_text

    with _session(_session_options(values)) as session:
        found = session.status(values["last"])
    click.echo(as_json("status", **found) if values["output"] == "json" else status_text(found))


@cli.command(epilog=_example("dbt-posthog-sync schema > posthog_sync.schema.json"))
@click.option("--settings", is_flag=True, help="The schema of posthog_sync.yml instead.")
def schema(settings: bool) -> None:
    """Print the JSON Schema of annotations, for editors and reviews."""
    from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, SETTINGS_SCHEMA

    name = SETTINGS_SCHEMA if settings else ANNOTATION_SCHEMA
    click.echo((Path(__file__).parent / name).read_text(encoding="utf-8"), nl=False)


@cli.command(epilog=_example("dbt-posthog-sync sandbox --port 8010"))
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8010, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
def sandbox(host: str, port: int) -> None:
    """Start a local stand-in for PostHog, for demos and tests."""
    from dbt_posthog_sync.testing import serve

    try:
        serve(host, port, ready=lambda url: _say(f"The stand-in for PostHog answers at {url}. Ctrl-C ends it."))
    except OSError as error:
        raise UserError(f"{host}:{port} cannot be listened on: {error.strerror}. Name another --port.") from error


def _load(project_dir: Path | None, target_path: Path | None) -> Project:
    from dbt_posthog_sync.project import Project

    project = Project.load(project_dir, target_path, os.environ)
    for warning in project.manifest.warnings:
        _say(f"Warning: {warning}")
    return project


def _session_options(values: dict[str, Any]) -> SessionOptions:
    from dbt_posthog_sync.session import SessionOptions

    return SessionOptions.from_command(values, os.environ)


def _session(options: SessionOptions) -> Session:
    from dbt_posthog_sync.session import Session

    project = _load(options.project_dir, options.target_path)
    return Session(project, options)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _complain(error: SyncError) -> int:
    if isinstance(error, UserError) and len(error.problems) > 1:
        _say(f"{len(error.problems)} problems:")
        for problem in error.problems:
            _say(f"- {problem}")
    else:
        _say(f"Error: {error}")
    return error.exit_code


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        cli.main(standalone_mode=False)
    except SyncError as error:
        sys.exit(_complain(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("Stopped.")
        sys.exit(_INTERRUPTED[signal.SIGINT])
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a message
        _say(f"This is a bug in dbt-posthog-sync {__version__}: {type(error).__name__}: {' '.join(str(error).split())}")
        if os.environ.get("DBT_POSTHOG_SYNC_TRACEBACK"):
            traceback.print_exc()
        else:
            _say("Set DBT_POSTHOG_SYNC_TRACEBACK=1 to see where, and please report it.")
        sys.exit(_BUG)
    sys.exit(0)
