"""The program as a process: started, struck by signals, waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.doom import VARIABLE, Doom

HANG_SECONDS = 180.0
"""What no run of the suite needs, however slow the machine."""

_TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit code; the negative number of the signal that killed it.
        out: standard output.
        err: standard error.
        seconds: how long it lived.
        hung: true when it had to be killed because it did not end.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """The sums of the one sync run that it printed; empty when it printed none."""
        document: Any = json.loads(self.out) if self.out.strip() else {"runs": []}
        runs = document["runs"]
        found: Mapping[str, int] = runs[0]["counts"] if runs else {}
        return found


class Program:
    """One process of the command line."""

    def __init__(
        self, folder: Path, words: Sequence[str], environ: Mapping[str, str], doom: Doom | None = None
    ) -> None:
        module = "dbt_posthog_sync" if doom is None else "faults.doom"
        extra = {} if doom is None else {VARIABLE: doom.as_text(), "PYTHONPATH": str(_TESTS)}
        self._begun = time.monotonic()
        self._process = subprocess.Popen(
            (sys.executable, "-m", module, *words),
            cwd=folder,
            env={**environ, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def number(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    @property
    def is_stopped(self) -> bool:
        """True while SIGSTOP holds it."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; none reaches a process that has ended."""
        self._process.send_signal(number)

    def kill(self) -> Ended:
        """Kill -9."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self, seconds: float = HANG_SECONDS) -> Ended:
        """Wait for the end; a process that takes longer than so many seconds hangs, and is killed."""
        hung = False
        try:
            out, err = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            hung = True
            self._process.kill()
            out, err = self._process.communicate()
        return Ended(self._process.returncode, out, err, time.monotonic() - self._begun, hung)


def environment(folder: Path, key: str) -> dict[str, str]:
    """What a process of the program sees: the key, and nothing of the machine that it does not need."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(folder), "POSTHOG_PROJECT_API_KEY": key, "DBT_POSTHOG_SYNC_TRACEBACK": "1"}
