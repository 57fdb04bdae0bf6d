"""Comparisons: what a change of annotations and declared columns means for what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dbt_posthog_sync.annotation import check_annotations
from dbt_posthog_sync.comparison import Change, Comparison, Effect, Side, SyncChange, compared
from dbt_posthog_sync.comparison_report import comparison_markdown, comparison_text, comparison_values
from dbt_posthog_sync.manifest import manifest_from

PERSON: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "customer_id"},
    "properties": {"plan": "plan_name", "city": "city"},
}
EVENT: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer_id",
    "event": {"value": "order completed"},
    "timestamp": "ordered_at",
    "properties": "all",
}
COLUMNS = {"order_id": "bigint", "customer_id": "varchar", "ordered_at": "timestamp", "amount": "numeric"}


CONTACT: dict[str, Any] = {
    "destination": "loops", "object": "contacts", "via": "direct", "api_key": {"env": "LOOPS_API_KEY"},
    "email": "email", "user_id": "customer_id", "properties": {"planName": "plan", "city": "city"},
}  # fmt: skip
LOOPS_EVENT = {**CONTACT, "object": "events", "event_id": "order_id", "event": {"value": "order completed"}}


def side(
    annotations: Mapping[str, Any],
    columns: Mapping[str, str | None] | None = None,
    *,
    contract: bool = False,
    exposure: Mapping[str, Any] | None = None,
) -> Side:
    """What a manifest says of models by their names; all of them declare the same columns."""
    nodes = {
        f"model.shop.{name}": {
            "unique_id": f"model.shop.{name}",
            "name": name,
            "resource_type": "model",
            "package_name": "shop",
            "relation_name": f'"main"."{name}"',
            "config": {
                "meta": {"posthog_sync": annotation} if annotation else {},
                "contract": {"enforced": contract},
            },
            "columns": {column: {"name": column, "data_type": kind} for column, kind in (columns or {}).items()},
        }
        for name, annotation in annotations.items()
    }
    schema = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    metadata = {"dbt_schema_version": schema, "dbt_version": "1.11.0", "project_name": "shop"}
    exposed = {
        "unique_id": "exposure.shop.loops", "name": "loops", "resource_type": "exposure", "package_name": "shop",
        "depends_on": {"nodes": list(nodes)}, "config": {"meta": {"posthog_sync": exposure}},
    }  # fmt: skip
    exposures = {"exposure.shop.loops": exposed} if exposure else {}
    manifest = manifest_from({"metadata": metadata, "nodes": nodes, "exposures": exposures})
    found = check_annotations(manifest, may_delete=True)
    assert found.problems == ()
    return Side.from_manifest(manifest, found.syncs)


def only(comparison: Comparison) -> SyncChange:
    (change,) = comparison.changes
    return change


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> SyncChange:
    return only(compared(side({"customers": before}), side({"customers": after})))


@pytest.mark.parametrize(
    ("changes", "effect"),
    [
        ({"properties": {"plan": "plan", "city": "city"}}, Effect.EVERY_ROW),
        ({"properties": {"plan": {"column": "plan_name", "operation": "set_once"}, "city": "city"}}, Effect.EVERY_ROW),
        ({"nulls": "skip"}, Effect.EVERY_ROW),
        ({"unset": ["age"]}, Effect.EVERY_ROW),
        ({"timestamp": "seen_at"}, Effect.EVERY_ROW),
        ({"behavior": "update_only"}, Effect.NOTHING),
        ({"shared": True}, Effect.NOTHING),
        ({"cursor": {"column": "seen_at", "lookback": "2 days"}}, Effect.NOTHING),
        ({"backfill": False}, Effect.NOTHING),
        ({"sync_key": {"distinct_id": "person_id"}}, Effect.STOPS),
        ({"sync_key": {"email": "email"}, "create_with": "skip"}, Effect.STOPS),
    ],
)
def test_effect_of_a_change_of_a_person(changes: dict[str, Any], effect: Effect) -> None:
    found = changed(PERSON, {**PERSON, **changes})
    assert (Change.CHANGED, effect) == (found.change, found.effect)
    assert found.key_changed == ("sync_key" in changes)


@pytest.mark.parametrize(
    ("before", "changes", "effect"),
    [
        (CONTACT, {"mailing_lists": {"l1": True}}, Effect.EVERY_ROW),
        (CONTACT, {"email": "work_email"}, Effect.EVERY_ROW),
        (CONTACT, {"nulls": "skip"}, Effect.EVERY_ROW),
        (CONTACT, {"properties": {"city": "city"}}, Effect.EVERY_ROW),
        (CONTACT, {"user_id": "person_id"}, Effect.STOPS),
        (CONTACT, {"backfill": False}, Effect.NOTHING),
        (LOOPS_EVENT, {"mailing_lists": {"l1": True}}, Effect.ONLY_NEW_ROWS),
        (LOOPS_EVENT, {"properties": {"city": "city"}}, Effect.ONLY_NEW_ROWS),
        (LOOPS_EVENT, {"event_id": "other_id"}, Effect.STOPS),
    ],
)
def test_effect_of_a_change_of_what_goes_to_loops(
    before: dict[str, Any], changes: dict[str, Any], effect: Effect
) -> None:
    model: dict[str, Any] = {"customers": None}
    found = only(compared(side(model, exposure=before), side(model, exposure={**before, **changes})))
    assert (Change.CHANGED, effect) == (found.change, found.effect)
    is_of_contacts = before is CONTACT
    assert found.left_properties == (("planName",) if is_of_contacts and "properties" in changes else ())


@pytest.mark.parametrize(("on_change", "effect"), [("ignore", Effect.ONLY_NEW_ROWS), ("resend", Effect.EVERY_ROW)])
def test_events_are_sent_again_only_where_changed_rows_are(on_change: str, effect: Effect) -> None:
    event = {**EVENT, "on_change": on_change}
    assert effect is changed(event, {**event, "event": {"value": "bought"}}).effect


def test_rows_that_changed_meanwhile_are_sent_once_changes_count() -> None:
    resend = {**EVENT, "on_change": "resend"}
    assert Effect.CHANGED_ROWS is changed(EVENT, resend).effect
    assert Effect.NOTHING is changed(resend, EVENT).effect
    assert Effect.EVERY_ROW is changed(EVENT, {**resend, "event": {"value": "bought"}}).effect


@pytest.mark.parametrize(
    ("key", "effect"), [({"distinct_id": "visitor"}, Effect.EVERY_ROW), ({"event_id": "id"}, Effect.ONLY_NEW_ROWS)]
)
def test_a_page_that_is_known_by_its_visitor_is_another_one_at_another_time(key: Any, effect: Effect) -> None:
    page = {"object": "page", "sync_key": key, "distinct_id": "visitor", "timestamp": "at"}
    page["properties"] = {"$current_url": "url"}
    assert effect is changed(page, {**page, "timestamp": "seen_at"}).effect
    assert effect is changed(page, {**page, "properties": {"$current_url": "address"}}).effect
    assert Effect.ONLY_NEW_ROWS is changed(page, {**page, "groups": {"company": "account"}}).effect


def test_another_object_is_another_sync() -> None:
    found = changed(PERSON, {**PERSON, "object": "group", "sync_key": {"group_key": "id"}, "group_type": "company"})
    assert (found.effect, found.key_changed, found.left_properties) == (Effect.STOPS, True, ())


def test_new_and_gone_syncs() -> None:
    comparison = compared(
        side({"a": PERSON, "same": {**EVENT, "backfill": False}}),
        side({"b": EVENT, "c": {**EVENT, "backfill": False, "timestamp": "at"}, "same": {**EVENT, "backfill": False}}),
    )
    told = [(one.sync.name, one.change, one.effect) for one in comparison.changes]
    assert told == [
        ("b", Change.NEW, Effect.FIRST_LOAD),
        ("c", Change.NEW, Effect.TAKEN_AS_KNOWN),
        ("a", Change.GONE, Effect.ENDS),
    ]
    assert comparison.unchanged == 1


@pytest.mark.parametrize("after", [{"customers": {**PERSON, "name": "people"}}, {"people": PERSON}])
def test_a_renamed_sync_or_model_is_told_with_its_former_name(after: dict[str, Any]) -> None:
    found = only(compared(side({"customers": PERSON}), side(after)))
    assert (found.change, found.former_name, found.effect) == (Change.RENAMED, "customers", Effect.STOPS)
    assert "--adopt customers" in comparison_text(Comparison((found,), 0))


def test_a_renamed_model_of_a_named_sync_changes_nothing_for_posthog() -> None:
    named = {**PERSON, "name": "people"}
    found = only(compared(side({"customers": named}), side({"clients": named})))
    assert (found.change, found.effect) == (Change.CHANGED, Effect.NOTHING)
    assert [one.what for one in found.differences] == ["model"]


def test_one_gone_sync_is_not_the_former_one_of_two() -> None:
    comparison = compared(side({"a": EVENT}), side({"c": EVENT, "d": EVENT}))
    assert [one.former_name for one in comparison.changes] == ["a", None]


def test_columns_that_left_or_changed_type() -> None:
    before, after = side({"orders": EVENT}, COLUMNS), dict(COLUMNS)
    del after["amount"]
    after["ordered_at"] = "date"
    found = only(compared(before, side({"orders": EVENT}, after)))
    assert [(one.what, one.before, one.after) for one in found.columns] == [
        ("amount", "numeric", None),
        ("ordered_at", "timestamp", "date"),
    ]
    assert Effect.ONLY_NEW_ROWS is found.effect
    text, markdown = comparison_text(Comparison((found,), 0)), comparison_markdown(Comparison((found,), 0))
    assert "  column amount is declared no more\n  type of column ordered_at: timestamp -> date\n" in text
    assert "column `amount` is declared no more<br>type of column `ordered_at`: `timestamp` -> `date`" in markdown


@pytest.mark.parametrize(
    ("kind", "is_told"), [("text", False), ("character varying(20)", False), ("integer", True), (None, False)]
)
def test_another_spelling_of_a_type_is_no_change(kind: str | None, is_told: bool) -> None:
    comparison = compared(side({"orders": EVENT}, COLUMNS), side({"orders": EVENT}, {**COLUMNS, "customer_id": kind}))
    assert is_told == bool(comparison.changes)


def test_another_type_of_the_key_is_another_key() -> None:
    found = only(compared(side({"o": EVENT}, COLUMNS), side({"o": EVENT}, {**COLUMNS, "order_id": "uuid"})))
    assert (found.key_changed, found.effect) == (True, Effect.STOPS)
    assert "type of the sync key: bigint -> uuid" in comparison_text(Comparison((found,), 0))


@pytest.mark.parametrize(("contract", "effect"), [(True, Effect.EVERY_ROW), (False, Effect.NOTHING)])
def test_a_column_is_gone_for_sure_where_there_is_a_contract(contract: bool, effect: Effect) -> None:
    person = {**PERSON, "properties": "all"}
    before = side({"c": person}, {"customer_id": "text", "plan": "text"}, contract=contract)
    found = only(compared(before, side({"c": person}, {"customer_id": "text"}, contract=contract)))
    assert (effect, ("plan",) * contract) == (found.effect, found.left_properties)


@pytest.mark.parametrize(("contract", "effect"), [(True, Effect.EVERY_ROW), (False, None)])
def test_a_column_is_new_for_sure_where_there_is_a_contract(contract: bool, effect: Effect | None) -> None:
    person = {**PERSON, "properties": "all"}
    before = side({"c": person}, {"customer_id": "text"}, contract=contract)
    comparison = compared(before, side({"c": person}, {"customer_id": "text", "plan": "text"}, contract=contract))
    assert [effect] * contract == [one.effect for one in comparison.changes]
    assert ("column plan is new" in comparison_text(comparison)) == contract


def test_what_left_stays_in_posthog() -> None:
    found = changed(PERSON, {**PERSON, "properties": {"plan": "plan_name"}})
    assert found.left_properties == ("city",)
    assert "`unset: [city]` removes them." in comparison_text(Comparison((found,), 0))
    assert changed(PERSON, {**PERSON, "properties": {"plan": "plan_name"}, "unset": ["city"]}).left_properties == ()


def test_text_markdown_and_values_tell_the_same() -> None:
    found = changed(PERSON, {**PERSON, "properties": {"plan": {"value": "a|b`\nc"}, "city": "city"}})
    comparison = replace(Comparison((found,), 3, 50), unread=1)
    assert comparison_text(comparison).splitlines() == [
        "customers: changed (person from customers)",
        "  property plan: plan_name -> the constant 'a|b`\\nc'",
        "  every row is sent again",
        "  `--rebaseline` takes the rows as delivered instead, and sends none. From 1,000 known rows on, a "
        "run asks for --force beyond 50 %.",
        "",
        "Syncs: 1 changed, 3 unchanged. 1 problems of annotations before count as absent.",
    ]
    row = comparison_markdown(comparison).splitlines()[5]
    assert row.startswith(
        "| `customers`<br>person | changed | `property plan`: `plan_name` -> `the constant 'a\\|b'\\nc'` | "
        "**every row is sent again**<br>`--rebaseline`"
    )
    values = comparison_values(comparison)
    assert (values["unchanged"], values["unread"], values["syncs"][0]["effect"]) == (3, 1, "every_row")


def test_nothing_changed_is_one_line() -> None:
    comparison = compared(side({"customers": PERSON}), side({"customers": PERSON}))
    assert comparison_text(comparison) == "Syncs: 1 unchanged."
    assert comparison_markdown(comparison).splitlines()[-1] == "Syncs: 1 unchanged."
