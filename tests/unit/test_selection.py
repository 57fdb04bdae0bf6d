"""Selection: dbt's words, over syncs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dbt_posthog_sync.errors import UserError
from dbt_posthog_sync.selection import Selection, select
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
        fqn=(package, *path.split("/")[1:-1], model),
    )
    behavior = Behavior.SEND if kind is ObjectType.EVENT else Behavior.UPDATE_OR_CREATE
    return Sync(name, True, "shop", ref, kind, SyncKey(KeyKind.EVENT_ID, "id"), behavior)


ORDERS = sync("orders", "orders", ObjectType.EVENT, tags=("nightly", "sales"), path="models/marts/orders.sql")
REFUNDS = sync("refund_events", "orders", ObjectType.EVENT, tags=("sales",), path="models/marts/orders.sql")
PEOPLE = sync("people", "customers", ObjectType.PERSON, tags=("nightly",), path="models/marts/people/customers.sql")
VISITS = sync("visits", "visits", ObjectType.EVENT, path="models/web/visits.py", package="web")
ALL = (ORDERS, REFUNDS, PEOPLE, VISITS)


class Dbt:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *answers: tuple[Sync, ...]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, options: Sequence[str]) -> list[str]:
        self.asked.append(tuple(options))
        return ["test.shop.of_nothing", *(sync.model.unique_id for sync in self._answers.pop(0))]


def chosen(*words: str, exclude: tuple[str, ...] = (), dbt: Dbt | None = None) -> tuple[str, ...]:
    return tuple(one.name for one in select(ALL, Selection(words, exclude), dbt or Dbt()))


def test_without_selectors_everything_is_selected() -> None:
    assert select(ALL, Selection(), Dbt()) == ALL


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
        ("path:models/**/orders.sql", ("orders", "refund_events")),
        ("path:models/**", ("orders", "refund_events", "people", "visits")),
        ("file:visits", ("visits",)),
        ("fqn:orders", ("orders", "refund_events")),
        ("fqn:shop.marts", ("orders", "refund_events", "people")),
        ("fqn:marts.people.*", ("people",)),
        ("fqn:cust*", ("people",)),
        ("marts.people", ("people",)),
        ("marts", ("orders", "refund_events", "people")),
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
        ("tags:nightly", "no selector method `tags:`. Did you mean `tag:`"),
        ("zebra:nightly", "no selector method `zebra:`. There are names, `config.`, `tag:`, "),
        ("tag:", "is empty"),
        ("+", "is empty"),
        ("path:models/*.sql", "matches no sync"),
        ("fqn:shop.marts.orders.more", "matches no sync"),
        ("tag:weekly,state:modified", "matches no sync"),
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
            select(ALL, Selection(words, exclude), Dbt())
        assert message in str(raised.value)


def test_every_wrong_selector_is_told() -> None:
    with pytest.raises(UserError) as raised:
        select(ALL, Selection(("nothing", "stat:new"), ("tag:",)), Dbt())
    assert len(raised.value.problems) == 3


def test_selecting_without_any_annotation_is_told() -> None:
    with pytest.raises(UserError, match="No model is annotated"):
        select((), Selection(("orders",)), Dbt())


def test_a_version_is_selected_as_in_dbt() -> None:
    ref = replace(ORDERS.model, unique_id="model.shop.orders.v2", fqn=("shop", "marts", "orders", "v2"))
    second = replace(ORDERS, name="second", model=ref)
    for word in (
        "fqn:orders",
        "fqn:orders.v2",
        "fqn:orders_v2",
        "fqn:ord*",
        "fqn:marts",
        "orders.v2",
        "shop.*.orders.v2",
    ):
        assert select((second, VISITS), Selection((word,)), Dbt()) == (second,)
    with pytest.raises(UserError, match="matches no sync"):
        select((second,), Selection(("fqn:v2",)), Dbt())


def test_a_source_has_no_qualified_name() -> None:
    ref = replace(ORDERS.model, unique_id="source.shop.crm.orders", resource_type="source")
    with pytest.raises(UserError, match="matches no sync"):
        select((replace(ORDERS, model=ref),), Selection(("fqn:orders",)), Dbt())


# --- what only dbt can answer ---


@pytest.mark.parametrize(
    "word",
    ["+orders", "orders+1", "2+orders", "@orders", "state:modified", "source:crm+", "access:public", "config.group:a"],
)
def test_dbt_is_asked_for_what_the_manifest_does_not_tell(word: str) -> None:
    dbt = Dbt((ORDERS,))
    assert chosen(word, dbt=dbt) == ("orders", "refund_events")
    assert dbt.asked == [("--select", word)]


def test_dbt_is_not_asked_for_the_rest() -> None:
    dbt = Dbt()
    chosen("orders tag:nightly", exclude=("path:models/web",), dbt=dbt)
    assert dbt.asked == []


def test_words_for_dbt_are_asked_together() -> None:
    dbt = Dbt((ORDERS, PEOPLE), (PEOPLE,))
    assert chosen("+orders visits", "@people,state:new", exclude=("+customers",), dbt=dbt) == (
        "orders", "refund_events", "visits",
    )  # fmt: skip
    assert dbt.asked == [("--select", "+orders", "@people,state:new"), ("--select", "+customers")]


def test_an_intersection_of_both_kinds_is_asked_in_part() -> None:
    dbt = Dbt((ORDERS, PEOPLE))
    assert chosen("refund_events,state:modified,+orders", dbt=dbt) == ("refund_events",)
    assert dbt.asked == [("--select", "state:modified,+orders")]


def test_a_selector_is_asked_by_its_name_and_stands_alone() -> None:
    dbt = Dbt((PEOPLE,), ())
    assert select(ALL, Selection(selector="nightly"), dbt) == (PEOPLE,)
    assert dbt.asked == [("--selector", "nightly")]
    with pytest.raises(UserError, match="`--selector nightly` matches no sync"):
        select(ALL, Selection(selector="nightly"), dbt)
    with pytest.raises(UserError, match="--selector stands alone"):
        select(ALL, Selection(("orders",), selector="nightly"), dbt)


def test_what_dbt_does_not_find_is_told() -> None:
    for words, exclude in ((("+ordres",), ()), ((), ("+ordres",)), (("state:new", "+ordres"), ())):
        with pytest.raises(UserError, match=r"matches no sync. Did you mean `orders`|`state:new` and `\+ordres`"):
            chosen(*words, exclude=exclude, dbt=Dbt(()))


def test_a_sync_is_no_node_of_dbt() -> None:
    with pytest.raises(UserError, match="dbt does not know syncs: name the model of `people`, `customers`"):
        chosen("+people", dbt=Dbt(()))


def test_what_depends_on_a_state_may_be_nothing() -> None:
    assert chosen("state:modified+", dbt=Dbt(())) == ()
    assert chosen("1+result:error", "tag:nightly,state:new", dbt=Dbt((), ())) == ()
    assert chosen("visits", exclude=("state:modified",), dbt=Dbt(())) == ("visits",)
