from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from dbt_posthog_sync.batch import ENVELOPE_BYTES
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    CountingDestination,
    Outcome,
    Poisoned,
    Refusal,
    RequestIdentity,
    Row,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig, Protocol
from dbt_posthog_sync.errors import DestinationRefused, SettingsError
from dbt_posthog_sync.http import new_session

KEY = "phc_secret_of_this_test"
RUN_ID = "0190a000-0000-7000-8000-000000000009"
IDENTITY = RequestIdentity("0190a000-0000-7000-8000-000000000001", "2026-01-02T03:04:05.000Z")
NOW = datetime(2026, 1, 2, 3, 4, 6, 500_000, tzinfo=timezone.utc)


def uuid_of(position: int) -> str:
    return f"018c0000-0000-5000-8000-{position:012d}"


def row(position: int, properties: bytes = b',"plan":"pro"', head: bytes = b"") -> Row:
    head = head or b'"event":"e","distinct_id":"u%d","timestamp":"2026-01-02T03:04:05Z"' % position
    return Row.of(position, uuid_of(position), 0, False, head, properties)


def batch_of(count: int = 1, *, historical: bool = False, needs_person: bool = False) -> Batch:
    batch = Batch.of((row(n) for n in range(count)), needs_person=needs_person)
    return replace(batch, historical=historical)


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, payload: Any, status: int = 200, **headers: str) -> Reply:
        return cls(status, json.dumps(payload).encode(), headers)


@dataclass
class Seen:
    """A request as the server reads it."""

    url: str
    headers: dict[str, str]
    body: Any


class Server(BaseAdapter):
    """Answers requests by a function, in place of the network."""

    def __init__(self, answer: Callable[[Seen], Reply | Exception]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Seen] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert isinstance(request.body, bytes)
        body = json.loads(zlib.decompress(request.body, 31))
        seen = Seen(request.url or "", dict(request.headers), body)
        self.seen.append(seen)
        reply = self.answer(seen)
        if isinstance(reply, Exception):
            raise reply
        response = requests.Response()
        response.status_code = reply.status
        response.headers.update(reply.headers)
        response.url = seen.url
        response.request = request
        response._content = reply.body
        return response

    def close(self) -> None:
        """Nothing is open."""


def destination(
    *replies: Reply | Exception | Callable[[Seen], Reply], protocol: Protocol = "v1", key: str = KEY
) -> tuple[PostHog, Server]:
    """A destination whose server gives the replies in turn and repeats the last."""
    queue = list(replies)

    def answer(seen: Seen) -> Reply | Exception:
        reply = queue.pop(0) if len(queue) > 1 else queue[0]
        return reply if isinstance(reply, (Reply, Exception)) else reply(seen)

    server = Server(answer)
    session = new_session("https://eu.i.posthog.com", pool=1, version="0")
    session.mount("https://", server)
    config = PostHogConfig("https://eu.i.posthog.com/", key, RUN_ID, protocol=protocol, version="1.2.3")
    return PostHog(config, session=session, now=lambda: NOW), server


def all_ok(seen: Seen) -> Reply:
    if seen.url.endswith("/batch/"):
        return Reply.of({"status": "Ok"})
    return Reply.of({"results": {event["uuid"]: {"result": "ok"} for event in seen.body["batch"]}})


def results(*entries: Any) -> Reply:
    return Reply.of({"results": {uuid_of(n): entry for n, entry in enumerate(entries) if entry is not None}})


def outcome_of(
    *replies: Reply | Exception | Callable[[Seen], Reply], batch: Batch | None = None, protocol: Protocol = "v1"
) -> Outcome:
    posthog, _ = destination(*replies, protocol=protocol)
    return posthog.send(batch or batch_of(), IDENTITY, 1)


def test_it_is_a_destination() -> None:
    posthog: CountingDestination = destination(all_ok)[0]
    assert posthog.max_message_bytes == 921_600


def test_identity_names_host_and_project_but_no_key() -> None:
    mine, other = destination(all_ok)[0].identity, destination(all_ok, key="phc_other")[0].identity
    assert mine.startswith("https://eu.i.posthog.com#")
    assert mine != other
    assert KEY not in mine


def test_no_repr_shows_the_key() -> None:
    posthog, _ = destination(all_ok)
    assert KEY not in repr(posthog)
    assert KEY not in repr(PostHogConfig("https://h", KEY, RUN_ID))


