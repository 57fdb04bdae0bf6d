"""The diff on Postgres, where rows that are stored are counted apart from those that differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lab import Lab

from dbt_posthog_sync.sync_run import RunStatus

PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": {"plan": "plan"},
}
EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "at",
    "properties": ["person"],
    "on_change": "resend",
}
MODEL = "select 'p' || i as id, 'free' as plan from generate_series(1, {rows}) s(i)"


def test_a_view_is_worked_out_once_and_no_more(shared_lab: Lab) -> None:
    lab = replace(shared_lab, materialized="view")
    lab.sql("create sequence {state}_read")
    lab.sql(f"create table {{model}}_rows as {MODEL.format(rows=100)}")
    lab.sql("create view {model} as select * from {model}_rows where nextval('{state}_read') > 0")
    first = lab.run(PEOPLE)
    before = _read(lab)
    again = lab.run(PEOPLE)
    assert (first.counts.delivered, again.counts.unchanged, again.counts.delivered) == (100, 100, 0)
    assert _read(lab) - before == 100
    lab.sql("drop view {model}")
    lab.sql("drop table {model}_rows")
    lab.sql("drop sequence {state}_read")


def _read(lab: Lab) -> int:
    return int(lab.sql("select last_value from {state}_read")[0][0])


def test_more_changes_than_a_process_should_remember(shared_lab: Lab) -> None:
    shared_lab.build(MODEL.format(rows=200_002))
    assert shared_lab.run(PEOPLE, rebaseline=True).status is RunStatus.SUCCESS
    shared_lab.sql("update {model} set plan = 'team' where id <> 'p1'")
    shared_lab.sql("insert into {model} values ('p2', 'free')")
    found = shared_lab.plan(PEOPLE).staged
    assert (found.rows, found.unchanged, found.changed) == (200_003, 1, 200_000)
    assert dict(found.rejected) == {"the sync key occurs more than once in the model": 2}


@pytest.mark.parametrize(
    "key", ["repeat('x', 6000) || i", "('10.0.0.' || i)::inet", "i + 0.5", "md5(i::text)::uuid"], ids=str
)
def test_keys_of_any_length_and_kind_are_looked_up(shared_lab: Lab, key: str) -> None:
    rows = f"select {key} as id, 'p' || i as person, timestamp '2026-01-02' as at from generate_series(1, 5) s(i)"
    shared_lab.build(rows)
    assert shared_lab.run(EVENTS).counts.delivered == 5
    shared_lab.sql("update {model} set at = at + interval '1 minute' where person <> 'p1'")
    found = shared_lab.run(EVENTS)
    assert (found.status, found.counts.unchanged, found.counts.delivered) == (RunStatus.SUCCESS, 1, 4)
