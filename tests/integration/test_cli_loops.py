"""Direct exposures on the command line, as a user meets them: validate, plan, mock, run, status, retry, debug."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab import manifest_for
from mailroom import CONTACTS, EVENTS, exposure
from shop import E_MAIL, Answer, Shop

from dbt_posthog_sync.testing import ExpiredKey, LoopsStandIn, LoopsStandInConfig, Script, Status, When

KEY = "loops-key-that-nobody-may-see-1"
CONTACT = {**CONTACTS, "user_id": "order_id", "properties": {"amount": "amount"}, "mailing_lists": {"l1": True}}
ORDER = {**EVENTS, "event_id": "order_id", "properties": ["amount"]}

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


@pytest.fixture
def loops() -> Iterator[LoopsStandIn]:
    with LoopsStandIn(LoopsStandInConfig(api_keys=(KEY,), mailing_lists=("l1",))) as stand_in:
        yield stand_in


@pytest.fixture
def post(shop: Shop, loops: LoopsStandIn, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose only syncs are two direct exposures; it knows no PostHog."""
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    monkeypatch.setenv("LOOPS_API_KEY", KEY)
    settings(shop, loops.url)
    expose(shop, loops_contacts=CONTACT, loops_orders=ORDER)
    build(shop, 2)
    return shop


def settings(shop: Shop, host: object, rate: float = 100) -> None:
    shop.settings(loops={"host": host, "requests_per_second": rate})


def expose(shop: Shop, **annotations: object) -> None:
    """Write a manifest in which the orders are annotated by exposures only."""
    manifest = manifest_for(shop.server, {shop.table: {}})
    for node in manifest["nodes"].values():
        node["config"]["meta"] = node["meta"] = {}
    exposures = [exposure(name, annotation, shop.table) for name, annotation in annotations.items()]
    document = {**manifest, "exposures": {one["unique_id"]: one for one in exposures}}
    (shop.folder / "target" / "manifest.json").write_text(json.dumps(document))


def build(shop: Shop, rows: int, amount: float = 2.5) -> None:
    selects = (
        f"select {i} as order_id, {amount} as amount, '{E_MAIL if i == 1 else f'u{i}@example.com'}' as email"
        for i in range(1, rows + 1)
    )
    shop.server.sql(f"drop table if exists {shop.table}")
    shop.server.sql(f"create table {shop.table} as {' union all '.join(selects)}")


def discreet(answer: Answer) -> Answer:
    """The answer, which shows neither key nor address."""
    for secret in (KEY, E_MAIL, "u2@example.com"):
        assert secret not in answer.out + answer.err
    return answer


def test_a_day_with_loops(post: Shop, loops: LoopsStandIn) -> None:
    answer = discreet(post("validate"))
    assert (answer.code, "loops_contacts" in answer.out, "2 syncs are valid." in answer.err) == (0, True, True)
    answer = post("plan")
    assert (answer.code, "would send 2 contacts" in answer.out, "would send 2 events" in answer.out) == (0, True, True)
    assert loops.requests == ()
    settings(post, loops.url, rate=0.01)
    assert "would send 2 contacts, about 3 minutes at 0.01 requests a second" in post("plan").out
    settings(post, loops.url)
    answer = discreet(post("run"))
    results = (post.folder / "target" / "posthog_sync_results.json").read_text()
    assert not [secret for secret in (KEY, E_MAIL) if secret in results]
    assert (answer.code, answer.out.count("2 rows = 0 unchanged + 2 delivered + 0 rejected")) == (0, 2), answer
    assert {contact.email for contact in loops.team.contacts} == {E_MAIL, "u2@example.com"}
    assert {contact.mailing_lists for contact in loops.team.contacts} == {frozenset({"l1"})}
    assert {contact.properties["amount"] for contact in loops.team.contacts} == {2.5}
    assert {event.name for event in loops.team.events} == {"order completed"}
    sent = len(loops.requests)
    build(post, 2, amount=3)
    answer = discreet(post("run", "--output", "json"))
    runs = {run["sync"]: run["counts"]["delivered"] for run in answer.json["runs"]}
    assert (runs, len(loops.requests) - sent) == ({"loops_contacts": 2, "loops_orders": 0}, 3)
    answer = post("status", "--output", "json")
    assert {row["name"]: (row["object"], row["live_keys"]) for row in answer.json["syncs"]} == {
        "loops_contacts": ("contacts", 2),
        "loops_orders": ("events", 2),
    }
    assert post.posthog.requests == ()


def test_mock_prints_the_requests_and_needs_no_key(post: Shop, loops: LoopsStandIn, monkeypatch: Any) -> None:
    monkeypatch.delenv("LOOPS_API_KEY")
    answer = post("run", "--mock", "--output", "json", "--select", "loops_orders")
    first = json.loads(answer.out.splitlines()[0])
    assert (answer.code, first["method"], first["url"]) == (0, "POST", f"{loops.url}/v1/events/send")
    assert first["headers"]["Authorization"] == "Bearer ***"
    assert first["body"]["eventProperties"] == {"amount": 2.5}
    text = post("run", "--mock", "--select", "loops_contacts")
    assert text.out.count(f"loops_contacts: PUT {loops.url}/v1/contacts/update") == 2
    assert '"mailingLists": {"l1": true}' in text.out
    assert "2 requests would be sent; nothing was sent." in text.err
    assert loops.requests == ()