def test_v1_request_has_the_documented_shape() -> None:
    posthog, server = destination(all_ok)
    posthog.send(batch_of(2), IDENTITY, 3)
    seen = server.seen[0]
    assert seen.url == "https://eu.i.posthog.com/i/v1/analytics/events"
    headers = {name: seen.headers[name] for name in seen.headers if name not in ("Accept", "Content-Length")}
    assert headers == {
        "User-Agent": "dbt-posthog-sync/1.2.3",
        "Accept-Encoding": headers["Accept-Encoding"],
        "Connection": "keep-alive",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "Authorization": f"Bearer {KEY}",
        "PostHog-Sdk-Info": "dbt-posthog-sync/1.2.3",
        "PostHog-Attempt": "3",
        "PostHog-Request-Id": IDENTITY.request_id,
        "PostHog-Request-Timestamp": "2026-01-02T03:04:06.500Z",
    }
    assert seen.body == {
        "created_at": "2026-01-02T03:04:05.000Z",
        "historical_migration": False,
        "batch": [
            {
                "uuid": uuid_of(n),
                "event": "e",
                "distinct_id": f"u{n}",
                "timestamp": "2026-01-02T03:04:05Z",
                "options": {"disable_skew_correction": True},
                "properties": {"$geoip_disable": True, "dbt_posthog_sync_run_id": RUN_ID, "plan": "pro"},
            }
            for n in range(2)
        ],
    }


def test_v0_request_has_the_documented_shape() -> None:
    posthog, server = destination(all_ok, protocol="v0")
    posthog.send(batch_of(), IDENTITY, 1)
    seen = server.seen[0]
    assert seen.url == "https://eu.i.posthog.com/batch/"
    assert "Authorization" not in seen.headers
    assert seen.body == {
        "api_key": KEY,
        "historical_migration": False,
        "batch": [
            {
                "uuid": uuid_of(0),
                "event": "e",
                "distinct_id": "u0",
                "timestamp": "2026-01-02T03:04:05Z",
                "properties": {
                    "$ignore_sent_at": True,
                    "$lib": "dbt-posthog-sync",
                    "$lib_version": "1.2.3",
                    "$geoip_disable": True,
                    "dbt_posthog_sync_run_id": RUN_ID,
                    "plan": "pro",
                },
            }
        ],
    }


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_historical_batches_say_so(protocol: Protocol) -> None:
    posthog, server = destination(all_ok, protocol=protocol)
    posthog.send(batch_of(historical=True), IDENTITY, 1)
    assert server.seen[0].body["historical_migration"] is True


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_every_message_is_in_the_body_once_and_in_order(count: int) -> None:
    posthog, server = destination(all_ok)
    outcome = posthog.send(batch_of(count), IDENTITY, 1)
    assert [event["uuid"] for event in server.seen[0].body["batch"]] == [uuid_of(n) for n in range(count)]
    assert outcome == Answered(accepted=tuple(range(count)))


def test_a_message_without_properties_is_valid_json() -> None:
    posthog, server = destination(all_ok)
    posthog.send(Batch.of([row(0, b"")]), IDENTITY, 1)
    assert set(server.seen[0].body["batch"][0]["properties"]) == {"$geoip_disable", "dbt_posthog_sync_run_id"}


def test_the_run_wins_no_property_that_the_row_sets() -> None:
    posthog, server = destination(all_ok)
    posthog.send(Batch.of([row(0, b',"$geoip_disable":false')]), IDENTITY, 1)
    assert server.seen[0].body["batch"][0]["properties"]["$geoip_disable"] is False


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_the_envelope_is_smaller_than_the_batcher_reckons(protocol: Protocol) -> None:
    posthog, _ = destination(all_ok, protocol=protocol)
    one, two = (len(posthog.render(batch_of(n), IDENTITY).body) for n in (1, 2))
    assert two - one - len(row(1).head) - len(row(1).properties) < ENVELOPE_BYTES


def test_requests_and_bytes_are_counted() -> None:
    posthog, server = destination(all_ok)
    posthog.send(batch_of(), IDENTITY, 1)
    posthog.send(batch_of(), IDENTITY, 1)
    assert posthog.requests_sent == 2
    assert posthog.bytes_sent == sum(int(seen.headers["Content-Length"]) for seen in server.seen)


def test_closing_is_possible() -> None:
    destination(all_ok)[0].close()


# --- render ---------------------------------------------------------------------------------------------------------


def test_a_rendered_request_shows_what_would_be_sent_without_the_key() -> None:
    posthog, server = destination(all_ok)
    rendered = posthog.render(batch_of(2), IDENTITY, 1)
    assert server.seen == []
    assert (rendered.method, rendered.url) == ("POST", "https://eu.i.posthog.com/i/v1/analytics/events")
    assert ("Authorization", "Bearer ***") in rendered.headers
    assert KEY not in rendered.body
    posthog.send(batch_of(2), IDENTITY, 1)
    assert json.loads(rendered.body) == server.seen[0].body


