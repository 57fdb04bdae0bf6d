"""The client of the private API against the stand-in, which shares no code with it."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.errors import DestinationRefused, ScopeMissing
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.private_answer import Deletion, KeyStanding
from dbt_posthog_sync.private_api import PrivateApi, PrivateApiConfig
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.testing import (
    ApiLimits,
    CapturedEvent,
    CloseConnection,
    CutAnswer,
    ExpiredKey,
    LoseAnswer,
    PersonalKey,
    Script,
    StandIn,
    StandInConfig,
    Status,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
COUNT = "select count() from persons limit 2"


def fill(posthog: StandIn, persons: int) -> None:
    posthog.project.take(
        CapturedEvent("$set", f"u{n}", f"018c0000-0000-5000-8000-{n:012d}", NOW, {"$set": {"n": n}}, "v1")
        for n in range(persons)
    )


def client(posthog: StandIn, key: str = "", project: str = "@current") -> PrivateApi:
    config = PrivateApiConfig(posthog.url, Secret(key or posthog.personal_key), project)
    return PrivateApi(config, patience=Patience(RetryPolicy(attempts=4), pause=lambda _: None))


def test_every_call_is_understood(posthog: StandIn) -> None:
    fill(posthog, 450)
    api = client(posthog)
    assert api.who_am_i() is KeyStanding.VALID
    assert api.project(needed_by="m").project_key == Secret(posthog.token)
    assert api.query(COUNT, name="n", needed_by="m") == [(450,)]
    found = api.persons_by_distinct_ids([f"u{n}" for n in range(460)], needed_by="m")
    assert (len(found), found["u7"].properties, found["u7"].created_at) == (450, {"n": 7}, NOW)
    assert api.delete_persons(distinct_ids=["u1", "x"], delete_events=True, needed_by="m") == Deletion(1, 1)
    assert api.delete_persons(ids=[found["u2"].id], delete_events=False, needed_by="m") == Deletion(1, 1)
    assert api.query(COUNT, name="n", needed_by="m") == [(448,)]
    assert api.calls == 9
    api.close()


def test_pages_end_where_the_rows_do(posthog: StandIn) -> None:
    fill(posthog, 250)
    api, last = client(posthog), ""
    pages: list[int] = []
    while not pages or pages[-1] == 100:
        page = "select toString(id) from persons where toString(id) > {last} order by toString(id) limit 100"
        rows = api.query(page, {"last": last}, name="n", needed_by="m", may_fill=True)
        pages.append(len(rows))
        last = rows[-1][0]
    assert pages == [100, 100, 50]


@pytest.mark.parametrize(
    "fault", [Status(503), Status(429, retry_after=1), CloseConnection(), LoseAnswer(), CutAnswer()]
)
def test_faults_that_heal_are_outlived(
    posthog: StandIn, fault: Status | CloseConnection | LoseAnswer | CutAnswer
) -> None:
    fill(posthog, 3)
    posthog.inject(api=Script((fault, fault)))
    api = client(posthog)
    assert api.query(COUNT, name="n", needed_by="m") == [(3,)]
    assert api.calls == 3


def test_refusals_are_told_apart() -> None:
    keys = (PersonalKey("phx_some", scopes=("query:read",)), PersonalKey("phx_old", expired=True))
    with StandIn(StandInConfig(personal_keys=keys)) as posthog:
        some = client(posthog, "phx_some")
        assert some.who_am_i() is KeyStanding.VALID_WITHOUT_USER
        assert client(posthog, "phx_old").who_am_i() is KeyStanding.INVALID
        with pytest.raises(ScopeMissing, match="`person:read`, which model customers needs"):
            some.persons_by_distinct_ids(["u"], needed_by="model customers")
        with pytest.raises(DestinationRefused, match="wrong, expired or revoked"):
            client(posthog, "phx_old").query(COUNT, name="n", needed_by="m")
        with pytest.raises(DestinationRefused, match="has no project 9"):
            client(posthog, "phx_some", project="9").query(COUNT, name="n", needed_by="m")
        with pytest.raises(DestinationRefused, match="answered 400 to what m needs: Unknown table `cohorts`"):
            some.query("select id from cohorts limit 1", name="n", needed_by="m")
        posthog.inject(api=Script(then=ExpiredKey()))
        with pytest.raises(DestinationRefused, match="401"):
            some.query(COUNT, name="n", needed_by="m")
    with StandIn(StandInConfig(private_api=False)) as proxy, pytest.raises(DestinationRefused, match="api_host"):
        client(proxy).query(COUNT, name="n", needed_by="m")


def test_a_limit_that_others_use_up_is_waited_for() -> None:
    waits: list[float] = []
    with StandIn(StandInConfig(api_limits=ApiLimits(queries=1))) as posthog:
        config = PrivateApiConfig(posthog.url, Secret(posthog.personal_key))
        # The clock of the client stands, so that only the stand-in's own window decides.
        api = PrivateApi(config, patience=Patience(RetryPolicy(attempts=2), lambda: 0.0, waits.append))
        api.query(COUNT, name="n", needed_by="m")
        with pytest.raises(Exception, match=r"asks to wait \d+ s"):
            api.query(COUNT, name="n", needed_by="m")
    assert waits
