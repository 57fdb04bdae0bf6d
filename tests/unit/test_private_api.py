"""The client of PostHog's private API, and the budgets that it keeps to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from network import Network

from dbt_posthog_sync.budget import Allowance, Budget, Budgets, Patience
from dbt_posthog_sync.errors import AnswerCut, DestinationRefused, DestinationUnavailable, ScopeMissing, SyncError
from dbt_posthog_sync.http import RetryPolicy, new_session
from dbt_posthog_sync.private_answer import (
    ApiProject,
    Deletion,
    KeyStanding,
    read_deletion,
    read_persons,
    read_project,
    read_rows,
)
from dbt_posthog_sync.private_api import PrivateApi, PrivateApiConfig
from dbt_posthog_sync.secret import Secret

KEY = "phx_secret_of_this_test"
E_MAIL = "anna@example.com"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
COUNT = "select count() from events limit 2"


@dataclass
class Clock:
    """Time that passes only by waiting."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def patience(self, **retry: Any) -> Patience:
        policy = RetryPolicy(**{"jitter": 0.0, **retry})
        return Patience(policy, self.now, self.pause, lambda: 0.0, lambda: NOW)


@dataclass
class Reply:
    status: int = 200
    payload: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.payload if isinstance(self.payload, bytes) else json.dumps(self.payload).encode()


@dataclass
class Seen:
    """A request as the server reads it."""

    method: str
    path: str
    key: str
    body: Any


def as_seen(request: requests.PreparedRequest) -> Seen:
    """What the server reads of a request."""
    body = json.loads(request.body) if request.body else None
    return Seen(str(request.method), request.path_url, request.headers["Authorization"], body)


def in_turn(*replies: Reply | Exception) -> Callable[[Seen], Reply | Exception]:
    """Each reply once, the last one for ever."""
    rest = list(replies)
    return lambda _: rest.pop(0) if len(rest) > 1 else rest[0]


def client(server: Network[Seen], clock: Clock | None = None, **retry: Any) -> PrivateApi:
    session = new_session("https://eu.posthog.com", pool=1, version="1")
    session.mount("https://", server)
    config = PrivateApiConfig("https://eu.posthog.com", Secret(KEY), "7")
    return PrivateApi(config, session=session, patience=(clock or Clock()).patience(**retry))


def rows(*found: list[Any], **others: Any) -> Reply:
    return Reply(payload={"results": list(found), **others})


def refused(status: int, detail: str = "no", **headers: str) -> Reply:
    return Reply(status, {"type": "t", "code": "c", "detail": detail, "attr": None}, headers)


def error_of(server: Network[Seen], **retry: Any) -> SyncError:
    with pytest.raises(SyncError) as raised:
        client(server, **retry).query(COUNT, {"emails": [E_MAIL, "anna"]}, name="count", needed_by="model customers")
    text = str(raised.value)
    assert KEY not in text
    assert "anna" not in text
    return raised.value


def test_a_query_is_asked_past_the_cache_with_its_values_apart() -> None:
    server = Network(as_seen, in_turn(rows(["a", 1], ["b", None])))
    api = client(server)
    found = api.query(
        "select id from persons where email = {email} limit 9", {"email": E_MAIL}, name="n", needed_by="m"
    )
    assert found == [("a", 1), ("b", None)]
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.key) == ("POST", "/api/projects/7/query/", f"Bearer {KEY}")
    assert seen.body == {
        "query": {
            "kind": "HogQLQuery",
            "query": "select id from persons where email = {email} limit 9",
            "values": {"email": E_MAIL},
        },
        "name": "n",
        "refresh": "force_blocking",
    }
    assert api.calls == 1


@pytest.mark.parametrize("hogql", ["select 1", "select 1 limit 5 offset 2", "select 1 limit 0", "select 1 limit 50001"])
def test_a_query_without_a_limit_of_its_own_is_never_sent(hogql: str) -> None:
    server = Network(as_seen, in_turn(rows()))
    with pytest.raises(ValueError, match="PostHog gives"):
        client(server).query(hogql, name="n", needed_by="m")
    assert server.seen == []


@pytest.mark.parametrize(
    ("reply", "may_fill", "is_cut"),
    [
        (rows([1]), False, False),
        (rows([1], [2]), False, True),
        (rows([1], [2]), True, False),
        (rows([1], [2], hasMore=True), True, False),
        (rows([1], hasMore=True), True, True),
    ],
)
def test_an_answer_that_may_hide_rows_is_an_error(reply: Reply, may_fill: bool, is_cut: bool) -> None:
    api = client(Network(as_seen, in_turn(reply)))
    if not is_cut:
        assert api.query("select 1 LIMIT 2;", name="n", needed_by="m", may_fill=may_fill)
        return
    with pytest.raises(AnswerCut, match="query `n` of m"):
        api.query("select 1 LIMIT 2", name="n", needed_by="m", may_fill=may_fill)


