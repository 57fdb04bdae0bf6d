"""The courier: staged rows from the warehouse to the destination, and its word back into the snapshot.

```
warehouse --stream--> rows --> Delivery --> outcomes --> Tally --every few seconds--> Snapshot.confirm, .refuse
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from operator import eq

from dbt_posthog_sync.delivery import Delivered, Delivery, Doubted, Outcome, Refused, Repeated, Rows
from dbt_posthog_sync.destinations import Refusal
from dbt_posthog_sync.errors import SyncError
from dbt_posthog_sync.onlooker import Watch
from dbt_posthog_sync.plan import StagedRows
from dbt_posthog_sync.warehouse import Columns, Warehouse
from dbt_posthog_sync.warehouse.positions import Positions
from dbt_posthog_sync.warehouse.snapshot import Snapshot

# A confirm may take at most this share of the time: a warehouse where statements are dear is confirmed less often.
_CONFIRM_SHARE = 10
# However long a confirm takes: positions that wait for it are memory.
_MOST_UNCONFIRMED = 2_000_000
# Two connections make messages as fast as one process carries them away.
_READERS = 2
_ROWS_FOR_ONE_READER = 20_000


@dataclass(slots=True)
class Tally:
    """What became of the staged rows so far; only what is written in the warehouse counts as delivered or refused.

    Attributes:
        delivered: rows that PostHog accepted.
        warned: of these, how many were stored without person processing.
        streamed: rows that came out of the warehouse as messages.
        is_complete: true when every message that came has its outcome.
        refusals: refused rows by reason.
        volatile: of the refused, how many never came as a message because they move in every run.
        doubted: positions of rows that were sent without an answer; the destination may have them.
    """

    delivered: int = 0
    warned: int = 0
    streamed: int = 0
    is_complete: bool = False
    refusals: dict[str, int] = field(default_factory=dict)
    volatile: int = 0
    doubted: list[int] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Rows that the destination refused."""
        return sum(self.refusals.values())

    def refuse(self, reason: str, rows: int = 1) -> None:
        """Count refused rows."""
        if rows:
            self.refusals[reason] = self.refusals.get(reason, 0) + rows


@dataclass(frozen=True, slots=True)
class CourierSettings:
    """How rows are carried.

    Attributes:
        confirm_seconds: longest time between two confirms, unless a confirm itself is slow.
        stream_seconds: longest life of one stream; it is then opened again on what is not confirmed, because an open
            stream holds the table that dbt wants to replace.
    """

    confirm_seconds: float = 5.0
    stream_seconds: float = 600.0


class Courier:
    """Delivers the staged rows of one sync."""

    def __init__(
        self,
        warehouse: Warehouse,
        snapshot: Snapshot,
        delivery: Delivery,
        settings: CourierSettings,
        clock: Callable[[], float],
    ) -> None:
        self._warehouse = warehouse
        self._snapshot = snapshot
        self._delivery = delivery
        self._settings = settings
        self._clock = clock
        self._accepted, self._unconfirmed = Positions(), 0
        self._refusals: list[Refusal] = []
        self._confirm_at = 0.0

    def deliver(self, staged: StagedRows, tally: Tally, watch: Watch) -> None:
        """Stream and send until every staged row has its outcome, or the delivery is stopped.

        What was accepted is confirmed every few seconds; the last of it is left to `confirm`.

        Raises:
            SyncError: what stopped it; everything that was accepted before is confirmed all the same.
        """
        seen = _Seen(staged.rows + staged.rejected_rows + staged.skipped_rows + 1)
        in_parcels, resume = self._snapshot.arguments.has_places, False
        readers = _READERS if staged.pending > _ROWS_FOR_ONE_READER else 1
        while True:
            stream = _Stream(self._clock() + self._settings.stream_seconds, self._clock, seen, tally)
            with self._open(readers if in_parcels else 0, resume=resume) as chunks:
                self._carry(stream.rows(chunks), tally, watch)
            # What does not lie any more where it was staged comes by its key.
            is_rest_elsewhere = in_parcels and tally.streamed < staged.pending
            if self._delivery.stopped or not (stream.is_expired or is_rest_elsewhere):
                tally.is_complete = not self._delivery.stopped
                return
            self.confirm(tally)
            in_parcels, resume = False, True

    def _open(self, readers: int, *, resume: bool) -> AbstractContextManager[Iterator[Columns]]:
        sync = self._snapshot.arguments.for_macro()
        if readers:
            return self._warehouse.stream("message_parcels", readers=readers, sync=sync)
        return self._warehouse.stream("message_stream", sync=sync, resume=resume)

    def _carry(self, rows: Iterator[Rows], tally: Tally, watch: Watch) -> None:
        self._confirm_at = self._clock() + self._settings.confirm_seconds
        with closing(self._delivery.run(rows)) as outcomes:
            try:
                for outcome in outcomes:
                    self._take(outcome, tally, watch)
                    if self._clock() >= self._confirm_at or self._unconfirmed >= _MOST_UNCONFIRMED:
                        self.confirm(tally)
                    watch.settles(tally.delivered + tally.refused + self._unconfirmed)
            except SyncError:
                # The outcomes before the error are PostHog's word all the same.
                self.confirm(tally)
                raise

    def _take(self, outcome: Outcome, tally: Tally, watch: Watch) -> None:
        match outcome:
            case Delivered(positions, warned):
                self._accepted.add(positions)
                self._unconfirmed += len(positions)
                tally.warned += warned
            case Refused(refusals):
                self._refusals.extend(refusals)
            case Doubted(positions):
                tally.doubted.extend(positions)
            case Repeated(reason):
                watch.repeats(reason)

    def confirm(self, tally: Tally) -> None:
        """Write down what was accepted and refused since the last time.

        Raises:
            LeaseLost: another run took over; nothing was written.
        """
        begun = self._clock()
        if self._unconfirmed:
            self._snapshot.confirm(self._accepted)
            tally.delivered += self._unconfirmed
            self._accepted, self._unconfirmed = Positions(), 0
        if self._refusals:
            self._snapshot.refuse(self._refusals)
            for refusal in self._refusals:
                tally.refuse(refusal.reason)
            self._refusals = []
        taken = self._clock() - begun
        self._confirm_at = self._clock() + max(self._settings.confirm_seconds, _CONFIRM_SHARE * taken)


