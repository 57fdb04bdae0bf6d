"""Rows change, runs are killed, overlap and meet faults; at rest PostHog equals the model and nothing is kept twice.

`DBT_POSTHOG_SYNC_TEST_EXAMPLES=500 make test ARGS=tests/properties/test_sync_machine.py` looks deeper, with other
examples each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from lab import Lab, fresh_name
from ledger import Ledger
from models import CURSORS, KEYS, NOTES, POISON, Cell, Flaw, Kind, all_kinds
from mortal import Killed
from weather import NOWHERE, EventfulWarehouse, Place, Weather, in_another_session

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import (
    CloseConnection,
    CutAnswer,
    CutRequest,
    EventResults,
    ExpiredKey,
    Fault,
    LoseAnswer,
    Status,
    Verdict,
)

EXAMPLES = int(os.environ.get("DBT_POSTHOG_SYNC_TEST_EXAMPLES", "0"))
FAULTS = st.sampled_from(
    [
        None,
        Status(500),
        Status(503),
        Status(429, retry_after=0.0),
        Status(400, body="no"),
        Status(404),
        Status(413, body="large"),
        Status(200, body="<html>a proxy</html>"),
        ExpiredKey(),
        CloseConnection(),
        CutRequest(),
        LoseAnswer(),
        LoseAnswer(),
        CutAnswer(),
        EventResults(lambda _event: Verdict("retry")),
        EventResults(lambda _event: Verdict("absent")),
        EventResults(lambda _event: Verdict("warning", "person_processing_disabled")),
        EventResults(lambda event: Verdict("retry") if str(event["uuid"])[0] < "8" else None),
    ]
)
# A few faults and then fair weather, or one that lasts until the run gives up.
SEVERAL_FAULTS = st.one_of(
    st.lists(FAULTS, max_size=6).map(tuple),
    FAULTS.map(lambda fault: (fault,) * 12),
    st.just((None, *(LoseAnswer(),) * 12)),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run is started, and what its settings are."""

    protocol: str = "auto"
    confirm_seconds: float = 0.0
    stream_seconds: float = 600.0
    full_refresh: bool = False
    full_scan: bool = False
    steal: bool = False

    @property
    def courier(self) -> CourierSettings:
        """Confirm after each answer or at the end; one stream, or a new one after every chunk."""
        return CourierSettings(confirm_seconds=self.confirm_seconds, stream_seconds=self.stream_seconds)


MANNERS = st.builds(
    Manner,
    protocol=st.sampled_from(("auto", "auto", "v1", "v0")),
    confirm_seconds=st.sampled_from((0.0, 0.0, 5.0)),
    stream_seconds=st.sampled_from((600.0, 600.0, 0.0)),
    full_refresh=st.sampled_from((False,) * 7 + (True,)),
    full_scan=st.booleans(),
    steal=st.booleans(),
)


MACROS = (
    "read_rejected",
    "stage",
    "update_sync",
    "message_stream",
    "confirm",
    "confirm",
    "insert_refused",
    "end_sync_run",
)
PLACES = st.one_of(
    st.builds(Place, statement=st.integers(1, 40)),
    st.builds(Place, macro=st.sampled_from(MACROS), statement=st.sampled_from((1, 1, 2))),
)
MOMENTS = st.one_of(PLACES, st.builds(Place, request=st.sampled_from((1, 1, 2, 3))))


@dataclass(frozen=True, slots=True)
class Rival:
    """A run that takes over while another one pauses, and may die itself."""

    comes_at: Place
    manner: Manner
    dies_at: Place


RIVALS = st.builds(
    Rival,
    comes_at=MOMENTS,
    manner=MANNERS.map(lambda manner: replace(manner, full_refresh=False)),
    # Perhaps between taking the lease and staging, when the first run's staged rows are still there.
    dies_at=st.one_of(st.just(NOWHERE), st.builds(Place, macro=st.sampled_from(("read_rejected", "stage"))), PLACES),
)


@dataclass(slots=True)
class Journey:
    """Everything that one run meets."""

    manner: Manner
    faults: tuple[Fault | None, ...] = ()
    dies_at: Place = NOWHERE
    pause_at: Place = NOWHERE
    pause: Callable[[], object] | None = None


def cells(kind: Kind) -> st.SearchStrategy[dict[str, Cell | None]]:
    """Changes of some rows: good or flawed, and gone where there is None."""
    notes = st.sampled_from((*NOTES, *NOTES, POISON))
    flaws = st.sampled_from((Flaw.NONE,) * 8 + kind.flaws)
    cell = st.builds(Cell, note=notes, flaw=flaws, loaded=st.sampled_from(CURSORS))
    return st.dictionaries(st.sampled_from(KEYS), st.one_of(cell, cell, cell, st.none()), min_size=1, max_size=6)


