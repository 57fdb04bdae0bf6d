"""`debug` as a user meets it: every part is checked, and nothing is left behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forwarded import EVENTS, expose
from shop import ORDERS, Answer, Shop

from dbt_posthog_sync.testing import StandIn, StandInConfig, Status, When, always

PARTS = [
    "settings",
    "annotations",
    "dbt profile",
    "warehouse connection",
    "state schema",
    "models",
    "project API key",
    "ingestion",
    "personal API key",
]

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def debug(shop: Shop, *words: str) -> tuple[Answer, dict[str, dict[str, Any]]]:
    """The command's answer, and its checks by name."""
    answer = shop("debug", "--output", "json", *words)
    return answer, {check["name"]: check for check in answer.json["checks"]}


def failed(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if check["verdict"] == "failed"]


def test_a_shop_in_order_is_all_ok(any_shop: Shop) -> None:
    any_shop.build((1, "u1", 1.0))
    answer, checks = debug(any_shop)
    assert (answer.code, list(checks)) == (0, PARTS)
    assert {check["verdict"] for check in checks.values()} == {"ok"}, checks
    assert "may be created" in checks["state schema"]["findings"][0]
    assert any_shop.server.sql("select 1 from information_schema.tables where table_name like 'rights_probe%'") == []
    schemas = "select 1 from information_schema.schemata where schema_name = '" + any_shop.state + "'"
    assert any_shop.server.sql(schemas) == []
    assert any_shop.posthog.project.received == ()
    any_shop("run")
    assert "is there and may be written" in debug(any_shop)[1]["state schema"]["findings"][0]


