"""The user's own dbt program: asked which nodes a selection means, or run before the syncs.

It is never called while our connection is open: a DuckDB file admits one process at a time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dbt_posthog_sync.errors import DbtProgramError
from dbt_posthog_sync.problem import Problem

EXECUTABLE_VARIABLE = "DBT_POSTHOG_SYNC_DBT"

# Without --no-write-json dbt rewrites the manifest that we read, with the variables of this call.
_LIST = ("--no-write-json", "ls", "--quiet", "--output", "json", "--output-keys", "unique_id")
_ENVIRONMENT = {"DBT_LOG_FORMAT": "text", "DBT_USE_COLORS": "false", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d(?:\.\d+)?\s+")
_QUOTED_LINE = re.compile(r"^\d*\s*\|")  # dbt quotes profiles.yml around a mistake, and a password may be near
_HEADING = re.compile(
    r"^(?:Encountered an error|Running with dbt|={3,} .* ={3,}$|\d+: <unknown>)"
)  # of dbt 1 and dbt 2
_LONGEST = 300
_STANDARD_ERROR = 2


@dataclass(frozen=True, slots=True)
class DbtProgram:
    """How dbt is called.

    Attributes:
        executable: path or name of the program; without one, `dbt` of the PATH.
        options: options of dbt for every call: which project, profile, target.
        environ: the environment that it gets.
    """

    executable: str | None = None
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def listed(self, options: Sequence[str]) -> frozenset[str]:
        """The ids of the nodes that `dbt ls` lists with these options.

        Raises:
            DbtProgramError: there is no such program, or it fails.
        """
        command = [self._path(), *_LIST, *self.options, *options]
        try:
            done = subprocess.run(  # noqa: S603 - the user's own program, without a shell
                command,
                capture_output=True,
                check=False,
                encoding="utf-8",
                env={**self.environ, **_ENVIRONMENT},
                errors="replace",
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            raise _unstartable(command[0], error) from error
        if done.returncode:
            raise DbtProgramError(_failure(f"{done.stdout}\n{done.stderr}", done.returncode, options))
        return frozenset(_unique_ids(done.stdout))

    def started(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """A command of dbt under way; what it says goes to standard error.

        It has a process group of its own, so that a Ctrl-C on the terminal reaches it once, through us.

        Args:
            words: the command and its options.

        Raises:
            DbtProgramError: there is no such program, or it cannot be started.
        """
        command = [self._path(), *words, *self.options]
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own program, without a shell
                command,
                env=dict(self.environ),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=_STANDARD_ERROR,
            )
        except OSError as error:
            raise _unstartable(command[0], error) from error

    def _path(self) -> str:
        path = self.environ.get("PATH")
        found = shutil.which(self.executable or "dbt", path=path)
        if found is None and self.executable:
            raise DbtProgramError(Problem(f"there is no program {self.executable}.", _ADVICE))
        if found is None:
            message = "dbt itself is needed, and there is no `dbt` on the PATH."
            raise DbtProgramError(Problem(message, f"{_ADVICE} Selecting by names, tag: and path: needs no dbt."))
        return found


def _unstartable(path: str, error: OSError) -> DbtProgramError:
    return DbtProgramError(Problem(f"{path} cannot be started ({error.strerror}).", _ADVICE))


_ADVICE = f"Name your dbt with --dbt-executable or {EXECUTABLE_VARIABLE}, or activate the environment it is in."


def _unique_ids(output: str) -> Iterator[str]:
    """Yield the ids that dbt printed, a JSON object a line; warnings of dbt may stand between them."""
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        try:
            found = json.loads(line).get("unique_id")
        except ValueError:
            continue
        if isinstance(found, str):
            yield found


def _failure(output: str, code: int, options: Sequence[str]) -> Problem:
    lines = (_CLOCK.sub("", _COLOR.sub("", line).strip()) for line in output.splitlines())
    kept = [line for line in lines if line and not _QUOTED_LINE.match(line) and not _HEADING.match(line)]
    words = " ".join(kept).rstrip(".") or f"exit code {code}"
    words = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
    return Problem(f"dbt cannot list the selection: {words}.", f"Try it yourself: dbt ls {' '.join(options)}")