class _Seen:
    """Positions that were streamed, a bit each: a key that became double since staging is sent once."""

    def __init__(self, positions: int) -> None:
        self._bits = bytearray(positions // 8 + 1)

    def new(self, rows: Rows) -> Rows:
        """The rows whose positions are met for the first time, here and in earlier calls; they are remembered."""
        if self._takes_run(rows.positions):
            return rows
        bits, repeated = self._bits, []
        for place, position in enumerate(rows.positions):  # this loop meets every row
            index, bit = position >> 3, 1 << (position & 7)
            if bits[index] & bit:
                repeated.append(place)
            bits[index] |= bit
        if not repeated:
            return rows
        known = set(repeated)
        return Rows.of(row for place, row in enumerate(rows) if place not in known)

    def _takes_run(self, positions: Sequence[int]) -> bool:
        """Remember positions that follow each other without a gap, whole bytes at once.

        Returns:
            False, with nothing remembered, where they do not, or where one of them was met before.
        """
        begin, end = positions[0], positions[-1] + 1
        first, beyond = -(-begin // 8), end // 8
        if first >= beyond or end - begin != len(positions) or not all(map(eq, positions, range(begin, end))):
            return False
        bits, edges = self._bits, [*range(begin, 8 * first), *range(8 * beyond, end)]
        is_known = any(bits[edge >> 3] & 1 << (edge & 7) for edge in edges)
        if is_known or bits.count(0, first, beyond) < beyond - first:
            return False
        bits[first:beyond] = b"\xff" * (beyond - first)
        for edge in edges:
            bits[edge >> 3] |= 1 << (edge & 7)
        return True


class _Stream:
    """Turns what the warehouse delivers into rows, and ends when its time is over."""

    def __init__(self, ends_at: float, clock: Callable[[], float], seen: _Seen, tally: Tally) -> None:
        self._ends_at = ends_at
        self._clock = clock
        self._seen = seen
        self._tally = tally
        self.is_expired = False

    def rows(self, chunks: Iterator[Columns]) -> Iterator[Rows]:
        """Rows in chunks; sets `is_expired` when time ran out before the rows did."""
        for chunk in chunks:
            rows = self._seen.new(rows_of(chunk))
            self._tally.streamed += len(rows)
            yield rows
            if self._clock() >= self._ends_at:
                self.is_expired = True
                return


def rows_of(chunk: Columns) -> Rows:
    """Streamed columns as rows; what came as text becomes numbers and bytes."""
    positions, lanes, messages = chunk
    if isinstance(messages[0], bytes):
        return Rows(list(map(int, positions)), list(map(int, lanes)), messages)
    return Rows(positions, lanes, list(map(str.encode, messages)))
