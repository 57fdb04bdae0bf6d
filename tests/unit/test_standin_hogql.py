"""The stand-in's HogQL, over real HTTP: what it answers, and what it refuses instead of guessing."""

from __future__ import annotations

from typing import Any

import pytest
from api_caller import Caller, event, filled_caller, person

from dbt_posthog_sync.testing import (
    Person,
    StandIn,
    StandInConfig,
)
from dbt_posthog_sync.testing.hogql import HogQlError, translated
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.tables import Tables


@pytest.fixture
def caller(posthog: StandIn) -> Caller:
    return Caller(posthog)


@pytest.fixture
def filled(posthog: StandIn) -> Caller:
    return filled_caller(posthog)


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
