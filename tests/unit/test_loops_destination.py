"""Loops as a destination: which answer means what, at which rate requests go, and what is shown of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from mailroom import Time

from dbt_posthog_sync.contact_property import ContactProperty
from dbt_posthog_sync.destinations import Answered, Batch, Outcome, Poisoned, Refusal, RequestIdentity, Row, TryAgain
from dbt_posthog_sync.destinations.loops import Loops, LoopsConfig, Surroundings, body_of
from dbt_posthog_sync.destinations.request_rate import RequestRate
from dbt_posthog_sync.errors import DestinationRefused
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import LoopsObject
from dbt_posthog_sync.testing import (
    CloseConnection,
    Fault,
    LoopsStandIn,
    LoopsStandInConfig,
    LoseAnswer,
    Script,
    Status,
)

UUID = "0b9a3c51-6a0f-5bd3-9b2f-6f0c2a3f9d11"
REQUEST = RequestIdentity("00000000-0000-4000-8000-000000000001", "2026-01-02T03:04:05.000Z")


@pytest.fixture
def loops() -> Iterator[LoopsStandIn]:
    with LoopsStandIn() as stand_in:
        yield stand_in


def row(head: str = '"email":"anna@example.com"', properties: str = "", position: int = 7) -> Row:
    return Row.of(position, UUID, 0, False, head.encode(), properties.encode())


EVENT = row('"email":"anna@example.com","eventName":"paid"', ',"eventProperties":{"amount":1}')


def destination(loops: LoopsStandIn, kind: LoopsObject, *wanted: ContactProperty, key: str | None = None) -> Loops:
    time = Time()
    config = LoopsConfig(kind, Secret(loops.api_key if key is None else key), loops.url, wanted)
    return Loops(config, surroundings=Surroundings(time, time.pause))


def sent(client: Loops, message: Row) -> Outcome:
    try:
        return client.send(Batch.of([message]), REQUEST, 1)
    finally:
        client.close()


def test_body_is_what_the_warehouse_built() -> None:
    body = {"email": "anna@example.com", "eventName": "paid", "eventProperties": {"amount": 1}}
    assert json.loads(body_of(EVENT)) == body


def test_contact_and_event_are_accepted(loops: LoopsStandIn) -> None:
    assert sent(destination(loops, LoopsObject.CONTACTS), row()) == Answered((7,))
    assert sent(destination(loops, LoopsObject.EVENTS), EVENT) == Answered((7,))
    assert sent(destination(loops, LoopsObject.EVENTS), EVENT) == Answered((7,))  # 409: the key came before
    assert [event.idempotency_key for event in loops.team.events] == [UUID]
    assert [(one.method, one.path, one.status) for one in loops.requests] == [
        ("PUT", "/v1/contacts/update", 200),
        ("POST", "/v1/events/send", 200),
        ("POST", "/v1/events/send", 409),
    ]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Status(500), TryAgain("127.0.0.1 answered 500")),
        (Status(503, retry_after=3), TryAgain("127.0.0.1 answered 503", 3.0)),
        (Status(429), TryAgain("127.0.0.1 answered 429")),
        (Status(200, "<html>a proxy</html>"), TryAgain("127.0.0.1 answered 200")),
        (Status(200, '{"success": false}'), TryAgain("127.0.0.1 answered 200")),
        (Status(302), TryAgain("127.0.0.1 answered 302")),
        (Status(400, '{"message": "bad anna@example.com"}'), Poisoned("Loops refuses it: bad ***")),
        (Status(409), Poisoned("Loops refuses it: Injected")),
        (Status(413, "x"), Poisoned("Loops refuses it: HTTP 413")),
    ],
)
def test_answers(loops: LoopsStandIn, fault: Fault, expected: Outcome) -> None:
    loops.inject(Script((fault,) * 4))
    outcome = sent(destination(loops, LoopsObject.CONTACTS), row())
    if isinstance(outcome, TryAgain):
        outcome = TryAgain(outcome.reason.replace(f":{loops.url.split(':')[2].split('/')[0]}", ""), outcome.retry_after)
    assert outcome == expected


@pytest.mark.parametrize("fault", [CloseConnection(), LoseAnswer()])
def test_broken_connection_is_tried_again(loops: LoopsStandIn, fault: Fault) -> None:
    loops.inject(Script((fault,)))
    assert isinstance(sent(destination(loops, LoopsObject.CONTACTS), row()), TryAgain)


def test_refusal_is_the_rows_own_once_loops_took_another(loops: LoopsStandIn) -> None:
    client = destination(loops, LoopsObject.CONTACTS)
    assert client.send(Batch.of([row()]), REQUEST, 1) == Answered((7,))
    reason = "Loops refuses it: There is no contact property plan"
    assert sent(client, row(properties=',"plan":"pro"')) == Answered(refused=(Refusal(7, reason),))


@pytest.mark.parametrize(("key", "words"), [("wrong", r"refuses the Loops API key \(401\)"), ("", "No Loops API key")])
def test_key_that_is_refused_ends_the_run(loops: LoopsStandIn, key: str, words: str) -> None:
    with pytest.raises(DestinationRefused, match=words):
        sent(destination(loops, LoopsObject.CONTACTS, key=key), row())


def test_wrong_address_ends_the_run(loops: LoopsStandIn) -> None:
    client = Loops(LoopsConfig(LoopsObject.CONTACTS, Secret(loops.api_key), f"{loops.url}/nowhere"))
    with pytest.raises(DestinationRefused, match="there is no Loops API at this address"):
        sent(client, row())


@pytest.mark.parametrize(
    ("wanted", "existing", "fits"),
    [
        (ContactProperty("p", "string"), "string", True),
        (ContactProperty("p", "date"), "string", True),
        (ContactProperty("p", "number"), "string", False),
        (ContactProperty("p", "string"), "date", False),
        (ContactProperty("p", "string", is_sure=False), "number", True),
    ],
)
def test_type_of_a_property_is_checked(wanted: ContactProperty, existing: str, fits: bool) -> None:
    with LoopsStandIn(LoopsStandInConfig(properties={"p": existing})) as loops:
        client = destination(loops, LoopsObject.CONTACTS, wanted)
        if fits:
            assert sent(client, row()) == Answered((7,))
            return
        for _ in range(2):  # other threads meet the same without asking again
            with pytest.raises(DestinationRefused, match="with the type"):
                client.send(Batch.of([row()]), REQUEST, 1)
        client.close()
        assert len(loops.requests) == 1


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        ((Status(503),), TryAgain),
        ((None, Status(503)), TryAgain),
        ((None, Status(400, '{"message": "camelCase"}')), DestinationRefused),
        ((Status(401),), DestinationRefused),
        ((None, Status(200, '{"success": true}')), Answered),
    ],
)
def test_properties_that_cannot_be_made_send_no_contact(
    loops: LoopsStandIn, faults: tuple[Fault | None, ...], outcome: type[Any]
) -> None:
    loops.inject(Script(faults))
    client = destination(loops, LoopsObject.CONTACTS, ContactProperty("planName", "string"))
    try:
        result: object = sent(client, row())
    except DestinationRefused as error:
        result = error
    assert isinstance(result, outcome)
    assert len(loops.team.contacts) == (1 if outcome is Answered else 0)


def test_rendered_request_masks_the_key(loops: LoopsStandIn) -> None:
    client = destination(loops, LoopsObject.EVENTS)
    (request,) = client.rendered(Batch.of([EVENT]), REQUEST)
    client.close()
    headers = dict(request.headers)
    assert (request.method, request.url) == ("POST", f"{loops.url}/v1/events/send")
    assert (headers["Authorization"], headers["Idempotency-Key"]) == ("Bearer ***", UUID)
    assert loops.api_key not in repr((client, request, client.identity))
    assert loops.requests == ()


def test_identity_tells_teams_apart(loops: LoopsStandIn) -> None:
    one, other = (destination(loops, LoopsObject.CONTACTS, key=key) for key in ("a", "b"))
    assert one.identity.split("#")[0] == other.identity.split("#")[0] == loops.url
    assert one.identity != other.identity
    one.close()
    other.close()


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_are_spread_evenly() -> None:
    clock = Clock()
    rate = RequestRate(10, clock)
    assert [round(rate.reserve(), 3) for _ in range(4)] == [0.0, 0.1, 0.2, 0.3]
    clock.now = 5.0
    assert [round(rate.reserve(), 3) for _ in range(2)] == [0.0, 0.1]  # what was not used is not saved up


def test_refusals_slow_down_and_passing_requests_speed_up_again() -> None:
    clock = Clock()
    rate = RequestRate(10, clock)
    rate.refused(None)
    rate.refused(None)  # one that was under way with it says nothing new
    assert (rate.per_second, rate.reserve()) == (5.0, 1.0)
    clock.now = 2.0
    rate.refused(None)
    assert (rate.per_second, rate.reserve()) == (2.5, 2.0)
    clock.now = 5.0
    rate.refused(20.0)
    assert rate.reserve() == 20.0
    for _ in range(60):
        rate.passed()
    assert rate.per_second == 10
    for step in range(20):
        clock.now += 100.0
        rate.refused(None)
        assert rate.reserve() <= 30.0, step
    assert rate.per_second == 0.5


def test_stand_in_answers_as_loops_does() -> None:
    config = LoopsStandInConfig(requests_per_second=3, mailing_lists=("l1",), team_name="Growth")
    clock = Clock()
    with LoopsStandIn(config, clock=clock) as loops:
        headers = {"Authorization": f"Bearer {loops.api_key}"}

        def ask(method: str, path: str, body: object = None) -> requests.Response:
            clock.now += 0.5
            return requests.request(method, loops.url + path, json=body, headers=headers, timeout=5)

        assert ask("GET", "/v1/api-key").json() == {"success": True, "teamName": "Growth"}
        made = {"email": "A@example.com", "mailingLists": {"l1": True}, "firstName": "Anna"}
        assert ask("POST", "/v1/contacts/update", made).status_code == 200
        assert ask("PUT", "/v1/contacts/update", {"email": "a@example.com", "userId": "u1"}).status_code == 200
        (found,) = ask("GET", "/v1/contacts/find?userId=u1").json()
        assert found == {
            "email": "a@example.com", "userId": "u1", "subscribed": True, "mailingLists": {"l1": True},
            "firstName": "Anna",
        }  # fmt: skip
        assert ask("GET", "/v1/lists").json()[0]["id"] == "l1"
        wrong: list[object] = [
            [],
            {},
            {"email": "x"},
            {"email": "a@b", "plan": 1},
            {"userId": "u", "subscribed": "yes"},
        ]
        wrong += [{"email": "a@b", "mailingLists": {"l2": True}}, {"email": "a@b", "mailingLists": {"l1": 1}}]
        assert {ask("PUT", "/v1/contacts/update", body).status_code for body in wrong} == {400}
        for event in ({"email": "a@b"}, {"email": "a@b", "eventName": "x", "eventProperties": {"a": [1]}}):
            assert ask("POST", "/v1/events/send", event).status_code == 400
        assert ask("POST", "/v1/events/send", {"userId": "new", "eventName": "x", "lastName": "B"}).status_code == 200
        assert [contact.user_id for contact in loops.team.contacts] == ["u1", "new"]
        two = {"email": "a@example.com", "userId": "new"}
        assert ask("PUT", "/v1/contacts/update", two).status_code == 400
        names: list[object] = [{"name": "plan", "type": "list"}, {"name": "firstName", "type": "string"}, []]
        assert {ask("POST", "/v1/contacts/properties", name).status_code for name in names} == {400}
        assert ask("GET", "/v1/nowhere").status_code == 404
        assert ask("GET", "/v1/events/send").status_code == 405
        answers = [requests.get(f"{loops.url}/v1/lists", headers=headers, timeout=5) for _ in range(3)]
        assert answers[-1].status_code == 429
        assert answers[-1].headers["x-ratelimit-remaining"] == "0"
        assert "Retry-After" not in answers[-1].headers
