"""A shop whose exposures are forwarded to Loops by PostHog, and what PostHog has of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab import PROJECT
from shop import Shop

from dbt_posthog_sync.testing.hog_function import HogFunction

LOOPS_KEY = "loops0123456789abcdef"
CONTACTS: dict[str, Any] = {
    "destination": "loops",
    "object": "contacts",
    "via": "posthog",
    "api_key": {"env": "LOOPS_API_KEY"},
    "properties": {"firstName": "first_name", "planName": "plan"},
}
EVENTS: dict[str, Any] = {
    "destination": "loops",
    "object": "events",
    "via": "posthog",
    "api_key": {"env": "LOOPS_API_KEY"},
    "filters": {"events": ["order completed"]},
    "properties": ["amount"],
}
PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "properties": ["email", "first_name", "plan"],
}
ANN = {"id": "u1", "email": "ann@example.com", "first_name": "Ann", "plan": "pro"}


def expose(shop: Shop, **exposures: Mapping[str, Any]) -> None:
    """Write these exposures of the shop's table into the manifest, beside what is there."""
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exposures"] = {
        f"exposure.{PROJECT}.{name}": _exposure(shop, name, one) for name, one in exposures.items()
    }
    path.write_text(json.dumps(manifest))


def _exposure(shop: Shop, name: str, annotation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "unique_id": f"exposure.{PROJECT}.{name}",
        "name": name,
        "resource_type": "exposure",
        "package_name": PROJECT,
        "original_file_path": "models/exposures.yml",
        "depends_on": {"nodes": [f"model.{PROJECT}.{shop.table}"]},
        "config": {"enabled": True, "meta": {"posthog_sync": annotation}},
    }


def build_people(shop: Shop, *people: Mapping[str, Any]) -> None:
    """Build the shop's table as one of people."""
    selects = (" select " + ", ".join(f"{_literal(value)} as {name}" for name, value in one.items()) for one in people)
    shop.server.sql(f"drop table if exists {shop.table}")
    shop.server.sql(f"create table {shop.table} as {' union all '.join(selects)}")


def _literal(value: Any) -> str:
    return "cast(null as varchar(50))" if value is None else f"cast('{value}' as varchar(50))"


def functions(shop: Shop) -> tuple[HogFunction, ...]:
    """What PostHog has."""
    return shop.posthog.forwarding.functions.all


def writes(shop: Shop) -> list[tuple[str, str]]:
    """Method and kind of the requests that may write a function; and forget them."""
    found = [
        (one.method, "invocations" if one.path.endswith("invocations/") else "function")
        for one in shop.posthog.requests
        if one.method in ("POST", "PATCH") and "hog_functions" in one.path
    ]
    shop.posthog.reset()
    return found
