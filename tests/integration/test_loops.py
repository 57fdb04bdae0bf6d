"""A direct exposure as a sync of its own: changes only, exactly once, through failures, limits and kills."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab import Lab
from mailroom import CONTACTS, EVENTS, NAME, Mailroom, Time
from mortal import Killed, MortalWarehouse

from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.sync_run import RunStatus, SyncRun
from dbt_posthog_sync.testing import (
    Arrival,
    ExpiredKey,
    LoopsStandIn,
    LoopsStandInConfig,
    LoseAnswer,
    Script,
    Status,
    When,
)

PLAN = {**CONTACTS, "properties": {"planName": "plan"}}
SEND, UPDATE = "POST /v1/events/send", "PUT /v1/contacts/update"


@pytest.fixture
def loops() -> Iterator[LoopsStandIn]:
    with LoopsStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def room(lab: Lab, loops: LoopsStandIn) -> Mailroom:
    return Mailroom(lab, loops)


def people(count: int, plan: str = "free") -> str:
    return " union all ".join(
        f"select {i} as id, 'u{i}@example.com' as email, '{plan if i == 1 else 'free'}' as plan" for i in range(count)
    )


def paths(loops: LoopsStandIn) -> list[str]:
    return [f"{request.method} {request.path}" for request in loops.requests]


def delivered(run: SyncRun) -> tuple[RunStatus, int]:
    return run.status, run.counts.delivered


def test_only_changed_rows_are_sent(room: Mailroom) -> None:
    room.lab.build(people(5))
    assert delivered(room.run(PLAN)) == (RunStatus.SUCCESS, 5)
    assert {contact.email: contact.properties["planName"] for contact in room.loops.team.contacts} == {
        f"u{i}@example.com": "free" for i in range(5)
    }
    before = len(room.loops.requests)
    assert delivered(room.run(PLAN)) == (RunStatus.SUCCESS, 0)
    assert len(room.loops.requests) == before
    room.lab.build(people(5, "pro"))
    assert delivered(room.run(PLAN)) == (RunStatus.SUCCESS, 1)
    assert {contact.email: contact.updates for contact in room.loops.team.contacts} == {
        f"u{i}@example.com": 2 if i == 1 else 1 for i in range(5)
    }
    assert [contact.email for contact in room.loops.team.contacts if contact.properties["planName"] == "pro"] == [
        "u1@example.com"
    ]


def test_contacts_of_a_snapshot_are_its_rows_of_now_and_events_its_history(room: Mailroom) -> None:
    room.resource_type = "snapshot"
    row = "select {} as id, 'a@example.com' as email, '{}' as plan, cast({} as timestamp) as dbt_valid_to"
    room.lab.build(f"{row.format(1, 'free', repr('2026-01-02'))} union all {row.format(2, 'pro', 'null')}")
    assert delivered(room.run({**CONTACTS, "include_all_properties": True})) == (RunStatus.SUCCESS, 1)
    (contact,) = room.loops.team.contacts
    assert contact.properties == {"id": 2, "plan": "pro"}
    assert delivered(room.run(EVENTS, name="events", force=True)) == (RunStatus.SUCCESS, 2)


def test_properties_are_created_once_and_first(room: Mailroom) -> None:
    room.lab.build("select 'a@example.com' as email, 'x' as plan, 1 as n, true as vip, date '2026-01-02' as born")
    annotation = {
        **CONTACTS,
        "properties": {"firstName": "plan", "plan": "plan", "n": "n", "vip": "vip", "born": "born"},
    }
    assert delivered(room.run(annotation)) == (RunStatus.SUCCESS, 1)
    assert room.loops.team.properties == {"born": "date", "n": "number", "plan": "string", "vip": "boolean"}
    assert paths(room.loops) == ["GET /v1/contacts/properties", *["POST /v1/contacts/properties"] * 4, UPDATE]
    room.run(annotation, full_refresh=True)
    assert paths(room.loops)[6:] == ["GET /v1/contacts/properties", UPDATE]


def test_property_of_another_type_stops_the_run(lab: Lab) -> None:
    with LoopsStandIn(LoopsStandInConfig(properties={"planName": "number"})) as loops:
        room = Mailroom(lab, loops)
        lab.build(people(2))
        run = room.run(PLAN)
        assert (run.status, run.counts.pending) == (RunStatus.ERROR, 2)
        assert "the contact property `planName` with the type number, and the model has a string" in run.message
        assert paths(loops) == ["GET /v1/contacts/properties"]


def test_events_are_sent_once_whatever_changes(room: Mailroom) -> None:
    room.lab.build(people(3))
    assert delivered(room.run({**EVENTS, "properties": ["plan"]})) == (RunStatus.SUCCESS, 3)
    room.lab.build(people(4, "pro"))
    assert delivered(room.run({**EVENTS, "properties": ["plan"]})) == (RunStatus.SUCCESS, 1)
    assert sorted(str(event.email) for event in room.loops.team.events) == [f"u{i}@example.com" for i in range(4)]
    assert all(event.idempotency_key and len(event.idempotency_key) == 36 for event in room.loops.team.events)


def test_events_of_the_past_are_taken_as_known_unless_asked_for(room: Mailroom) -> None:
    annotation = {key: value for key, value in EVENTS.items() if key != "backfill"}
    room.lab.build(people(3))
    run = room.run(annotation)
    assert (run.status, run.counts.known, room.loops.requests) == (RunStatus.SUCCESS, 3, ())
    room.lab.build(people(4))
    assert delivered(room.run(annotation)) == (RunStatus.SUCCESS, 1)


def test_subscription_is_not_touched_unless_it_is_mapped(room: Mailroom) -> None:
    room.lab.build(people(1))
    room.run(PLAN)
    assert room.plan(CONTACTS).dropped_properties == ("planName",)
    room.loops.team.update_contact({"email": "u0@example.com", "subscribed": False})
    room.lab.build("select 0 as id, 'u0@example.com' as email, 'pro' as plan, cast(null as boolean) as mails")
    room.run({**PLAN, "properties": {"planName": "plan", "subscribed": "mails"}})
    (contact,) = room.loops.team.contacts
    assert (contact.subscribed, contact.properties["planName"]) == (False, "pro")


def test_an_address_that_changes_keeps_its_contact_by_user_id(room: Mailroom) -> None:
    annotation = {**CONTACTS, "user_id": "customer"}
    room.lab.build("select 'old@example.com' as email, 'c1' as customer")
    room.run(annotation)
    room.lab.build("select 'new@example.com' as email, 'c1' as customer")
    assert delivered(room.run(annotation)) == (RunStatus.SUCCESS, 1)
    (contact,) = room.loops.team.contacts
    assert (contact.email, contact.user_id) == ("new@example.com", "c1")


def test_thousand_contacts_arrive_once_through_refusals_at_random(shared_lab: Lab, loops: LoopsStandIn) -> None:
    chance = random.Random(7)
    refusals = When(lambda _: chance.random() < 0.25, Status(429))
    room = replace(Mailroom(shared_lab, loops), in_flight=4)
    people_of_series = (
        "select i as id, 'u' || i || '@example.com' as email, 'free' as plan from generate_series(1, {}) s(i)"
    )
    shared_lab.build(people_of_series.format(1000))
    loops.inject(refusals)
    run = room.run(PLAN)
    assert delivered(run) == (RunStatus.SUCCESS, 1000), run.message
    assert len({contact.email for contact in loops.team.contacts}) == len(loops.team.contacts) == 1000
    assert {contact.updates for contact in loops.team.contacts} == {1}
    assert sum(request.status == 429 for request in loops.requests) > 200


@pytest.mark.parametrize(("limit", "is_refused"), [(11, False), (5, True)])
def test_the_rate_of_the_team_is_kept(shared_lab: Lab, limit: int, is_refused: bool) -> None:
    """The client and Loops look at one clock: ten a second are let pass, and where fewer are, the client slows down."""
    time = Time()
    with LoopsStandIn(LoopsStandInConfig(requests_per_second=limit), clock=time) as loops:
        room = Mailroom(shared_lab, loops, time=time, in_flight=1)
        shared_lab.build(people(60))
        run = room.run(CONTACTS)
        assert delivered(run) == (RunStatus.SUCCESS, 60), run.message
        assert any(request.status == 429 for request in loops.requests) is is_refused
        assert len(loops.team.contacts) == 60


def test_lost_answers_repeat_no_event(room: Mailroom) -> None:
    room.lab.build(people(20))
    room.loops.inject(When(lambda arrival: arrival.number in (1, 5, 9, 13), LoseAnswer()))
    assert delivered(room.run(EVENTS)) == (RunStatus.SUCCESS, 20)
    assert Counter(event.email for event in room.loops.team.events) == {f"u{i}@example.com": 1 for i in range(20)}
    assert sum(request.status == 409 for request in room.loops.requests) == 4


def test_killed_run_repeats_no_event(room: Mailroom) -> None:
    lab, sent, statements, died = room.lab, 0, 3, True
    annotation = {**EVENTS, "properties": ["plan"]}
    while died:
        sent += 8
        lab.build(people(sent))
        dying = replace(
            room,
            lab=replace(
                lab,
                warehouse=MortalWarehouse(lab.warehouse, statements),
                courier=CourierSettings(confirm_seconds=0.0),
            ),
        )
        try:
            dying.run(annotation, steal=True)
            died = False
        except Killed:
            run = room.run(annotation, steal=True)
            assert (run.status, run.counts.pending) == (RunStatus.SUCCESS, 0), run.message
        assert Counter(event.email for event in room.loops.team.events) == {f"u{i}@example.com": 1 for i in range(sent)}
        statements += 6
    assert room.run(annotation).counts.delivered == 0


def test_refused_row_is_kept_and_tried_again_when_it_changes(room: Mailroom) -> None:
    bad = When(lambda arrival: arrival.number == 3, Status(400, '{"success": false, "message": "no u1@example.com"}'))
    room.lab.build(people(4))
    room.in_flight = 1
    room.loops.inject(bad)
    annotation = {**CONTACTS, "user_id": "id", "properties": {"firstName": "plan"}}
    run = room.run(annotation)
    assert (run.status, run.counts.delivered, run.counts.rejected) == (RunStatus.REJECTED, 3, 1)
    assert run.reasons == (("Loops refuses it: no ***", 1),)
    room.loops.inject(None)
    assert room.run(annotation).counts.delivered == 0
    assert delivered(room.run(annotation, only_rejects=True)) == (RunStatus.SUCCESS, 1)


def test_what_all_requests_share_rejects_no_row(room: Mailroom) -> None:
    """Loops refuses everything: the fault is hardly in the rows, so none is rejected."""
    room.lab.build(people(60))
    room.loops.inject(When(lambda arrival: arrival.path == UPDATE, Status(400)))
    run = room.run(CONTACTS)
    assert (run.status, run.counts.rejected, run.counts.pending) == (RunStatus.ERROR, 0, 60)
    assert "none was accepted" in run.message
    room.loops.inject(None)
    assert delivered(room.run(CONTACTS)) == (RunStatus.SUCCESS, 60)


def test_key_that_ends_in_the_middle_keeps_what_was_accepted(room: Mailroom) -> None:
    room.lab.build(people(30))
    room.in_flight = 1
    room.loops.inject(Script(after=14, then=ExpiredKey()))
    run = room.run(CONTACTS)
    assert (run.status, run.counts.delivered, run.counts.pending) == (RunStatus.ERROR, 14, 16)
    assert "refuses the Loops API key (401)" in run.message
    room.loops.inject(None)
    assert delivered(room.run(CONTACTS)) == (RunStatus.SUCCESS, 16)
    assert {contact.updates for contact in room.loops.team.contacts} == {1}


@pytest.mark.parametrize("status", [404, 500, 503, 204])
def test_no_answer_of_loops_confirms_nothing(room: Mailroom, status: int) -> None:
    room.lab.build(people(3))
    room.loops.inject(When(_is_update, Status(status)))
    run = room.run(CONTACTS)
    assert (run.status, run.counts.delivered, run.counts.pending) == (RunStatus.ERROR, 0, 3)
    room.loops.inject(None)
    assert delivered(room.run(CONTACTS)) == (RunStatus.SUCCESS, 3)


def _is_update(arrival: Arrival) -> bool:
    return arrival.path == UPDATE


def test_state_belongs_to_one_team(lab: Lab) -> None:
    with LoopsStandIn(LoopsStandInConfig(api_keys=("first", "second"))) as loops:
        room = Mailroom(lab, loops)
        lab.build(people(2))
        room.run(CONTACTS, api_key="first")
        run = room.run(CONTACTS, api_key="second")
        assert run.status is RunStatus.UNSAFE
        assert "One state must not serve two Loops teams" in run.message


def test_what_posthog_has_is_not_taken_for_what_loops_has(room: Mailroom) -> None:
    """Two syncs of one model, of which each sees only itself: neither is the other one renamed."""
    room.lab.build(people(2))
    room.lab.run({"object": "person", "sync_key": {"distinct_id": "email"}, "properties": ["plan"]})
    assert delivered(room.run(CONTACTS)) == (RunStatus.SUCCESS, 2)
    renamed = room.run(CONTACTS, name="other")
    assert (renamed.status, "synced as `loops` before" in renamed.message) == (RunStatus.UNSAFE, True)
    assert delivered(room.run(CONTACTS, name="other", adopt=NAME)) == (RunStatus.SUCCESS, 0)


def test_state_of_a_sync_to_posthog_is_not_adopted(room: Mailroom) -> None:
    """It would be moved and then be refused, and the sync whose it is would send everything again."""
    person = {"object": "person", "sync_key": {"distinct_id": "email"}, "properties": ["plan"]}
    room.lab.build(people(2))
    room.lab.run(person)
    run = room.run(CONTACTS, adopt=room.lab.table)
    assert (run.status, "was a sync of the object person" in run.message) == (RunStatus.UNSAFE, True)
    assert delivered(room.lab.run(person)) == (RunStatus.SUCCESS, 0)


def test_model_that_shrank_is_stopped_by_the_guard(shared_lab: Lab, loops: LoopsStandIn) -> None:
    room = Mailroom(shared_lab, loops)
    rows = "select i as id, 'u' || i || '@example.com' as email from generate_series(1, {}) s(i)"
    shared_lab.build(rows.format(1500))
    room.run(CONTACTS)
    before = len(loops.requests)
    shared_lab.build(rows.format(500))
    run = room.run(CONTACTS)
    assert (run.status, len(loops.requests)) == (RunStatus.UNSAFE, before)
    assert room.run(CONTACTS, force=True).counts.removed == 1000
    assert len(loops.team.contacts) == 1500
