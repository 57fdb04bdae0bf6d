"""An exposure of a shop's customers as dbt and the annotation say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbt_posthog_sync.annotation import Annotations, check_annotations
from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.manifest import manifest_from

KEY = {"env": "LOOPS_API_KEY"}
CONTACTS = {"destination": "loops", "object": "contacts", "via": "posthog", "api_key": KEY, "properties": []}
EVENTS = {**CONTACTS, "object": "events", "filters": {"events": ["order"]}}
ORDERS = {
    "object": "event", "sync_key": {"event_id": "id"}, "distinct_id": "c", "timestamp": "t", "properties": "all"
}  # fmt: skip
PEOPLE = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["email", "first_name"]}


def annotated(exposure: Mapping[str, Any], sync: Mapping[str, Any] | None = None) -> Annotations:
    model = {
        "unique_id": "model.shop.customers", "name": "customers", "resource_type": "model", "package_name": "shop",
        "patch_path": "shop://models/customers.yml", "relation_name": '"db"."main"."customers"', "schema": "main",
        "config": {"materialized": "table", "meta": {"posthog_sync": sync} if sync else {}},
    }  # fmt: skip
    node = {
        "unique_id": "exposure.shop.loops", "name": "loops", "resource_type": "exposure", "package_name": "shop",
        "depends_on": {"nodes": ["model.shop.customers"]}, "config": {"meta": {"posthog_sync": exposure}},
    }  # fmt: skip
    version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    metadata = {"dbt_schema_version": version, "dbt_version": "1.11.0", "project_name": "shop"}
    document = {"metadata": metadata, "nodes": {model["unique_id"]: model}, "exposures": {node["unique_id"]: node}}
    found = check_annotations(manifest_from(document))
    assert found.problems == ()
    return found


def exposure_of(annotation: Mapping[str, Any]) -> Exposure:
    return annotated(annotation).exposures[0]
