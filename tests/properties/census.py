"""The census of one sync of persons: its rows, whom they meant when they were delivered, and what must hold of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab import Lab
from models import POISON
from society import ADDRESSES, IDS, Meaning, Row

from dbt_posthog_sync.sync_run import SyncRun
from dbt_posthog_sync.testing import Person, Project, StoredEvent


@dataclass(frozen=True, slots=True)
class View:
    """What was there before a run.

    Attributes:
        persons: of PostHog.
        received: how many messages had arrived.
        rows: of the model.
        epoch: how often the lease had been taken.
    """

    persons: tuple[Person, ...]
    received: int
    rows: Mapping[str, tuple[Row, ...]]
    epoch: int


@dataclass
class Census:
    """One sync, its model, and the machine's own account of what was confirmed.

    Attributes:
        lab: where it runs.
        meaning: what the annotation makes of a row.
        rows: rows by key; two of a key are doubles.
        confirmed: note that the snapshot has of a key, and the persons whom the key meant then.
    """

    lab: Lab
    meaning: Meaning
    rows: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    confirmed: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    _has_state: bool = False

    def __post_init__(self) -> None:
        self.build()
        self._sync_id = self.lab.resolve(self.annotation).id

    @property
    def annotation(self) -> dict[str, Any]:
        """The annotation as it is now."""
        return {"name": self.lab.table, **self.meaning.annotation()}

    def key(self, which: int) -> str:
        """One of the three keys of the model."""
        return ADDRESSES[which] if self.meaning.by_email else IDS[which]

    def put(self, which: int, note: str, spelling: str) -> None:
        """A row is there with this content."""
        spelling = spelling if self.meaning.by_email else "{}"
        self.rows[self.key(which)] = (Row(self.key(which), self._note(which, note), spelling),)
        self.build()

    def _note(self, which: int, note: str) -> str:
        return note if note == POISON else f"{which}{note}"

    def drop(self, which: int) -> None:
        """A row is gone."""
        self.rows.pop(self.key(which), None)
        self.build()

    def double(self, which: int, spelling: str) -> None:
        """A row is there twice, in two spellings."""
        for row in self.rows.get(self.key(which), ())[:1]:
            other = spelling if self.meaning.by_email else "{}"
            self.rows[self.key(which)] = (row, Row(row.key, row.note, other))
        self.build()

    def build(self) -> None:
        """Build the model anew, as dbt does."""
        self.lab.build(self.meaning.select(row for rows in self.rows.values() for row in rows))

    # State.

    def _value(self, table: str, expression: str) -> Any:
        if not self._has_state:
            tables = "select count(*) from information_schema.tables where table_schema = '{state}' and table_name = "
            self._has_state = self.lab.sql(tables + "'sync_runs'") == [(1,)]
        if not self._has_state:
            return None
        rows = self.lab.sql(f"select {expression} from {{state}}.{table} where sync_id = '{self._sync_id}'")
        return rows[0][0] if rows else None

    def expire_lease(self) -> None:
        """Let the lease of a dead run be forgotten, without waiting for it."""
        if self._value("leases", "epoch") is not None:
            self.lab.sql("update {state}.leases set heartbeat_at = current_timestamp - interval '10' minute")

    def erased(self) -> frozenset[tuple[str, str]]:
        """Kind and identity of everybody who was erased."""
        if self._value("leases", "epoch") is None:
            return frozenset()
        return frozenset((str(k), str(i)) for k, i in self.lab.sql("select kind, identity from {state}.erased_persons"))

    def _logged(self, after: int) -> set[str]:
        log = self._value("syncs", "log_table")
        if log is None:
            return set()
        found = self.lab.sql(f'select distinct sync_key from {{state}}."{log}" where origin = 0 and epoch > {after}')
        return {str(key) for (key,) in found}

    # After every run.

    def look(self, project: Project) -> View:
        """What is there before a run."""
        epoch = int(self._value("leases", "epoch") or 0)
        return View(project.persons, len(project.received), dict(self.rows), epoch)

    def check(
        self,
        before: View,
        project: Project,
        *,
        erased: frozenset[tuple[str, str]],
        erased_now: frozenset[tuple[str, str]],
    ) -> None:
        """What holds after every run, also one that died."""
        new = [message for message in project.received[before.received :] if "note" in written(message)]
        self._check_repeats(project)
        for message in new:
            key = self.key(int(written(message)["note"][0])) if written(message)["note"] != POISON else None
            assert ("distinct_id", message.distinct_id) not in erased, f"{message.distinct_id} was erased"
            assert key is None or ("email", key) not in erased, f"{key} was erased"
            if key is not None:
                meant = self.meaning.of(key, before.persons) or frozenset()
                now = self.meaning.of(key, project.persons) or frozenset()
                assert message.distinct_id in meant | now, f"{key} does not mean {message.distinct_id}"
        if self.meaning.create_with is None:
            known = {distinct_id for person in before.persons for distinct_id in person.distinct_ids}
            assert {message.distinct_id for message in new} <= known, "update_only made a person"
        if self.meaning.deletes:
            self._check_erased_first(before, project, erased_now)
        self._note_confirmed(before)

    def _check_repeats(self, project: Project) -> None:
        """No uuid comes with another content, person or time."""
        seen: dict[str, tuple[str, str, str]] = {}
        for message in project.received:
            if "note" in written(message):
                said = (message.distinct_id, str(sorted(written(message).items())), str(message.timestamp))
                assert seen.setdefault(message.uuid, said) == said, f"one uuid, two messages: {said}"

    def _check_erased_first(self, before: View, project: Project, erased: frozenset[tuple[str, str]]) -> None:
        left = {distinct_id for person in project.persons for distinct_id in person.distinct_ids}
        for person in before.persons:
            for distinct_id in person.distinct_ids:
                assert distinct_id in left or ("distinct_id", distinct_id) in erased, f"{distinct_id} is not remembered"

    def _note_confirmed(self, before: View) -> None:
        for key in self._logged(before.epoch):
            rows = self.rows.get(key, ())
            if before.rows.get(key) != rows or len(rows) != 1:
                self.confirmed.pop(key, None)  # which of its contents it was, nobody can tell from outside
                continue
            meant = self.meaning.of(key, before.persons)
            assert meant is not None, f"{key} means several and was confirmed"
            self.confirmed[key] = (rows[0].note, meant)

    # At rest.

    def check_rest(self, run: SyncRun, project: Project, erased: frozenset[tuple[str, str]]) -> None:
        """Every row that can be delivered has reached whom it meant; the sums are those of the rows."""
        waiting = 0
        for key, rows in self.rows.items():
            meant = self.meaning.of(key, project.persons)
            is_erased = ("email", key) in erased or ("distinct_id", key) in erased
            if len(rows) > 1 or rows[0].note == POISON or not meant or (is_erased and not self.meaning.deletes):
                waiting += 1
                continue
            if all(("distinct_id", distinct_id) in erased for distinct_id in meant) and not self.meaning.deletes:
                waiting += 1
                continue
            self._check_reached(key, rows[0], project, meant)
        assert run.counts.skipped + run.counts.rejected <= 2 * sum(map(len, self.rows.values()))
        assert waiting or run.counts.skipped + run.counts.rejected == 0, run

    def _check_reached(self, key: str, row: Row, project: Project, meant: frozenset[str]) -> None:
        known = self.confirmed.get(key)
        if known is None or self.meaning.deletes:
            return
        note, then = known
        for distinct_id in then & meant:
            last = [
                written(m)["note"] for m in project.received if m.distinct_id == distinct_id and about(m, key, self)
            ]
            assert last[-1:] == [row.note], f"{key} is {row.note}, {distinct_id} has {last[-1:]} ({note} was confirmed)"


def about(message: StoredEvent, key: str, census: Census) -> bool:
    """True for a message of the row with this key."""
    note = str(written(message).get("note", ""))
    return note[:1].isdigit() and census.key(int(note[0])) == key


def written(message: StoredEvent) -> dict[str, Any]:
    """The properties that a message writes."""
    found = message.properties.get("$set")
    return dict(found) if isinstance(found, dict) else {}
