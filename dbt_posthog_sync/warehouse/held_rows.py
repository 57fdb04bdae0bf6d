"""Held rows: the rows of a model that a failed dbt test stored, and how they are found in it (`gate: rows`).

Whatever cannot be told for sure holds the whole model back: a row that is sent by mistake cannot be fetched back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.dbt_test import DbtTest, StoredFailures
from dbt_posthog_sync.gate import Gate, HeldBack
from dbt_posthog_sync.sync import KeyKind, ObjectType, Sync
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.columns import columns_of


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows that one test holds back.

    Attributes:
        test: name of the test.
        relation: quoted name of the relation with its failures.
        columns: (column of the model, column of the failures) that are equal in a held row.
    """

    test: str
    relation: str
    columns: tuple[tuple[str, str], ...]

    def for_macro(self) -> dict[str, Any]:
        """The rows as the macros find them."""
        return {"test": self.test, "relation": self.relation, "columns": [list(pair) for pair in self.columns]}


@dataclass(frozen=True, slots=True)
class Hold:
    """What `gate: rows` holds back.

    Attributes:
        rows: by the name of a sync, what is held back of it.
        syncs: the syncs of which all is held back, because rows cannot be told apart.
    """

    rows: Mapping[str, tuple[HeldRows, ...]]
    syncs: tuple[HeldBack, ...] = ()


def hold(warehouse: Warehouse, gate: Gate, syncs: Iterable[Sync]) -> Hold:
    """Find the rows that failed tests stored.

    Raises:
        WarehouseUnavailable: the stored failures cannot be read.
    """
    rows: dict[str, tuple[HeldRows, ...]] = {}
    held_back = []
    for sync in syncs:
        stored = gate.stored_of(sync)
        if not stored or not warehouse.has_relation(*sync.model.parts):
            continue  # that a model is missing, planning tells
        found = [_held(warehouse, sync, one) for one in stored]
        reasons = [reason for reason in found if isinstance(reason, str)]
        if reasons:
            held_back.append(HeldBack.of(sync, reasons[0]))
        rows[sync.name] = tuple(one for one in found if isinstance(one, HeldRows))
    return Hold(rows, tuple(held_back))


def _held(warehouse: Warehouse, sync: Sync, stored: StoredFailures) -> HeldRows | str:
    """The rows that one test holds back, or why they cannot be told."""
    test = stored.test
    why = f"its test `{test.name}` failed, and "
    if not warehouse.has_relation(test.database, test.schema, test.identifier):
        return f"{why}the rows that it stored are not there (any more)"
    rows = int(warehouse.rows("count_stored", relation=stored.relation)[0][0])
    doubt = _doubt(rows, stored)
    if doubt:
        return why + doubt
    model = [column.name for column in columns_of(warehouse, sync.model.relation_name)]
    failures = [column.name for column in columns_of(warehouse, stored.relation)]
    held = HeldRows(test.name, stored.relation, tuple(_pairs(sync, test, model, failures)))
    if not held.columns:
        return f"{why}the rows that it stored have no column of the model"
    arguments = {"relation": sync.model.relation_name, "held": held.for_macro()}
    strangers = int(warehouse.rows("count_strangers", **arguments)[0][0])
    if strangers:
        return f"{why}{strangers} of the {rows} rows that it stored are none of the model"
    return held


def _doubt(rows: int, stored: StoredFailures) -> str:
    """Why the stored rows are perhaps not all of the failures that dbt counted; empty where they are."""
    limit = stored.test.limit
    if limit is not None and rows == limit:
        return f"it stores {limit} rows at most (limit), so there may be more"
    expected = stored.failures if stored.test.counts_rows else max(rows, 1)
    is_whole = rows == expected if limit is None else rows >= expected  # before dbt 1.9 a limit cut the count alone
    return "" if is_whole else f"it has stored {rows} rows where dbt counted {stored.failures}"


def _pairs(sync: Sync, test: DbtTest, model: Sequence[str], failures: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Which columns tell a row: the sync key, else the column of one of dbt's own tests, else all that both have."""
    key = () if _is_composed(sync) else _pair(sync.sync_key.column, sync.sync_key.column, model, failures)
    own = _pair(test.column, test.stored_column, model, failures)
    if key or own:
        yield from key or own
        return
    for name in model:
        yield from _pair(name, name, model, failures)


def _is_composed(sync: Sync) -> bool:
    """True for pages keyed by their visitor, who has many."""
    return sync.object is ObjectType.PAGE and sync.sync_key.kind is KeyKind.DISTINCT_ID


def _pair(
    column: str, stored: str, model: Sequence[str], failures: Sequence[str]
) -> tuple[()] | tuple[tuple[str, str]]:
    mine, theirs = _named(column, model), _named(stored, failures)
    return ((mine, theirs),) if mine and theirs else ()


def _named(name: str, columns: Sequence[str]) -> str:
    """The column of this name as the warehouse spells it: exactly, else without regard to case where that is unique."""
    alike = [column for column in columns if column.lower() == name.lower()]
    return name if name in alike else alike[0] if len(alike) == 1 else ""