def test_persons_are_asked_for_in_twohundreds_each_once() -> None:
    def answer(seen: Seen) -> Reply:
        ids = seen.body["distinct_ids"]
        person = {
            "uuid": "u",
            "distinct_ids": ["u1", "x"],
            "properties": {"a": 1},
            "created_at": "2026-01-02T03:04:05Z",
        }
        return Reply(payload={"results": {one: person for one in ids if one == "u1"}})

    server = Network(as_seen, answer)
    ids = [f"u{number}" for number in range(450)]
    found = client(server).persons_by_distinct_ids([*ids, "u1"], needed_by="m")
    assert [len(seen.body["distinct_ids"]) for seen in server.seen] == [200, 200, 50]
    assert list(found) == ["u1"]
    assert (found["u1"].id, found["u1"].distinct_ids, found["u1"].created_at) == ("u", ("u1", "x"), NOW)
    assert found["u1"].properties == {"a": 1}
    assert server.seen[0].path == "/api/projects/7/persons/batch_by_distinct_ids/"


def test_nothing_to_ask_makes_no_request() -> None:
    server = Network(as_seen, in_turn(rows()))
    assert client(server).persons_by_distinct_ids([], needed_by="m") == {}
    assert client(server).delete_persons(delete_events=True, needed_by="m") == Deletion()
    assert server.seen == []


def test_persons_are_deleted_by_the_thousand_and_counted() -> None:
    def answer(seen: Seen) -> Reply:
        found = len(seen.body["distinct_ids"])
        errors = [{"person_uuid": "p"}] if found < 1000 else []
        return Reply(202, {"persons_found": found, "persons_deleted": found - len(errors), "deletion_errors": errors})

    server = Network(as_seen, answer)
    total = client(server).delete_persons(
        distinct_ids=[f"u{number}" for number in range(1500)], delete_events=True, needed_by="m"
    )
    assert total == Deletion(found=1500, deleted=1499, failed=("p",))
    assert [(seen.path, seen.body["delete_events"]) for seen in server.seen] == [
        ("/api/projects/7/persons/bulk_delete/", True)
    ] * 2
    with pytest.raises(ValueError, match="not both"):
        client(server).delete_persons(ids=["a"], distinct_ids=["b"], delete_events=False, needed_by="m")


def test_the_project_is_read_with_its_key() -> None:
    server = Network(as_seen, in_turn(Reply(payload={"id": 7, "name": "Shop", "api_token": "phc_x"})))
    project = client(server).project(needed_by="debug")
    assert project == ApiProject(7, "Shop", Secret("phc_x"))
    assert "phc_x" not in repr(project)
    assert (server.seen[0].method, server.seen[0].path) == ("GET", "/api/projects/7/")


@pytest.mark.parametrize(
    ("status", "standing"),
    [(200, KeyStanding.VALID), (403, KeyStanding.VALID_WITHOUT_USER), (401, KeyStanding.INVALID)],
)
def test_a_key_is_judged_by_the_status(status: int, standing: KeyStanding) -> None:
    assert client(Network(as_seen, in_turn(refused(status)))).who_am_i() is standing


def test_a_host_without_a_private_api_judges_no_key() -> None:
    with pytest.raises(DestinationRefused, match=r"posthog\.api_host"):
        client(Network(as_seen, in_turn(Reply(404, b"<html>")))).who_am_i()


