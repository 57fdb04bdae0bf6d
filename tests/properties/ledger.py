"""The ledger of one model: what it holds, what PostHog was offered, and what PostHog must therefore have at rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from lab import Lab, fresh_name
from models import FUTURE, KEYS, Cell, Flaw, Kind, matches, select

from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import StoredEvent

_LOOKBACK = timedelta(days=1)
_FINISHED = (RunStatus.SUCCESS, RunStatus.REJECTED)


class Ledger:
    """One model, its annotation, and the machine's own account of what the protocol promises about each row."""

    def __init__(self, kind: Kind, lab: Lab) -> None:
        self.kind = kind
        self.lab = replace(lab, table=fresh_name(kind.name))
        self.rows: dict[str, Cell] = {}
        self.mapping = kind.mappings[0]
        self.build()
        self._sync_id = self.lab.resolve(self.annotation).id
        self._offered: dict[str, list[tuple[str | None, Mapping[str, Any]]]] = defaultdict(list)
        self._unchanged_since: dict[str, int] = dict.fromkeys(KEYS, 0)
        self._promised: set[str] = set()
        self._first: dict[str, Mapping[str, Any]] = {}
        self._gone: set[str] = set()
        self._returned: dict[str, int] = {}
        self._horizon: str | None = None
        self._state_exists = False

    @property
    def annotation(self) -> dict[str, Any]:
        """The annotation as it is now."""
        return {"name": self.kind.name, **self.kind.annotation(self.mapping)}

    @property
    def has_moved(self) -> bool:
        """True while a row has another person than the one it was delivered with."""
        return any(cell.flaw is Flaw.MOVED for cell in self.rows.values())

    # What happens to the model.

    def build(self) -> None:
        """Build the model anew, as dbt does."""
        self.lab.build(select(self.kind, self.rows))

    def change(self, cells: Mapping[str, Cell | None]) -> None:
        """Rows appear, change and vanish, and the model is built."""
        for key, cell in cells.items():
            if cell is None:
                self.rows.pop(key, None)
                self._promised.discard(key)
            else:
                self._put(key, cell)
        self.build()
        self.touch(*cells)

    def _put(self, key: str, cell: Cell) -> None:
        known = self.rows.get(key)
        if known is not None:
            # A cursor grows for new rows; a row that stays keeps its own, or nobody could say what it promises.
            cell = replace(cell, loaded=known.loaded)
        elif self._is_in_window(cell):
            self._promised.add(key)
        if key in self._gone:
            self._gone.discard(key)
            self._returned[key] = len(self._received)
        self.rows[key] = cell
        self._offer(key, cell)

    def remap(self, mapping: Mapping[str, Any]) -> None:
        """The annotation changes: every message is another one."""
        self.mapping = mapping
        for key, cell in self.rows.items():
            self._offer(key, cell)
        self.touch(*KEYS)

    def _offer(self, key: str, cell: Cell) -> None:
        if cell.flaw is Flaw.NONE:
            self._offered[key].append((cell.note, self.mapping))

    def touch(self, *keys: str) -> None:
        """From here on a message about these rows may be another one than before."""
        self._unchanged_since.update(dict.fromkeys(keys, len(self._received)))

    # What a run promises.

    def has_run(self, run: SyncRun | None, *, full_refresh: bool = False, before: str | None = None) -> None:
        """A run came to its end, or (None) died before that; `before` is a horizon from before a rebuild in it."""
        if full_refresh:
            self.touch(*KEYS)
            self._first.clear()
        found = max(filter(None, (self.newest, before)), default=None)
        if run is None or before is not None:
            # Nobody knows what it saw and whether it got to move the window: the promise is the smaller one.
            self._horizon = max(filter(None, (self._horizon, found)), default=None)
        elif run.status in _FINISHED and run.counts.moved == 0:
            self._horizon = found
        if run is None or run.status is RunStatus.REJECTED:
            self.touch(*self._refused_for_now())

    def _refused_for_now(self) -> list[str]:
        """Rows that PostHog refused and that every run tries anew: what is sent then is no repeat of a message."""
        if not self._has_state():
            return []
        rows = self.lab.sql(
            "select sync_key from {state}.rejected_rows where resolved_at is null and try_again = 'every run' "
            f"and sync_key is not null and sync_id = '{self._sync_id}'"
        )
        return [str(key) for (key,) in rows]

    @property
    def promises_everything(self) -> bool:
        """True while no row came too late for its window."""
        return self._promised >= self.rows.keys()

    @property
    def newest(self) -> str | None:
        """The highest cursor value that is not in the future."""
        return max((c.loaded for c in self.rows.values() if c.loaded not in (None, FUTURE)), default=None)  # type: ignore[type-var]

    def _is_in_window(self, cell: Cell) -> bool:
        """A row that comes later than the lookback allows is taken by `--full-scan` alone: the promise ends there."""
        if not self.kind.has_cursor or cell.loaded is None or self._horizon is None:
            return True
        return date.fromisoformat(cell.loaded) >= date.fromisoformat(self._horizon) - _LOOKBACK

    # What PostHog has.

    @property
    def _received(self) -> tuple[StoredEvent, ...]:
        return self.lab.posthog.project.received

    def messages(self, since: int = 0) -> dict[str, list[StoredEvent]]:
        """What PostHog kept about each row, in the order of arrival."""
        found: dict[str, list[StoredEvent]] = defaultdict(list)
        for message in self._received[since:]:
            key = self.kind.key_of(message)
            if key is not None:
                found[key].append(message)
        return found

    def check_repeats(self) -> None:
        """What is sent again is the same message: for an event always, for a person while the row stands still."""
        messages = self.messages()
        for key, all_of_key in messages.items():
            since = 0 if self.kind.is_event else self._unchanged_since[key]
            # What is stored without its person was refused, so the next attempt is no repeat.
            later = {m.uuid for m in all_of_key if m.number > since and not m.personless}
            assert len(later) <= 1, f"{key} of {self.kind.name} was sent again as another message"
        tuples = {(m.uuid, m.event, m.distinct_id, m.timestamp) for listed in messages.values() for m in listed}
        assert len(tuples) == len({uuid for uuid, *_ in tuples}), f"{self.kind.name}: one uuid, several tuples"

    def check_snapshot(self) -> None:
        """A row is in the snapshot only if PostHog accepted that very row: no more contents than PostHog was given."""
        kept = {key: self._contents(listed) for key, listed in self.messages().items()}
        known = self.confirmed()
        if not known.keys() <= set(KEYS):  # a page's key is a digest
            kept, known = {"": sum(kept.values())}, {"": sum(known.values())}
        for key, hashes in known.items():
            assert hashes <= kept.get(key, 0), f"{key} of {self.kind.name} is confirmed and PostHog never got it"

    def _contents(self, listed: list[StoredEvent]) -> int:
        if not self.kind.is_event:  # the uuid has the row hash in it
            return len({message.uuid for message in listed})
        return len({str(sorted(self.kind.said(message).items())) for message in listed})

    def confirmed(self) -> dict[str, int]:
        """Delivered contents by sync key, as the snapshot's log has them. It is never folded: that takes 1,000 rows."""
        log = self.stored("log_table")
        if log is None:
            return {}
        rows = self.lab.sql(
            f'select sync_key, count(distinct row_hash) from {{state}}."{log}" where origin = 0 group by sync_key'
        )
        return {str(key): int(count) for key, count in rows}

    def _check_removed(self) -> None:
        """Persons and groups that left the model left the snapshot as well, and the counted keys are the real ones."""
        ranked = (
            "select sync_key, origin, row_number() over (partition by sync_key order by epoch desc, origin) as place "
            f'from {{state}}."{self.stored("log_table")}"'
        )
        known = {key for (key,) in self.lab.sql(f"select sync_key from ({ranked}) r where place = 1 and origin <> 2")}
        assert known <= self.rows.keys(), f"{known - self.rows.keys()} of {self.kind.name} are gone without a tombstone"
        if self.stored("is_settled"):
            assert self.stored("live_keys") == len(known)

    # The state schema.

    def stored(self, column: str) -> Any:
        """A column of the sync's row; None before the first run."""
        return self._state_value("syncs", column)

    @property
    def epoch(self) -> int:
        """How often the lease of the sync was taken."""
        return int(self._state_value("leases", "epoch") or 0)

    @property
    def is_under_way(self) -> bool:
        """True while a run holds the lease and was heard of."""
        return bool(self._state_value("leases", "is_held and heartbeat_at > current_timestamp - interval '1' minute"))

    def expire_lease(self) -> None:
        """Let the lease of a dead or sleeping run be forgotten, without waiting for it."""
        if self._has_state():
            self.lab.sql("update {state}.leases set heartbeat_at = current_timestamp - interval '10' minute")

    def _state_value(self, table: str, expression: str) -> Any:
        if not self._has_state():
            return None
        rows = self.lab.sql(f"select {expression} from {{state}}.{table} where sync_id = '{self._sync_id}'")
        return rows[0][0] if rows else None

    def _has_state(self) -> bool:
        if not self._state_exists:
            tables = "select count(*) from information_schema.tables where table_schema = '{state}' and table_name = "
            self._state_exists = self.lab.sql(tables + "'sync_runs'") == [(1,)]  # the last one that is created
        return self._state_exists

    # At rest.

    def compare(self, run: SyncRun, *, everything: bool) -> None:
        """PostHog equals the model, as far as the protocol promises it; `everything` after a full scan."""
        project, messages = self.lab.posthog.project, self.messages()
        for key in KEYS:
            kept = self.kind.kept(project, key)
            self._check_kept(key, kept)
            cell = self.rows.get(key)
            if cell is None or not cell.is_good or not (everything or key in self._promised):
                continue
            assert kept is not None, f"{key} of {self.kind.name} is lost"
            if self.kind.follows_changes:
                expected = self.kind.expected(cell.note, self.mapping)
                assert matches(kept, expected), f"{key} of {self.kind.name}: {kept} is not {expected}"
            else:
                # An event with on_change: ignore keeps the content that was accepted first.
                self._first[key] = kept
            if key in self._returned and not self.kind.is_event:
                assert messages[key][-1].number > self._returned.pop(key), f"{key} came back and was not sent"
        self._check_rejected(run, everything=everything)
        if not self.kind.is_event:
            self._check_removed()
        self._gone |= {key for key in KEYS if key not in self.rows}

    def _check_kept(self, key: str, kept: Mapping[str, Any] | None) -> None:
        if kept is None:
            return
        offered = (self.kind.expected(note, mapping) for note, mapping in self._offered[key])
        assert any(matches(kept, one) for one in offered), f"{key} of {self.kind.name} never was {kept}"
        if key in self._first:
            assert kept == self._first[key], f"{key} of {self.kind.name} was delivered and is another now"

    def _check_rejected(self, run: SyncRun, *, everything: bool) -> None:
        """No good row is rejected, and every flawed one that PostHog knows nothing of is."""
        project = self.lab.posthog.project
        flawed = {key: 2 if c.flaw is Flaw.TWICE else 1 for key, c in self.rows.items() if not c.is_good}
        unknown = [
            count
            for key, count in flawed.items()
            if self.kind.kept(project, key) is None and (everything or key in self._promised)
        ]
        assert sum(unknown) <= run.counts.rejected <= sum(flawed.values()), f"{run.reasons} of {flawed}"
