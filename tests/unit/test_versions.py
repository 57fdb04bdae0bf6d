"""Versioned models: what they inherit from their model is said once, of the latest version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dbt_posthog_sync.annotation import Annotations, check_annotations
from dbt_posthog_sync.manifest import manifest_from

EVENT = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer_id",
    "event": {"value": "order completed"},
    "timestamp": "ordered_at",
    "properties": ["amount"],
}
OTHER = {**EVENT, "event": {"value": "order tried"}}


def checked(versions: Mapping[Any, object], latest: object = 2, **of_config: object) -> Annotations:
    """What a model of these versions comes to, each with the annotation that dbt gives it."""
    nodes = {
        f"model.shop.orders.v{version}": {
            "unique_id": f"model.shop.orders.v{version}",
            "name": "orders",
            "version": version,
            "latest_version": latest,
            "resource_type": "model",
            "package_name": "shop",
            "relation_name": f'"db"."main"."orders_v{version}"',
            "alias": f"orders_v{version}",
            "config": {"meta": {} if annotation is None else {"posthog_sync": annotation}, **of_config},
        }
        for version, annotation in versions.items()
    }
    schema = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    metadata = {"dbt_schema_version": schema, "dbt_version": "1.11.0", "project_name": "shop"}
    return check_annotations(manifest_from({"metadata": metadata, "nodes": nodes}))


def names(found: Annotations) -> list[tuple[str, str]]:
    assert found.problems == ()
    return [(sync.name, sync.model.identifier) for sync in found.syncs]


@pytest.mark.parametrize(("latest", "relation"), [(1, "orders_v1"), (2, "orders_v2"), ("2", "orders_v2")])
def test_an_inherited_annotation_means_the_latest_version_under_the_models_name(latest: object, relation: str) -> None:
    assert [("orders", relation)] == names(checked({1: EVENT, 2: EVENT, 3: EVENT}, latest))


def test_a_version_that_says_something_else_is_a_sync_of_its_own() -> None:
    assert names(checked({1: OTHER, 2: EVENT})) == [("orders_v1", "orders_v1"), ("orders", "orders_v2")]


def test_a_version_is_synced_where_the_latest_is_not() -> None:
    assert names(checked({1: EVENT, 2: None})) == [("orders_v1", "orders_v1")]


def test_without_a_latest_version_each_is_a_sync_of_its_own() -> None:
    assert names(checked({1: EVENT, 2: EVENT}, None)) == [("orders_v1", "orders_v1"), ("orders_v2", "orders_v2")]


def test_a_fault_of_an_inherited_annotation_is_told_once() -> None:
    found = checked({1: {**EVENT, "evnt": 1}, 2: {**EVENT, "evnt": 1}})
    assert len(found.problems) == 1