def test_a_missing_scope_is_named_with_what_needs_it() -> None:
    error = error_of(Network(as_seen, in_turn(refused(403, "API key missing required scope 'person:read'"))))
    assert isinstance(error, ScopeMissing)
    assert error.scope == "person:read"
    assert str(error).startswith("The personal API key lacks the scope `person:read`, which model customers needs. Add")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused(401), "is wrong, expired or revoked, or of another region. Make a new one in PostHog > Settings"),
        (refused(401), "POSTHOG_PERSONAL_API_KEY"),
        (refused(403, "no access to project"), "no access to project. Check which projects"),
        (
            refused(404, "Not found."),
            "has no project 7 that the personal API key can see (404). Check posthog.project_id",
        ),
        (Reply(404, b"<html>"), "Set posthog.api_host"),
        (Reply(301, b"", {"Location": "https://x"}), "Set posthog.api_host"),
        (refused(400, f"bad {KEY} near {E_MAIL}"), "bad *** near ***"),
        (refused(400, ""), "no reason"),
        (Reply(402, b"pay"), "answered 402"),
    ],
)
def test_what_cannot_heal_is_asked_once_and_explained(reply: Reply, words: str) -> None:
    server = Network(as_seen, in_turn(reply))
    assert words in str(error_of(server))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "failure",
    [
        refused(408),
        refused(429),
        refused(500),
        refused(503),
        requests.exceptions.ReadTimeout("x"),
        Reply(200, b"<html>login</html>"),
        Reply(200, {"results": "x"}),
        Reply(200, {"results": [], "error": "timed out"}),
    ],
)
def test_what_may_heal_is_asked_again(failure: Reply | Exception) -> None:
    clock = Clock()
    api = client(Network(as_seen, in_turn(failure, failure, rows([1]))), clock)
    assert api.query(COUNT, name="n", needed_by="m") == [(1,)]
    assert (api.calls, clock.waits) == (3, [1, 2])


@pytest.mark.parametrize(
    ("read", "payloads"),
    [
        (read_rows, [None, [], {"results": [1]}, {"results": None}]),
        (read_persons, [None, {"results": []}]),
        (read_deletion, [None, {}, {"persons_found": "1"}]),
        (read_project, [None, {"id": 1}, {"id": 1, "api_token": 5}]),
    ],
)
def test_answers_that_are_none(read: Callable[[Any], object], payloads: list[Any]) -> None:
    assert [read(payload) for payload in payloads] == [None] * len(payloads)


@pytest.mark.parametrize("text", ["yesterday", "2026-01-02T03:04:05", None, 5])
def test_a_time_that_cannot_be_read_is_none(text: object) -> None:
    found = read_persons({"results": {"u": {"id": 7, "created_at": text}, "x": None}})
    assert found is not None
    assert (list(found), found["u"].id, found["u"].created_at) == (["u"], "7", None)


def test_what_does_not_heal_in_time_says_who_waits_for_it() -> None:
    server = Network(as_seen, in_turn(refused(503)))
    error = error_of(server, attempts=3)
    assert isinstance(error, DestinationUnavailable)
    assert "eu.posthog.com answered 503 to the private API. It is needed by model customers" in str(error)
    assert len(server.seen) == 3
    too_long = error_of(Network(as_seen, in_turn(refused(429, **{"Retry-After": "3600"}))))
    assert "asks to wait 3600 s" in str(too_long)


@pytest.mark.parametrize("value", ["40", format_datetime(NOW + timedelta(seconds=40), usegmt=True)])
def test_the_wait_that_posthog_asks_for_holds_for_every_request(value: str) -> None:
    clock = Clock()
    api = client(Network(as_seen, in_turn(refused(429, **{"Retry-After": value}), rows([1]))), clock)
    api.query(COUNT, name="n", needed_by="m")
    assert clock.seconds == 40
    closed = Budget(Allowance(10), clock.patience())
    closed.close(5)
    with closed.request():
        assert clock.seconds == 45


def test_a_budget_waits_when_the_minute_and_the_hour_are_full() -> None:
    clock = Clock()
    budget = Budget(Allowance(per_minute=3, per_hour=5), clock.patience())
    begun = []
    for _ in range(8):
        with budget.request():
            begun.append(clock.seconds)
    assert begun == [0, 0, 0, 60, 60, 3600, 3600, 3600]


def test_queries_keep_to_posthogs_limits() -> None:
    clock = Clock()
    api = client(Network(as_seen, in_turn(rows([1]))), clock)
    for _ in range(2401):
        api.query(COUNT, name="n", needed_by="m")
    assert clock.seconds == 3600


def test_no_more_requests_are_under_way_than_allowed() -> None:
    budgets = Budgets.of_posthog(Patience())
    entered, leave = threading.Semaphore(0), threading.Event()

    def ask() -> None:
        with budgets.queries.request():
            entered.release()
            leave.wait(10)

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask) for _ in range(5)]
        for _ in range(3):
            assert entered.acquire(timeout=10)
        assert not entered.acquire(timeout=0.05)
        leave.set()
        for one in asked:
            one.result(10)
    assert entered.acquire(timeout=10)


def test_threads_share_a_client() -> None:
    api = client(Network(as_seen, in_turn(rows([1]))))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: api.query(COUNT, name="n", needed_by="m"), range(100)))
    assert (len(found), api.calls) == (100, 100)
