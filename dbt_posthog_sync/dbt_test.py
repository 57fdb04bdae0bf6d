"""A dbt test as the manifest tells it: what it is attached to, and what the rows mean that it stores when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

# How dbt's own tests call the column that they test in what they store; `not_null` stores whole rows
# (dbt-adapters: dbt/include/global_project/macros/generic_test_sql).
_STORED_COLUMNS = {"unique": "unique_field", "accepted_values": "value_field", "relationships": "from_field"}
_ALL_ROWS = "count(*)"

_Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DbtTest:
    """One test.

    Attributes:
        name: its name, or that of a unit test.
        models: ids of the nodes it is attached to; of all that it reads where it is attached to none.
        column: the column that a test of dbt's own tests; empty for others.
        stored_column: what that column is called in what the test stores.
        database: name parts of the relation with its failures (unquoted).
        schema: see database.
        identifier: see database.
        limit: most rows that it stores; None for all of them.
        counts_rows: true when dbt's count of failures is the count of the rows.
    """

    name: str
    models: tuple[str, ...] = ()
    column: str = ""
    stored_column: str = ""
    database: str | None = None
    schema: str = ""
    identifier: str = ""
    limit: int | None = None
    counts_rows: bool = True

    @classmethod
    def from_node(cls, unique_id: str, raw: _Json) -> DbtTest:
        """Build from a node of the manifest; every key may be absent."""
        config, metadata = _mapping(raw.get("config")), _mapping(raw.get("test_metadata"))
        own = _STORED_COLUMNS.get(_text(metadata, "name")) if not metadata.get("namespace") else None
        limit = config.get("limit")
        name = name_of_test(unique_id)
        return cls(
            name=name,
            models=_models(raw),
            column=_text(raw, "column_name").strip('"`[]') if own else "",
            stored_column=own or "",
            database=_text(raw, "database") or None,
            schema=_text(raw, "schema"),
            identifier=_text(raw, "alias") or name,
            limit=limit if isinstance(limit, int) else None,
            counts_rows=_text(config, "fail_calc").replace(" ", "").lower() in ("", _ALL_ROWS),
        )


@dataclass(frozen=True, slots=True)
class StoredFailures:
    """The rows that a failed test left in the warehouse (`store_failures`).

    Attributes:
        test: the test.
        relation: quoted name of the relation that has them, as dbt wrote it.
        failures: how many dbt counted.
    """

    test: DbtTest
    relation: str
    failures: int


def name_of_test(unique_id: str) -> str:
    """Name of a test by dbt's id of it."""
    return unique_id.split(".")[-1 if unique_id.startswith("unit_test.") else 2]


def _models(raw: _Json) -> tuple[str, ...]:
    attached = _text(raw, "attached_node")
    return (attached,) if attached else tuple(map(str, _mapping(raw.get("depends_on")).get("nodes") or ()))


def _mapping(value: object) -> _Json:
    return value if isinstance(value, Mapping) else {}


def _text(raw: _Json, key: str) -> str:
    value = raw.get(key)
    return "" if value is None else str(value)
