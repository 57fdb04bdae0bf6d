"""Cutting a stream of rows into batches: by lane, by age, by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dbt_posthog_sync.destinations import UUID_PLACE, Batch, Refusal, Row
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


class BatchCutter:
    """Collects rows and gives out batches as they fill up; holds at most two unfinished batches for each lane."""

    def __init__(self, limits: BatchLimits, *, lanes: int, max_message_bytes: int, needs_person: bool) -> None:
        self._limits = limits
        self._lanes = lanes
        self._largest = max_message_bytes
        self._needs_person = needs_person
        # Live rows collect at even places and historical ones at odd: PostHog takes the flag for a whole batch.
        self._rows: list[list[Row]] = [[] for _ in range(2 * lanes)]
        self._bytes = [0] * (2 * lanes)

    def add(self, rows: Iterable[Row]) -> Iterator[LaneBatch | Refusal]:
        """Take the rows, and give every batch that they fill and a refusal for every row that is too large."""
        # This loop meets every row, so it reads no attribute twice.
        places, most, most_bytes, largest = 2 * self._lanes, self._limits.messages, self._limits.bytes, self._largest
        collected, sizes = self._rows, self._bytes
        for row in rows:
            _, lane, message = row
            size = len(message)
            if size > largest:
                yield self._too_large(row, size)
                continue
            size += ENVELOPE_BYTES
            index = lane % places
            if sizes[index] + size > most_bytes and collected[index]:
                yield from self._cut(index)
            mine = collected[index]
            mine.append(row)
            sizes[index] += size
            if len(mine) >= most:
                yield from self._cut(index)

    def rest(self) -> Iterator[LaneBatch]:
        """Give what is left, as batches that are not full."""
        for index, rows in enumerate(self._rows):
            if rows:
                yield from self._cut(index)

    def _cut(self, index: int) -> Iterator[LaneBatch]:
        rows = self._rows[index]
        self._rows[index] = []
        self._bytes[index] = 0
        for messages in _without_repeats(rows):
            yield LaneBatch(index // 2, Batch(messages, historical=bool(index % 2), needs_person=self._needs_person))

    def _too_large(self, row: Row, size: int) -> Refusal:
        return Refusal(row.position, f"the message has {size:,} bytes; the destination takes {self._largest:,} at most")


def _without_repeats(rows: list[Row]) -> Iterator[tuple[Row, ...]]:
    """Split the rows so that no uuid is twice in one part: PostHog refuses such a batch as a whole."""
    if len({row[2][UUID_PLACE] for row in rows}) == len(rows):
        yield tuple(rows)
        return
    part: dict[str, Row] = {}
    for row in rows:
        if row.uuid in part:
            yield tuple(part.values())
            part = {}
        part[row.uuid] = row
    yield tuple(part.values())
