"""`diff` on the command line: what it says is what the next plan finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shop import ORDERS, Shop

ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
PERSON: dict[str, Any] = {"object": "person", "sync_key": {"distinct_id": "customer"}, "properties": ["amount"]}

PAGE: dict[str, Any] = {
    "object": "page",
    "sync_key": {"distinct_id": "customer"},
    "timestamp": "ordered_at",
    "properties": {"$current_url": "customer"},
}

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def keep_state(shop: Shop) -> None:
    """Keep the manifest as `--state` wants it."""
    (shop.folder / "before").mkdir(exist_ok=True)
    manifest = (shop.folder / "target" / "manifest.json").read_bytes()
    (shop.folder / "before" / "manifest.json").write_bytes(manifest)


@pytest.mark.parametrize(
    ("before", "after", "effect", "sends"),
    [
        (PERSON, {**PERSON, "properties": {"value": "amount"}}, "every_row", 2),
        (PERSON, {**PERSON, "nulls": "send"}, "every_row", 2),
        (PERSON, {**PERSON, "shared": True}, "nothing", 0),
        (PERSON, {**PERSON, "cursor": "ordered_at"}, "nothing", 0),
        (ORDERS, {**ORDERS, "event": {"value": "bought"}}, "only_new_rows", 0),
        ({**ORDERS, "on_change": "resend"}, {**ORDERS, "on_change": "resend", "exclude": ["amount"]}, "every_row", 2),
        (ORDERS, {**ORDERS, "on_change": "resend"}, "changed_rows", 0),
        (PAGE, {**PAGE, "time_zone": "Europe/Berlin"}, "every_row", 2),
        (PAGE, {**PAGE, "groups": {"company": "customer"}}, "only_new_rows", 0),
        (PERSON, {**PERSON, "behavior": "update_or_create", "backfill": False}, "nothing", 0),
        (PERSON, {**PERSON, "sync_key": {"distinct_id": "order_id"}}, "stops", None),
        (PERSON, {**PERSON, "name": "people"}, "stops", None),
    ],
)
def test_what_is_said_is_what_the_next_plan_finds(
    shop: Shop, before: dict[str, Any], after: dict[str, Any], effect: str, sends: int | None
) -> None:
    shop.annotate(before)
    shop.build(*ROWS)
    assert shop("run").code == 0
    keep_state(shop)
    shop.annotate(after)
    (found,) = shop("diff", "--state", "before", "--output", "json").json["syncs"]
    assert effect == found["effect"]
    plan = shop("plan", "--output", "json").json
    assert (sends is None) == bool(plan["objections"])
    assert sends is None or [sends] == [one["estimated_events"] for one in plan["plans"]]


def test_every_form_and_no_change(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_state(shop)
    answer = shop("diff", "--state", "before")
    assert (answer.code, answer.out, answer.err) == (0, "Syncs: 1 unchanged.\n", "")
    shop.annotate(ORDERS, refunds=ORDERS)
    monkeypatch.setenv("DBT_STATE", "before")
    assert shop("diff").out.startswith("refunds: new (event from refunds)\n  the next run sends every row\n")
    assert (
        "| `refunds`<br>event | new |  | **the next run sends every row** |" in shop("diff", "--output", "markdown").out
    )


def test_settings_beside_the_manifest_are_those_of_before(shop: Shop) -> None:
    shop.annotate(PERSON)
    keep_state(shop)
    shop.settings(defaults={"nulls": "skip"})
    assert shop("diff", "--state", "before").out == "Syncs: 1 unchanged.\n"
    (shop.folder / "before" / "posthog_sync.yml").write_text("defaults: {nulls: send}\n")
    assert "  nulls: send -> skip\n" in shop("diff", "--state", "before").out


def test_annotations_of_before_that_are_wrong_are_counted(shop: Shop) -> None:
    shop.annotate({**ORDERS, "object": "evnt"})
    keep_state(shop)
    shop.annotate(ORDERS)
    out = shop("diff", "--state", "before").out
    assert out.endswith("Syncs: 1 new, 0 unchanged. 1 problems of annotations before count as absent.\n")


def test_what_cannot_be_compared_is_told(shop: Shop) -> None:
    assert "there is no dbt manifest here" in shop.complaint("diff", "--state", "none", code=2)
    keep_state(shop)
    path = shop.folder / "before" / "manifest.json"
    document = json.loads(path.read_text())
    document["metadata"]["project_name"] = "other"
    path.write_text(json.dumps(document))
    assert "this is the manifest of `other`, and the project is `lab`" in shop.complaint(
        "diff", "--state", "before", code=2
    )
    answer = shop("diff")
    assert (answer.code, "--state" in answer.err) == (2, True)
