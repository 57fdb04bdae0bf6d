"""Persons appear, change their address and go, rows do the same, runs are killed and robbed and meet faults; at rest
everyone whom a row means has it, nobody is made who must not be, and nothing is sent to the erased.

`DBT_POSTHOG_SYNC_TEST_EXAMPLES=500 make test ARGS=tests/properties/test_identity_machine.py` looks deeper.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import hypothesis.strategies as st
from census import Census
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lab import Lab, fresh_name
from models import POISON
from mortal import Killed
from people import export_of_persons
from society import ADDRESSES, IDS, POLICIES, SPELLINGS, Meaning, Society, spelled
from weather import NOWHERE, EventfulWarehouse, Place, Weather, in_another_session

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import CloseConnection, EventResults, Fault, LoseAnswer, Script, Status, Verdict
from dbt_posthog_sync.warehouse.identities import IdentitySettings

EXAMPLES = int(os.environ.get("DBT_POSTHOG_SYNC_TEST_EXAMPLES", "0"))
FAULTS = st.sampled_from(
    [
        None,
        Status(503),
        LoseAnswer(),
        LoseAnswer(),
        CloseConnection(),
        EventResults(lambda _event: Verdict("retry")),
        EventResults(lambda event: Verdict("retry") if str(event["uuid"])[0] < "8" else None),
        EventResults(lambda event: Verdict("drop") if str(event["distinct_id"]) in "d1d3" else None),
    ]
)
WEATHER = st.one_of(st.lists(FAULTS, max_size=4).map(tuple), FAULTS.map(lambda fault: (fault,) * 8), st.just(()))
API_FAULTS = st.sampled_from(
    [
        *(None, None, None),
        (None, Status(503)),
        (Status(429, retry_after=0.0),),
        (LoseAnswer(),) * 4,
        (None, *(Status(500),) * 4),
    ]
)
MACROS = ("insert_identities", "stage", "message_stream", "confirm", "mark_delivered", "confirm_complete_keys",
          "insert_erased_keys", "insert_erased_ids", "read_erasures", "end_sync_run")  # fmt: skip
PLACES = st.one_of(
    st.builds(Place, statement=st.integers(8, 40)),
    st.builds(Place, macro=st.sampled_from(MACROS), statement=st.sampled_from((1, 1, 2))),
)
NOTES = st.sampled_from(("a", "b", "c", "a", "b", POISON))
MEANINGS = st.one_of(
    st.builds(
        Meaning,
        by_email=st.just(True),
        on_several=st.sampled_from((*POLICIES, "all", "all")),
        create_with=st.sampled_from((None, "email", "column", "skip")),
    ),
    st.just(Meaning(by_email=False)),
)
ERASURES = st.builds(Meaning, by_email=st.booleans(), on_several=st.sampled_from(POLICIES), deletes=st.just(True))


@dataclass(frozen=True, slots=True)
class Journey:
    """What one run meets, and how it is carried."""

    faults: tuple[Fault | None, ...] = ()
    api_faults: tuple[Fault | None, ...] | None = None
    dies_at: Place = NOWHERE
    pause_at: Place = NOWHERE
    pause: Callable[[], object] | None = None
    confirm_seconds: float = 0.0
    steal: bool = False
    retries: bool = False


JOURNEYS = st.builds(
    Journey,
    faults=WEATHER,
    api_faults=API_FAULTS,
    confirm_seconds=st.sampled_from((0.0, 5.0)),
    steal=st.booleans(),
    retries=st.sampled_from((False, False, False, True)),
)


class IdentityMachine(RuleBasedStateMachine):
    """One sync that writes persons and one that deletes them, in one PostHog project and one state schema."""

    template: Lab

    @initialize(writes=MEANINGS, erases=ERASURES, source=st.sampled_from(list(IdentitySource)), data=st.data())
    def start(self, writes: Meaning, erases: Meaning, source: IdentitySource, data: st.DataObject) -> None:
        delivery = replace(self.template.delivery, in_flight=2, limits=BatchLimits(messages=1))
        lab = replace(self.template, schema=fresh_name("state"), delivery=delivery)
        lab.posthog.reset()
        lab.posthog.inject(Weather())
        self.source = source
        self.society = Society(lab)
        self.writer, self.eraser = (
            Census(
                replace(lab, table=fresh_name("people")),
                replace(
                    meaning,
                    sees_ghosts=source
                    in (IdentitySource.MODEL, IdentitySource.LOOKUP if not meaning.by_email else None),
                ),
            )
            for meaning in (writes, erases)
        )
        self.erased: frozenset[tuple[str, str]] = frozenset()
        self.society.appear("stranger", None, has_alias=False)  # an export of nobody is not believed
        for distinct_id in IDS[:4]:
            self.person_appears(distinct_id, data.draw(st.sampled_from(ADDRESSES)), "{}", data.draw(st.booleans()))
        for row in data.draw(st.lists(st.integers(0, 2), unique=True, min_size=1)):
            self.row_changes(row, data.draw(NOTES), "{}")

    # What happens in PostHog.

    @rule(
        distinct_id=st.sampled_from(IDS),
        address=st.sampled_from((*ADDRESSES, None)),
        spelling=st.sampled_from(SPELLINGS[1:]),
        has_alias=st.booleans(),
    )
    def person_appears(self, distinct_id: str, address: str | None, spelling: str, has_alias: bool) -> None:
        if ("distinct_id", distinct_id) not in self.erased:
            self.society.appear(distinct_id, address and spelled(address, spelling), has_alias=has_alias)

    @rule(distinct_id=st.sampled_from(IDS), address=st.sampled_from(ADDRESSES))
    def person_gets_another_address(self, distinct_id: str, address: str) -> None:
        self.society.move(distinct_id, address)

    @rule(distinct_id=st.sampled_from(IDS))
    def person_leaves(self, distinct_id: str) -> None:
        if ("distinct_id", distinct_id) not in self.erased:
            self.society.leave(distinct_id)

    # What the user does.

    @rule(which=st.integers(0, 2), note=NOTES, spelling=st.sampled_from(SPELLINGS))
    def row_changes(self, which: int, note: str, spelling: str) -> None:
        self.writer.put(which, note, spelling)

    @rule(which=st.integers(0, 2))
    def row_vanishes(self, which: int) -> None:
        self.writer.drop(which)

    @rule(which=st.integers(0, 2), spelling=st.sampled_from(SPELLINGS[1:]))
    def row_is_there_twice(self, which: int, spelling: str) -> None:
        self.writer.double(which, spelling)

    @rule(policy=st.sampled_from(POLICIES), create_with=st.sampled_from((None, "email", "column", "skip")))
    def annotation_changes(self, policy: str, create_with: str | None) -> None:
        if self.writer.meaning.by_email and (create_with is None) == (self.writer.meaning.create_with is None):
            self.writer.meaning = replace(self.writer.meaning, on_several=policy, create_with=create_with)

    # What happens to runs.

    @rule(journey=JOURNEYS)
    def rows_are_sent(self, journey: Journey) -> None:
        self.travel(self.writer, journey)

    @rule(journey=JOURNEYS, place=PLACES)
    def run_is_killed(self, journey: Journey, place: Place) -> None:
        self.travel(self.writer, replace(journey, dies_at=place))

    @rule(journey=JOURNEYS, place=PLACES, note=NOTES, which=st.integers(0, 2))
    def another_run_takes_over(self, journey: Journey, place: Place, note: str, which: int) -> None:
        def come() -> None:
            self.writer.put(which, note, "{}")
            in_another_session(self.template.warehouse, lambda: self.run(self.writer, Journey(steal=True)))

        self.travel(self.writer, replace(journey, pause_at=place, pause=come))

    @rule(which=st.integers(0, 2), journey=JOURNEYS, place=st.one_of(st.just(NOWHERE), PLACES))
    def somebody_is_to_be_erased(self, which: int, journey: Journey, place: Place) -> None:
        self.eraser.put(which, "", "{}")
        self.travel(self.eraser, replace(journey, dies_at=place))

    @rule()
    def comes_to_rest(self) -> None:
        self.rest()

    # How it is done.

    def travel(self, census: Census, journey: Journey) -> SyncRun | None:
        """One run with everything that it meets; None when it died. Checks what must hold after every step."""
        before = census.look(self.society.project)
        erased = self.erased
        try:
            run: SyncRun | None = self.run(census, journey)
        except Killed:
            assert journey.dies_at != NOWHERE, "the run does not end"
            run = None
        finally:
            self.template.posthog.inject(Weather())
        self.erased = census.erased()
        census.check(before, self.society.project, erased=erased, erased_now=self.erased)
        return run

    def run(self, census: Census, journey: Journey) -> SyncRun:
        """The run itself, in its own warehouse session."""
        lab, courier = census.lab, CourierSettings(confirm_seconds=journey.confirm_seconds)
        warehouse = EventfulWarehouse(lab.warehouse, journey.dies_at, journey.pause_at, journey.pause)
        model = export_of_persons(lab) if self.source is IdentitySource.MODEL else None
        lab = replace(lab, identities=IdentitySettings(self.source, timedelta(0), model), courier=courier)
        first = sum(request.path.startswith("/api/") for request in lab.posthog.requests)
        api = Script((None,) * first + journey.api_faults) if journey.api_faults else None
        lab.posthog.inject(Weather(journey.faults), api=api)
        if not journey.steal:
            census.expire_lease()
        lab = replace(lab, warehouse=warehouse)
        return lab.run(census.annotation, steal=journey.steal, force=True, only_rejects=journey.retries)

    def rest(self) -> None:
        """Two runs in fair weather bring everything to everyone; another one finds nothing to do."""
        for census in (self.writer, self.eraser):
            if not census.rows:
                continue
            for _ in range(2):
                run = self.travel(census, Journey())
                assert run is not None
                assert run.status in (RunStatus.SUCCESS, RunStatus.REJECTED), run.message
                assert (run.counts.pending, run.counts.moved) == (0, 0)
            again = self.travel(census, Journey())
            assert again is not None
            assert (again.counts.delivered, again.requests) == (0, 0), again
            census.check_rest(again, self.society.project, self.erased)

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.rest()


def test_whatever_happens_a_row_reaches_whom_it_means_and_nobody_else(lab: Lab) -> None:
    class Machine(IdentityMachine):
        template = lab

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 3,
            stateful_step_count=25 if EXAMPLES else 9,
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
