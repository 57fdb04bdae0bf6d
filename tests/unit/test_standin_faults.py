"""Injected faults and the stand-in as a server, over real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from dbt_posthog_sync.testing import (
    Arrival,
    CloseConnection,
    CutAnswer,
    CutRequest,
    Delay,
    EventResults,
    ExpiredKey,
    Fault,
    FaultPlan,
    FirstOf,
    LoseAnswer,
    Script,
    StandIn,
    StandInConfig,
    Status,
    Verdict,
    When,
    always,
)

V1 = "/i/v1/analytics/events"
UUIDS = tuple(f"018c0000-0000-7000-8000-{number:012x}" for number in range(3))


class Client:
    """The smallest client that speaks both protocols; it never tries again by itself."""

    def __init__(self, posthog: StandIn) -> None:
        self.address = urlsplit(posthog.url).netloc
        self.token = posthog.token

    def v1(self, *uuids: str, attempt: int = 1) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        events = [
            {"event": f"e{n}", "uuid": uuid, "distinct_id": "u", "timestamp": "2026-01-02T03:04:05Z"}
            for n, uuid in enumerate(uuids or UUIDS)
        ]
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "User-Agent": "test/1",
            "PostHog-Sdk-Info": "test/1",
            "PostHog-Attempt": str(attempt),
            "PostHog-Request-Id": UUIDS[0],
            "PostHog-Request-Timestamp": datetime.now(timezone.utc).isoformat(),
        }
        status, body, found = self.send("POST", V1, {"created_at": "2026-01-02T03:04:05Z", "batch": events}, headers)
        return status, json.loads(body), found

    def v0(self) -> tuple[int, str]:
        batch = [{"event": "e", "distinct_id": "u", "uuid": UUIDS[0], "timestamp": "2026-01-02T03:04:05Z"}]
        status, body, _ = self.send("POST", "/batch/", {"api_key": self.token, "batch": batch})
        return status, body

    def get(self, path: str) -> Any:
        return json.loads(self.send("GET", path)[1])

    def send(
        self, method: str, path: str, value: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, Mapping[str, str]]:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            body = None if value is None else json.dumps(value).encode()
            connection.request(method, path, body, headers or {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.headers)
        finally:
            connection.close()


@pytest.fixture
def posthog() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture
def client(posthog: StandIn) -> Client:
    return Client(posthog)


def test_script_meets_requests_by_number(posthog: StandIn, client: Client) -> None:
    posthog.inject(Script((Status(500), None, Status(503))))
    assert [client.v1()[0] for _ in range(4)] == [500, 200, 503, 200]
    assert [request.fault for request in posthog.requests] == ["Status", "", "Status", ""]


def test_status_in_the_words_of_each_protocol(posthog: StandIn, client: Client) -> None:
    posthog.inject(When(always, Status(429, retry_after=2)))
    status, body, headers = client.v1()
    assert (status, body["error"], headers["Retry-After"]) == (429, "rate_limited", "2")
    posthog.inject(When(always, Status(502, "<html>proxy</html>", content_type="text/html")))
    assert client.v0() == (502, "<html>proxy</html>")


def test_retry_after_may_be_an_http_date(posthog: StandIn, client: Client) -> None:
    posthog.inject(Script((Status(503, retry_after=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),)))
    assert client.v1()[2]["Retry-After"] == "Fri, 02 Jan 2026 03:04:05 GMT"


def test_key_expires_in_the_middle(posthog: StandIn, client: Client) -> None:
    posthog.inject(Script(after=1, then=ExpiredKey()))
    assert [client.v1()[0], client.v1()[0]] == [200, 401]
    assert client.v0() == (401, "api_key does not resolve to a known project")
    assert len(posthog.project.received) == 3


@pytest.mark.parametrize(("fault", "kept"), [(CloseConnection(), 0), (CutRequest(), 0), (LoseAnswer(), 3)])
def test_closed_connection_says_nothing_of_what_was_kept(
    posthog: StandIn, client: Client, fault: Fault, kept: int
) -> None:
    posthog.inject(When(always, fault))
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        client.v1()
    assert (kept, 0) == (len(posthog.project.events), posthog.requests[0].status)


def test_cut_answer_breaks_off_in_its_body(posthog: StandIn, client: Client) -> None:
    posthog.inject(When(always, CutAnswer()))
    with pytest.raises(http.client.IncompleteRead):
        client.v1()
    assert len(posthog.project.events) == 3


def test_retry_after_a_lost_answer_shows_as_a_repeat(posthog: StandIn, client: Client) -> None:
    posthog.inject(When(lambda arrival: arrival.attempt == 1, LoseAnswer()))
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        client.v1()
    assert client.v1(attempt=2)[0] == 200
    assert (len(posthog.project.received), len(posthog.project.events)) == (6, 3)


def test_results_are_forced_event_by_event(posthog: StandIn, client: Client) -> None:
    verdicts = {"e0": Verdict("retry", "not_persisted"), "e1": Verdict("absent"), "e2": Verdict("warning")}
    posthog.inject(When(always, EventResults(lambda event: verdicts.get(event["event"]), retry_after=0)))
    status, body, headers = client.v1()
    expected = {UUIDS[0]: {"result": "retry", "details": "not_persisted"}, UUIDS[2]: {"result": "warning"}}
    assert (200, expected, "0") == (status, body["results"], headers["Retry-After"])
    assert [(event.event, event.personless) for event in posthog.project.events] == [("e2", True)]


@pytest.mark.parametrize(("verdict", "status"), [(Verdict("retry"), 503), (Verdict("drop"), 200)])
def test_v0_knows_no_single_results(posthog: StandIn, client: Client, verdict: Verdict, status: int) -> None:
    posthog.inject(When(always, EventResults(lambda _: verdict)))
    assert status == client.v0()[0]
    assert posthog.project.events == ()


def test_plan_may_look_at_the_events(posthog: StandIn, client: Client) -> None:
    def has_second(arrival: Arrival) -> bool:
        return any(event["uuid"] == UUIDS[1] for event in arrival.events)

    posthog.inject(When(has_second, Status(413)))
    assert [client.v1(*UUIDS)[0], client.v1(UUIDS[0])[0]] == [413, 200]


def test_first_plan_with_a_fault_decides_and_a_delay_goes_on_to_another(posthog: StandIn, client: Client) -> None:
    plans: tuple[FaultPlan, ...] = (Script((None, Delay(0.001, Status(504)))), When(always, Delay(0.001)))
    posthog.inject(FirstOf(plans))
    assert [client.v1()[0] for _ in range(3)] == [200, 504, 200]


def test_unrouted_v1_is_404_and_v0_goes_on() -> None:
    with StandIn(StandInConfig(v1_routed=False)) as posthog:
        client = Client(posthog)
        assert client.send("POST", V1, {})[0] == 404
        assert client.v0()[0] == 200


def test_wrong_method_on_v1_is_405(client: Client) -> None:
    assert client.send("GET", V1)[0] == 405


def test_enforced_keys_are_refused_on_both_protocols() -> None:
    with StandIn(StandInConfig(enforce_known_tokens=True)) as posthog:
        client = Client(posthog)
        client.token = "phc_other"
        assert [client.v1()[0], client.v0()[0]] == [401, 401]


def test_each_key_has_a_project_of_its_own() -> None:
    with StandIn(StandInConfig(tokens=("phc_prod", "phc_dev"))) as posthog:
        client = Client(posthog)
        client.token = "phc_dev"
        client.v1()
        assert (len(posthog.project.events), len(posthog.projects["phc_dev"].events)) == (0, 3)
        assert client.get("/_standin/events?token=phc_dev")["total"] == 3


def test_key_checks(posthog: StandIn, client: Client) -> None:
    assert client.send("POST", "/flags/?v=2", {"api_key": posthog.token, "distinct_id": "u"})[0] == 200
    assert client.send("POST", "/flags/?v=2", {"api_key": "phc_nobody"})[0] == 401
    assert client.send("GET", f"/flags/?token={posthog.token}")[0] == 200
    assert client.send("GET", f"/array/{posthog.token}/config")[0] == 200
    assert client.send("GET", "/array/phc_nobody/config")[0] == 404


def test_views_show_what_was_kept(client: Client) -> None:
    client.v1()
    assert [event["event"] for event in client.get("/_standin/events?event=e1")["events"]] == ["e1"]
    assert (len(events := client.get("/_standin/events?limit=1&offset=2")["events"]) + 2, len(events)) == (3, 1)
    assert [person["distinct_ids"] for person in client.get("/_standin/persons")["persons"]] == [["u"]]
    assert [client.get(f"/_standin/{name}")["total"] for name in ("groups", "lost", "warnings")] == [0, 0, 0]
    requests = client.get("/_standin/requests")
    assert (requests["by_path"], requests["events_received"], requests["by_status"]) == ({V1: 1}, 3, {"200": 1})
    assert client.get("/_standin/summary")["events_received"] == 3
    assert "stand-in" in client.send("GET", "/")[1]


def test_reset_forgets_everything(posthog: StandIn, client: Client) -> None:
    client.v1()
    assert client.send("GET", "/_standin/reset")[0] == 405
    assert client.send("POST", "/_standin/reset")[0] == 200
    assert (posthog.project.events, posthog.requests) == ((), ())


def test_summary_counts_requests_and_repeats(posthog: StandIn, client: Client) -> None:
    client.v1()
    client.v1()
    counts = posthog.summary()
    assert (counts.requests, counts.statuses, counts.events_received) == (((V1, 2),), ((200, 2),), 6)
    assert counts.project.events_by_name == (("e0", 1), ("e1", 1), ("e2", 1))


def test_connection_is_kept_alive_and_chunked_bodies_are_read(posthog: StandIn) -> None:
    body = json.dumps({"api_key": posthog.token, "batch": [{"event": "e", "distinct_id": "u"}]}).encode()
    connection = http.client.HTTPConnection(urlsplit(posthog.url).netloc, timeout=5)
    for _ in range(2):
        connection.request("POST", "/batch/", iter([body[:9], body[9:]]), encode_chunked=True)
        assert connection.getresponse().read() == b'{"status":"Ok"}'
        assert connection.sock is not None
    connection.close()
    assert len(posthog.project.received) == 2


def test_stop_does_not_wait_for_idle_clients() -> None:
    posthog = StandIn()
    posthog.start()
    host, port = urlsplit(posthog.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as idle:
        Client(posthog).v0()
        posthog.stop()
        assert idle.recv(1) == b""


def test_many_clients_at_once_lose_nothing(posthog: StandIn, client: Client) -> None:
    def send_some(offset: int) -> None:
        for number in range(5):
            client.v1(f"018c0000-0000-7000-8000-{offset * 100 + number:012x}")

    run_together([lambda offset=offset: send_some(offset) for offset in range(8)])  # type: ignore[misc]
    assert (len(posthog.project.events), len(posthog.requests)) == (40, 40)


def run_together(works: list[Callable[[], None]]) -> None:
    threads = [Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestFixture:
    """The fixture of the pytest plugin, with the configuration overridden as a user would."""

    @pytest.fixture
    def posthog_standin_config(self) -> StandInConfig:
        return StandInConfig(tokens=("phc_mine",))

    def test_fixture_starts_the_configured_standin(self, posthog_standin: StandIn) -> None:
        assert posthog_standin.token == "phc_mine"
        assert Client(posthog_standin).v0() == (200, '{"status":"Ok"}')
