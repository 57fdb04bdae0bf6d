"""`verify` and `run --verify` as a user meets them."""

from __future__ import annotations

import json

import pytest
from shop import ORDERS, Shop

from dbt_posthog_sync.testing import PersonalKey, StandIn, StandInConfig

ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
PERSONS = {"object": "person", "sync_key": {"distinct_id": "customer"}, "properties": ["amount"], "name": "customers"}

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


@pytest.fixture(autouse=True)
def _personal_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_sandbox")


def test_a_run_is_proven_at_its_end_and_later(any_shop: Shop) -> None:
    any_shop.annotate([{**ORDERS, "name": "orders"}, PERSONS])
    any_shop.build(*ROWS)
    answer = any_shop("run", "--verify")
    assert answer.code == 0, answer
    proof = answer.out.splitlines()[-3:]
    run_id = proof[0].split()[1].rstrip(":")
    assert proof[0].endswith(": 4 of 4 messages are in PostHog")
    assert {line.strip() for line in proof[1:]} == {"event: 2 of 2", "person: 2 of 2"}
    again = any_shop("verify", run_id, "--output", "json")
    assert (again.code, again.json["kind"], again.json["run_id"]) == (0, "verify", run_id)
    assert (again.json["sent"], again.json["landed"], again.json["missing"]) == (4, 4, 0)
    assert "phx_sandbox" not in answer.out + answer.err + again.out + again.err
    any_shop.build(*ROWS)
    second = any_shop("run", "--verify", "--output", "json")
    kinds = [json.loads(line)["kind"] for line in second.out.splitlines()]
    assert (second.code, kinds) == (0, ["run", "verify"])
    assert run_id in any_shop("verify").out


def test_nothing_landed_is_told_with_its_causes(shop: Shop) -> None:
    shop.build(*ROWS)
    # On v0, PostHog answers 200 to a project that is over its quota, and keeps nothing.
    config = StandInConfig(billing_limited_tokens=frozenset({"phc_sandbox"}), v1_routed=False)
    with StandIn(config) as posthog:
        shop.settings(posthog={"host": posthog.url})
        assert shop("run").code == 0
        answer = shop("verify", "--wait", "0")
    assert answer.code == 4
    assert ": 0 of 2 messages are in PostHog" in answer.out
    assert "over its quota" in answer.out


def test_a_missing_key_is_told_before_anything_is_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    shop.build(*ROWS)
    assert "POSTHOG_PERSONAL_API_KEY is not set" in shop.complaint("run", "--verify", code=2)
    assert "POSTHOG_PERSONAL_API_KEY is not set" in shop.complaint("verify", code=2)


def test_a_run_that_nobody_knows(shop: Shop) -> None:
    shop.build(*ROWS)
    assert "does not know any run" in shop.complaint("verify", code=2)
    shop("run")
    shop.posthog.reset()
    assert "does not know the run x" in shop.complaint("verify", "x", code=2)


def test_a_key_without_the_scope_says_so_after_the_run(shop: Shop) -> None:
    shop.build(*ROWS)
    with StandIn(StandInConfig(personal_keys=(PersonalKey("phx_sandbox", scopes=("person:read",)),))) as posthog:
        shop.settings(posthog={"host": posthog.url})
        answer = shop("run", "--verify")
        assert len(posthog.project.events) == 2
    assert answer.code == 4
    assert "lacks the scope `query:read`, which verify needs" in answer.err
    results = json.loads((shop.folder / "target" / "posthog_sync_results.json").read_text())
    assert (results["metadata"]["version"], results["exit_code"]) == (1, 4)
    assert results["results"][0]["status"] == "success"


def test_what_sent_no_messages_to_posthog_is_passed_over(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {"object": "person", "sync_key": {"distinct_id": "customer"}, "behavior": "delete", "name": "gone"}
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    shop.settings(posthog={"host": shop.posthog.url, "project_id": 1}, deletion={"enabled": True})
    shop.annotate([{**ORDERS, "name": "orders"}, gone])
    shop.build(*ROWS)
    orders, deletion = (f"config.meta.posthog_sync.name:{name}" for name in ("orders", "gone"))
    assert shop("run", "--select", orders).code == 0
    assert "2 persons were deleted" in shop("run", "--select", deletion, "--force").out
    assert "2 of 2 messages are in PostHog" in shop("verify").out


def test_a_mocked_run_has_nothing_to_verify(shop: Shop) -> None:
    assert "--verify has nothing to find" in shop("run", "--mock", "--verify").err
