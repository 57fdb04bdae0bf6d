"""The history of a snapshot: its columns by the names that the project gave them."""

from __future__ import annotations

from typing import Any

import pytest

from dbt_posthog_sync.annotation import syncs_from
from dbt_posthog_sync.column_type import ColumnType
from dbt_posthog_sync.history import history_of
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.resolved_sync import RelationColumn
from dbt_posthog_sync.resolver import resolve
from dbt_posthog_sync.sync import History, Sync

ADDED = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")
PERSON = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": "all"}


def snapshot(columns: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {
        "unique_id": "snapshot.shop.customers",
        "name": "customers",
        "resource_type": "snapshot",
        "package_name": "shop",
        "relation_name": '"main"."customers"',
        "config": {"meta": {"posthog_sync": PERSON}, **config},
        "columns": columns or {},
    }


def sync_of(node: dict[str, Any]) -> Sync:
    schema = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    metadata = {"dbt_schema_version": schema, "dbt_version": "1.11.0", "project_name": "shop"}
    (sync,) = syncs_from(manifest_from({"metadata": metadata, "nodes": {node["unique_id"]: node}}))
    return sync


def columns(*names: str) -> list[RelationColumn]:
    return [RelationColumn(name, ColumnType.parse("text")) for name in ("id", "plan", *names)]


@pytest.mark.parametrize(
    ("config", "history"),
    [
        ({}, History(bookkeeping=ADDED)),
        ({"unique_key": "id"}, History(bookkeeping=ADDED, unique_key=("id",))),
        ({"unique_key": ["id", "day"]}, History(bookkeeping=ADDED, unique_key=("id", "day"))),
        ({"hard_deletes": "invalidate", "dbt_valid_to_current": None}, History(bookkeeping=ADDED)),
        ({"dbt_valid_to_current": " now() "}, History(open_end="now()", bookkeeping=ADDED)),
        ({"dbt_valid_to_current": " "}, History(bookkeeping=ADDED)),
        (
            {"hard_deletes": "new_record", "snapshot_meta_column_names": {"dbt_valid_to": "till", "dbt_scd_id": None}},
            History("till", None, "dbt_is_deleted", (*ADDED[:3], "till", ADDED[4])),
        ),
    ],
)
def test_history_is_what_the_snapshot_configures(config: dict[str, Any], history: History) -> None:
    assert history == history_of(snapshot(**config))


def test_what_is_no_snapshot_has_no_history() -> None:
    assert history_of({"resource_type": "model", "config": {"unique_key": "id"}}) is None


def test_current_rows_are_known_by_columns_in_any_case() -> None:
    sync = sync_of(snapshot(hard_deletes="new_record"))
    resolved, problems = resolve(sync, columns("DBT_VALID_TO", "DBT_IS_DELETED"))
    assert problems == ()
    assert resolved is not None
    assert resolved.valid_to is not None
    assert resolved.is_deleted is not None
    assert (resolved.valid_to.name, resolved.is_deleted.name) == ("DBT_VALID_TO", "DBT_IS_DELETED")
    assert [mapping.name for mapping in resolved.properties] == ["plan"]


def test_a_missing_column_of_the_history_is_a_problem_of_rows() -> None:
    resolved, (problem,) = resolve(sync_of(snapshot()), columns("dbt_valid_from"))
    assert resolved is None
    assert problem.path.endswith("posthog_sync.rows")
    assert "the relation has no column `dbt_valid_to`" in problem.message


def test_a_column_that_dbt_added_is_sent_where_its_own_annotation_asks_for_it() -> None:
    own = {"name": "dbt_valid_from", "config": {"meta": {"posthog_sync": {"property": "since"}}}}
    sync = sync_of(snapshot({"dbt_valid_from": own, "dbt_valid_to": {"name": "dbt_valid_to"}}))
    resolved, _ = resolve(sync, columns("dbt_valid_from", "dbt_valid_to"))
    assert resolved is not None
    assert [mapping.name for mapping in resolved.properties] == ["plan", "since"]
