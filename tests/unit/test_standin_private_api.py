"""The stand-in's private API, over real HTTP: keys, projects, persons, HogQL."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from api_caller import PERSONS, Caller, event, filled_caller, person

from dbt_posthog_sync.testing import (
    ApiLimits,
    CloseConnection,
    ExpiredKey,
    LoseAnswer,
    PersonalKey,
    Script,
    StandIn,
    StandInConfig,
    Status,
)
from dbt_posthog_sync.testing.personal_key import Throttle


@pytest.fixture
def caller(posthog: StandIn) -> Caller:
    return Caller(posthog)


@pytest.fixture
def filled(posthog: StandIn) -> Caller:
    return filled_caller(posthog)


# Keys.


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("phx_sandbox", 200, None), ("phx_other", 401, "authentication_failed"), ("", 401, "not_authenticated")],
)
def test_a_key_is_known_or_not(posthog: StandIn, key: str, status: int, code: str | None) -> None:
    found, answer = Caller(posthog, key)("/api/users/@me/")
    assert (found, answer.get("code")) == (status, code)


def test_an_expired_key_is_as_good_as_none() -> None:
    with StandIn(StandInConfig(personal_keys=(PersonalKey("phx_old", expired=True),))) as posthog:
        assert Caller(posthog, posthog.personal_key)("/api/users/@me/")[0] == 401


@pytest.mark.parametrize(
    ("path", "body", "scope"),
    [
        ("/api/users/@me/", None, "user:read"),
        ("/api/projects/1/", None, "project:read"),
        (PERSONS, None, "person:read"),
        (PERSONS + "batch_by_distinct_ids/", {}, "person:read"),
        (PERSONS + "bulk_delete/", {}, "person:write"),
        (PERSONS + "reset_person_distinct_id/", {}, "person:write"),
        ("/api/projects/1/query/", {}, "query:read"),
    ],
)
def test_every_endpoint_wants_its_scope(path: str, body: Any, scope: str) -> None:
    keys = (PersonalKey("phx_none", scopes=()), PersonalKey("phx_one", scopes=(scope,)))
    with StandIn(StandInConfig(personal_keys=keys)) as posthog:
        status, answer = Caller(posthog, "phx_none")(path, body)
        assert (status, answer["detail"]) == (403, f"API key missing required scope '{scope}'")
        assert Caller(posthog, "phx_one")(path, body)[0] in (200, 202, 400)


def test_writing_includes_reading() -> None:
    key = PersonalKey("phx_w", scopes=("person:write",))
    assert (key.may("person:read"), key.may("query:read")) == (True, False)
    assert "phx_w" not in repr(key)


def test_projects_are_numbered_and_tell_their_key() -> None:
    keys = (PersonalKey("phx_a", current_project=2),)
    with StandIn(StandInConfig(tokens=("phc_one", "phc_two"), personal_keys=keys)) as posthog:
        caller = Caller(posthog, "phx_a")
        assert caller("/api/projects/1/")[1]["api_token"] == "phc_one"
        assert caller("/api/projects/@current/")[1]["api_token"] == "phc_two"
        assert caller("/api/projects/3/") == (404, caller("/api/projects/x/")[1])
        posthog.projects["phc_two"].take([event("order", "u")])
        assert caller.query("select count() from events", project="2")[1]["results"] == [[1]]
        assert caller.query("select count() from events", project="1")[1]["results"] == [[0]]


def test_wrong_paths_methods_and_bodies(caller: Caller) -> None:
    assert caller("/api/projects/1/cohorts/")[0] == 404
    assert caller("/api/nothing/")[0] == 404
    assert caller("/api/users/@me/", {})[0] == 405
    assert caller(PERSONS + "batch_by_distinct_ids/", [])[0] == 400


def test_a_proxy_for_ingestion_has_no_private_api() -> None:
    with StandIn(StandInConfig(private_api=False)) as posthog:
        assert Caller(posthog)("/api/users/@me/") == (404, "<html><body>Not found</body></html>")


# Persons.


def test_persons_are_found_by_distinct_id(filled: Caller) -> None:
    status, answer = filled(PERSONS + "batch_by_distinct_ids/", {"distinct_ids": ["u1", "nobody", 5]})
    assert (status, list(answer["results"])) == (200, ["u1"])
    found = answer["results"]["u1"]
    assert (found["distinct_ids"], found["properties"]["age"]) == (["u1"], 30)
    assert found["created_at"] == "2026-01-02T03:04:05.600000Z"
    assert filled(PERSONS + "batch_by_distinct_ids/", {"distinct_ids": "u1"})[1] == {"results": {}}


def test_more_than_two_hundred_ids_are_cut_without_a_word(posthog: StandIn, caller: Caller) -> None:
    posthog.project.take([person(f"u{number}") for number in range(250)])
    ids = [f"u{number}" for number in range(250)]
    assert len(caller(PERSONS + "batch_by_distinct_ids/", {"distinct_ids": ids})[1]["results"]) == 200


def test_a_person_shows_ten_distinct_ids(posthog: StandIn, caller: Caller) -> None:
    merges = [event("$merge_dangerously", "u", number, alias=f"a{number}") for number in range(15)]
    posthog.project.take([person("u"), *merges])
    (found,) = caller(PERSONS + "batch_by_distinct_ids/", {"distinct_ids": ["a14"]})[1]["results"].values()
    assert len(found["distinct_ids"]) == 10
    assert caller.rows("select count() from person_distinct_ids limit 2") == [[16]]


def test_persons_are_listed(filled: Caller) -> None:
    def listed(words: str) -> list[list[str]]:
        return [one["distinct_ids"] for one in filled(PERSONS + words)[1]["results"]]

    assert listed("") == [["u1"], ["u2"], ["u3"]]
    assert listed("?email=bert@example.com") == [["u2"]]
    assert listed("?email=anna@example.com") == []  # compared exactly
    assert listed("?distinct_id=u3") == [["u3"]]
    assert listed("?distinct_id=u3&email=x") == []
    assert listed("?distinct_id=nobody") == []
    assert listed("?limit=1&offset=1") == [["u2"]]
    assert filled(PERSONS + "?limit=1")[1]["next"] == "?offset=1&limit=1"
    assert filled(PERSONS + "?search=anna")[0] == 400


def test_persons_are_deleted_with_or_without_their_events(posthog: StandIn, filled: Caller) -> None:
    status, counts = filled(PERSONS + "bulk_delete/", {"distinct_ids": ["u1", "u1", "nobody"]})
    assert (status, counts["persons_found"], counts["persons_deleted"]) == (202, 1, 1)
    assert posthog.project.person("u1") is None
    assert filled.rows("select count(distinct uuid) from events where event = 'order' limit 2") == [[2]]
    other = posthog.project.person("u2")
    assert other is not None
    counts = filled(PERSONS + "bulk_delete/", {"ids": [other.uuid, "x"], "delete_events": True})[1]
    assert (counts["persons_found"], counts["events_queued_for_deletion"]) == (1, True)
    assert {one.distinct_id for one in posthog.project.received} == {"u1", "u3"}
    assert filled.rows("select count() from persons limit 2") == [[1]]


@pytest.mark.parametrize(
    "body", [{}, {"ids": ["a"], "distinct_ids": ["b"]}, {"ids": ["a"] * 1001}, {"distinct_ids": "u1"}]
)
def test_deletions_are_refused(caller: Caller, body: Any) -> None:
    assert caller(PERSONS + "bulk_delete/", body)[0] == 400


def test_a_person_made_again_after_a_deletion_is_a_ghost_to_queries(posthog: StandIn, filled: Caller) -> None:
    filled(PERSONS + "bulk_delete/", {"distinct_ids": ["u1"]})
    posthog.project.take([person("u1", email="anna@example.com")])
    assert "u1" in filled(PERSONS + "batch_by_distinct_ids/", {"distinct_ids": ["u1"]})[1]["results"]
    count = "select count() from person_distinct_ids where distinct_id = 'u1' limit 2"
    assert filled.rows(count) == [[0]]
    assert filled(PERSONS + "?distinct_id=u1")[1]["results"] == []
    assert filled(PERSONS + "reset_person_distinct_id/", {"distinct_id": "u1"})[0] == 202
    assert filled.rows(count) == [[1]]
    assert filled(PERSONS + "reset_person_distinct_id/", {})[0] == 400


# Limits and faults.


@pytest.mark.parametrize(
    ("limits", "path", "body"),
    [
        (ApiLimits(queries=2), "/api/projects/1/query/", {"query": {"kind": "HogQLQuery", "query": "select 1"}}),
        (ApiLimits(persons=2), PERSONS, None),
        (ApiLimits(deletes=2), PERSONS + "bulk_delete/", {"ids": ["a"]}),
    ],
)
def test_one_request_too_many_is_told_when_to_come_back(limits: ApiLimits, path: str, body: Any) -> None:
    with StandIn(StandInConfig(api_limits=limits)) as posthog:
        caller = Caller(posthog)
        statuses = [caller(path, body)[0] for _ in range(3)]
        assert [status < 300 for status in statuses] == [True, True, False]
        assert statuses[2] == 429
        assert 0 < int(caller.retry_after or 0) <= 60


def test_a_window_that_is_over_is_forgotten() -> None:
    seconds = [0.0]
    throttle = Throttle(ApiLimits(queries=1), lambda: seconds[0])
    assert throttle.refusal("queries") is None
    refusal = throttle.refusal("queries")
    assert refusal is not None
    assert refusal.headers == (("Retry-After", "60"),)
    seconds[0] = 60.0
    assert throttle.refusal("queries") is None


def test_a_query_beside_too_many_others_is_refused() -> None:
    with StandIn(StandInConfig(query_seconds=0.3, api_limits=ApiLimits(concurrent_queries=1))) as posthog:
        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(lambda _: Caller(posthog).query("select 1")[0], range(2)))
        assert sorted(statuses) == [200, 429]
        assert Caller(posthog).query("select 1")[0] == 200


def test_faults_hit_the_private_api_and_the_key_checks_by_a_plan_of_their_own(posthog: StandIn, filled: Caller) -> None:
    posthog.inject(Script((Status(500),)))
    assert filled("/api/users/@me/")[0] == 200
    posthog.reset()
    posthog.inject(api=Script((Status(503, "away", 7), ExpiredKey(), Status(502), LoseAnswer(), CloseConnection())))
    assert (filled("/api/users/@me/"), filled.retry_after) == ((503, "away"), "7")
    assert filled("/api/users/@me/")[1]["code"] == "authentication_failed"
    assert filled("/flags/?v=2&token=phc_sandbox", {})[0] == 502
    for _ in range(2):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            filled(f"/array/{posthog.token}/config")
    assert filled(f"/array/{posthog.token}/config")[0] == 200
    assert [request.fault for request in posthog.requests][:2] == ["Status", "ExpiredKey"]
    assert posthog.summary().requests == ()  # no ingestion


def test_flags_tell_an_unknown_token_and_the_quota() -> None:
    with StandIn(StandInConfig(quota_limited=("feature_flags",))) as posthog:
        caller = Caller(posthog)
        assert caller("/flags/?v=2", {"api_key": "phc_sandbox"})[1]["quotaLimited"] == ["feature_flags"]
        assert caller("/flags/?v=2", {"api_key": "phc_other"})[0] == 401
        assert caller("/array/phc_other/config")[0] == 404
        assert posthog.personal_key == "phx_sandbox"