def test_rendering_needs_no_key_and_masks_that_of_v0() -> None:
    posthog, _ = destination(all_ok, protocol="v0", key="")
    assert json.loads(posthog.render(batch_of(), IDENTITY).body)["api_key"] == "***"


# --- keys -----------------------------------------------------------------------------------------------------------


def test_blanks_around_a_key_are_trimmed() -> None:
    assert PostHogConfig("https://h", f" {KEY}\n", RUN_ID).project_key == KEY


@pytest.mark.parametrize("key", ["phx_personal", "phs_secret", "phc_ž", "phc_a\nb", "p" * 65])
def test_what_cannot_be_a_project_key_is_named_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        PostHogConfig("https://h", key, RUN_ID)
    assert key not in str(caught.value)


def test_nothing_is_sent_without_a_key() -> None:
    posthog, server = destination(all_ok, key="")
    with pytest.raises(DestinationRefused, match="No project API key"):
        posthog.send(batch_of(), IDENTITY, 1)
    assert server.seen == []


# --- v1 results -----------------------------------------------------------------------------------------------------


def test_v1_answers_are_read_message_by_message() -> None:
    reply = results(
        {"result": "ok"},
        {"result": "drop", "details": "missing_event_name"},
        {"result": "retry", "details": "not_persisted"},
        None,
        {"result": "ok", "details": None},
    )
    reply.headers["Retry-After"] = "7"
    assert outcome_of(reply, batch=batch_of(5)) == Answered(
        accepted=(0, 4),
        refused=(Refusal(1, "PostHog dropped it: the event name is empty (missing_event_name)"),),
        retry=(2,),
        retry_after=7.0,
    )


WITHOUT_PERSON = [
    {"result": "warning", "details": "person_processing_disabled"},
    {"result": "limited"},
    {"result": "ok", "details": "person_processing_disabled"},
]


@pytest.mark.parametrize("entry", WITHOUT_PERSON)
def test_events_stored_without_person_processing_are_accepted_and_counted(entry: dict[str, str]) -> None:
    assert outcome_of(results(entry)) == Answered(accepted=(0,), warned=1)


@pytest.mark.parametrize("entry", WITHOUT_PERSON)
def test_persons_stored_without_person_processing_are_refused(entry: dict[str, str]) -> None:
    outcome = outcome_of(results(entry), batch=batch_of(needs_person=True))
    assert isinstance(outcome, Answered)
    assert outcome.accepted == ()
    assert [r.position for r in outcome.refused] == [0]
    assert "without person processing" in outcome.refused[0].reason
    assert outcome.refused[0].heals is (entry["result"] != "ok")


@pytest.mark.parametrize(
    ("details", "words", "heals"),
    [
        ("event_too_big", "1 MB", False),
        ("billing_limit_exceeded", "billing limit", True),
        ("event_restriction_drop", "event restriction", True),
        ("something_new", "something_new", False),
        (None, "no reason given", False),
    ],
)
def test_a_dropped_message_is_refused_with_posthogs_words(details: str | None, words: str, heals: bool) -> None:
    outcome = outcome_of(results({"result": "drop", "details": details}))
    assert isinstance(outcome, Answered)
    assert words in outcome.refused[0].reason
    assert outcome.refused[0].heals is heals


@pytest.mark.parametrize("entry", [{"result": "postponed"}, {}, {"result": ["ok"]}])
def test_an_unknown_result_is_final(entry: dict[str, Any]) -> None:
    outcome = outcome_of(results(entry))
    assert isinstance(outcome, Answered)
    assert "does not know" in outcome.refused[0].reason


@pytest.mark.parametrize("entry", ["ok", 1, ["ok"]])
def test_a_result_of_another_shape_answers_for_nothing(entry: Any) -> None:
    assert outcome_of(results(entry)) == Answered()


@pytest.mark.parametrize("protocol", ["v0", "v1"])
@pytest.mark.parametrize(
    "body",
    [b"<html>log in</html>", b"", b"[]", b"{}", b'"Ok"', b"\xff\xfe", b'{"results":[]}', b'{"status":true}', b"1"],
)
def test_a_200_that_is_not_posthogs_word_confirms_nothing(protocol: Protocol, body: bytes) -> None:
    outcome = outcome_of(Reply(200, body), protocol=protocol)
    assert isinstance(outcome, TryAgain)
    assert "eu.i.posthog.com" in outcome.reason


