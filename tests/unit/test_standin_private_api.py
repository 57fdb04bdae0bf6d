"""The stand-in's private API, over real HTTP: keys, projects, persons, HogQL."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest

from dbt_posthog_sync.testing import (
    ApiLimits,
    CapturedEvent,
    CloseConnection,
    ExpiredKey,
    LoseAnswer,
    Person,
    PersonalKey,
    Script,
    StandIn,
    StandInConfig,
    Status,
)
from dbt_posthog_sync.testing.hogql import HogQlError, translated
from dbt_posthog_sync.testing.personal_key import Throttle
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.tables import Tables

NOW = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=timezone.utc)
ALL = PersonalKey("phx_all")
PERSONS = "/api/projects/1/persons/"


def event(name: str, distinct_id: str, number: int = 0, **properties: Any) -> CapturedEvent:
    uuid = f"018c0000-0000-5000-8000-{number:012d}"
    library = {"$lib": "dbt-posthog-sync", "$lib_version": "1"}
    return CapturedEvent(name, distinct_id, uuid, NOW, {**library, **properties}, "v1")


def person(distinct_id: str, **properties: Any) -> CapturedEvent:
    return event("$set", distinct_id, 0, **{"$set": properties})


class Caller:
    """The smallest client of the private API; it never tries again."""

    def __init__(self, posthog: StandIn, key: str = "phx_sandbox") -> None:
        self.address = urlsplit(posthog.url).netloc
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __call__(self, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, text, self.headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.retry_after = response.headers.get("Retry-After")
        is_json = response.headers.get("Content-Type") == "application/json"
        return response.status, json.loads(content) if is_json else content.decode()

    def query(self, text: str, refresh: Any = "force_blocking", project: str = "1", **values: Any) -> tuple[int, Any]:
        query = {"kind": "HogQLQuery", "query": text, "values": values}
        return self(f"/api/projects/{project}/query/", {"query": query, "refresh": refresh})

    def rows(self, text: str, **values: Any) -> list[list[Any]]:
        status, answer = self.query(text, **values)
        assert status == 200, answer
        found: list[list[Any]] = answer["results"]
        return found


@pytest.fixture
def caller(posthog: StandIn) -> Caller:
    return Caller(posthog)


@pytest.fixture
def filled(posthog: StandIn) -> Caller:
    posthog.project.take(
        [
            person("u1", email="Anna@Example.com", age=30, vip=True),
            person("u2", email="bert@example.com", plan=None),
            person("u3", plan="pro"),
            event("order", "u1", 1, dbt_posthog_sync_run_id="r1"),
            event("order", "u1", 1, dbt_posthog_sync_run_id="r1"),
            event("order", "u2", 2, dbt_posthog_sync_run_id="r1"),
            event("refund", "u2", 3, dbt_posthog_sync_run_id="r2"),
        ]
    )
    return Caller(posthog)


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


# HogQL.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select count() from events", [[7]]),
        (
            "select event, uniq(uuid) from events group by event order by event desc, event asc",
            [["refund", 1], ["order", 2], ["$set", 1]],
        ),
        ("select count(*) as n from events as e where e.event = 'order'", [[3]]),
        ("select count(distinct uuid) from events where properties.dbt_posthog_sync_run_id = 'r1'", [[2]]),
        ("select uniq(distinct_id) from events where event != '$set'", [[2]]),
        (
            "select event, count() as n from events where event in ('order', 'refund') group by event order by event",
            None,
        ),
        (
            "select distinct_id from person_distinct_ids where distinct_id in {ids} order by distinct_id",
            [["u1"], ["u3"]],
        ),
        ("select lower(trim(properties.email)) as e from persons where properties.email is not null order by e", None),
        (
            "select properties.age, properties.vip from persons where toString(id) is not null order by properties.age",
            None,
        ),
        ("select min(d.distinct_id) from persons p join person_distinct_ids d on d.person_id = p.id", [["u1"]]),
        ("select properties.email from persons where properties.plan = 'pro'", [[None]]),
        ("select count() from persons where properties.plan != 'pro'", [[2]]),  # null is another value
        (
            "select argMin(distinct_id, distinct_id), argMax(distinct_id, distinct_id) from person_distinct_ids",
            [["u1", "u3"]],
        ),
        ("select count() from events where timestamp >= toDateTime({since}) and timestamp < now()", [[7]]),
        ("select properties.`$lib` from events where event = 'refund'", [["dbt-posthog-sync"]]),
        ("select length('é'), lowerUTF8('É'), lower('É'), if(true, 1, 2), ifNull(null, 3)", [[2, "é", "É", 1, 3]]),
        ("select any(event) from events where startsWith(event, 'ref') limit 5 offset 0;", [["refund"]]),
        ("select 'it''s', 'a\\'b', toUUID('x')", [["it's", "a'b", "x"]]),
    ],
)
def test_queries_are_answered(filled: Caller, query: str, expected: list[list[Any]] | None) -> None:
    found = filled.rows(query, ids=["u1", "u3"], since="2026-01-02T03:04:05Z")
    others = {
        "select event,": [["order", 3], ["refund", 1]],
        "select lower(": [["anna@example.com"], ["bert@example.com"]],
        "select proper": [["30", "true"], [None, None], [None, None]],
    }
    assert found == (others[query[:13]] if expected is None else expected)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("delete from persons", "expecting SELECT"),
        ("", "expecting SELECT"),
        ("select x from persons", "Unable to resolve field: x"),
        ("select p.properties.a.b from persons p", "Unable to resolve field"),
        ("select email from persons", "Unable to resolve field: email"),
        ("select id.x from persons", "Unable to resolve field"),
        ("select id from cohorts", "Unknown table `cohorts`"),
        ("select groupArray(id) from persons", "Unsupported function call 'groupArray(...)'"),
        ("select LOWER(event) from events", "Unsupported function call 'LOWER(...)'"),
        ("select id from persons where id > 'a'", "compare toString(id)"),
        ("select id from persons order by id", "order by toString(id)"),
        ("select id from persons where id not in ('a')", "NOT IN"),
        ("select event from events where timestamp > '2026-01-01'", "toDateTime"),
        ("select event from events where {since} < timestamp", "toDateTime"),
        ("select event, count() from events", "not under aggregate"),
        ("select event, uuid, count() from events group by event", "`uuid` is not under aggregate"),
        ("select id from persons where id = {nobody}", "Placeholder {nobody}"),
        ("select id from persons where id = {ids}", "right after IN"),
        ("select id from persons where id in {since}", "right after IN"),
        ("select id from persons where id = {flag}", "texts, numbers"),
        ("select id from persons where id ~ 'a'", "does not play this part"),
        ("select id from persons limit {n}", "LIMIT with a number"),
        ("select id from persons where id =", "expecting an expression"),
        ("select id from persons where where", "cannot be run"),
        ("select toString(created_at) from persons", "toString of a column"),
        ('select properties.`a"b` from persons', "Unable to resolve field"),
    ],
)
def test_what_is_not_played_is_refused(filled: Caller, query: str, words: str) -> None:
    status, answer = filled.query(query, ids=["u1"], since="2026-01-02T03:04:05Z", flag=True, n=5)
    assert (status, words in answer["detail"]) == (400, True), answer


def test_an_answer_without_a_limit_has_a_hundred_rows(posthog: StandIn, caller: Caller) -> None:
    posthog.project.take([person(f"u{number}") for number in range(150)])
    answer = caller.query("select id from persons")[1]
    assert (len(answer["results"]), answer["hasMore"], answer["limit"]) == (100, True, 100)
    assert "hasMore" not in caller.query("select id from persons limit 120")[1]
    assert translated("select id from persons limit 99999", {}).limit == 50_000
    assert " limit 50000" in translated("select id from persons limit 99999", {}).sql


def test_who_does_not_ask_for_a_fresh_answer_gets_an_old_one(posthog: StandIn, caller: Caller) -> None:
    count = "select count() from persons limit 2"
    assert caller.rows(count) == [[0]]
    posthog.project.take([person("u")])
    for refresh in (None, "blocking", False):
        answer = caller.query(count, refresh)[1]
        assert (answer["results"], answer["is_cached"]) == ([[0]], True)
    assert caller.rows(count) == [[1]]
    assert caller.query(count, None)[1]["results"] == [[1]]
    assert caller.query(count, "async")[0] == 400
    assert caller("/api/projects/1/query/", {"query": {"kind": "EventsQuery"}})[0] == 400


def test_ingestion_warnings_are_a_table(posthog: StandIn, caller: Caller) -> None:
    big = {f"p{number}": "x" * 1000 for number in range(700)}
    posthog.project.take([person("u", **big)])
    found = caller.rows(
        "select type, count() as n from system.ingestion_warnings where JSONExtractString(details, 'lib') = {lib} "
        "and timestamp > toDateTime({since}) group by type limit 9",
        lib="dbt-posthog-sync",
        since="2026-01-01 00:00:00",
    )
    assert found == [["person_properties_size_violation", 1]]


def test_the_first_queries_may_come_before_the_events() -> None:
    with StandIn(StandInConfig(blind_queries=2)) as posthog:
        posthog.project.take([event("order", "u")])
        caller = Caller(posthog)
        assert [caller.rows("select count() from events limit 2") for _ in range(3)] == [[[0]], [[0]], [[1]]]
        assert caller.rows("select count() from persons limit 2") == [[1]]


class CountingProject(Project):
    """A project that counts how often all its persons are read."""

    reads = 0

    @property
    def persons(self) -> tuple[Person, ...]:
        self.reads += 1
        return super().persons


def test_pages_over_many_persons_read_them_once() -> None:
    project = CountingProject()
    project.take([person(f"u{number}", email=f"m{number}@example.com") for number in range(2_000)])
    tables, last, seen = Tables(project), "", 0
    while True:
        page = translated(
            "select toString(p.id), lower(p.properties.email), min(d.distinct_id) from persons p "
            "join person_distinct_ids d on d.person_id = p.id where toString(p.id) > {last} "
            "group by p.id, p.properties.email order by toString(p.id) limit 200",
            {"last": last},
        )
        rows = tables.rows(page)[1]
        if not rows:
            break
        last, seen = rows[-1][0], seen + len(rows)
    assert (seen, project.reads) == (2_000, 1)


def test_a_broken_query_leaves_the_tables_usable() -> None:
    tables = Tables(Project())
    with pytest.raises(HogQlError):
        tables.rows(translated("select id from persons where where limit 1", {}))
    assert tables.rows(translated("select id from persons limit 1", {})) == (["id"], [])


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
