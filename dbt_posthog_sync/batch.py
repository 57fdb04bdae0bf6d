"""Cutting a stream of rows into batches: by lane, by age, by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dbt_posthog_sync.destinations import UUID_PLACE, Batch, Refusal, Rows
from dbt_posthog_sync.errors import SettingsError

MIB = 1024 * 1024

HARD_BATCH_BYTES = 18 * MIB
"""Largest batch that may be asked for. `/batch/` takes 20 MiB of JSON, v1 50 MiB of JSON and 10 MiB compressed
(PostHog/posthog: rust/capture/src/router.rs and config.rs); the rest is room for what surrounds the messages."""

ENVELOPE_BYTES = 512
"""Reckoned for what a destination writes around one message: uuid, constants, punctuation."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full.

    Attributes:
        messages: most messages of one batch.
        bytes: most bytes of JSON of one batch; a single message may be larger on its own.
    """

    messages: int = 1_000
    bytes: int = 5 * MIB

    def __post_init__(self) -> None:
        if self.messages < 1:
            raise SettingsError("batch_messages must be at least 1.")
        if not ENVELOPE_BYTES <= self.bytes <= HARD_BATCH_BYTES:
            raise SettingsError(f"batch_bytes must lie between {ENVELOPE_BYTES} and {HARD_BATCH_BYTES}.")


class LaneBatch(NamedTuple):
    """A batch and the lane that must carry it."""

    lane: int
    batch: Batch


@dataclass(slots=True)
class _Pile:
    """Messages that may share a request, in their order; at most one batch and what a chunk has put on top of it."""

    positions: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    size: int = 0
    measured: int = 0

    def measure(self) -> None:
        """Add what came since the last time to `size`."""
        new = self.messages[self.measured :]
        self.size += sum(map(len, new)) + ENVELOPE_BYTES * len(new)
        self.measured = len(self.messages)

    def fitting(self, limits: BatchLimits) -> int:
        """How many of the first messages go into one batch: at least one, however large."""
        most = min(len(self.messages), limits.messages)
        if self.size <= limits.bytes:
            return most
        size = 0
        for count, message in enumerate(self.messages[:most]):
            size += len(message) + ENVELOPE_BYTES
            if size > limits.bytes and count:
                return count
        return most

    def take(self, count: int) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
        """Positions and messages of the first `count` messages, which are then no longer here."""
        taken = tuple(self.positions[:count]), tuple(self.messages[:count])
        del self.positions[:count], self.messages[:count]
        self.size = self.measured = 0
        self.measure()
        return taken


class BatchCutter:
    """Collects rows and gives out batches as they fill up; holds at most two unfinished batches for each lane."""

    def __init__(self, limits: BatchLimits, *, lanes: int, max_message_bytes: int, needs_person: bool) -> None:
        self._limits = limits
        self._largest = max_message_bytes
        self._needs_person = needs_person
        # Live rows collect at even places and historical ones at odd: PostHog takes the flag for a whole batch.
        self._piles = [_Pile() for _ in range(2 * lanes)]

    def add(self, rows: Rows) -> Iterator[LaneBatch | Refusal]:
        """Take the rows, and give every batch that they fill and a refusal for every row that is too large."""
        if not rows:
            return
        if max(map(len, rows.messages)) > self._largest:
            yield from self._too_large(rows)
            rows = Rows.of(row for row in rows if len(row.message) <= self._largest)
        piles, places = self._piles, len(self._piles)
        for position, lane, message in zip(rows.positions, rows.lanes, rows.messages, strict=True):
            pile = piles[lane % places]  # this loop meets every row
            pile.positions.append(position)
            pile.messages.append(message)
        for place, pile in enumerate(piles):
            pile.measure()
            while len(pile.messages) >= self._limits.messages or pile.size > self._limits.bytes:
                yield from self._cut(place)

    def rest(self) -> Iterator[LaneBatch]:
        """Give what is left, as batches that are not full."""
        for place, pile in enumerate(self._piles):
            while pile.messages:
                yield from self._cut(place)

    def _cut(self, place: int) -> Iterator[LaneBatch]:
        pile = self._piles[place]
        positions, messages = pile.take(pile.fitting(self._limits))
        batch = Batch(positions, messages, historical=bool(place % 2), needs_person=self._needs_person)
        for part in _without_repeats(batch):
            yield LaneBatch(place // 2, part)

    def _too_large(self, rows: Rows) -> Iterator[Refusal]:
        for position, _, message in rows:
            if (size := len(message)) > self._largest:
                reason = f"the message has {size:,} bytes; the destination takes {self._largest:,} at most"
                yield Refusal(position, reason)


def _without_repeats(batch: Batch) -> Iterator[Batch]:
    """Split the batch so that no uuid is twice in one part: PostHog refuses such a batch as a whole."""
    uuids = [message[UUID_PLACE] for message in batch.messages]
    begin, met = 0, set(uuids)
    if len(met) < len(uuids):
        met = set()
        for place, uuid in enumerate(uuids):
            if uuid in met:
                yield batch.part(slice(begin, place))
                begin, met = place, set()
            met.add(uuid)
    yield batch.part(slice(begin, None)) if begin else batch
