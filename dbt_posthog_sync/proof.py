"""The proof: what a run sent, what of it is in PostHog, and what PostHog noted about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.ingestion_warning import Effect, meaning_of
from dbt_posthog_sync.sync import LoopsObject, ObjectType

ALL_LANDED, SOME_LOST, NOT_LANDED = 0, 1, 4

_KILLED = (
    "A sync of this run was killed before it wrote down what it sent. Nothing is lost: the next run sends what was not "
    "confirmed. Verify that one too."
)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What one invocation sent, by its own record.

    Attributes:
        run_id: id of the invocation.
        sent: messages that PostHog accepted, by object.
        age_seconds: how long ago it began.
        is_running: a sync of it has not ended yet.
        was_killed: a sync of it was killed before it wrote down what it sent.
    """

    run_id: str
    sent: Mapping[ObjectType, int]
    age_seconds: int = 0
    is_running: bool = False
    was_killed: bool = False

    @property
    def total(self) -> int:
        """All messages."""
        return sum(self.sent.values())

    @property
    def may_have_sent(self) -> bool:
        """False where it is certain that PostHog has nothing of it."""
        return self.total > 0 or self.is_open

    @property
    def is_open(self) -> bool:
        """True where it is not on record what all of it sent."""
        return self.is_running or self.was_killed


@dataclass(frozen=True, slots=True)
class Landed:
    """What PostHog has of a run: messages with different uuids, all of them and by the object that makes them."""

    total: int = 0
    by_object: tuple[tuple[ObjectType, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What was sent against what landed.

    Attributes:
        dispatch: what was sent.
        landed: what PostHog has.
        warnings: ingestion warnings of our messages since the run began, (type, how many were sampled).
        warnings_problem: why the warnings could not be read, or nothing.
        polls: how often PostHog was asked what landed.
    """

    dispatch: Dispatch
    landed: Landed = Landed()
    warnings: tuple[tuple[str, int], ...] = ()
    warnings_problem: str = ""
    polls: int = 0

    @property
    def missing(self) -> int:
        """Messages that PostHog accepted and has not got."""
        return max(self.dispatch.total - self.landed.total, 0)

    @property
    def exit_code(self) -> int:
        """4 when messages are missing, 1 when PostHog noted that it lost something or nobody knows, else 0."""
        if self.missing:
            return NOT_LANDED
        if self.dispatch.is_open:
            return SOME_LOST
        return SOME_LOST if any(meaning_of(kind).effect is Effect.LOST for kind, _ in self.warnings) else ALL_LANDED

    @property
    def advice(self) -> str:
        """What to think and do when something is missing, or may be; else nothing."""
        if self.dispatch.is_running:
            return "A sync of this run has not ended yet: verify again when it has. If it was killed, run again."
        if not self.missing:
            return _KILLED if self.dispatch.was_killed else ""
        if self.landed.total == 0:
            return (
                "PostHog answered every request well and has nothing. So it does when the project is over its quota, "
                "when it does not know the project API key, and when the key belongs to the other region; or "
                "posthog.project_id names another project than the key. `dbt-posthog-sync debug --send-test-event` "
                "tells which. When it is mended, `run --full-refresh` sends again what was lost."
            )
        return (
            "PostHog may still be busy: verify again in some minutes, for rows older than 48 hours in an hour. If they "
            "stay away, look at the warnings, at quotas in PostHog > Billing and at event restrictions. Events that a "
            "later run sent again count for that run."
        )

    @property
    def headline(self) -> str:
        """How much of it landed, in a line."""
        run, landed, sent = f"run {self.dispatch.run_id}", self.landed.total, self.dispatch.total
        if sent and not self.dispatch.is_open:
            return f"{run}: {min(landed, sent):,} of {sent:,} messages are in PostHog"
        if self.dispatch.may_have_sent:
            return f"{run}: {landed:,} messages of it are in PostHog; it is not on record how many it sent"
        return f"{run}: nothing was sent; ids of earlier runs are in `status --output json`"

    def objects(self) -> Iterator[tuple[ObjectType, int, int]]:
        """Object, messages sent and messages landed, for the objects that the run sent."""
        landed = dict(self.landed.by_object)
        for kind, count in self.dispatch.sent.items():
            yield kind, count, landed.get(kind, 0)


_NOT_POSTHOG = frozenset(kind.value for kind in LoopsObject)
"""What a run sent to Loops, PostHog cannot show."""


def dispatch_of(run_id: str, rows: Iterable[Sequence[Any]]) -> Dispatch | None:
    """Build a dispatch from rows of `sync_runs`: object, status, delivered, seconds since its begin.

    Returns:
        None when there is no such run.
    """
    sent: dict[ObjectType, int] = {}
    age, is_running, was_killed, is_known = 0, False, False, False
    for name, status, delivered, seconds in rows:
        is_known = True
        age = max(age, int(seconds))
        is_running = is_running or status == "running"
        was_killed = was_killed or (status != "running" and delivered is None)
        if delivered and name not in _NOT_POSTHOG:
            kind = ObjectType(name) if name else ObjectType.EVENT  # a sync that was adopted by another name
            sent[kind] = sent.get(kind, 0) + int(delivered)
    return Dispatch(run_id, sent, age, is_running, was_killed) if is_known else None