# --- v0 answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Ok", 1])
def test_v0_accepts_all_or_nothing(status: Any) -> None:
    assert outcome_of(Reply.of({"status": status}), batch=batch_of(3), protocol="v0") == Answered((0, 1, 2))


def test_v0_over_quota_in_a_200_stops_the_run() -> None:
    with pytest.raises(DestinationRefused, match="billing limit"):
        outcome_of(Reply.of({"status": "Ok", "quota_limited": ["events"]}), protocol="v0")


# --- statuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v0", "v1"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599, 204, 302])
def test_what_may_heal_is_tried_again_after_the_time_that_was_asked_for(protocol: Protocol, status: int) -> None:
    outcome = outcome_of(Reply(status, b"", {"Retry-After": "60"}), protocol=protocol)
    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == 60
    assert str(status) in outcome.reason


@pytest.mark.parametrize("protocol", ["v0", "v1"])
@pytest.mark.parametrize("status", [301, 308, 401, 402, 403, 407, 410, 415])
def test_what_cannot_heal_stops_the_run_without_showing_the_key(protocol: Protocol, status: int) -> None:
    reply = Reply(status, f"bad key {KEY}".encode(), {"Location": f"https://x.example/?k={KEY}"})
    with pytest.raises(DestinationRefused) as caught:
        outcome_of(reply, protocol=protocol)
    assert KEY not in str(caught.value)
    assert "eu.i.posthog.com" in str(caught.value)


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_a_413_is_too_large(protocol: Protocol) -> None:
    assert isinstance(outcome_of(Reply(413), protocol=protocol), TooLarge)


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_a_400_is_poison_and_quotes_the_server_without_the_key(protocol: Protocol) -> None:
    outcome = outcome_of(Reply(400, f"event submitted\nwithout a distinct_id {KEY}".encode()), protocol=protocol)
    assert outcome == Poisoned("event submitted without a distinct_id ***")


def test_a_400_without_words_has_a_reason() -> None:
    assert outcome_of(Reply(400)) == Poisoned("400 without a reason")


@pytest.mark.parametrize("tag", ["request_parsing_error", "missing_event_uuid", "duplicate_event_uuid"])
def test_a_v1_400_about_messages_is_poison(tag: str) -> None:
    assert isinstance(outcome_of(Reply.of({"error": tag}, 400)), Poisoned)


@pytest.mark.parametrize("tag", ["missing_required_headers", "invalid_header_value", "invalid_batch"])
def test_a_v1_400_about_the_request_stops_the_run(tag: str) -> None:
    with pytest.raises(DestinationRefused, match=tag):
        outcome_of(Reply.of({"error": tag}, 400))


def test_network_errors_are_tried_again() -> None:
    error = requests.exceptions.ConnectionError(ConnectionRefusedError(111, "Connection refused"))
    assert outcome_of(error) == TryAgain("eu.i.posthog.com: Connection refused")


# --- v1 or v0 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405])
def test_a_host_without_v1_gets_v0_at_once_and_from_then_on(status: int) -> None:
    posthog, server = destination(
        lambda seen: all_ok(seen) if seen.url.endswith("/batch/") else Reply(status), protocol="auto"
    )
    assert posthog.protocol is None
    assert posthog.send(batch_of(), IDENTITY, 1) == Answered((0,))
    assert posthog.send(batch_of(), IDENTITY, 1) == Answered((0,))
    assert posthog.protocol == "v0"
    assert [seen.url.rsplit(".com")[1] for seen in server.seen] == ["/i/v1/analytics/events", "/batch/", "/batch/"]


def test_a_host_that_spoke_v1_is_not_taken_for_an_old_one_later() -> None:
    posthog, _ = destination(all_ok, Reply(404), protocol="auto")
    posthog.send(batch_of(), IDENTITY, 1)
    assert posthog.protocol == "v1"
    outcome = posthog.send(batch_of(), IDENTITY, 1)
    assert isinstance(outcome, TryAgain)
    assert "404" in outcome.reason
    assert posthog.protocol == "v1"


def test_a_proxy_page_does_not_settle_the_protocol() -> None:
    posthog, _ = destination(Reply(200, b"<html>"), protocol="auto")
    posthog.send(batch_of(), IDENTITY, 1)
    assert posthog.protocol is None


@pytest.mark.parametrize("protocol", ["v0", "v1", "auto"])
def test_a_host_that_is_no_posthog_is_named(protocol: Protocol) -> None:
    with pytest.raises(DestinationRefused, match="has no PostHog ingestion API"):
        outcome_of(Reply(404), protocol=protocol)
