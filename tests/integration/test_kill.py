"""Killed at any statement, the next run delivers what is pending and repeats at most what was in flight."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from mortal import Killed, MortalWarehouse

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.courier import CourierSettings
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import LoseAnswer, Script

PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan"},
}
ROWS = 40


def people(version: int) -> str:
    """A select of people of whom a quarter changes with the version; one of them is bad."""
    return " union all ".join(
        f"select '{'null' if i == 7 else f'u{i}'}' as id, '{version if i % 4 == 0 else 0}' as plan" for i in range(ROWS)
    )


def killed_at(lab: Lab, statements: int) -> bool:
    """Run with a warehouse that dies; true when it did."""
    mortal = MortalWarehouse(lab.warehouse, statements)
    dying = replace(
        lab,
        warehouse=mortal,
        courier=CourierSettings(confirm_seconds=0.0),
        delivery=replace(lab.delivery, in_flight=2, limits=BatchLimits(messages=5)),
    )
    try:
        dying.run(PEOPLE, steal=True)
    except Killed:
        return True
    return False


def assert_posthog_equals_model(lab: Lab, version: int) -> None:
    """Every person has what the model says."""
    for i in (0, 1, 4, 5, 39):
        person = lab.posthog.project.person(f"u{i}")
        assert person is not None
        assert person.properties["plan"] == (str(version) if i % 4 == 0 else "0")


@pytest.mark.parametrize("offset", range(3))
def test_killed_at_any_statement_nothing_is_lost(lab: Lab, offset: int) -> None:
    version, statements, died = 0, 1 + offset, True
    while died:
        version += 1
        lab.build(people(version))
        died = killed_at(lab, statements)
        run = lab.run(PEOPLE, steal=True)
        assert run.status is RunStatus.REJECTED, run.message
        assert run.counts.pending == 0
        assert run.counts.rejected == 1
        assert_posthog_equals_model(lab, version)
        again = lab.run(PEOPLE)
        assert again.counts.delivered == 0
        statements += 3
    assert_repeats_carry_the_same_tuple(lab)
    assert lab.sql("select count(*) from {state}.rejected_rows where resolved_at is null") == [(1,)]


def assert_repeats_carry_the_same_tuple(lab: Lab) -> None:
    """What arrived more than once is one event to PostHog."""
    received = [(e.uuid, e.event, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    tuples_of_uuid = Counter(uuid for uuid, *_ in set(received))
    assert set(tuples_of_uuid.values()) == {1}


def test_a_person_whose_answer_was_lost_is_sent_again_as_the_very_same_event(lab: Lab) -> None:
    lab.build(people(1))
    lab.posthog.inject(Script(then=LoseAnswer()))
    lost = lab.run(PEOPLE)
    assert (lost.status, lost.exit_code) == (RunStatus.ERROR, 4)
    lab.posthog.inject(None)
    assert lab.run(PEOPLE).counts.delivered == ROWS - 1
    received = [(e.uuid, e.event, e.distinct_id, e.timestamp) for e in lab.posthog.project.received]
    assert len(received) > len(set(received)) == ROWS - 1
