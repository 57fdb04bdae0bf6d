"""Selection: dbt's words, over syncs."""

from __future__ import annotations

import pytest

from dbt_posthog_sync.errors import UserError
from dbt_posthog_sync.selection import select
from dbt_posthog_sync.sync import Behavior, KeyKind, ModelRef, ObjectType, Sync, SyncKey


def sync(
    name: str, model: str, kind: ObjectType, *, tags: tuple[str, ...] = (), path: str, package: str = "shop"
) -> Sync:
    ref = ModelRef(
        unique_id=f"model.{package}.{model}",
        name=model,
        relation_name=model,
        database=None,
        schema="main",
        identifier=model,
        tags=tags,
        path=path,
        package=package,
    )
    behavior = Behavior.SEND if kind is ObjectType.EVENT else Behavior.UPDATE_OR_CREATE
    return Sync(name, True, "shop", ref, kind, SyncKey(KeyKind.EVENT_ID, "id"), behavior)


ORDERS = sync("orders", "orders", ObjectType.EVENT, tags=("nightly", "sales"), path="models/marts/orders.sql")
REFUNDS = sync("refund_events", "orders", ObjectType.EVENT, tags=("sales",), path="models/marts/orders.sql")
PEOPLE = sync("people", "customers", ObjectType.PERSON, tags=("nightly",), path="models/marts/people/customers.sql")
VISITS = sync("visits", "visits", ObjectType.EVENT, path="models/web/visits.py", package="web")
ALL = (ORDERS, REFUNDS, PEOPLE, VISITS)


def chosen(*words: str, exclude: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(one.name for one in select(ALL, words, exclude))


def test_without_selectors_everything_is_selected() -> None:
    assert select(ALL) == ALL


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("orders", ("orders", "refund_events")),
        ("refund_events", ("refund_events",)),
        ("model.shop.customers", ("people",)),
        ("*s", ("orders", "refund_events", "people", "visits")),
        ("?eople", ("people",)),
        ("tag:nightly", ("orders", "people")),
        ("tag:s*", ("orders", "refund_events")),
        ("path:models/marts", ("orders", "refund_events", "people")),
        ("path:models/marts/people/", ("people",)),
        ("path:./models/web/visits.py", ("visits",)),
        ("path:models/*/visits.py", ("visits",)),
        ("models/web", ("visits",)),
        ("visits.py", ("visits",)),
        ("package:web", ("visits",)),
        ("package:this", ("orders", "refund_events", "people")),
        ("resource_type:model", ("orders", "refund_events", "people", "visits")),
        ("config.meta.posthog_sync.object:person", ("people",)),
        ("config.meta.posthog_sync.behavior:send", ("orders", "refund_events", "visits")),
        ("config.meta.posthog_sync.name:refund*", ("refund_events",)),
    ],
)
def test_selector_selects(word: str, expected: tuple[str, ...]) -> None:
    assert chosen(word) == expected


def test_space_is_a_union_in_the_order_of_the_syncs() -> None:
    assert chosen("visits people") == ("people", "visits")
    assert chosen("visits", "people") == ("people", "visits")


def test_comma_is_an_intersection() -> None:
    assert chosen("tag:nightly,tag:sales") == ("orders",)
    assert chosen("tag:nightly,tag:sales visits") == ("orders", "visits")


def test_exclude_takes_away() -> None:
    assert chosen(exclude=("tag:sales",)) == ("people", "visits")
    assert chosen("tag:nightly", exclude=("orders",)) == ("people",)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+orders", "graph operators are not supported yet"),
        ("orders+1", "graph operators are not supported yet"),
        ("2+orders", "graph operators are not supported yet"),
        ("@orders", "graph operators are not supported yet"),
        ("tag:nightly,orders+", "graph operators are not supported yet"),
        ("state:modified", "`state:` is not supported yet. Supported are names, `tag:`"),
        ("source:crm", "`source:` is not supported yet"),
        ("tags:nightly", "Did you mean `tag:`"),
        ("tag:", "is empty"),
        ("orders,", "is empty"),
        ("order", "matches no sync. Did you mean `orders`"),
        ("zzzzzz", "matches no sync. There are `customers`"),
        ("tag:weekly", "matches no sync"),
        ("tag:nightly,package:web", "matches no sync"),
    ],
)
def test_selector_is_refused(word: str, message: str) -> None:
    for words, exclude in (((word,), ()), ((), (word,))):
        with pytest.raises(UserError) as raised:
            select(ALL, words, exclude)
        assert message in str(raised.value)


def test_every_wrong_selector_is_told() -> None:
    with pytest.raises(UserError) as raised:
        select(ALL, ["nothing", "state:new"], ["@x"])
    assert len(raised.value.problems) == 3


def test_selecting_without_any_annotation_is_told() -> None:
    with pytest.raises(UserError, match="No model is annotated"):
        select((), ["orders"])
