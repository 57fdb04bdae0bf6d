"""What the stand-in's project keeps: the rules that a client can only learn from PostHog's own data."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from captures import NOON, UUID, captured, identify_group, project_of, properties_of

from dbt_posthog_sync.testing import CapturedEvent

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
