"""What the stand-in's project keeps: the rules that a client can only learn from PostHog's own data."""

from __future__ import annotations

import gzip
import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dbt_posthog_sync.testing import CapturedEvent, Project, StandInConfig, capture_v0, capture_v1
from dbt_posthog_sync.testing.account import Account, summary
from dbt_posthog_sync.testing.captured import Outcome
from dbt_posthog_sync.testing.timestamps import lenient, rfc3339
from dbt_posthog_sync.testing.wire import Request

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
UUID = "018c0000-0000-7000-8000-000000000001"
TOKEN = "phc_sandbox"


def captured(event: str = "e", distinct_id: str = "u", **changes: Any) -> CapturedEvent:
    properties = changes.pop("properties", {})
    fields = {"uuid": str(uuid.uuid4()), "timestamp": NOON, "protocol": "v1", **changes}
    return CapturedEvent(event=event, distinct_id=distinct_id, properties=properties, **fields)


def project_of(*events: CapturedEvent, person_processing: bool = True) -> Project:
    project = Project(person_processing=person_processing)
    project.take(events)
    return project


def properties_of(project: Project, distinct_id: str = "u") -> dict[str, Any]:
    person = project.person(distinct_id)
    assert person is not None
    return dict(person.properties)


def v0(
    body: object, *, path: str = "/batch/", query: str = "", headers: dict[str, str] | None = None
) -> tuple[Outcome, Project]:
    account = Account(StandInConfig())
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("POST", path, query, headers or {}, data, NOW)
    outcome = capture_v0.capture(request, account.config)
    account.take(outcome)
    return outcome, account.project


def v1(event: dict[str, Any], config: StandInConfig | None = None) -> tuple[Outcome, Project]:
    account = Account(config or StandInConfig())
    headers = {
        "authorization": f"Bearer {TOKEN}",
        "content-type": "application/json",
        "user-agent": "test/1",
        "posthog-sdk-info": "dbt/sync/1.2",
        "posthog-attempt": "1",
        "posthog-request-id": UUID,
        "posthog-request-timestamp": NOW.isoformat(),
    }
    full = {"event": "e", "uuid": UUID, "distinct_id": "u", "timestamp": "2026-01-02T03:04:05Z", **event}
    body = json.dumps({"created_at": "2026-01-02T03:04:05Z", "batch": [full]}).encode()
    outcome = capture_v1.capture(Request("POST", capture_v1.PATH, "", headers, body, NOW), account.config)
    account.take(outcome)
    return outcome, account.project


# Which events are one.


def test_last_of_two_events_with_the_same_day_name_id_and_uuid_stays() -> None:
    first = captured(uuid=UUID, properties={"n": 1})
    second = captured(uuid=UUID, properties={"n": 2}, timestamp=NOON + timedelta(hours=3))
    project = project_of(first, second)
    assert [event.properties for event in project.events] == [{"n": 2}]
    assert [event.number for event in project.received] == [1, 2]


@pytest.mark.parametrize(
    "other",
    [
        {"event": "f"},
        {"distinct_id": "v"},
        {"uuid": "018c0000-0000-7000-8000-000000000002"},
        {"timestamp": NOON + timedelta(days=1)},
    ],
)
def test_events_that_differ_in_one_part_of_the_key_are_two(other: dict[str, Any]) -> None:
    assert len(project_of(captured(uuid=UUID), captured(**{"uuid": UUID, **other})).events) == 2


# Persons.


def test_set_overwrites_set_once_fills_and_unset_removes() -> None:
    project = project_of(
        captured("$set", properties={"$set": {"a": 1, "b": 1}, "$set_once": {"a": 9, "c": 1}}),
        captured("$set", properties={"$set": {"a": 2}, "$set_once": {"c": 2, "d": 2}, "$unset": ["b"]}),
    )
    assert properties_of(project) == {"a": 2, "c": 1, "d": 2}


def test_any_event_writes_persons_except_exceptions_and_heatmaps() -> None:
    writes = {"$set": {"a": 1}}
    project = project_of(
        captured("order completed", properties=writes),
        captured("$exception", "x", properties=writes),
        captured("$$heatmap", "y", properties=writes),
    )
    assert properties_of(project) == {"a": 1}
    assert len(project.persons) == 1


def test_ordinary_event_with_nothing_but_noise_does_not_write() -> None:
    project = project_of(
        captured(properties={"$set": {"plan": "pro"}}),
        captured(properties={"$set": {"$current_url": "/x", "$geoip_city_name": "Brno"}}),
        captured("$set", "v", properties={"$set": {"plan": "pro"}}),
        captured("$set", "v", properties={"$set": {"$current_url": "/x"}}),
    )
    assert properties_of(project) == {"plan": "pro"}
    assert properties_of(project, "v") == {"plan": "pro", "$current_url": "/x"}


def test_person_uuid_is_made_of_the_first_distinct_id() -> None:
    namespace = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
    assert [str(uuid.uuid5(namespace, "1:u"))] == [person.uuid for person in project_of(captured()).persons]