class SyncMachine(RuleBasedStateMachine):
    """Two models of different kinds, synced with one PostHog project from one state schema."""

    template: Lab
    ledgers: list[Ledger]

    @initialize(kinds=st.permutations(range(6)).map(lambda order: order[:2]), data=st.data())
    def start(self, kinds: list[int], data: st.DataObject) -> None:
        template = type(self).template
        delivery = replace(template.delivery, in_flight=2, limits=BatchLimits(messages=3))
        lab = replace(template, schema=fresh_name("state"), delivery=delivery)
        lab.posthog.reset()
        lab.posthog.inject(Weather())
        self.ledgers = [Ledger(all_kinds()[kind], lab) for kind in kinds]
        for ledger in self.ledgers:
            ledger.change(data.draw(cells(ledger.kind)))

    # What the user does.

    @rule(which=st.integers(0, 1), data=st.data())
    def rows_change(self, which: int, data: st.DataObject) -> None:
        self.ledgers[which].change(data.draw(cells(self.ledgers[which].kind)))

    @rule(which=st.integers(0, 1), data=st.data())
    def annotation_changes(self, which: int, data: st.DataObject) -> None:
        ledger = self.ledgers[which]
        ledger.remap(data.draw(st.sampled_from(ledger.kind.mappings)))

    @precondition(lambda self: any(ledger.kind.name in ("seen", "ordered") for ledger in self.ledgers))
    @rule(key=st.sampled_from(KEYS), note=st.sampled_from(NOTES))
    def delivered_event_gets_another_person(self, key: str, note: str | None) -> None:
        for ledger in self.ledgers:
            if ledger.kind.name in ("seen", "ordered") and key in ledger.rows and ledger.rows[key].is_good:
                self.rest(ledger)
                ledger.change({key: Cell(note, Flaw.MOVED)})

    # What happens to runs.

    @rule(which=st.integers(0, 1), manner=MANNERS, faults=SEVERAL_FAULTS)
    def run_meets_faults(self, which: int, manner: Manner, faults: tuple[Fault | None, ...]) -> None:
        self.travel(self.ledgers[which], Journey(manner, faults))

    @rule(which=st.integers(0, 1), manner=MANNERS, faults=SEVERAL_FAULTS, place=PLACES)
    def run_is_killed(self, which: int, manner: Manner, faults: tuple[Fault | None, ...], place: Place) -> None:
        self.travel(self.ledgers[which], Journey(manner, faults, dies_at=place))

    @rule(which=st.integers(0, 1), manner=MANNERS, faults=SEVERAL_FAULTS, moment=MOMENTS, data=st.data())
    def model_is_rebuilt_in_the_middle(
        self, which: int, manner: Manner, faults: tuple[Fault | None, ...], moment: Place, data: st.DataObject
    ) -> None:
        ledger = self.ledgers[which]
        changes = data.draw(cells(ledger.kind))
        self.travel(ledger, Journey(manner, faults, pause_at=moment, pause=lambda: ledger.change(changes)))

    @rule(which=st.integers(0, 1), manner=MANNERS, faults=SEVERAL_FAULTS, second=RIVALS, data=st.data())
    def run_pauses_and_another_takes_over(
        self, which: int, manner: Manner, faults: tuple[Fault | None, ...], second: Rival, data: st.DataObject
    ) -> None:
        ledger = self.ledgers[which]
        changes = data.draw(st.one_of(st.just({}), cells(ledger.kind)))
        overlap = Overlap(ledger, self, second, changes)
        self.travel(ledger, Journey(manner, faults, pause_at=second.comes_at, pause=overlap.take_place))
        overlap.check()

    @rule(which=st.integers(0, 1), moment=MOMENTS, manner=MANNERS)
    def another_run_finds_one_under_way(self, which: int, moment: Place, manner: Manner) -> None:
        ledger = self.ledgers[which]
        if ledger.lab.server.kind == "duckdb":
            return  # there the file's lock keeps it out
        found: list[SyncRun] = []

        def come() -> None:
            if ledger.is_under_way:
                found.append(in_another_session(self.template.warehouse, lambda: ledger.lab.run(ledger.annotation)))

        self.travel(ledger, Journey(manner, pause_at=moment, pause=come))
        assert all(run.status is RunStatus.UNSAFE for run in found)

    @rule(which=st.integers(0, 1))
    def comes_to_rest(self, which: int) -> None:
        self.rest(self.ledgers[which])

    # How it is done.

    def travel(self, ledger: Ledger, journey: Journey) -> SyncRun | None:
        """One run with everything that it meets; None when it died. Checks what must hold after every step."""
        manner = replace(journey.manner, full_refresh=journey.manner.full_refresh and not ledger.has_moved)
        weather = Weather(journey.faults, journey.pause_at.request, journey.pause)
        ledger.lab.posthog.inject(weather)
        horizon, rows = ledger.newest, dict(ledger.rows)
        try:
            run = self.run(ledger, manner, journey)
        except Killed:
            assert journey.dies_at != NOWHERE, "the run does not end"
            run = None
        finally:
            ledger.lab.posthog.inject(Weather())
        weather.raise_problem()
        changed = {key for key in KEYS if rows.get(key) != ledger.rows.get(key)}
        ledger.has_run(run, full_refresh=manner.full_refresh, before=horizon if changed else None)
        ledger.touch(*changed)
        self.check(ledger)
        return run

    def run(self, ledger: Ledger, manner: Manner, journey: Journey) -> SyncRun:
        """The run itself, in its own warehouse session."""
        lab = ledger.lab
        warehouse = EventfulWarehouse(lab.warehouse, journey.dies_at, journey.pause_at, journey.pause)
        if not manner.steal:
            ledger.expire_lease()
        lab = replace(lab, warehouse=warehouse, protocol=manner.protocol, courier=manner.courier)
        run = lab.run(
            ledger.annotation,
            steal=manner.steal,
            force=True,
            full_refresh=manner.full_refresh,
            full_scan=manner.full_scan,
        )
        # Only a run that pauses may find that another one has taken the lease from it.
        assert run.status is not RunStatus.UNSAFE or journey.pause is not None, run.message
        return run

    def check(self, ledger: Ledger) -> None:
        """What holds after every step."""
        ledger.check_repeats()
        ledger.check_snapshot()

    def rest(self, ledger: Ledger, *, full_scan: bool = False) -> None:
        """A run in fair weather leaves nothing pending, one more sends what a dead run may have sent on top of it, and
        another one finds nothing to do.
        """
        run = self.travel(ledger, Journey(Manner(full_scan=full_scan)))
        assert run is not None
        assert run.status in (RunStatus.SUCCESS, RunStatus.REJECTED), run.message
        assert (run.counts.pending, run.counts.moved) == (0, 0)
        ledger.compare(run, everything=full_scan)
        self.travel(ledger, Journey(Manner()))
        again = self.travel(ledger, Journey(Manner()))
        assert again is not None
        assert again.counts.removed == 0
        if full_scan or ledger.promises_everything:  # a window that moves back may still meet a row that came too late
            assert (again.counts.delivered, again.requests) == (0, 0), again

    def teardown(self) -> None:
        for ledger in getattr(self, "ledgers", ()):
            self.rest(ledger, full_scan=True)


