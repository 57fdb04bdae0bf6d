"""A row of a model reaches Loops directly and through PostHog: the same contact, except where the documents say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from forwarded import LOOPS_KEY, expose
from shop import Shop

from dbt_posthog_sync.testing import LoopsContact, LoopsStandIn, LoopsStandInConfig, StandIn, StandInConfig

pytestmark = pytest.mark.usefixtures("macros_are_read_once")

TYPES = {
    "plan": "string", "count": "number", "total": "number", "vip": "boolean", "born": "date", "seen": "date",
    "blank": "string", "nothing": "string", "fixed": "string", "first_name": "string",
}  # fmt: skip
ROW = (
    "select 'u1' as id, 'ann@example.com' as email, 'Ann' as first_name, 'pro' as plan, 0 as count, "
    "cast(12.50 as numeric(10, 2)) as total, false as vip, date '2000-02-29' as born, "
    "timestamp '2026-01-02 03:04:05' as seen, '' as blank, cast(null as varchar(10)) as nothing"
)
COLUMNS = ["plan", "count", "total", "vip", "born", "seen", "blank", "nothing"]
NAMES: dict[str, Any] = {"firstName": "first_name", "fixed": {"value": "dbt"}, **{name: name for name in COLUMNS}}
COMMON = {
    "destination": "loops",
    "object": "contacts",
    "api_key": {"env": "LOOPS_API_KEY"},
    "email": "email",
    "properties": NAMES,
    "mailing_lists": {"l1": True, "l2": False},
}
DIRECT = {**COMMON, "via": "direct", "user_id": "id"}
FORWARDED = {**COMMON, "via": "posthog", "user_id": "distinct_id"}


Teams = tuple[LoopsStandIn, LoopsStandIn]
"""Two teams of Loops: one is reached directly, one through PostHog."""


@pytest.fixture
def loops() -> Iterator[Teams]:
    """Both teams; the one behind PostHog has its properties already, since nobody makes them there."""
    keys, lists = (LOOPS_KEY,), ("l1", "l2")
    with (
        LoopsStandIn(LoopsStandInConfig(keys, mailing_lists=lists)) as direct,
        LoopsStandIn(LoopsStandInConfig(keys, properties=TYPES, mailing_lists=lists)) as forwarded,
    ):
        yield direct, forwarded


@pytest.fixture
def both(shop: Shop, loops: Teams, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop with one person and both ways set up."""
    yield from opened(shop, loops, monkeypatch)


@pytest.fixture
def both_on_postgres(postgres_shop: Shop, loops: Teams, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The same on Postgres."""
    yield from opened(postgres_shop, loops, monkeypatch)


def opened(shop: Shop, loops: Teams, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("LOOPS_API_KEY", LOOPS_KEY)
    with StandIn(StandInConfig(loops_url=loops[1].url)) as posthog:
        shop.posthog = posthog
        monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", posthog.personal_key)
        properties = ["email", "first_name", *COLUMNS]
        shop.annotate({"object": "person", "sync_key": {"distinct_id": "id"}, "properties": properties})
        expose(shop, loops_direct=DIRECT, loops_forwarded=FORWARDED)
        shop.settings(posthog={"host": posthog.url, "project_id": 1}, loops={"host": loops[0].url})
        yield shop


def contacts(shop: Shop, loops: Teams, row: str = ROW) -> tuple[LoopsContact, LoopsContact]:
    """What both teams have of a row, once it is built, applied and run."""
    shop.server.sql(f"drop table if exists {shop.table}")
    shop.server.sql(f"create table {shop.table} as {row}")
    assert shop("destinations", "apply").code == 0
    answer = shop("run")
    assert answer.code == 0, answer
    assert LOOPS_KEY not in answer.out + answer.err
    (direct,), (forwarded,) = loops[0].team.contacts, loops[1].team.contacts
    return direct, forwarded


@pytest.mark.parametrize("warehouse", ["both", "both_on_postgres"])
def test_same_row_makes_the_same_contact(warehouse: str, loops: Teams, request: pytest.FixtureRequest) -> None:
    direct, forwarded = contacts(request.getfixturevalue(warehouse), loops)
    assert direct == forwarded
    assert (direct.email, direct.user_id, direct.mailing_lists) == ("ann@example.com", "u1", frozenset({"l1"}))
    assert direct.properties == {
        "firstName": "Ann", "plan": "pro", "count": 0, "total": 12.5, "vip": False, "born": "2000-02-29",
        "seen": "2026-01-02T03:04:05Z", "fixed": "dbt",
    }  # fmt: skip


def test_all_properties_are_the_same_too(both: Shop, loops: Teams) -> None:
    every = {"include_all_properties": True, "properties": {"firstName": "first_name"}}
    expose(both, loops_direct={**DIRECT, **every}, loops_forwarded={**FORWARDED, **every})
    direct, forwarded = contacts(both, loops)
    assert direct == forwarded
    assert direct.properties["plan"] == "pro"


def test_changed_address_moves_the_contact_both_ways(both: Shop, loops: Teams) -> None:
    contacts(both, loops)
    direct, forwarded = contacts(both, loops, ROW.replace("ann@", "anna@"))
    assert direct == forwarded
    assert direct.email == "anna@example.com"


# What the documents say is different.


def test_value_that_became_null_is_emptied_directly_and_stays_through_posthog(both: Shop, loops: Teams) -> None:
    contacts(both, loops)
    direct, forwarded = contacts(both, loops, ROW.replace("'pro' as plan", "cast(null as varchar(10)) as plan"))
    assert ("plan" in direct.properties, forwarded.properties["plan"]) == (False, "pro")


def test_user_id_of_posthogs_own_is_the_uuid_of_the_person(both: Shop, loops: Teams) -> None:
    without = {name: value for name, value in DIRECT.items() if name != "user_id"}
    expose(both, loops_direct=without, loops_forwarded={**FORWARDED, "user_id": "person_id"})
    direct, forwarded = contacts(both, loops)
    assert (direct.user_id, forwarded.user_id) == (None, both.posthog.project.persons[0].uuid)


def test_property_that_loops_does_not_have_is_made_directly_and_loses_the_contact_through_posthog(
    both: Shop, loops: Teams
) -> None:
    unknown = {"properties": {"tier": "plan"}}
    expose(both, loops_direct={**DIRECT, **unknown}, loops_forwarded={**FORWARDED, **unknown})
    both.server.sql(f"drop table if exists {both.table}")
    both.server.sql(f"create table {both.table} as {ROW}")
    assert both("destinations", "apply").code == 0
    assert both("run").code == 0
    assert loops[0].team.contacts[0].properties == {"tier": "pro"}
    assert loops[1].team.contacts == ()
    assert "1 failed" in both("destinations", "status").out
