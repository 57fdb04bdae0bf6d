"""Which target a manifest's relations belong to."""

from __future__ import annotations

import pytest

from dbt_posthog_sync.warehouse.target import target_of_relations

OUTPUTS = {"dev": {"schema": "dev"}, "prod": {"schema": "analytics"}, "ci": {"schema": "{{ env_var('CI_SCHEMA') }}"}}


@pytest.mark.parametrize(
    ("schemas", "connected", "expected"),
    [
        (["analytics"], "analytics", None),
        (["analytics_marts", "analytics"], "analytics", None),
        (["ANALYTICS_marts"], "analytics", None),
        (["dev"], "analytics", "dev"),
        (["dev_marts", "dev_events"], "analytics", "dev"),
        (["marketing"], "analytics", None),
        (["dev", "marketing"], "analytics", None),
        ([], "analytics", None),
    ],
)
def test_only_relations_that_belong_to_another_target_are_named(
    schemas: list[str], connected: str, expected: str | None
) -> None:
    assert target_of_relations(schemas, connected, OUTPUTS) == expected
