"""Overrides: a macro of the user's project takes the place of ours, in the post-hook and in the command."""

from __future__ import annotations

from typing import Any

import pytest
from hooked import dbt, profile, runs, write_models
from shop import Shop

PERSON: dict[str, Any] = {"object": "person", "sync_key": {"distinct_id": "person"}, "properties": ["amount"]}
TWO_DIGITS = """
{% macro duckdb__json_decimal(expression, type, time_zone) %}{{ return(two_digits(expression)) }}{% endmacro %}
"""
HELPER = """
{% macro two_digits(expression) %}
  {{ return("cast(cast(" ~ expression ~ " as decimal(18, 2)) as varchar)") }}
{% endmacro %}
"""
MODEL = "select 'u1' as person, cast({{ env_var('DAY') }} + 0.2468 as decimal(10, 4)) as amount"
ORDER = [{"macro_namespace": "dbt_posthog_sync", "search_order": ["dbt_posthog_sync", "lab"]}]


def amounts(shop: Shop, annotation: dict[str, Any], **project: Any) -> list[float]:
    """What PostHog gets of the row: first by a run, then as the hook of a second build kept it."""
    profile(shop, "main")
    files = {"models/people.sql": MODEL, "macros/numbers.sql": TWO_DIGITS, "macros/deep/helper.sql": HELPER}
    properties = {"models": [{"name": "people", "config": {"meta": {"posthog_sync": annotation}}}]}
    write_models(shop, files, properties, **project)
    dbt(shop, "build")
    runs(shop)
    dbt(shop, "build", day=2)
    runs(shop)
    return [event.properties["$set"]["amount"] for event in shop.posthog.project.received]


def test_an_override_holds_in_the_hook_and_in_the_command(shop: Shop) -> None:
    assert amounts(shop, {**PERSON, "keep": "every"}) == [1.25, 2.25]


def test_the_order_of_dispatch_decides(shop: Shop) -> None:
    assert amounts(shop, {**PERSON, "keep": "every"}, dispatch=ORDER) == [1.2468, 2.2468]


@pytest.mark.parametrize("text", ["", "not: [valid", "- a list"])
def test_a_project_without_overrides_is_left_alone(shop: Shop, text: str) -> None:
    shop.build((1, "u1", 12.5))
    (shop.folder / "macros").mkdir()
    (shop.folder / "macros" / "broken.sql").write_text("{% macro duckdb__mine() %} {% if %} {% endmacro %}" + text)
    assert shop("run").code == 0


MOMENT = """
{% macro duckdb__moment(expression, type, time_zone) %}
  {{ return("(cast(" ~ expression ~ " as timestamp) at time zone 'America/New_York')") }}
{% endmacro %}
"""
SEEN = {"object": "event", "sync_key": {"event_id": "id"}, "distinct_id": "id", "event": {"value": "seen"}}


def test_an_override_of_moments_holds_for_every_kind_of_timestamp(shop: Shop) -> None:
    shop.annotate({**SEEN, "timestamp": "at", "properties": ["at"]})
    shop.server.sql(f"create table {shop.table} as select 1 as id, timestamptz '2026-01-02 03:00:00+00' as at")
    (shop.folder / "macros").mkdir()
    (shop.folder / "macros" / "moments.sql").write_text(MOMENT)
    assert shop("run").code == 0
    (event,) = shop.posthog.project.events
    assert (event.timestamp.isoformat(), event.properties["at"]) == (
        "2026-01-02T08:00:00+00:00",
        "2026-01-02T08:00:00Z",
    )
