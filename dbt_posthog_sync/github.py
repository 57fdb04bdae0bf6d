"""GitHub Actions: annotations at the lines of problems, and the summary of a step, where a run is one of its steps.

Source of the formats: docs.github.com, "Workflow commands for GitHub Actions". The runner reads commands from standard
error as from standard output, so that data stays data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dbt_posthog_sync.errors import SyncError, UserError
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.source_line import line_of_problem

_SUMMARY_BYTES = 1_000_000  # GitHub refuses a step's summary beyond 1 MiB as a whole
_TITLE = "dbt-posthog-sync"


@dataclass(frozen=True, slots=True)
class GitHub:
    """The step of a workflow that this process runs in.

    Attributes:
        workspace: folder that the repository is checked out into.
        summary: file that takes the step's summary; None where the runner has none.
    """

    workspace: Path
    summary: Path | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> GitHub | None:
        """The step by its environment variables; None where this is none."""
        if environ.get("GITHUB_ACTIONS") != "true":
            return None
        summary = environ.get("GITHUB_STEP_SUMMARY")
        return cls(Path(environ.get("GITHUB_WORKSPACE") or "."), Path(summary) if summary else None)

    def of_error(self, error: SyncError, folder: Path) -> tuple[str, ...]:
        """A command for each problem of an error, at its line.

        Args:
            error: what the command ends with.
            folder: the dbt project's folder, below which problems name their files.
        """
        problems = error.problems if isinstance(error, UserError) else (Problem(str(error)),)
        return tuple(self._of_problem(one, folder) for one in problems)

    def _of_problem(self, problem: Problem, folder: Path) -> str:
        text = f"{problem.message} {problem.advice}".strip()
        where = ", ".join(part for part in (problem.model, problem.path) if part)
        return command("error", f"{where}: {text}" if where else text, self._place(problem, folder))

    def _place(self, problem: Problem, folder: Path) -> dict[str, str]:
        line = line_of_problem(problem, folder)
        path = os.path.relpath((folder / problem.file).resolve(), self.workspace.resolve())
        if line is None or path.startswith(".."):  # a file that the repository does not have
            return {}
        return {"file": Path(path).as_posix(), "line": str(line)}

    def add_summary(self, markdown: str) -> None:
        """Append to the step's summary. It is an extra: what cannot be written changes nothing."""
        if self.summary is None:
            return
        try:
            room = _SUMMARY_BYTES - (self.summary.stat().st_size if self.summary.exists() else 0)
            text = f"{markdown}\n\n".encode()
            if len(text) <= room:
                with self.summary.open("ab") as file:
                    file.write(text)
        except OSError:
            return


def command(kind: str, text: str, properties: Mapping[str, str] | None = None) -> str:
    """A workflow command: `error`, `warning` or `notice`, with its text and where it belongs."""
    told = {"title": _TITLE, **(properties or {})}
    shown = ",".join(f"{name}={_escaped(value, _IN_PROPERTY)}" for name, value in told.items())
    return f"::{kind} {shown}::{_escaped(text, _IN_TEXT)}"


_IN_TEXT = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
_IN_PROPERTY = (*_IN_TEXT, (":", "%3A"), (",", "%2C"))


def _escaped(text: str, rules: Iterable[tuple[str, str]]) -> str:
    for mark, code in rules:
        text = text.replace(mark, code)
    return text
