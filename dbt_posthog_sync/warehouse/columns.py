"""Columns of a relation, as its warehouse describes them."""

from __future__ import annotations

from itertools import takewhile

from dbt_posthog_sync.column_type import ColumnType
from dbt_posthog_sync.resolved_sync import RelationColumn, hashes_as_text
from dbt_posthog_sync.warehouse import Warehouse


def columns_of(warehouse: Warehouse, relation: str) -> list[RelationColumn]:
    """The columns in their order; what a warehouse remarks below them, such as its partitions, is left out.

    Args:
        warehouse: where the relation is.
        relation: its name, quoted for SQL.
    """
    names = warehouse.evaluate("type_names")
    rows = warehouse.rows("describe_columns", relation=relation)
    described = takewhile(lambda row: row[0] and not str(row[0]).startswith("# "), rows)
    return [_column(str(name), ColumnType.parse(str(text), names), said is True) for name, text, said in described]


def _column(name: str, column_type: ColumnType, hash_as_text: bool) -> RelationColumn:
    return RelationColumn(name, column_type, hash_as_text or hashes_as_text(column_type))