def test_missing_key_is_told_before_anything_is_sent(post: Shop, loops: LoopsStandIn, monkeypatch: Any) -> None:
    monkeypatch.delenv("LOOPS_API_KEY")
    monkeypatch.setenv("LOOPS_KEY", KEY)
    answer = discreet(post("run"))
    words = answer.err
    assert (answer.code, "models/exposures.yml, $.exposures[loops_orders]" in words) == (2, True)
    assert "LOOPS_API_KEY is not set. `LOOPS_KEY` is set: did you mean it?" in words
    assert "$.exposures[loops_contacts].config.meta.posthog_sync.api_key.env" in words
    monkeypatch.setenv("LOOPS_API_KEY", "two words")
    assert "holds no Loops API key" in post.complaint("run", "--select", "loops_orders", code=2)
    assert loops.requests == ()


def test_refused_key_fails_and_the_other_exposure_waits(post: Shop, loops: LoopsStandIn) -> None:
    loops.inject(When(lambda _: True, ExpiredKey()))
    answer = discreet(post("run"))
    assert answer.code == 4, answer
    assert "Not run: Loops took nothing from the sync before it." in answer.out
    loops.inject(None)
    assert discreet(post("run")).code == 0
    assert len(loops.team.contacts) == 2


def test_rejected_rows_are_retried(post: Shop, loops: LoopsStandIn) -> None:
    loops.inject(Script((None, None, None, Status(400, json.dumps({"message": f"{E_MAIL} is bad, {KEY}"})))))
    answer = discreet(post("run", "--select", "loops_contacts"))
    assert (answer.code, "rejected: 1 x Loops refuses it: *** is bad, ***" in answer.out) == (1, True), answer
    loops.inject(None)
    assert discreet(post("retry", "--select", "loops_contacts")).code == 0
    assert len(loops.team.contacts) == 2


def test_debug_tests_the_key(post: Shop, loops: LoopsStandIn) -> None:
    answer = discreet(post("debug"))
    assert (answer.code, "the key of LOOPS_API_KEY: the team `Sandbox`." in answer.out) == (0, True), answer
    assert "project API key" not in answer.out
    assert [request.path for request in loops.requests] == ["/v1/api-key"]
    for fault, words in (
        (ExpiredKey(), "does not know the key of LOOPS_API_KEY"),
        (Status(503), "answered 503. Try again later."),
        (Status(200, "<html>"), "which Loops does not. Check loops.host"),
    ):
        loops.inject(When(lambda _: True, fault))
        answer = discreet(post("debug"))
        assert (answer.code > 0, words in answer.out) == (True, True), answer


def test_debug_tells_a_missing_key_and_a_closed_door(post: Shop, monkeypatch: Any) -> None:
    settings(post, "http://127.0.0.1:9/api")
    answer = discreet(post("debug"))
    assert (answer.code, "127.0.0.1:9" in answer.out) == (4, True), answer
    monkeypatch.delenv("LOOPS_API_KEY")
    answer = discreet(post("debug"))
    assert (answer.code, "the environment variable LOOPS_API_KEY is not set" in answer.out) == (2, True), answer


def test_address_that_a_key_may_not_go_to_is_refused(post: Shop) -> None:
    settings(post, "http://loops.example.com/api")
    assert "is no address that a key may be sent to" in post.complaint("run", code=2)


def test_address_may_come_from_the_environment(post: Shop, loops: LoopsStandIn, monkeypatch: Any) -> None:
    settings(post, {"env": "SHOP_LOOPS"})
    assert "the environment variable SHOP_LOOPS is not set." in post.complaint("plan", code=2)
    monkeypatch.setenv("SHOP_LOOPS", loops.url)
    assert discreet(post("run", "--select", "exposure:loops_con*")).code == 0
    assert (len(loops.team.contacts), loops.team.events) == (2, ())


def test_problem_of_an_exposure_stops_every_command(post: Shop) -> None:
    expose(post, loops_contacts={**CONTACT, "user": "x"})
    assert "unknown key `user`. Did you mean `user_id`?" in post.complaint("run", code=2)


def test_exposures_via_posthog_are_validated_and_not_run(post: Shop) -> None:
    forwarded = {key: CONTACT[key] for key in ("destination", "object", "api_key")} | {"via": "posthog"}
    expose(post, forwarded=forwarded)
    answer = post("validate")
    assert (answer.code, "forwarded" in answer.out, answer.err) == (0, True, "1 exposure via PostHog: valid.\n")
    (found,) = post("validate", "--output", "json").json["exposures"]
    assert (found["name"], found["object"], found["via"]) == ("forwarded", "contacts", "posthog")
    assert "no model has a posthog_sync annotation" in post.complaint("run", code=2)


def test_loops_and_posthog_in_one_run(post: Shop, loops: LoopsStandIn, monkeypatch: Any) -> None:
    person = {"object": "person", "sync_key": {"distinct_id": "email"}, "properties": ["amount"]}
    manifest = manifest_for(post.server, {post.table: person})
    exposed = exposure("loops_contacts", CONTACT, post.table)
    document = {**manifest, "exposures": {exposed["unique_id"]: exposed}}
    (post.folder / "target" / "manifest.json").write_text(json.dumps(document))
    monkeypatch.delenv("LOOPS_API_KEY")
    answer = discreet(post("run"))
    assert (answer.code, answer.err.count("is missing: the environment variable")) == (2, 2), answer
    monkeypatch.setenv("LOOPS_API_KEY", KEY)
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", post.posthog.token)
    answer = discreet(post("run"))
    assert (answer.code, answer.out.count("2 delivered")) == (0, 2)
    assert (len(post.posthog.project.persons), len(loops.team.contacts)) == (2, 2)
    loops.inject(When(lambda _: True, Status(503)))
    build(post, 2, amount=9)
    answer = discreet(post("run"))
    assert (answer.code, answer.out.count("2 delivered")) == (4, 1), answer
