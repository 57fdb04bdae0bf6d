"""A sync run: one execution of one sync, and the sums that must add up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from dbt_posthog_sync.errors import Unreconciled


class RunStatus(str, Enum):
    """How a sync run ended."""

    RUNNING = "running"
    SUCCESS = "success"
    REJECTED = "rejected"  # everything that could be sent was sent; some rows are rejected
    UNSAFE = "unsafe"  # a guard stopped it, nothing was sent
    INTERRUPTED = "interrupted"
    ERROR = "error"
    SKIPPED = "skipped"  # not begun, because it could not have worked


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a model, each counted once: unchanged, delivered, rejected, or skipped with a reason.

    A row that means several persons (`on_several: all`) counts once for each of them while it is sent.

    Attributes:
        rows: rows of the model that the run looked at.
        unchanged: rows that PostHog has already.
        delivered: rows that PostHog accepted in this run.
        rejected: rows that were not sent because of what they hold, or that PostHog refused.
        skipped: rows left out as the annotation or an erasure wants it, such as a person that PostHog does not have.
        known: rows taken as known without sending them (`backfill: false`).
        moved: rows that changed between staging and delivery; the next run takes them.
        pending: rows that this run could not deliver (it was stopped or PostHog was away); the next run takes them.
        outside: rows outside the cursor's window; not part of `rows`.
        removed: keys that PostHog has and the model has no more; not part of `rows`.
        warned: of the delivered, how many PostHog stored without person processing.
    """

    rows: int = 0
    unchanged: int = 0
    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    known: int = 0
    moved: int = 0
    pending: int = 0
    outside: int = 0
    removed: int = 0
    warned: int = 0

    def check(self) -> None:
        """Every row is exactly one of the kinds.

        Raises:
            Unreconciled: the sums differ; the message shows them.
        """
        sent = self.unchanged + self.delivered + self.known
        parts = sent + self.rejected + self.skipped + self.moved + self.pending
        if parts != self.rows or min(self.as_dict().values()) < 0:
            raise Unreconciled(
                f"The counts of this run do not add up: {self.rows} rows, but {self.unchanged} unchanged + "
                f"{self.delivered} delivered + {self.rejected} rejected + {self.skipped} skipped + {self.known} taken "
                f"as known + {self.moved} changed since staging + {self.pending} pending = {parts}. Nothing was lost: "
                "only what PostHog accepted is confirmed. Please report this."
            )

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class SyncRun:
    """One execution of one sync.

    Attributes:
        run_id: id shared by all syncs of one invocation.
        sync_id: id of the sync.
        sync_name: name of the sync.
        model: name of the model.
        unique_id: dbt's id of the model.
        status: how it ended.
        message: one line for people, empty when all went well.
        counts: the sums.
        reasons: rejected rows by reason.
        skips: skipped rows by reason.
        requests: requests sent.
        bytes_sent: bytes sent, compressed.
        phases: seconds of wall time by phase, in order.
        dbt_invocation_id: id of the dbt invocation whose manifest was read.
        exit_code: what the program's exit code would be if this were the only sync.
        is_posthog_away: true when PostHog could not be reached or refused the key, which other syncs would meet too.
    """

    run_id: str
    sync_id: str
    sync_name: str
    model: str
    unique_id: str = ""
    status: RunStatus = RunStatus.RUNNING
    message: str = ""
    counts: Counts = field(default_factory=Counts)
    reasons: tuple[tuple[str, int], ...] = ()
    skips: tuple[tuple[str, int], ...] = ()
    requests: int = 0
    bytes_sent: int = 0
    phases: tuple[tuple[str, float], ...] = ()
    dbt_invocation_id: str | None = None
    exit_code: int = 0
    is_posthog_away: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of the whole run."""
        return sum(seconds for _, seconds in self.phases)

    def ended(self, status: RunStatus, message: str = "", *, exit_code: int = 0) -> SyncRun:
        """The same run with its end."""
        return replace(self, status=status, message=message, exit_code=exit_code)
