"""An annotation matched to the columns of its relation: what is found, what is told, what decides the fingerprint."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dbt_posthog_sync.column_type import ColumnType
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import RelationColumn, ResolvedSync, hashes_as_text
from dbt_posthog_sync.resolver import resolve
from dbt_posthog_sync.sync import (
    Behavior,
    Column,
    Constant,
    Cursor,
    KeyKind,
    ModelColumn,
    ModelRef,
    Nulls,
    ObjectType,
    OnChange,
    Operation,
    PropertyMapping,
    Sync,
    SyncKey,
)

MODEL = ModelRef(
    "model.shop.orders", "orders", '"db"."main"."orders"', "db", "main", "orders", file="models/orders.yml"
)
EVENT = Sync(
    name="orders",
    name_is_explicit=False,
    project="shop",
    model=MODEL,
    object=ObjectType.EVENT,
    sync_key=SyncKey(KeyKind.EVENT_ID, "id"),
    behavior=Behavior.SEND,
    distinct_id=Column("person"),
    event=Constant("seen"),
    timestamp="seen_at",
    properties=(PropertyMapping("amount", Column("amount")),),
)
ALL = replace(EVENT, properties=(), all_properties=True)
COLUMNS = {
    "id": "bigint",
    "person": "text",
    "seen_at": "timestamp",
    "amount": "numeric(10,2)",
    "doc": "json",
    "photo": "bytea",
}


def columns(**types: str) -> list[RelationColumn]:
    return [RelationColumn(name, ColumnType.parse(text)) for name, text in (types or COLUMNS).items()]


def resolved(sync: Sync, **types: str) -> ResolvedSync:
    found, problems = resolve(sync, columns(**types))
    assert problems == ()
    assert found is not None
    return found


def problems(sync: Sync, **types: str) -> dict[str, Problem]:
    found, faults = resolve(sync, columns(**types))
    assert found is None
    return {problem.path.removeprefix("$."): problem for problem in faults}


def test_listed_properties_keep_their_names_and_read_the_warehouse_spelling() -> None:
    found = resolved(EVENT, ID="bigint", Person="text", SEEN_AT="timestamp", AMOUNT="numeric")
    assert (found.key.name, _name(found.distinct_id), _name(found.timestamp)) == ("ID", "Person", "SEEN_AT")
    assert [(p.name, _name(p.source)) for p in found.properties] == [("amount", "AMOUNT")]


def _name(source: object) -> str:
    assert isinstance(source, RelationColumn)
    return source.name


def test_an_exact_name_wins_and_an_ambiguous_one_is_a_problem() -> None:
    types = {"id": "bigint", "person": "text", "seen_at": "timestamp", "Amount": "text", "amount": "numeric"}
    assert _name(resolved(EVENT, **types).properties[0].source) == "amount"
    ambiguous = replace(EVENT, properties=(PropertyMapping("x", Column("AMOUNT")),))
    assert problems(ambiguous, **types)["properties.x"].message == "`AMOUNT` could be `Amount` or `amount`."


def test_all_properties_leave_out_what_is_sent_elsewhere_and_what_is_excluded() -> None:
    found = resolved(replace(ALL, exclude=("PHOTO",)))
    assert [p.name for p in found.properties] == ["id", "amount", "doc"]


def test_all_properties_keep_the_spelling_of_the_manifest_and_its_column_annotations() -> None:
    declared = (
        ModelColumn("Amount", property="total"),
        ModelColumn("DOC", operation=Operation.SET_ONCE),
        ModelColumn("photo", exclude=True),
        ModelColumn("not_there"),
    )
    found = resolved(replace(ALL, model=replace(MODEL, columns=declared)))
    named = [(p.name, _name(p.source), p.operation) for p in found.properties]
    set_, once = Operation.SET, Operation.SET_ONCE
    assert [("id", "id", set_), ("total", "amount", set_), ("DOC", "doc", once)] == named


def test_all_properties_tell_columns_apart_that_differ_in_case_only() -> None:
    types = {"id": "bigint", "person": "text", "seen_at": "timestamp", "Amount": "text", "amount": "numeric"}
    sync = replace(ALL, exclude=("Amount",), model=replace(MODEL, columns=(ModelColumn("amount", property="total"),)))
    assert [(p.name, _name(p.source)) for p in resolved(sync, **types).properties] == [
        ("id", "id"),
        ("total", "amount"),
    ]


def test_every_problem_is_found_at_once() -> None:
    sync = replace(
        EVENT,
        sync_key=SyncKey(KeyKind.EVENT_ID, "doc"),
        distinct_id=Column("persn"),
        event=Column("doc"),
        timestamp="person",
        cursor=Cursor("doc"),
        groups=(("company", Column("seen_at")), ("plan", Constant("pro"))),
        properties=(PropertyMapping("a", Column("photo")), PropertyMapping("b", Column("zzz"))),
    )
    found = problems(sync)
    structural = ["sync_key.event_id", "distinct_id", "event", "timestamp", "cursor.column", "groups.company"]
    assert [*structural, "properties.a", "properties.b"] == list(found)
    assert found["distinct_id"].advice == "Did you mean `person`?"
    assert found["properties.b"].advice == "It has: amount, doc, id, person, photo, seen_at."
    assert found["properties.a"].message == "column `photo` has type bytea, which has no JSON form."
    assert {("orders", "models/orders.yml")} == {(problem.model, problem.file) for problem in found.values()}


def test_all_properties_name_every_column_that_cannot_be_sent() -> None:
    _, faults = resolve(ALL, columns(**COLUMNS, scan="bytea"))
    assert [problem.message.split("`")[1] for problem in faults] == ["photo", "scan"]


@pytest.mark.parametrize(
    ("columns_added", "words"),
    [
        ({"$set": "json"}, "which is reserved"),
        ({"token": "text"}, "which is reserved"),
    ],
)
def test_all_properties_refuse_reserved_names(columns_added: dict[str, str], words: str) -> None:
    types = {name: text for name, text in COLUMNS.items() if name != "photo"}
    assert words in problems(ALL, **types, **columns_added)["properties"].message


def test_two_columns_of_one_property_are_a_problem() -> None:
    types = {name: text for name, text in COLUMNS.items() if name != "photo"}
    sync = replace(ALL, model=replace(MODEL, columns=(ModelColumn("doc", property="amount"),)))
    assert problems(sync, **types)["properties"].message == "two columns become the property `amount`."


def test_an_excluded_column_must_exist() -> None:
    found = problems(replace(ALL, exclude=("photo", "phoot")))
    assert {"exclude"} == set(found)


def test_hashed_columns_are_those_that_are_sent_but_not_the_key() -> None:
    sync = replace(
        EVENT,
        event=Column("kind"),
        groups=(("company", Column("person")), ("plan", Constant("pro"))),
        properties=(*EVENT.properties, PropertyMapping("id", Column("id")), PropertyMapping("by", Constant("dbt"))),
    )
    names = [column.name for column in resolved(sync, **COLUMNS, kind="text").hashed_columns]
    assert names == ["amount", "kind", "person", "seen_at"]


def test_a_page_keyed_by_its_visitor_has_a_composed_key() -> None:
    page = replace(
        EVENT,
        object=ObjectType.PAGE,
        sync_key=SyncKey(KeyKind.DISTINCT_ID, "person"),
        event=None,
        properties=(PropertyMapping("$current_url", Column("doc")),),
    )
    found = resolved(page)
    assert (found.key_is_composed, _name(found.url)) == (True, "doc")
    assert [column.name for column in found.hashed_columns] == ["doc", "person", "seen_at"]
    assert not resolved(EVENT).key_is_composed
    constant = replace(page, properties=(PropertyMapping("$current_url", Constant("https://a.de/")),))
    assert resolved(constant).url is None


def test_only_events_that_are_sent_once_compare_keys_alone() -> None:
    person = replace(EVENT, object=ObjectType.PERSON, sync_key=SyncKey(KeyKind.DISTINCT_ID, "person"), event=None)
    syncs = [EVENT, replace(EVENT, on_change=OnChange.RESEND), person]
    assert [resolved(sync).compares_keys_only for sync in syncs] == [True, False, False]


CHANGES: list[dict[str, Any]] = [
    {"event": Constant("left")},
    {"event": Column("person")},
    {"timestamp": None},
    {"time_zone": "Europe/Berlin"},
    {"distinct_id": Column("amount")},
    {"properties": ()},
    {"properties": (PropertyMapping("total", Column("amount")),)},
    {"properties": (PropertyMapping("amount", Column("amount"), Operation.SET_ONCE),)},
    {"properties": (PropertyMapping("amount", Constant(1)),)},
    {"groups": (("company", Column("person")),)},
    {"groups": (("company", Constant("person")),)},
    {"nulls": Nulls.SEND},
    {"group_type": "company"},
]


def test_the_hash_starts_elsewhere_when_the_fingerprint_changes() -> None:
    assert resolved(EVENT).hash_seed != resolved(replace(EVENT, time_zone="Europe/Berlin")).hash_seed


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{next(iter(change))}")
def test_whatever_changes_a_message_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert resolved(EVENT).fingerprint != resolved(replace(EVENT, **change)).fingerprint


def test_when_a_row_is_sent_is_no_part_of_the_fingerprint() -> None:
    assert resolved(EVENT).fingerprint == resolved(replace(EVENT, on_change=OnChange.RESEND)).fingerprint


def test_what_changes_no_message_leaves_the_fingerprint_alone() -> None:
    same = replace(
        EVENT, backfill=False, cursor=Cursor("seen_at", timedelta(days=1)), model=replace(MODEL, name="renamed")
    )
    assert resolved(EVENT).fingerprint == resolved(same).fingerprint
    assert resolved(EVENT).id == resolved(same).id


def test_the_id_of_a_sync_is_its_project_and_name() -> None:
    others = [replace(EVENT, name="other"), replace(EVENT, project="other")]
    assert len({resolved(sync).id for sync in (EVENT, *others)}) == 3


def test_the_order_of_the_columns_means_nothing() -> None:
    every = replace(ALL, exclude=("photo",))
    columns_backwards = dict(reversed(COLUMNS.items()))
    assert resolved(every, **COLUMNS).fingerprint == resolved(every, **columns_backwards).fingerprint


def test_a_changed_type_changes_the_fingerprint() -> None:
    types = {**COLUMNS, "amount": "text"}
    assert resolved(EVENT).fingerprint != resolved(EVENT, **types).fingerprint


def test_types_that_hide_a_change_are_hashed_as_text() -> None:
    hiding = [
        "citext",
        "interval",
        "interval day to second(3)",
        "json",
        "citext[]",
        "STRUCT(a JSON)",
        "MAP(VARCHAR, INTERVAL)",
    ]
    honest = ["text", "jsonb", "bigint[]", "STRUCT(a DATE)", "numeric"]
    assert [True] * len(hiding) == [hashes_as_text(ColumnType.parse(text)) for text in hiding]
    assert [False] * len(honest) == [hashes_as_text(ColumnType.parse(text)) for text in honest]


def test_the_macros_read_a_column() -> None:
    column = RelationColumn("Doc", ColumnType.parse("json"), hash_as_text=True)
    assert {"name": "Doc", "type": column.type.for_macro(), "hash_as_text": True} == column.for_macro()


def test_a_column_annotation_of_no_column_is_a_problem_and_leaks_nothing() -> None:
    model = replace(ALL.model, columns=(ModelColumn("amuont", exclude=True),))
    path = "$.models[orders].config.meta.posthog_sync"
    found = problems(replace(ALL, model=model, path=path))
    assert "Did you mean `amount`?" in found["models[orders].columns[amuont]"].advice