def test_personless_event_is_kept_and_its_person_writes_are_not() -> None:
    project = project_of(captured(properties={"$process_person_profile": False, "$set": {"a": 1}, "x": 1}))
    assert project.persons == ()
    assert [(event.personless, event.properties) for event in project.events] == [
        (True, {"$process_person_profile": False, "x": 1})
    ]


def test_only_the_boolean_false_makes_an_event_personless() -> None:
    assert len(project_of(captured(properties={"$process_person_profile": "false"})).persons) == 1


@pytest.mark.parametrize("name", ["$identify", "$create_alias", "$merge_dangerously", "$groupidentify"])
def test_events_that_need_a_person_are_lost_when_personless(name: str) -> None:
    project = project_of(captured(name, properties={"$process_person_profile": False}))
    assert project.events == ()
    assert [lost.reason for lost in project.lost] == ["invalid_event_when_process_person_profile_is_false"]


def test_project_without_persons_loses_person_events_and_keeps_the_rest() -> None:
    project = project_of(captured("$set"), captured("e"), person_processing=False)
    assert [event.event for event in project.events] == ["e"]
    assert [lost.event for lost in project.lost] == ["$set"]
    assert project.persons == ()


def test_capture_can_switch_person_processing_off() -> None:
    project = project_of(captured("$set", properties={"$set": {"a": 1}}, person_processing=False))
    assert (len(project.events), project.persons) == (1, ())


def test_person_that_would_grow_too_large_is_not_written() -> None:
    project = project_of(
        captured("$set", properties={"$set": {"a": 1}}),
        captured("$set", properties={"$set": {"b": "x" * 700_000}}),
    )
    assert properties_of(project) == {"a": 1}
    assert [warning.type for warning in project.warnings] == ["person_properties_size_violation"]


def test_many_small_writes_of_one_property_never_reach_the_size_limit() -> None:
    writes = [captured("$set", properties={"$set": {"a": str(n) * 90_000}}) for n in range(10)]
    assert project_of(*writes).warnings == ()


# Merges.


def test_identify_merges_the_anonymous_person_into_the_identified() -> None:
    project = project_of(
        captured("e", "anon", properties={"$set": {"a": 1, "b": 1}}, timestamp=NOON - timedelta(days=1)),
        captured("$set", "u", properties={"$set": {"b": 2}}),
        captured("$identify", "u", properties={"$anon_distinct_id": "anon", "$set": {"c": 3}}),
    )
    (person,) = project.persons
    assert person.distinct_ids == ("u", "anon")
    assert person.properties == {"a": 1, "b": 2, "c": 3}
    assert (True, NOON - timedelta(days=1)) == (person.is_identified, person.created_at)
    assert person == project.person("anon")


def test_alias_is_added_to_the_event_own_person() -> None:
    project = project_of(captured("$create_alias", "u", properties={"alias": "other"}))
    assert [person.distinct_ids for person in project.persons] == [("u", "other")]


@pytest.mark.parametrize(("name", "persons"), [("$create_alias", 2), ("$merge_dangerously", 1)])
def test_identified_source_is_merged_only_dangerously(name: str, persons: int) -> None:
    project = project_of(
        captured("$identify", "known", properties={"$anon_distinct_id": "a"}),
        captured("$set", "u"),
        captured(name, "u", properties={"alias": "known"}),
    )
    assert persons == len(project.persons)


@pytest.mark.parametrize("illegal", ["anonymous", "GUEST", "null", "0", " ", '"undefined"', "[object Object]"])
def test_merge_with_an_illegal_id_is_skipped_and_the_event_kept(illegal: str) -> None:
    project = project_of(captured("$identify", "u", properties={"$anon_distinct_id": illegal}))
    assert [warning.type for warning in project.warnings] == ["cannot_merge_with_illegal_distinct_id"]
    assert (len(project.events), len(project.persons)) == (1, 1)


# Groups.


def identify_group(kind: str, key: str, properties: object) -> CapturedEvent:
    return captured("$groupidentify", properties={"$group_type": kind, "$group_key": key, "$group_set": properties})


def test_group_properties_are_merged_and_the_last_value_wins() -> None:
    project = project_of(
        identify_group("company", "acme", {"a": 1, "b": 1}), identify_group("company", "acme", {"b": 2})
    )
    group = project.group("company", "acme")
    assert group is not None
    assert group.properties == {"a": 1, "b": 2}


def test_sixth_group_type_makes_no_group() -> None:
    project = project_of(*(identify_group(f"type{n}", "k", {}) for n in range(6)))
    assert len(project.groups) == 5
    assert (len(project.events), [warning.type for warning in project.warnings]) == (6, ["too_many_group_types"])


def test_membership_uses_up_a_group_type_without_making_a_group() -> None:
    project = project_of(captured(properties={"$groups": {"company": "acme"}}))
    assert (project.group_types, project.groups) == (("company",), ())


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (identify_group("company", "acme", ["no", "object"]), "group_set_is_no_object"),
        (identify_group("company", "k" * 401, {}), "group_key_too_long"),
    ],
)
def test_malformed_group_event_is_lost(event: CapturedEvent, reason: str) -> None:
    project = project_of(event)
    assert ([reason], ()) == ([lost.reason for lost in project.lost], project.events)


# What capture changes on the way.


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
