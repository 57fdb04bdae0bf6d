"""`destinations test`, and what runs do to destinations: rows of real warehouses, and what Loops would get of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forwarded import ANN, CONTACTS, EVENTS, LOOPS_KEY, PEOPLE, build_people, expose, functions
from people import make_person
from shop import ORDERS, Shop

from dbt_posthog_sync.testing import LoopsStandIn, PersonalKey, StandIn, StandInConfig, Status, When

pytestmark = pytest.mark.usefixtures("macros_are_read_once")

BERT = {"id": "u2", "email": None, "first_name": "Bert", "plan": "free"}


@pytest.fixture(params=["shop", "postgres_shop"])
def people_shop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop of people on each warehouse, with one exposure of contacts."""
    found: Shop = request.getfixturevalue(request.param)
    return with_people(found, monkeypatch)


@pytest.fixture
def duckdb_people(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The same on DuckDB alone."""
    return with_people(shop, monkeypatch)


def with_people(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop.annotate(PEOPLE)
    expose(shop, loops_contacts=CONTACTS)
    shop.settings(posthog={"host": shop.posthog.url, "project_id": 1})
    build_people(shop, ANN, BERT)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    monkeypatch.setenv("LOOPS_API_KEY", LOOPS_KEY)
    return shop


def trials(shop: Shop, *words: str, code: int = 0) -> list[dict[str, Any]]:
    answer = shop("destinations", "test", "--output", "json", *words)
    assert answer.code == code, answer
    assert LOOPS_KEY not in answer.out + answer.err
    found: list[dict[str, Any]] = answer.json["destinations"][0]["trials"]
    return found


def test_rows_show_the_exact_requests_and_nothing_is_sent(people_shop: Shop) -> None:
    answer = people_shop("destinations", "test")
    assert answer.code == 0, answer
    lines = answer.out.splitlines()
    assert "  $set of u1 (sync " in answer.out
    assert "    POST https://app.loops.so/api/v1/contacts/update" in lines
    assert "    Authorization: ****" in lines
    assert f"  $set of u2 (sync {people_shop.table}): no request" in lines
    body = next(json.loads(line) for line in lines if line.startswith("    {"))
    assert {**body, "userId": ""} == {"email": ANN["email"], "firstName": "Ann", "planName": "pro", "userId": ""}
    assert functions(people_shop) == ()
    assert people_shop.posthog.forwarding.sent == ()
    assert people_shop.posthog.project.events == ()
    assert LOOPS_KEY not in answer.out + answer.err


def test_rows_are_there_whatever_was_sent_before(duckdb_people: Shop) -> None:
    assert duckdb_people("run").code == 0
    assert [len(one["requests"]) for one in trials(duckdb_people)] == [1, 0]
    assert len(trials(duckdb_people, "--rows", "1")) == 1


def test_person_is_as_posthog_has_it(duckdb_people: Shop) -> None:
    expose(duckdb_people, loops_contacts={**CONTACTS, "include_all_properties": True})
    make_person(duckdb_people.posthog, "u1", email="old@example.com", city="Bonn")
    uuid = duckdb_people.posthog.project.persons[0].uuid
    body = trials(duckdb_people)[0]["requests"][0]["body"]
    assert (body["email"], body["city"], body["userId"]) == (ANN["email"], "Bonn", uuid)


def test_without_person_read_the_row_alone_is_tried(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = (PersonalKey("phx_few", ("hog_function:write", "project:read")),)
    with StandIn(StandInConfig(personal_keys=keys)) as posthog:
        shop.posthog = posthog
        answer = with_people(shop, monkeypatch)("destinations", "test")
    assert answer.code == 0
    assert "lacks person:read" in answer.err


def test_live_sends_one(duckdb_people: Shop) -> None:
    make_person(duckdb_people.posthog, "u1")
    answer = duckdb_people("destinations", "test", "--live")
    assert answer.code == 0
    assert f"  sent to Loops:\n  $set of u1 (sync {duckdb_people.table}): success\n" in answer.out
    (sent,) = duckdb_people.posthog.forwarding.sent
    assert sent.body["email"] == ANN["email"]
    assert sent.headers["Authorization"] == f"Bearer {LOOPS_KEY}"
    assert LOOPS_KEY not in answer.out + answer.err


def test_live_sends_no_made_up_person(duckdb_people: Shop) -> None:
    answer = duckdb_people("destinations", "test", "--live")
    assert (answer.code, "nothing was sent to Loops" in answer.out) == (1, True)
    assert duckdb_people.posthog.forwarding.sent == ()


def test_live_needs_no_person_where_the_distinct_id_is_sent(duckdb_people: Shop) -> None:
    expose(duckdb_people, loops_contacts={**CONTACTS, "user_id": "distinct_id"})
    assert duckdb_people("destinations", "test", "--live").code == 0
    (sent,) = duckdb_people.posthog.forwarding.sent
    assert sent.body["userId"] == "u1"


def test_live_without_a_key_is_refused(duckdb_people: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPS_API_KEY")
    answer = duckdb_people("destinations", "test", "--live")
    assert (answer.code, "LOOPS_API_KEY holds no key of Loops" in answer.err) == (2, True)
    assert len(trials(duckdb_people)) == 2  # mocked ones need none


def test_answer_of_loops_is_told_without_the_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(StandInConfig(loops_url="http://127.0.0.1:9")) as posthog:
        shop.posthog = posthog
        make_person(posthog, "u1")
        answer = with_people(shop, monkeypatch)("destinations", "test", "--live")
    assert (answer.code, "error: Loops answered 503" in answer.out) == (1, True)


def test_key_in_an_answer_of_loops_is_masked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Status(400, body=f"no key {LOOPS_KEY}")
    with (
        LoopsStandIn(faults=When(lambda _: True, said)) as loops,
        StandIn(StandInConfig(loops_url=loops.url)) as posthog,
    ):
        shop.posthog = posthog
        make_person(posthog, "u1")
        answer = with_people(shop, monkeypatch)("destinations", "test", "--live")
    assert (answer.code, "error: Loops answered 400: no key ****" in answer.out) == (1, True), answer
    assert LOOPS_KEY not in answer.out + answer.err


def test_filters_decide_in_a_test_as_they_do_in_life(duckdb_people: Shop) -> None:
    only_free = [{"key": "plan", "value": "free", "type": "person"}]
    expose(duckdb_people, loops_contacts={**CONTACTS, "filters": {"properties": only_free}})
    assert [one["status"] for one in trials(duckdb_people)] == ["skipped", "success"]
    assert "the filters leave its event out" in duckdb_people("destinations", "test").out


def test_events_of_others_are_tried_over_the_rows_of_persons(duckdb_people: Shop) -> None:
    expose(duckdb_people, loops_contacts={**CONTACTS, "filters": {"events": ["$identify"]}})
    found = trials(duckdb_people)
    assert found[0]["row"] == f"$identify of u1 (sync {duckdb_people.table})"
    assert found[0]["requests"][0]["body"]["email"] == ANN["email"]


def test_without_rows_the_test_fails_and_says_so(duckdb_people: Shop) -> None:
    duckdb_people.server.sql(f"delete from {duckdb_people.table}")
    answer = duckdb_people("destinations", "test")
    assert (answer.code, "no row of its models to try" in answer.out) == (1, True)


def test_error_of_the_code_is_told(duckdb_people: Shop) -> None:
    expose(duckdb_people, loops_contacts={**CONTACTS, "email": {"template": "{sendEmail('x')}"}})
    assert "does not play" in trials(duckdb_people, code=1)[0]["errors"][0]


# What a run does.


def test_rows_of_a_run_reach_loops_through_posthog(duckdb_people: Shop) -> None:
    assert duckdb_people("destinations", "apply").code == 0
    answer = duckdb_people("run")
    assert answer.code == 0
    assert "sent at 5 events a second at most, because PostHog hands each on to Loops (loops_contacts)." in answer.err
    uuid = next(one.uuid for one in duckdb_people.posthog.project.persons if "u1" in one.distinct_ids)
    (sent,) = duckdb_people.posthog.forwarding.sent
    assert sent.body == {"email": ANN["email"], "userId": uuid, "firstName": "Ann", "planName": "pro"}
    assert duckdb_people("run").code == 0
    assert len(duckdb_people.posthog.forwarding.sent) == 1


def test_plan_tells_how_slowly_a_forwarded_sync_is_sent(duckdb_people: Shop) -> None:
    answer = duckdb_people("plan")
    assert "PostHog hands each event on to Loops (loops_contacts) and loses what Loops does not take" in answer.out
    assert "so a run sends 5 a second: less than a minute" in answer.out
    found = duckdb_people("plan", "--output", "json").json["plans"][0]["forwarding"]
    assert found == {"exposures": ["loops_contacts"], "events_per_second": 5.0}


@pytest.mark.parametrize(
    "filters",
    [
        {"events": ["$identify"]},
        {"properties": [{"key": "$lib", "operator": "is_not", "value": "dbt-posthog-sync"}]},
    ],
)
def test_sync_that_the_filters_leave_out_is_not_slowed(duckdb_people: Shop, filters: dict[str, Any]) -> None:
    expose(duckdb_people, loops_contacts={**CONTACTS, "filters": filters})
    assert "Loops" not in duckdb_people("plan").out
    assert duckdb_people("destinations", "apply").code == 0
    assert duckdb_people("run").code == 0
    assert duckdb_people.posthog.forwarding.sent == ()


def test_orders_reach_loops_as_events(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.annotate({**ORDERS})
    expose(shop, loops_orders={**EVENTS, "user_id": "distinct_id", "mailing_lists": {"cm06": True, "cm07": False}})
    shop.settings(posthog={"host": shop.posthog.url, "project_id": 1})
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    monkeypatch.setenv("LOOPS_API_KEY", LOOPS_KEY)
    shop.build((1, "u1", 9.5), (2, "nobody", 1.0))
    make_person(shop.posthog, "u1", email=ANN["email"])
    assert shop("destinations", "apply").code == 0
    assert shop("run").code == 0
    (sent,) = shop.posthog.forwarding.sent
    assert sent.url == "https://app.loops.so/api/v1/events/send"
    assert sent.body == {
        "email": ANN["email"],
        "userId": "u1",
        "eventName": "order completed",
        "eventProperties": {"amount": 9.5},
        "mailingLists": {"cm06": True, "cm07": False},
    }


def test_column_of_event_names_is_looked_into(postgres_shop: Shop) -> None:
    shop = postgres_shop
    shop.annotate({**ORDERS, "event": "customer"})
    shop.build((1, "u1", 9.5))
    for name, is_slow in (("u1", True), ("u2", False)):
        expose(shop, loops_orders={**EVENTS, "filters": {"events": [name]}})
        assert ("so a run sends 5 a second" in shop("plan").out) is is_slow
