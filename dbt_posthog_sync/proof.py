"""The proof: what a run sent, what of it is in PostHog, and what PostHog noted about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.ingestion_warning import Effect, meaning_of
from dbt_posthog_sync.sync import LoopsObject, ObjectType

ALL_LANDED, SOME_LOST, NOT_LANDED = 0, 1, 4


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What one invocation sent, by its own record.

    Attributes:
        run_id: id of the invocation.
        sent: messages that PostHog accepted, by object.
        age_seconds: how long ago it began.
        is_running: a sync of it has not ended yet.
    """

    run_id: str
    sent: Mapping[ObjectType, int]
    age_seconds: int = 0
    is_running: bool = False

    @property
    def total(self) -> int:
        """All messages."""
        return sum(self.sent.values())


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
        """4 when messages are missing, 1 when PostHog noted that it lost something, else 0."""
        if self.missing:
            return NOT_LANDED
        return SOME_LOST if any(meaning_of(kind).effect is Effect.LOST for kind, _ in self.warnings) else ALL_LANDED

    @property
    def advice(self) -> str:
        """What to think and do when something is missing; else nothing."""
        if not self.missing:
            return ""
        if self.dispatch.is_running:
            return "A sync of this run has not ended yet: verify again when it has."
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
    age, is_running, is_known = 0, False, False
    for name, status, delivered, seconds in rows:
        is_known = True
        age = max(age, int(seconds))
        is_running = is_running or status == "running"
        if delivered and name not in _NOT_POSTHOG:
            kind = ObjectType(name) if name else ObjectType.EVENT  # a sync that was adopted by another name
            sent[kind] = sent.get(kind, 0) + int(delivered)
    return Dispatch(run_id, sent, age, is_running) if is_known else None
