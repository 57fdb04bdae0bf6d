"""The results file: what a run came to, for machines, written beside dbt's own run_results.json and shaped after it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from dbt_posthog_sync import __version__
from dbt_posthog_sync.errors import SyncError, UserError
from dbt_posthog_sync.sync_run import RunStatus, SyncRun

RESULTS_FILE = "posthog_sync_results.json"
RESULTS_VERSION = 1
_BUG, _STOPPED = 3, 130


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(slots=True)
class Results:
    """Gathers sync runs and, as a context, writes them when it is left: also by an error, which is told in the file.

    Attributes:
        folder: dbt's target folder; nothing is written where it does not exist.
        args: the command and its options.
        warn: is told when the file cannot be written, which does not change what was sent.
        exit_code: what the command ends with; set before the context is left without an error.
    """

    folder: Path
    args: Mapping[str, Any]
    warn: Callable[[str], None]
    exit_code: int = 0
    now: Callable[[], datetime] = _utc_now
    clock: Callable[[], float] = time.monotonic
    _runs: list[SyncRun] = field(default_factory=list)
    _begun: float = 0.0

    def add(self, run: SyncRun) -> None:
        """Take the record of a sync run."""
        self._runs.append(run)

    @property
    def runs(self) -> tuple[SyncRun, ...]:
        """The records taken so far."""
        return tuple(self._runs)

    @property
    def has_sent(self) -> bool:
        """True when syncs were run, and PostHog took what it was given."""
        begun = [run for run in self._runs if run.status is not RunStatus.SKIPPED]
        return bool(begun) and not any(run.is_posthog_away for run in begun)

    def __enter__(self) -> Results:
        self._begun = self.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.folder.is_dir():
            return
        path = self.folder / RESULTS_FILE
        text = json.dumps(self._document(error), ensure_ascii=False, indent=2) + "\n"
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)  # whoever reads it meets the whole file, the old or the new
        except OSError as failure:
            self.warn(f"Warning: {path} could not be written: {failure.strerror}.")

    def _document(self, error: BaseException | None) -> dict[str, Any]:
        invocations = [run.dbt_invocation_id for run in self._runs]
        return {
            "metadata": {
                "version": RESULTS_VERSION,
                "generated_at": self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "invocation_id": self._runs[0].run_id if self._runs else None,
                "dbt_invocation_id": invocations[0] if invocations else None,
                "dbt_posthog_sync_version": __version__,
            },
            "args": dict(self.args),
            "results": [_result(run) for run in self._runs],
            "elapsed_time": round(self.clock() - self._begun, 3),
            "exit_code": self.exit_code if error is None else _exit_code(error),
            "errors": _errors(error),
        }


def _result(run: SyncRun) -> dict[str, Any]:
    return {
        "unique_id": run.unique_id,
        "sync": run.sync_name,
        "status": run.status.value,
        "message": run.message or None,
        "execution_time": round(run.seconds, 3),
        "timing": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in run.phases],
        "counts": run.counts.as_dict(),
        "rejected": dict(run.reasons),
        "skipped": dict(run.skips),
        "requests": run.requests,
        "bytes": run.bytes_sent,
        "exit_code": run.exit_code,
    }


def _exit_code(error: BaseException) -> int:
    match error:
        case SyncError():
            return error.exit_code
        case Exception():
            return _BUG
    return _STOPPED


def _errors(error: BaseException | None) -> list[str]:
    """What the command says on standard error; the text of a bug may hold anything, so only its kind is told."""
    match error:
        case None:
            return []
        case UserError():
            return [str(problem) for problem in error.problems]
        case SyncError():
            return [str(error)]
        case Exception():
            return [f"This is a bug in dbt-posthog-sync {__version__}: {type(error).__name__}"]
    return ["Stopped."]
