"""What PostHog's answers mean: results of single messages, statuses, and which protocol a host speaks."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from posthog_requests import IDENTITY, KEY, Reply, all_ok, batch_of, destination, outcome_of, results

from dbt_posthog_sync.destinations import (
    Answered,
    Poisoned,
    Refusal,
    TooLarge,
    TryAgain,
)
from dbt_posthog_sync.destinations.posthog import Protocol
from dbt_posthog_sync.errors import DestinationRefused

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
