"""The eraser: persons of an erasure model are deleted in PostHog, and nothing is sent to them afterwards.

```
staged rows --in pages--> who they are --> erased_persons --> PostHog deletes --> Snapshot.confirm, .refuse
```
What is remembered is written before anybody is deleted: whoever is killed in between has forgotten nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dbt_posthog_sync.courier import Tally
from dbt_posthog_sync.destinations import Refusal
from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.onlooker import Watch
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.mirror import json_rows
from dbt_posthog_sync.warehouse.positions import Positions
from dbt_posthog_sync.warehouse.snapshot import Snapshot

PERSONS_AT_ONCE = 1_000
"""Persons of one request (PostHog/posthog: posthog/api/person.py, bulk_delete)."""

_NOT_DELETED = "PostHog could not delete the person"


@dataclass(frozen=True, slots=True)
class _Erasure:
    """One staged row: its position, and the person that it means."""

    position: int
    person_id: str


class Eraser:
    """Deletes the persons of the staged rows of one sync."""

    def __init__(self, warehouse: Warehouse, snapshot: Snapshot, directory: Directory, *, deletes_events: bool) -> None:
        self._warehouse = warehouse
        self._snapshot = snapshot
        self._directory = directory
        self._deletes_events = deletes_events

    def erase(self, tally: Tally, watch: Watch, is_stopped: Callable[[], bool]) -> None:
        """Delete until every staged row is settled, or somebody stops it.

        Raises:
            SyncError: what stopped it; what was deleted before is confirmed all the same.
        """
        after = 0
        while not is_stopped():
            page = self._page(after)
            if not page:
                tally.is_complete = True
                return
            self._erase(page, tally)
            after = page[-1].position
            watch.settles(tally.delivered + tally.refused)

    def _page(self, after: int) -> list[_Erasure]:
        sync = self._snapshot.arguments.for_macro()
        rows = self._warehouse.rows("read_erasures", sync=sync, after=after, most=PERSONS_AT_ONCE)
        return [_Erasure(int(position), str(person_id)) for position, person_id in rows]

    def _erase(self, page: list[_Erasure], tally: Tally) -> None:
        model = self._snapshot.arguments.resolved.sync.model.name
        persons = list(dict.fromkeys(erasure.person_id for erasure in page))
        tally.streamed += len(page)
        self._remember(persons, model)
        failed = self._directory.delete(persons, delete_events=self._deletes_events, needed_by=model)
        gone = [erasure.position for erasure in page if erasure.person_id not in failed]
        refusals = [Refusal(e.position, _NOT_DELETED, heals=True) for e in page if e.person_id in failed]
        if gone:
            self._snapshot.confirm(Positions(gone))
            tally.delivered += len(gone)
        if refusals:
            self._snapshot.refuse(refusals)
            tally.refuse(_NOT_DELETED, len(refusals))

    def _remember(self, persons: list[str], model: str) -> None:
        """All distinct_ids of the persons: another sync may know them by another one."""
        ids = [[distinct_id] for distinct_id in self._directory.distinct_ids_of(persons, needed_by=model)]
        if ids:
            self._warehouse.run("insert_erased_ids", sync=self._snapshot.arguments.for_macro(), rows=json_rows(ids))
        self._snapshot.hold_lease()
