"""Real commands, each in a process of its own that need not import dbt: a process that has imported it forks for each.

To import dbt takes longer than what most tests ask of it. This file is also the program of that process, which may be
another Python with another dbt.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ADAPTERS = ("duckdb", "postgres")
_ENTRIES = {"dbt": ("dbt.cli.main", "cli"), "dbt-posthog-sync": ("dbt_posthog_sync.cli", "main")}
_SLOW_TO_IMPORT = ("dbt.cli.main", "dbt.task.build", "dbt.context.providers", *map("dbt.adapters.{}".format, _ADAPTERS))


def run(
    words: Sequence[str], folder: Path, *, python: str = sys.executable, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `dbt` or `dbt-posthog-sync` in a folder, with this process's environment and `environ`."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        job = {"words": list(words), "folder": str(folder), "out": str(out), "err": str(err)}
        code = _parent(python).ask({**job, "environ": {**os.environ, **(environ or {})}})
        return subprocess.CompletedProcess(list(words), code, out.read_text(), err.read_text())


class _Parent:
    """The process that forks, seen from the tests."""

    def __init__(self, python: str) -> None:
        command = [python, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self._process.communicate)

    def ask(self, job: Mapping[str, Any]) -> int:
        """Have a command run, and return the code that it ended with; negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


_parent = functools.cache(_Parent)


def _serve() -> None:
    for name in _SLOW_TO_IMPORT:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _become(job: Mapping[str, Any]) -> None:
    """Be the command from here on, to its end."""
    for descriptor, path in enumerate((os.devnull, job["out"], job["err"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environ"])
    time.tzset()
    random.seed()
    sys.argv = job["words"]
    module, entry = _ENTRIES[sys.argv[0]]
    sys.exit(getattr(importlib.import_module(module), entry)())


if __name__ == "__main__":
    _serve()
