"""The program as a user runs it: the installed command in a process of its own, measured from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from faults.program import environment
from lab import manifest_for, write_project

from bench.model import TABLE, Place

COMMAND = Path(sys.executable).parent / "dbt-posthog-sync"
KEY = "phc_bench"


class BrokenRun(Exception):
    """A run did not do what it is measured for."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended well: its output, how long it lived, its CPU time and its largest resident memory."""

    out: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


def measured(words: Sequence[str | Path], folder: Path, environ: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end.

    Raises:
        BrokenRun: it failed; with the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.monotonic()
        process = subprocess.Popen([str(word) for word in words], cwd=folder, env=environ, stdout=out, stderr=err)
        # wait4 counts this one process. Its memory begins with that of the process that started it, which is why
        # everything large happens in others.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise BrokenRun(f"{Path(words[0]).name} ended with {process.returncode}: {err.read()[-2000:]}")
        return Ended(out.read(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@dataclass(frozen=True, slots=True)
class Project:
    """A dbt project with the table as its one model, and a state schema of its own."""

    folder: Path
    state: str

    @classmethod
    def written(cls, folder: Path, place: Place, host: str, annotation: Mapping[str, Any]) -> Project:
        """Write the project; all but host, state schema and the guard against many events is as by default."""
        write_project(folder, place.server.output)
        (folder / "target").mkdir()
        manifest = manifest_for(place.server, {TABLE: annotation})
        (folder / "target" / "manifest.json").write_text(json.dumps(manifest))
        settings = {"posthog": {"host": host}, "state_schema": folder.name, "limits": {"max_events": None}}
        (folder / "posthog_sync.yml").write_text(yaml.safe_dump(settings))
        return cls(folder, folder.name)

    def run(self) -> tuple[Ended, Mapping[str, Any]]:
        """Run the sync once: the process, and the sync's entry in the results file."""
        ended = measured((COMMAND, "run", "--output", "json"), self.folder, environment(self.folder, KEY))
        (result,) = json.loads((self.folder / "target" / "posthog_sync_results.json").read_text())["results"]
        return ended, result
