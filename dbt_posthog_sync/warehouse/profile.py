"""The dbt profile: which warehouse, how to reach it, and what is wrong with profiles.yml in one line."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbt_posthog_sync.errors import SettingsError, WarehouseUnavailable
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.warehouse.dbt_error import without_values

_PROFILES_FILE = "profiles.yml"
_NO_LOCAL_FILE = re.compile(r":memory:|^[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_MOST_WORDS = 200


@dataclass(frozen=True, slots=True)
class DbtOptions:
    """Where dbt finds the connection: dbt's own options.

    Attributes:
        project_dir: folder of the user's dbt_project.yml.
        profiles_dir: folder of profiles.yml; None lets dbt look where it always looks.
        profile: name of the profile, when not the project's.
        target: name of the target, when not the profile's.
        threads: as in dbt.
        variables: values for `--vars`, as profiles may use them.
    """

    project_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    threads: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profiles_folder(self) -> Path:
        """Where profiles.yml is: as given, else the current folder or the project's if it is there, else ~/.dbt."""
        if self.profiles_dir is not None:
            return self.profiles_dir.absolute()
        for folder in (Path.cwd(), self.project_dir):
            if (folder / _PROFILES_FILE).is_file():
                return folder
        return Path.home() / ".dbt"


def runtime_config(options: DbtOptions, package: Path) -> Any:
    """dbt's configuration of our own small dbt project in `package`, connected as the user's profile says.

    Raises:
        SettingsError: the profile cannot be used.
    """
    from dbt.config.runtime import RuntimeConfig, load_profile, load_project  # noqa: PLC0415 - dbt is slow to import
    from dbt.flags import set_from_args  # noqa: PLC0415
    from dbt_common.context import set_invocation_context  # noqa: PLC0415
    from dbt_common.exceptions import DbtBaseException  # noqa: PLC0415

    file = options.profiles_folder / _PROFILES_FILE
    if not file.is_file():
        raise _no_profiles_file(file)
    arguments = _arguments(options)
    variables = dict(options.variables)
    set_invocation_context(os.environ)  # where `env_var` in profiles.yml looks
    try:
        set_from_args(arguments, None)
        profile = load_profile(str(options.project_dir), variables, options.profile, options.target, options.threads)
        project = load_project(str(package), False, profile, {})
        return RuntimeConfig.from_parts(project, profile, arguments)
    except DbtBaseException as error:
        raise SettingsError(_problem(str(getattr(error, "msg", error)), str(file))) from error


def _arguments(options: DbtOptions) -> Namespace:
    """The flags of `dbt run-operation`, as dbt's own command line would hand them over."""
    return Namespace(
        project_dir=str(options.project_dir),
        profiles_dir=str(options.profiles_folder),
        profile=options.profile,
        target=options.target,
        threads=options.threads,
        vars=dict(options.variables),
        target_path=None,
        log_path=None,
        which="run-operation",
        version_check=False,
        send_anonymous_usage_stats=False,
        macro_debugging=False,
        full_refresh=False,
        partial_parse=False,
        quiet=True,
    )


def check_file(credentials: Any) -> None:
    """Stop where DuckDB would make a new, empty file.

    Raises:
        WarehouseUnavailable: there is no such file.
    """
    path = str(getattr(credentials, "path", "")) if credentials.type == "duckdb" else ""
    if path and not _NO_LOCAL_FILE.match(path) and not Path(path).expanduser().exists():
        raise WarehouseUnavailable(
            f"The DuckDB file {Path(path).expanduser().absolute()} does not exist. Build it first with dbt build, or "
            "check the path in profiles.yml and the target."
        )


def _no_profiles_file(file: Path) -> SettingsError:
    advice = f"Write a {_PROFILES_FILE} as for dbt itself, or name its folder with --profiles-dir."
    return SettingsError(Problem("there is no such file.", advice, file=str(file)))


def _problem(text: str, file: str) -> Problem:
    """dbt's words of several lines as one problem. The lines of profiles.yml that dbt quotes may hold a password."""
    line = " ".join(text.split())
    for signs, message, advice in _FAULTS:
        found = re.search(signs, line)
        if found is not None:
            # dbt lists names as `- one - two`.
            words = found.expand(message).replace(": - ", ": ").replace(" - ", ", ")
            return Problem(words, found.expand(advice), file=file)
    return Problem(f"dbt cannot use the profile: {_cut(line)}", "Try `dbt debug`.", file=file)


def _cut(line: str) -> str:
    line = without_values(line).rstrip(".")
    return f"{line}." if len(line) <= _MOST_WORDS else f"{line[:_MOST_WORDS]}…"


# What dbt says, the message, the advice.
_FAULTS = (
    (
        r"Syntax error near line (\d+)",
        r"the file is not valid YAML near line \1.",
        "Mend it; a tab or a missing quotation mark is the usual cause.",
    ),
    (r"profiles.yml file at .* is empty", "the file is empty.", "Write a profile into it as for dbt itself."),
    (
        r"Env var required but not provided: '([^']+)'",
        r"the environment variable \1 is not set, and the profile needs it.",
        r"Set \1.",
    ),
    (
        r"Required var '([^']+)' not found",
        r"the variable `\1` is not set, and the profile needs it.",
        r"Set it with --vars '{\1: value}'.",
    ),
    (
        r"Could not find profile named '([^']*)'",
        r"the file has no profile `\1`.",
        "Name one of its profiles with --profile or in dbt_project.yml, or another folder with --profiles-dir.",
    ),
    (
        r"profile '([^']*)' does not have a target named '([^']*)'.* are: ((?:- \S+ ?)+?)$",
        r"the profile `\1` has no target `\2`; it has: \3.",
        "Name one of them with --target.",
    ),
    (
        r"Could not find adapter type (\S+?)!",
        r"the adapter \1 is not installed here.",
        r"Install it beside this program: pip install dbt-\1.",
    ),
    (
        r"Credentials in profile \"([^\"]*)\", target \"([^\"]*)\" invalid: .*?'(\w+)' is a required property",
        r"the target `\2` of the profile `\1` lacks `\3`.",
        "Write it there.",
    ),
    (
        r"Credentials in profile \"([^\"]*)\", target \"([^\"]*)\" invalid",
        r"the target `\2` of the profile `\1` has a value that dbt does not take.",
        "Try `dbt debug`: it names the value.",
    ),
)
