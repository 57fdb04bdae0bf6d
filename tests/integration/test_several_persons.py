"""One row, several persons (`on_several: all`): what becomes of it where only some of them get it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from people import make_person, noted, people

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import Arrival, Delay, EventResults, Verdict, When, always

EVERYONE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"email": "email"},
    "behavior": "update_only",
    "on_several": "all",
    "properties": ["note"],
}


def build(lab: Lab, note: str) -> None:
    lab.build(f"select 'u1@example.com' as email, '{note}' as note")


@pytest.fixture
def pair(lab: Lab) -> Lab:
    """Two persons with one address, who have the note a."""
    make_person(lab.posthog, "first", email="u1@example.com")
    make_person(lab.posthog, "second", email="u1@example.com")
    build(lab, "a")
    assert lab.run(EVERYONE).counts.delivered == 2
    return lab


def refusing(*distinct_ids: str) -> When:
    """PostHog drops the messages to these persons."""
    return When(always, EventResults(lambda event: Verdict("drop") if event["distinct_id"] in distinct_ids else None))


def test_a_row_that_goes_back_while_one_of_its_persons_refused_it_is_sent_to_all(pair: Lab) -> None:
    build(pair, "b")
    pair.posthog.inject(refusing("second"))
    counts = pair.run(EVERYONE).counts
    assert (counts.delivered, counts.rejected) == (1, 1)
    pair.posthog.inject()
    build(pair, "a")
    assert pair.run(EVERYONE).status is RunStatus.SUCCESS
    assert noted(pair.posthog) == {"first": "a", "second": "a"}
    assert pair.run(EVERYONE).requests == 0


def test_a_row_that_goes_back_after_a_stop_in_the_middle_of_its_persons_is_sent_to_all(pair: Lab) -> None:
    build(pair, "b")
    single = replace(pair, delivery=replace(pair.delivery, in_flight=1, limits=BatchLimits(messages=1)))
    runner = single.runner()

    def somebody_stops_it(_: Arrival) -> bool:
        runner.stop()
        return True

    pair.posthog.inject(When(somebody_stops_it, Delay(0.2)))
    assert runner.run(pair.resolve(EVERYONE)).counts.delivered == 1
    pair.posthog.inject()
    build(pair, "a")
    assert pair.run(EVERYONE).status is RunStatus.SUCCESS
    assert noted(pair.posthog) == {"first": "a", "second": "a"}
    assert pair.run(EVERYONE).requests == 0


def test_a_row_that_all_of_its_persons_refuse_is_kept_once_with_their_number(pair: Lab) -> None:
    build(pair, "b")
    pair.posthog.inject(refusing("first", "second"))
    for _ in range(2):
        assert pair.run(EVERYONE).counts.rejected == 2
        assert pair.sql("select row_count from {state}.rejected_rows where resolved_at is null") == [(2,)]


def test_the_guard_of_changes_counts_rows_and_not_their_persons(lab: Lab) -> None:
    for number in range(1000):
        for name in "xyz":
            make_person(lab.posthog, f"{name}{number}", email=f"{number}@example.com")
    model = "select i || '@example.com' as email, i < {} as note from generate_series(0, 999) as g(i)"
    lab.build(model.format(0))
    assert lab.run(EVERYONE).counts.delivered == 3000
    lab.build(model.format(300))
    assert lab.run(EVERYONE).counts.delivered == 900
    lab.build(model.format(900))
    assert "600 of 1000 rows changed (60 %)" in lab.run(EVERYONE).message


def test_rows_that_would_make_one_person_are_rejected(lab: Lab) -> None:
    lab.build(
        "select 'a@example.com' as email, 'crm1' as id, 'x' as note union all select 'b@example.com', 'crm1', 'y' "
        "union all select 'c@example.com', 'crm2', 'z' union all select 'd@example.com', null, 'n'"
    )
    annotation = {
        "object": "person",
        "sync_key": {"email": "email"},
        "create_with": {"column": "id"},
        "properties": ["note"],
    }
    run = lab.run(annotation)
    assert (run.counts.delivered, run.counts.rejected, run.counts.skipped) == (1, 2, 1)
    assert run.reasons == (("rows of several e-mail addresses would make the person of one distinct_id", 2),)
    assert set(noted(lab.posthog)) == {"crm2"}


def test_a_person_that_is_made_gets_its_address_and_one_that_is_found_keeps_its_own(lab: Lab) -> None:
    make_person(lab.posthog, "known", email="Known@Example.com")
    wide = "repeat('w', 80000)"
    lab.build(f"select 'known@example.com ' as email, {wide} as note union all select 'New@example.com', {wide}")
    annotation = {"object": "person", "sync_key": {"email": "email"}, "create_with": "email", "properties": "all"}
    run = lab.run(annotation)
    assert run.counts.delivered == 2
    found = people(lab.posthog)
    assert (found["known"]["email"], found["new@example.com"]["email"]) == ("Known@Example.com", "new@example.com")
    assert set(found["known"]) == {"email", "note"}
