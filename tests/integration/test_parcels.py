"""Parcels on Postgres: whatever happens to the table meanwhile, each row arrives once as it was staged, or waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab
from mortal import MortalWarehouse

from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.sync_run import RunStatus, SyncRun

EVENTS: Mapping[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "at",
    "properties": ["note", "details"],
    "on_change": "resend",
}
MODEL = """
  select i as id, 'p' || i % 7 as person, timestamp '2026-11-01' + i * interval '1 second' as at,
    repeat(i::text || chr(10) || '"', {repeats}) as note,
    jsonb_build_object('i', i, 'x', repeat('x', {width})) as details
  from generate_series({first}, {last}) s(i)
"""
SMALL = {"repeats": 1, "width": 3}


class _Watched(MortalWarehouse):
    """Notes which streams are opened, and does something before the first."""

    def __init__(self, lab: Lab, before: Callable[[], None] | None = None) -> None:
        super().__init__(lab.warehouse, 1_000_000)
        self.opened: list[str] = []
        self._before = before

    def stream(self, macro: str, *, own_connection: bool = True, **arguments: Any) -> AbstractContextManager[Any]:
        if self._before and not self.opened:
            self._before()
        self.opened.append(macro)
        return super().stream(macro, own_connection=own_connection, **arguments)


def watched(lab: Lab, before: Callable[[], None] | None = None) -> tuple[SyncRun, list[str]]:
    """A run, and the streams that it opened."""
    warehouse = _Watched(lab, before)
    return replace(lab, warehouse=warehouse, limits=Limits(None, None, None)).run(EVENTS), warehouse.opened


def arrived(lab: Lab) -> dict[int, tuple[str, int]]:
    """What PostHog has of each event: id -> (note, details.i); every event once."""
    events = lab.posthog.project.events
    found = {event.properties["details"]["i"]: event for event in events}
    assert len(found) == len(events)
    return {i: (event.properties["note"], event.properties["details"]["i"]) for i, event in found.items()}


def expected(*ids: int, repeats: int = 1) -> dict[int, tuple[str, int]]:
    return {i: (f'{i}\n"' * repeats, i) for i in ids}


def test_rows_of_a_table_come_in_parcels_alone(shared_lab: Lab) -> None:
    shared_lab.build(MODEL.format(**SMALL, first=1, last=3000))
    run, opened = watched(shared_lab)
    assert (run.counts.delivered, opened) == (3000, ["message_parcels"])
    assert arrived(shared_lab) == expected(*range(1, 3001))
    again, opened = watched(shared_lab)
    assert (again.counts.unchanged, again.counts.delivered) == (3000, 0)


def test_two_readers_share_many_rows(shared_lab: Lab) -> None:
    shared_lab.build(MODEL.format(**SMALL, first=1, last=25_000))
    run, opened = watched(shared_lab)
    assert (run.counts.delivered, opened) == (25_000, ["message_parcels"])
    assert arrived(shared_lab) == expected(*range(1, 25_001))


@pytest.mark.parametrize("long", [{"repeats": 1, "width": 60_000}, {"repeats": 1500, "width": 3}])
def test_rows_with_long_values_come_by_their_key(shared_lab: Lab, long: Mapping[str, int]) -> None:
    short = MODEL.format(**SMALL, first=1, last=50)
    shared_lab.build(f"{short} union all {MODEL.format(**long, first=51, last=60)}")
    run, opened = watched(shared_lab)
    assert (run.counts.delivered, opened) == (60, ["message_parcels", "message_stream"])
    assert arrived(shared_lab) == {**expected(*range(1, 51)), **expected(*range(51, 61), repeats=long["repeats"])}


def test_a_table_that_is_built_again_meanwhile_is_delivered_by_key(shared_lab: Lab) -> None:
    select = MODEL.format(**SMALL, first=1, last=500)
    shared_lab.build(select)
    run, opened = watched(shared_lab, lambda: shared_lab.build(f"select * from ({select}) s order by id desc"))
    assert (run.status, run.counts.delivered) == (RunStatus.SUCCESS, 500)
    assert opened == ["message_parcels", "message_stream"]
    assert arrived(shared_lab) == expected(*range(1, 501))


def test_a_table_that_is_packed_meanwhile_has_other_rows_at_its_places(shared_lab: Lab) -> None:
    shared_lab.build(MODEL.format(**SMALL, first=1, last=500))

    def pack() -> None:
        shared_lab.sql("delete from {model} where id % 3 = 0")
        connection = shared_lab.server.connect()
        connection.autocommit = True
        connection.cursor().execute(f"vacuum full {shared_lab.table}")
        connection.close()

    run, _ = watched(shared_lab, pack)
    left = [i for i in range(1, 501) if i % 3]
    assert (run.counts.delivered, run.counts.moved) == (len(left), 500 - len(left))
    assert arrived(shared_lab) == expected(*left)


def test_a_row_that_changes_meanwhile_waits_and_one_that_is_only_touched_is_sent(shared_lab: Lab) -> None:
    shared_lab.build(MODEL.format(**SMALL, first=1, last=100))

    def change() -> None:
        shared_lab.sql("update {model} set note = note where id = 7")
        shared_lab.sql("update {model} set note = 'later' where id = 8")

    run, _ = watched(shared_lab, change)
    assert (run.counts.delivered, run.counts.moved) == (99, 1)
    assert arrived(shared_lab) == expected(*(i for i in range(1, 101) if i != 8))


def test_rejected_rows_leave_gaps(shared_lab: Lab) -> None:
    select = MODEL.format(**SMALL, first=1, last=2000)
    person = "case when id % 5 > 0 then person end as person"
    shared_lab.build(f"select id, {person}, at, note, details from ({select}) s")
    run, opened = watched(shared_lab)
    assert (run.counts.delivered, run.counts.rejected, opened) == (1600, 400, ["message_parcels"])
    assert arrived(shared_lab) == expected(*(i for i in range(1, 2001) if i % 5))


@pytest.mark.parametrize("kind", ["view", "parent"])
def test_what_has_no_places_comes_by_its_key(shared_lab: Lab, kind: str) -> None:
    select = MODEL.format(**SMALL, first=1, last=20)
    if kind == "view":
        shared_lab.sql(f"create view {{model}} as {select}")
    else:
        shared_lab.build(MODEL.format(**SMALL, first=1, last=10))
        shared_lab.sql("create table {model}_child () inherits ({model})")
        shared_lab.sql(f"insert into {{model}}_child {MODEL.format(**SMALL, first=11, last=20)}")
    run, opened = watched(shared_lab)
    assert (run.counts.delivered, opened) == (20, ["message_stream"])
    assert arrived(shared_lab) == expected(*range(1, 21))
    shared_lab.sql(f"drop {'view' if kind == 'view' else 'table'} {{model}} cascade")
