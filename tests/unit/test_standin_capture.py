"""What the stand-in's capture makes of a request, and which times it understands."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from captures import NOW, TOKEN, UUID, captured, identify_group, properties_of, v0, v1

from dbt_posthog_sync.testing import StandInConfig
from dbt_posthog_sync.testing.account import Account, summary
from dbt_posthog_sync.testing.timestamps import lenient, rfc3339


def test_v0_cuts_a_long_distinct_id_so_two_become_one_person() -> None:
    events = [{"event": "e", "distinct_id": "x" * 200 + end} for end in "ab"]
    _, project = v0({"api_key": TOKEN, "batch": events})
    assert [person.distinct_ids[0] for person in project.persons] == ["x" * 200]


def test_v0_moves_set_from_beside_the_properties_into_them() -> None:
    _, project = v0({"api_key": TOKEN, "batch": [{"event": "$set", "distinct_id": "u", "$set": {"a": 1}}]})
    assert properties_of(project) == {"a": 1}


def test_v0_events_of_an_unknown_key_are_answered_ok_and_lost() -> None:
    outcome, project = v0({"api_key": "phc_nobody", "batch": [{"event": "e", "distinct_id": "u"}]})
    assert (outcome.reply.status, project.events) == (200, ())
    assert [lost.reason for lost in project.lost] == ["unknown project API key"]


@pytest.mark.parametrize(("properties", "expected"), [({}, 11), ({"$ignore_sent_at": True}, 10)])
def test_v0_sent_at_moves_the_time_unless_it_is_ignored(properties: dict[str, Any], expected: int) -> None:
    event = {"event": "e", "distinct_id": "u", "timestamp": "2026-01-02T10:00:00Z", "properties": properties}
    sent_at = (NOW - timedelta(hours=1)).isoformat()
    _, project = v0({"api_key": TOKEN, "batch": [event], "sent_at": sent_at})
    assert expected == project.events[0].timestamp.hour


@pytest.mark.parametrize(("hours", "expected"), [(23, NOW + timedelta(hours=23)), (24, NOW)])
def test_v0_time_more_than_23_hours_ahead_becomes_now(hours: int, expected: datetime) -> None:
    timestamp = (NOW + timedelta(hours=hours)).isoformat()
    _, project = v0({"api_key": TOKEN, "batch": [{"event": "e", "distinct_id": "u", "timestamp": timestamp}]})
    assert expected == project.events[0].timestamp


def test_v0_engage_without_a_name_is_an_identify() -> None:
    _, project = v0({"api_key": TOKEN, "distinct_id": "u", "$set": {"a": 1}}, path="/engage/")
    assert ([event.event for event in project.events], properties_of(project)) == (["$identify"], {"a": 1})


def test_v0_recognises_gzip_without_a_header_and_reads_only_its_first_member() -> None:
    body = json.dumps({"api_key": TOKEN, "batch": [{"event": "e", "distinct_id": "u"}]}).encode()
    _, project = v0(gzip.compress(body) + b"rest")
    assert len(project.events) == 1


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "request missing data payload"),
        (b"\xff\xfe\xfd", 400, "invalid UTF8"),
        (b'{"api_key": "t", "batch": [{"event": "\\ud800", "distinct_id": "u"}]}', 400, "failed to parse request"),
        (b'{"api_key": "t", "token": "t", "batch": []}', 400, "did not match any variant"),
        (b'[{"event": "e", "token": "a"}, {"event": "e", "token": "b"}]', 401, "inconsistent api_key values"),
        (b'{"api_key": "", "batch": [{"event": "e"}]}', 401, "API key is not valid: empty"),
    ],
)
def test_v0_refuses_with_the_words_of_the_service(body: bytes, status: int, text: str) -> None:
    outcome, _ = v0(body)
    assert status == outcome.reply.status
    assert text in outcome.reply.body.decode()


def test_v1_puts_envelope_fields_and_library_among_the_properties() -> None:
    event = {"options": {"process_person_profile": "0"}, "session_id": "s", "properties": {"$lib": "x"}}
    _, project = v1(event)
    assert (project.events[0].properties) == {
        "$process_person_profile": False,
        "$session_id": "s",
        "$lib": "dbt/sync",
        "$lib_version": "1.2",
    }


@pytest.mark.parametrize(
    ("event", "details"),
    [
        ({"event": "é" * 101}, "event_name_too_long"),
        ({"distinct_id": "é" * 101}, "distinct_id_too_large"),
        ({"options": {"process_person_profile": "maybe"}}, "invalid_options"),
        ({"options": []}, "invalid_options"),
        ({"event": "$performance_event"}, "dropped_performance_event"),
        ({"properties": {"x": "y" * 1_000_000}}, "event_too_big"),
        ({"event": "restricted"}, "event_restriction_drop"),
    ],
)
def test_v1_drops_one_event_with_a_reason(event: dict[str, Any], details: str) -> None:
    outcome, project = v1(event, StandInConfig(restricted_events=frozenset(["restricted"])))
    assert {UUID: {"result": "drop", "details": details}} == json.loads(outcome.reply.body)["results"]
    assert project.events == ()


def test_v1_warns_of_a_distinct_id_over_its_rate_and_keeps_the_event_personless() -> None:
    outcome, project = v1({}, StandInConfig(rate_limited_distinct_ids=frozenset(["u"])))
    warning = {"result": "warning", "details": "person_processing_disabled"}
    assert {UUID: warning} == json.loads(outcome.reply.body)["results"]
    assert (len(project.events), project.persons) == (1, ())


def test_v1_wants_events_again_while_the_queue_is_down() -> None:
    outcome, project = v1({}, StandInConfig(sink_failure=True))
    assert json.loads(outcome.reply.body)["results"] == {UUID: {"result": "retry", "details": "not_persisted"}}
    assert (outcome.reply.headers, project.events) == ((("Retry-After", "1"),), ())


# Times.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-01T05:30:00+05:30", "2020-01-01T00:00:00+00:00"),
        ("2020-01-01T00:00:00.123456789Z", "2020-01-01T00:00:00.123456+00:00"),
        ("2020-01-01T00:00:00", None),
        ("2020-01-01T00:00Z", None),
        ("2020-02-30T00:00:00Z", None),
        ("2020-01-01T00:00:00+0530", None),
    ],
)
def test_strict_times(text: str, expected: str | None) -> None:
    moment = rfc3339(text)
    assert expected == (None if moment is None else moment.isoformat())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-01T00:00:00+03", "2019-12-31T21:00:00+00:00"),
        ("2020-01-01T12:00:00", "2020-01-01T12:00:00+00:00"),
        ("2020-01-01 12:00:00.5", "2020-01-01T12:00:00.500000+00:00"),
        ("2020-01-01 12:00:00-08", "2020-01-01T20:00:00+00:00"),
        ("2020/1/2", "2020-01-02T05:06:07+00:00"),
        ("2020-01-02", "2020-01-02T05:06:07+00:00"),
        ("1/2/2020 03:04", "2020-01-02T03:04:00+00:00"),
        ("1577836800", "2020-01-01T00:00:00+00:00"),
        ("1577836800000", "2020-01-01T00:00:00+00:00"),
        ("Wed, 01 Jan 2020 02:00:00 +0200", "2020-01-01T00:00:00+00:00"),
        ("not a date", None),
    ],
)
def test_lenient_times(text: str, expected: str | None) -> None:
    moment = lenient(text, NOW)
    assert expected == (None if moment is None else moment.isoformat())


def test_summary_counts_what_is_kept_and_what_is_lost() -> None:
    account = Account(StandInConfig())
    account.project.take([captured(), identify_group("company", "acme", {})])
    counts = summary(account).project
    assert counts.events_by_name == (("$groupidentify", 1), ("e", 1))
    assert (counts.received, counts.persons, counts.groups_by_type) == (2, 1, (("company", 1),))
