"""A plan: what a run would do, and the guards that stop it when that looks wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbt_posthog_sync.errors import UnsafePlan

# From here on a share of changed rows says something; below it a handful of edits would already be a large share.
GUARDS_FROM_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Counts of one staging.

    Attributes:
        rows: rows of the model that were looked at.
        unchanged: rows that PostHog has already.
        added: rows to send whose key is new.
        changed: rows to send whose content differs from what PostHog has; a row counts once for each person it means.
        changed_repeats: of these, how many stand for a further person of a row.
        rejected: (reason, rows) of rows that are not sent.
        skipped: (reason, rows) of rows that are left out as the annotation or an erasure wants it.
        examples: (reason, sync key) of one rejected or skipped row each.
        matched: rows whose key PostHog has, before duplicates were taken out.
        is_first: true when nothing had been delivered before.
        has_table: true when there were rows to stage.
    """

    rows: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    changed_repeats: int = 0
    rejected: tuple[tuple[str, int], ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    examples: tuple[tuple[str, str | None], ...] = ()
    matched: int = 0
    is_first: bool = False
    has_table: bool = False

    @property
    def pending(self) -> int:
        """Rows that a run would send."""
        return self.added + self.changed

    @property
    def rejected_rows(self) -> int:
        """Rows that are not sent because of what they hold."""
        return sum(count for _, count in self.rejected)

    @property
    def skipped_rows(self) -> int:
        """Rows that are left out without a fault of theirs."""
        return sum(count for _, count in self.skipped)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may do without being asked for `--force`; None switches a limit off."""

    max_changed_percent: float | None = 50
    max_removed_percent: float | None = 30
    max_events: int | None = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One message as it would be sent, for people to read: its parts are text."""

    uuid: str
    head: str
    properties: str


@dataclass(frozen=True, slots=True)
class PlannedDeletion:
    """How a run that deletes persons is held back.

    Attributes:
        max_persons: most persons of one run.
        events: true when their events are deleted too.
        is_first: true when no run of the sync has shown yet what it would delete.
    """

    max_persons: int
    events: bool = False
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class PlannedForwarding:
    """What PostHog hands on to Loops, and how slowly it is sent for that.

    Attributes:
        exposures: names of the exposures with `via: posthog` whose destinations every event sets off.
        events_per_second: most that is sent.
    """

    exposures: tuple[str, ...]
    events_per_second: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of one sync would do.

    Attributes:
        sync_name: name of the sync.
        model: name of the model.
        object: the PostHog object.
        staged: counts of the staging.
        live_keys: keys that PostHog has.
        removed: keys that PostHog has and the model has no more.
        outside: rows outside the cursor's window.
        takes_as_known: true when rows are taken as delivered and none is sent (`backfill: false`, `--rebaseline`).
        known: rows that would be taken as delivered.
        deletion: set where the persons of the rows are deleted.
        only_rejects: true when only rejected rows are looked at, which says nothing about the model as a whole.
        mapping_changed: true when the annotation decides differently what is sent than it did in the last run.
        dropped_properties: properties that the annotation had in the last run and has no more; PostHog keeps them.
        requests_per_second: at which rate the messages go, one by one; None where they go in batches.
        hash_changed: true when the warehouse hashes rows differently than in the last run.
        samples: a few messages.
        forwarding: set where PostHog hands the events on to Loops.
    """

    sync_name: str
    model: str
    object: str
    staged: StagedRows
    live_keys: int = 0
    removed: int = 0
    outside: int = 0
    takes_as_known: bool = False
    known: int = 0
    deletion: PlannedDeletion | None = None
    only_rejects: bool = False
    mapping_changed: bool = False
    dropped_properties: tuple[str, ...] = ()
    requests_per_second: float | None = None
    hash_changed: bool = False
    samples: tuple[Sample, ...] = ()
    forwarding: PlannedForwarding | None = None

    @property
    def shows_deletion(self) -> bool:
        """True when a run stops here because it is the one that only says whom it would delete."""
        deletion = self.deletion
        return deletion is not None and deletion.is_first and 0 < self.estimated_events <= deletion.max_persons

    @property
    def estimated_events(self) -> int:
        """Events a run would send."""
        return 0 if self.takes_as_known else self.staged.pending

    def guard(self, limits: Limits) -> None:
        """Stop before anything is sent when the plan looks like an accident.

        Raises:
            UnsafePlan: with every number that is beyond its limit, and the flags that lead on.
        """
        found = tuple(self._objections(limits))
        if found:
            done = "sent" if self.deletion is None else "deleted"
            raise UnsafePlan(f"{self.sync_name}: nothing was {done}. " + " ".join(found))

    def _objections(self, limits: Limits) -> Iterator[str]:
        staged = self.staged
        if self.deletion is not None:
            yield from self._objections_to_deletion(self.deletion)
            return
        if staged.rows == 0 and self.outside == 0 and self.live_keys > 0 and not self.only_rejects:
            yield (
                f"The model is empty and PostHog has {self.live_keys} of its rows. "
                "If the model is meant to be empty, run with --force."
            )
            return
        if self.takes_as_known and staged.rows == 0:
            yield (
                "The rows that are present should be taken as known, but the model is empty. Build it first; if it is "
                "meant to be empty, run with --force."
            )
        if limits.max_events is not None and self.estimated_events > limits.max_events:
            yield (
                f"{self.estimated_events} events would be sent, the limit max_events is {limits.max_events}. "
                "Run with --force, or raise the limit in posthog_sync.yml."
            )
        if self.live_keys >= GUARDS_FROM_ROWS and not self.only_rejects:
            if not self.takes_as_known:
                yield from self._objections_to_changes(limits)
            yield from self._objections_to_removals(limits)

    def _objections_to_changes(self, limits: Limits) -> Iterator[str]:
        """Rows that changed, or that only look changed; each cause has its own way on."""
        rows = self.staged.changed - self.staged.changed_repeats  # as the known keys are counted
        changed, most = 100 * rows / self.live_keys, limits.max_changed_percent
        numbers = f"{rows} of {self.live_keys} rows"
        if self.hash_changed and self.staged.changed:
            # Never meant, unlike the other two, so no limit switches it off.
            yield (
                f"The warehouse computes row hashes differently than in the last run (after an upgrade of it?), so "
                f"{numbers} look changed. --rebaseline takes the present rows as delivered and sends nothing; --force "
                "sends them again."
            )
        elif most is None or changed <= most:
            return
        elif self.mapping_changed:
            yield (
                f"The annotation, or the type of a column, changed since the last run, so {numbers} ({changed:.0f} %) "
                f"would be sent again, the limit max_changed_percent is {most:g}. --force sends them; --rebaseline "
                "takes those whose content is as it was delivered as known and sends nothing."
            )
        else:
            yield (
                f"{numbers} changed ({changed:.0f} %), the limit max_changed_percent is {most:g}. If that is right, "
                "run with --force; --rebaseline takes the present rows as delivered and sends nothing."
            )

    def _objections_to_deletion(self, deletion: PlannedDeletion) -> Iterator[str]:
        persons = self.estimated_events
        what = f"{persons} {'person' if persons == 1 else 'persons'}{' and their events' if deletion.events else ''}"
        if persons > deletion.max_persons:
            yield (
                f"{what} would be deleted, the limit deletion.max_persons is {deletion.max_persons}. If that is right, "
                "raise it in posthog_sync.yml, or run with --force."
            )
        elif self.shows_deletion:
            yield (
                f"{what} would be deleted. The first run of a sync that deletes only says so; the next one deletes "
                "them, and nobody can bring them back."
            )

    def _objections_to_removals(self, limits: Limits) -> Iterator[str]:
        removed = 100 * self.removed / self.live_keys
        if limits.max_removed_percent is not None and removed > limits.max_removed_percent:
            yield (
                f"{self.removed} of {self.live_keys} rows are gone from the model ({removed:.0f} %), the limit "
                f"max_removed_percent is {limits.max_removed_percent:g}. If that is right, run with --force."
            )