@dataclass
class Overlap:
    """A second run that comes while the first one pauses: it takes over, perhaps dies, and the first one wakes."""

    ledger: Ledger
    machine: SyncMachine
    rival: Rival
    changes: Mapping[str, Cell | None]
    epoch: int = 0
    written: list[Any] | None = None

    def take_place(self) -> None:
        """The model may be rebuilt, then the other run comes in a session of its own."""
        if self.changes:
            self.ledger.change(self.changes)
        before = self.ledger.epoch
        in_another_session(self.machine.template.warehouse, self.second_run)
        self.epoch = self.ledger.epoch
        self.written = self.evidence() if self.epoch > before else None

    def second_run(self) -> None:
        try:
            journey = Journey(self.rival.manner, dies_at=self.rival.dies_at)
            self.machine.run(self.ledger, journey.manner, journey)
        except Killed:
            assert self.rival.dies_at != NOWHERE, "the second run does not end"

    def evidence(self) -> list[Any]:
        """What runs have written down as facts: the log of the snapshot and the rejected rows."""
        log = self.ledger.stored("log_table")
        facts = self.ledger.lab.sql("select sync_key, row_hash, reason from {state}.rejected_rows order by 1, 2, 3")
        if log is not None:
            facts += self.ledger.lab.sql(
                f'select sync_key, row_hash, epoch, origin from {{state}}."{log}" order by 1, 2, 3, 4'
            )
        return facts

    def check(self) -> None:
        """The run that was taken over has confirmed nothing since."""
        if self.written is not None and self.ledger.epoch == self.epoch:
            assert self.evidence() == self.written, "a run without its lease went on to write"


def test_whatever_happens_posthog_equals_the_model_at_rest(lab: Lab) -> None:
    class Machine(SyncMachine):
        template = lab

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 9,
            stateful_step_count=30 if EXAMPLES else 18,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            print_blob=True,
            # Shrinking runs the warehouses for minutes, which is worth it only where somebody waits for it.
            phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