def test_text_has_a_line_a_part(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    lines = shop("debug").out.splitlines()
    assert len(lines) == len(PARTS)
    assert lines[3] == "ok       warehouse connection  duckdb answers."


def test_the_personal_key_and_a_test_event(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build((1, "u1", 1.0))
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    answer, checks = debug(shop, "--send-test-event")
    assert (answer.code, list(checks)) == (0, [*PARTS, "scopes", "PostHog project", "test event"])
    assert {check["verdict"] for check in checks.values()} == {"ok"}
    assert shop.posthog.personal_key not in answer.out + answer.err
    assert len(shop.posthog.project.events) == 1


def test_every_part_is_checked_when_all_of_them_are_wrong(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.annotate({**ORDERS, "objekt": "event"})
    shop.profile(path=str(shop.folder / "nothing.duckdb"))
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", "phx_in-the-wrong-place")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phc_in-the-wrong-place")
    answer, checks = debug(shop)
    assert answer.code == 4
    assert list(checks) == PARTS
    assert failed(checks) == ["annotations", "warehouse connection", "project API key", "personal API key"]
    assert "a personal API key (`phx_`), not a project API key" in checks["project API key"]["findings"][0]
    assert "a project API key (`phc_`), not a personal one" in checks["personal API key"]["findings"][0]
    assert "in-the-wrong-place" not in answer.out


def test_settings_that_cannot_be_read_hide_only_what_needs_them(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    shop.settings(limit={})
    answer, checks = debug(shop)
    assert (answer.code, list(checks), failed(checks)) == (2, PARTS, ["settings"])
    assert checks["warehouse connection"]["verdict"] == "ok"
    assert checks["ingestion"]["findings"] == ["Not checked, because the settings cannot be read."]
    assert shop.posthog.requests == ()


def test_a_sync_that_reads_posthog_needs_a_personal_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build((1, "u1", 1.0))
    only = {"object": "person", "sync_key": {"distinct_id": "customer"}, "behavior": "update_only"}
    shop.annotate({**only, "name": "buyers", "properties": ["amount"]})
    answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (2, ["personal API key"])
    assert checks["personal API key"]["findings"][1].endswith("the sync `buyers` needs it.")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (2, ["PostHog project"])
    assert checks["PostHog project"]["findings"][0] == "No posthog.project_id is set, which the sync `buyers` needs."
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    assert failed(debug(shop)[1]) == []
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    shop.settings(identities={"source": "identity_model", "model": shop.table})
    assert debug(shop)[1]["personal API key"]["verdict"] == "ok"


def test_an_exposure_via_posthog_wishes_for_a_personal_key(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    expose(shop, loops_orders=EVENTS)
    answer, checks = debug(shop)
    assert (answer.code, checks["personal API key"]["verdict"]) == (0, "warning")
    assert checks["personal API key"]["findings"] == ["None is set, and `destinations` needs one for `loops_orders`."]


def test_an_identity_model_that_dbt_does_not_know(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    shop.settings(identities={"source": "identity_model", "model": shop.table})
    assert debug(shop)[0].code == 0
    shop.settings(identities={"source": "identity_model", "model": f"{shop.table}x"})
    answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (2, ["annotations"])
    assert f"Did you mean `{shop.table}`?" in checks["annotations"]["findings"][0]


def test_a_project_without_files_of_ours(shop: Shop) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    (shop.folder / "profiles.yml").unlink()
    manifest_path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["nodes"] = {}
    manifest_path.write_text(json.dumps(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTHOG_HOST", shop.posthog.url)
        answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (2, ["dbt profile"])
    assert checks["settings"]["findings"][1] == "Write one: dbt-posthog-sync init."
    assert "init MODEL" in checks["annotations"]["findings"][0]
    manifest_path.unlink()
    assert "annotations" in failed(debug(shop)[1])


def test_a_target_that_may_not_send_and_a_manifest_of_another(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    shop.settings(targets=["prod"])
    answer, checks = debug(shop)
    assert (answer.code, checks["dbt profile"]["verdict"]) == (0, "warning")
    tested = debug(shop, "--send-test-event")[1]["test event"]
    assert tested["findings"] == ["Not checked, because this target may not send, or the dbt profile cannot be used."]
    assert shop.posthog.project.received == ()
    manifest_path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["metadata"]["dbt_schema_version"] = "https://schemas.getdbt.com/dbt/manifest/v99.json"
    manifest_path.write_text(json.dumps(manifest))
    assert debug(shop)[1]["annotations"]["verdict"] == "warning"
    manifest["metadata"]["adapter_type"] = "postgres"
    manifest_path.write_text(json.dumps(manifest))
    answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (2, ["dbt profile"])


def test_a_model_that_was_not_built(any_shop: Shop) -> None:
    any_shop.server.sql(f"drop table if exists {any_shop.table}")
    answer, checks = debug(any_shop)
    assert (answer.code, failed(checks)) == (2, ["models"])
    assert "dbt build --select" in checks["models"]["findings"][0]


def test_a_role_that_may_not_create_the_state_schema(postgres_shop: Shop) -> None:
    shop = postgres_shop
    shop.build((1, "u1", 1.0))
    role = f"{shop.table}_role"
    shop.server.sql(f"create role {role} login password 'x'; grant select on {shop.table} to {role}")
    try:
        shop.profile(user=role, password="x")
        answer, checks = debug(shop)
        assert (answer.code, failed(checks)) == (4, ["state schema"])
        assert "must be able to create the state schema" in checks["state schema"]["findings"][0]
        assert checks["models"]["verdict"] == "ok"
    finally:
        shop.server.sql(f"drop owned by {role}; drop role {role}")


def test_a_posthog_that_is_away_is_told_for_each_part(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build((1, "u1", 1.0))
    shop.posthog.inject(When(always, Status(503)), api=When(always, Status(503)))
    answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (4, ["project API key", "ingestion"])
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    answer, checks = debug(shop, "--send-test-event")
    assert (answer.code, failed(checks)) == (2, ["project API key"])
    assert list(checks) == [*PARTS, "test event"]


def test_a_key_that_posthog_does_not_know(shop: Shop) -> None:
    shop.build((1, "u1", 1.0))
    with StandIn(StandInConfig(tokens=("phc_another",))) as other:
        shop.settings(posthog={"host": other.url})
        answer, checks = debug(shop)
    assert (answer.code, failed(checks)) == (4, ["project API key"])


def test_there_must_be_a_project(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert "no dbt_project.yml" in shop("debug").err
