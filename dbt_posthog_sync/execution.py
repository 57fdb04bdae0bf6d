"""An execution: what one run of one sync has come to so far. It becomes the record of the run, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dbt_posthog_sync.courier import Tally
from dbt_posthog_sync.destinations import CountingDestination
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable, SyncError, UnsafePlan
from dbt_posthog_sync.plan import Plan
from dbt_posthog_sync.sync_run import Counts, RunStatus, SyncRun

_LEFT_BY_BASELINE = (
    "The pending rows changed beside the annotation, or PostHog may have them otherwise, so they were not taken as "
    "delivered: run again."
)
_STOPPED = "Stopped. What was accepted is confirmed; the rest is pending."
_INTERRUPTED = 130  # as after Ctrl-C; which signal it was, the command knows


class Execution:
    """Gathers plan, tally and seconds of a sync run.

    Attributes:
        plan: what the run found; None until it is staged.
        tally: what became of the staged rows.
        known: rows taken as known without sending them.
    """

    def __init__(self, destination: CountingDestination, clock: Callable[[], float], run: SyncRun) -> None:
        self.run = run
        self.plan: Plan | None = None
        self.tally = Tally()
        self.known = 0
        self._destination = destination
        self._clock = clock
        self._phases: list[tuple[str, float]] = []
        self._requests = destination.requests_sent
        self._bytes = destination.bytes_sent

    def phase(self, name: str) -> Phase:
        """Measure a phase of the run."""
        return Phase(name, self._clock, self._phases)

    def ended(self, error: SyncError | None, *, is_stopped: bool = False) -> SyncRun:
        """The record of how it ended.

        Raises:
            Unreconciled: nothing went wrong, and the sums do not add up.
        """
        run = self._measured()
        if error is not None:
            status = RunStatus.UNSAFE if isinstance(error, UnsafePlan) else RunStatus.ERROR
            # While a sync is staged only the private API can fail, which another sync may not need.
            is_staged = self.plan is not None
            is_away = is_staged and isinstance(error, DestinationUnavailable | DestinationRefused)
            return replace(run, is_posthog_away=is_away).ended(status, str(error), exit_code=error.exit_code)
        run.counts.check()
        if is_stopped:
            return run.ended(RunStatus.INTERRUPTED, _STOPPED, exit_code=_INTERRUPTED)
        if self.plan is not None and self.plan.deletion is not None and run.counts.delivered:
            run = replace(run, message=_deleted(run.counts.delivered, with_events=self.plan.deletion.events))
        is_half_known = self.plan is not None and self.plan.takes_as_known and run.counts.pending > 0
        message = _LEFT_BY_BASELINE if is_half_known else run.message
        if run.counts.rejected:
            return run.ended(RunStatus.REJECTED, message, exit_code=1)
        return run.ended(RunStatus.SUCCESS, message)

    def _measured(self) -> SyncRun:
        return replace(
            self.run,
            counts=self._counts(),
            reasons=self._reasons(),
            skips=self.plan.staged.skipped if self.plan else (),
            phases=tuple(self._phases),
            requests=self._destination.requests_sent - self._requests,
            bytes_sent=self._destination.bytes_sent - self._bytes,
        )

    def _counts(self) -> Counts:
        if self.plan is None:
            return Counts()
        staged, tally = self.plan.staged, self.tally
        open_rows = staged.pending - tally.delivered - tally.refused - self.known
        is_streamed = tally.is_complete and not self.plan.takes_as_known
        moved = staged.pending - tally.streamed - tally.volatile if is_streamed else 0
        return Counts(
            rows=staged.rows,
            unchanged=staged.unchanged,
            delivered=tally.delivered,
            rejected=staged.rejected_rows + tally.refused,
            skipped=staged.skipped_rows,
            known=self.known,
            moved=moved,
            pending=open_rows - moved,
            outside=self.plan.outside,
            removed=self.plan.removed,
            warned=tally.warned,
        )

    def _reasons(self) -> tuple[tuple[str, int], ...]:
        staged = dict(self.plan.staged.rejected) if self.plan else {}
        for reason, rows in self.tally.refusals.items():
            staged[reason] = staged.get(reason, 0) + rows
        return tuple(sorted(staged.items()))


def _deleted(persons: int, *, with_events: bool) -> str:
    who = f"{persons:,} {'person was' if persons == 1 else 'persons were'}"
    return f"{who} deleted in PostHog{', with their events' if with_events else ''}."


class Phase:
    """Adds the seconds of a phase to a list when it ends, also by an error."""

    def __init__(self, name: str, clock: Callable[[], float], phases: list[tuple[str, float]]) -> None:
        self._name = name
        self._clock = clock
        self._phases = phases
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(self, *_: object) -> None:
        self._phases.append((self._name, self._clock() - self._begun))
