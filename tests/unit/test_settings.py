"""Settings: posthog_sync.yml and the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dbt_posthog_sync.duration import duration
from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.schema import SETTINGS_SCHEMA, load_schema, properties_of, resolved
from dbt_posthog_sync.secret import Secret, looks_secret, masked, secrets_in, shown
from dbt_posthog_sync.settings import (
    Deletion,
    Delivery,
    Identities,
    IdentitySource,
    Settings,
    read_settings,
    settings_from,
)
from dbt_posthog_sync.spelling import did_you_mean, listed, nearest

PROJECT_KEY = "phc_AbCdEfGhIjKlMnOpQrStUvWxYz"


def problems_of(document: object, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings_from(document, environ or {}, file="posthog_sync.yml")
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize("document", [None, {}, {"posthog": {}}, {"posthog": None, "limits": None, "targets": None}])
def test_without_settings_the_defaults_hold(document: object) -> None:
    assert settings_from(document, {}) == Settings()


def test_missing_file_means_defaults(tmp_path: Path) -> None:
    settings = read_settings(tmp_path / "posthog_sync.yml", {})
    assert (settings.host.ingest, settings.file) == ("https://us.i.posthog.com", "")


def test_schema_and_program_have_the_same_defaults() -> None:
    schema = load_schema(SETTINGS_SCHEMA)
    Draft202012Validator.check_schema(dict(schema))
    limits, delivery = (schema["properties"][name]["properties"] for name in ("limits", "delivery"))
    assert Limits(**{key: inner["default"] for key, inner in limits.items()}) == Limits()
    assert Delivery(**{key: inner["default"] for key, inner in delivery.items()}) == Delivery()
    deletion, identities = (schema["properties"][name]["properties"] for name in ("deletion", "identities"))
    assert Deletion(**{key: inner["default"] for key, inner in deletion.items()}) == Deletion()
    assert identities["source"]["default"] == Identities().source.value
    assert duration(identities["max_age"]["default"]) == Identities().max_age
    assert identities["source"]["enum"] == [source.value for source in IdentitySource]


def test_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "posthog_sync.yml"
    path.write_text(
        """
posthog:
  host: https://posthog.example.com/ingest/
  api_host: https://app.example.com
  project_api_key: {env: KEY}
  personal_api_key: {env: PERSONAL}
  protocol: v0
targets: [prod, staging]
state_schema: sync_state
limits: {max_changed_percent: null, max_events: 10}
identities: {source: mirror, max_age: 30 minutes}
deletion: {enabled: true, max_persons: 5, events: true}
delivery: {batch_messages: 100, events_per_second: 50}
defaults: {time_zone: Europe/Berlin}
""",
        encoding="utf-8",
    )
    settings = read_settings(path, {"POSTHOG_HOST": "eu"})
    assert settings.host == Host("https://posthog.example.com/ingest", "https://app.example.com", None)
    assert (settings.project_key_variable, settings.personal_key_variable) == ("KEY", "PERSONAL")
    assert (settings.protocol, settings.targets, settings.state_schema) == ("v0", ("prod", "staging"), "sync_state")
    assert settings.limits == Limits(max_changed_percent=None, max_events=10)
    assert settings.delivery == Delivery(batch_messages=100, events_per_second=50)
    assert settings.identities == Identities(IdentitySource.MIRROR, timedelta(minutes=30))
    assert settings.deletion == Deletion(enabled=True, max_persons=5, events=True)
    assert settings.defaults == {"time_zone": "Europe/Berlin"}
    assert settings.file == str(path)


def test_named_targets_may_send_and_others_may_not() -> None:
    assert Settings().may_send("dev")
    assert Settings(targets=("prod",)).may_send("prod")
    assert not Settings(targets=("prod",)).may_send("dev")


@pytest.mark.parametrize(
    ("host", "rate", "expected"), [("us", None, 2000), ("https://ph.example.com", None, None), ("eu", 500, 500)]
)
def test_historical_rate_follows_the_host(host: str, rate: float | None, expected: float | None) -> None:
    delivery = {} if rate is None else {"historical_events_per_second": rate}
    assert settings_from({"posthog": {"host": host}, "delivery": delivery}, {}).historical_rate == expected


@pytest.mark.parametrize(
    ("text", "ingest", "api", "region"),
    [
        ("us", "https://us.i.posthog.com", "https://us.posthog.com", "us"),
        (" EU ", "https://eu.i.posthog.com", "https://eu.posthog.com", "eu"),
        ("https://app.posthog.com/", "https://us.i.posthog.com", "https://us.posthog.com", "us"),
        ("https://eu.posthog.com", "https://eu.i.posthog.com", "https://eu.posthog.com", "eu"),
        ("https://eu.i.posthog.com", "https://eu.i.posthog.com", "https://eu.posthog.com", "eu"),
        ("https://e.example.com/p/", "https://e.example.com/p", "https://e.example.com/p", None),
        ("http://localhost:8000", "http://localhost:8000", "http://localhost:8000", None),
        ("http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1", None),
        ("http://[::1]:1", "http://[::1]:1", "http://[::1]:1", None),
        ("http://posthog.svc.local", "http://posthog.svc.local", "http://posthog.svc.local", None),
    ],
)
def test_host_is_understood(text: str, ingest: str, api: str, region: str | None) -> None:
    assert Host.from_text(text) == Host(ingest, api, region)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uk", "write `us`, `eu`, or"),
        ("posthog.example.com", "starts with `https://`"),
        ("ftp://posthog.example.com", "starts with `https://`"),
        ("http://posthog.example.com", "unencrypted"),
        ("http://8.8.8.8", "unencrypted"),
        ("https://user:pw@posthog.example.com", "without user"),
        ("https://posthog.example.com:port", "is not an address"),
    ],
)
def test_host_is_refused(text: str, message: str) -> None:
    (problem,) = problems_of({"posthog": {"host": text}})
    assert message in problem
    assert "$.posthog.host" in problem


def test_host_comes_from_the_environment_when_the_file_is_silent() -> None:
    assert settings_from({}, {"POSTHOG_HOST": "eu"}).host.region == "eu"
    assert settings_from({"posthog": {"host": "us"}}, {"POSTHOG_HOST": "eu"}).host.region == "us"
    assert settings_from({"posthog": {"host": {"env": "H"}}}, {"H": "eu"}).host.region == "eu"
    assert "environment variable H is not set" in problems_of({"posthog": {"host": {"env": "H"}}})[0]
    assert "POSTHOG_HOST, `uk`," in problems_of({}, {"POSTHOG_HOST": "uk"})[0]


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        (None, {}, None),
        (12345, {}, "12345"),
        ("12345", {"POSTHOG_PROJECT_ID": "9"}, "12345"),
        (None, {"POSTHOG_PROJECT_ID": " 9 "}, "9"),
        ({"env": "P"}, {"P": "7", "POSTHOG_PROJECT_ID": "9"}, "7"),
    ],
)
def test_project_id_is_understood(written: object, environ: dict[str, str], expected: str | None) -> None:
    posthog = {} if written is None else {"project_id": written}
    assert settings_from({"posthog": posthog}, environ).project_id == expected


@pytest.mark.parametrize(
    ("written", "environ", "message"),
    [
        ("shop", {}, "must be a number"),
        (0, {}, "must be"),
        (True, {}, "must be a number"),
        ({"env": "P"}, {}, "variable P is not set"),
        ({"env": "P"}, {"P": "shop"}, "variable P holds no number"),
        (None, {"POSTHOG_PROJECT_ID": "shop"}, "POSTHOG_PROJECT_ID holds no number"),
    ],
)
def test_project_id_is_refused(written: object, environ: dict[str, str], message: str) -> None:
    (problem,) = problems_of({"posthog": {} if written is None else {"project_id": written}}, environ)
    assert message in problem
    assert "$.posthog.project_id" in problem


def test_every_problem_of_the_file_is_told_at_once() -> None:
    document = {
        "posthog": {"host": 5, "protocol": "v2", "protocl": "v1", "project_api_key": {"env": "1 KEY"}},
        "target": ["prod"],
        "targets": [],
        "state_schema": "a-b",
        "limits": {"max_changed_percent": 101, "max_events": 0},
        "delivery": {"batch_messages": 1001, "batch_bytes": 20_000_001, "in_flight": "8", "timeout_seconds": 0},
        "defaults": [],
    }
    assert [problem.partition(": ")[0].removeprefix("posthog_sync.yml, $.") for problem in problems_of(document)] == [
        "posthog.host",
        "posthog.protocol",
        "posthog.protocl",
        "posthog.project_api_key.env",
        "target",
        "targets",
        "state_schema",
        "limits.max_changed_percent",
        "limits.max_events",
        "delivery.batch_messages",
        "delivery.batch_bytes",
        "delivery.in_flight",
        "delivery.timeout_seconds",
        "defaults",
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, Identities()),
        ({"source": "lookup"}, Identities()),
        ({"source": "mirror"}, Identities(IdentitySource.MIRROR)),
        ({"source": "mirror", "max_age": "2 days"}, Identities(IdentitySource.MIRROR, timedelta(days=2))),
        ({"source": "identity_model", "model": "people"}, Identities(IdentitySource.MODEL, model="people")),
    ],
)
def test_identities_are_read(section: dict[str, Any], expected: Identities) -> None:
    assert settings_from({"identities": section}, {}).identities == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"source": "lookups"}, "$.identities.source: `source` must be `lookup`, `mirror` or `identity_model`"),
        ({"max_age": "1 hour"}, "$.identities.max_age: `max_age` goes with `source: mirror` only."),
        (
            {"source": "identity_model", "model": "people", "max_age": "1 hour"},
            "$.identities.max_age: `max_age` goes with `source: mirror` only.",
        ),
        ({"model": "people"}, "$.identities.model: `model` goes with `source: identity_model` only."),
        (
            {"source": "mirror", "model": "people"},
            "$.identities.model: `model` goes with `source: identity_model` only.",
        ),
        ({"source": "identity_model"}, "$.identities: `source: identity_model` needs `model`"),
        ({"source": "identity_model", "model": " "}, "$.identities.model: `model` is empty."),
        ({"source": "mirror", "max_age": "0 minutes"}, "$.identities.max_age: `max_age` must be more than 0"),
        (
            {"source": "mirror", "max_age": "soon"},
            "$.identities.max_age: `max_age` must be more than 0: a number and a",
        ),
        (
            {"source": "mirror", "max_age": 5},
            "$.identities.max_age: `max_age` must be more than 0: a number and a unit",
        ),
        ({"modell": "people"}, "$.identities.modell: unknown key `modell`. Did you mean `model`?"),
        ("lookup", "$.identities: `identities` must be a mapping, not `lookup`."),
    ],
)
def test_identities_are_refused(section: object, expected: str) -> None:
    (problem,) = problems_of({"identities": section})
    assert problem.startswith(f"posthog_sync.yml, {expected}")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"enabled": "true"}, "$.deletion.enabled: `enabled` must be true or false"),
        ({"max_persons": 0}, "$.deletion.max_persons: `max_persons` must be at least 1"),
        ({"max_persons": 1.5}, "$.deletion.max_persons: `max_persons` must be a whole number"),
        ({"event": True}, "$.deletion.event: unknown key `event`. Did you mean `events`?"),
    ],
)
def test_deletion_is_refused(section: object, expected: str) -> None:
    (problem,) = problems_of({"deletion": section})
    assert problem.startswith(f"posthog_sync.yml, {expected}")


def test_limit_that_is_no_number_is_refused() -> None:
    assert "must be a number" in problems_of({"limits": {"max_changed_percent": float("nan")}})[0]


@pytest.mark.parametrize("document", ["text", [], 5])
def test_file_of_another_kind_is_refused(document: object) -> None:
    assert "must be a mapping" in problems_of(document)[0]


@pytest.mark.parametrize("key", [PROJECT_KEY, "phx_AbCdEfGhIjKlMnOp", "qwertyuiopasdfghjklzxcvbnm123456", "hunter2"])
def test_key_in_the_file_is_refused_and_not_shown(key: str) -> None:
    (problem,) = problems_of({"posthog": {"project_api_key": key}})
    assert key not in problem
    assert "env" in problem


def test_yaml_that_does_not_parse_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "posthog_sync.yml"
    path.write_text("posthog:\n  host: [us\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"not valid YAML at line \d"):
        read_settings(path, {})


def test_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path, {})


def test_project_key_is_read_and_masked() -> None:
    key = Settings().project_key({"POSTHOG_PROJECT_API_KEY": f" {PROJECT_KEY}\n"})
    assert key.reveal() == PROJECT_KEY
    assert (repr(key), str(key), f"{key}") == ("Secret('phc_****')", "phc_****", "phc_****")
    assert PROJECT_KEY not in repr({"key": key})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "POSTHOG_PROJECT_API_KEY is not set"),
        ({"POSTHOG_PROJECT_API_KEY": "  "}, "Settings > Project"),
        ({"POSTHOG_API_KEY": PROJECT_KEY}, "`POSTHOG_API_KEY` is set: did you mean it?"),
        ({"POSTHOG_PROJECT_API_KEY": "phx_AbCdEfGh"}, "a personal API key"),
        ({"POSTHOG_PROJECT_API_KEY": "phs_AbCdEfGh"}, "a project secret key"),
        ({"POSTHOG_PROJECT_API_KEY": "phc_" + "a" * 61}, "at most 64"),
        ({"POSTHOG_PROJECT_API_KEY": "phc_ä"}, "no project API key"),
        ({"POSTHOG_PROJECT_API_KEY": "phc_a b"}, "no project API key"),
    ],
)
def test_wrong_project_key_is_told_and_not_shown(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings().project_key(environ)
    assert message in str(raised.value)
    assert not [value for value in environ.values() if value.strip() and value in str(raised.value)]


def test_personal_key_is_read() -> None:
    assert Settings().personal_key({"POSTHOG_PERSONAL_API_KEY": "phx_AbCdEfGh"}).reveal() == "phx_AbCdEfGh"


@pytest.mark.parametrize(
    ("key", "message"), [("", "is not set"), (PROJECT_KEY, "project API key"), ("a\tb", "no API key")]
)
def test_wrong_personal_key_is_told(key: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings().personal_key({"POSTHOG_PERSONAL_API_KEY": key})


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (PROJECT_KEY, "", True),
        (f"Bearer {PROJECT_KEY}", "", True),
        ("phase_one", "", False),
        ("order completed", "token", False),
        ("a1b2c3d4e5f6a7b8c9d0e1f2", "api_key", True),
        ("a1b2c3d4e5f6a7b8c9d0e1f2", "plan", False),
        ("customer_lifetime_value_in_eur", "token_count", False),
    ],
)
def test_secrets_are_recognised(text: str, name: str, expected: bool) -> None:
    assert looks_secret(text, name) is expected


def test_secrets_are_found_at_any_depth() -> None:
    value: dict[str, Any] = {"a": [{"b": PROJECT_KEY}], PROJECT_KEY: 1, "c": 5}
    assert list(secrets_in(value)) == [("a", 0, "b"), ("phc_****",)]


def test_shown_values_are_cut_and_masked() -> None:
    assert (shown("plan"), shown(True), shown("")) == ("`plan`", "`true`", "an empty text")
    assert shown("x" * 100) == f"`{'x' * 60}...`"
    assert shown({"key": PROJECT_KEY}) == "`****`"
    assert (masked(PROJECT_KEY), masked("hunter2")) == ("phc_****", "****")
    assert Secret("a") == Secret("a")


def test_words_are_compared_without_case_and_hyphens() -> None:
    assert nearest("Time-Zone", ["time_zone", "timestamp"]) == "time_zone"
    assert nearest("zzz", ["time_zone"]) is None
    assert did_you_mean("plan", ["plan"]) == ""
    assert listed(["a"]) == "`a`"
    assert listed(["a", "b", "c"], "or") == "`a`, `b` or `c`"


def test_references_in_a_schema_are_followed() -> None:
    schema = {
        "$defs": {
            "a": {"title": "A", "type": "string"},
            "b": {"properties": {"k": {"$ref": "#/$defs/a", "title": "K"}}},
        }
    }
    assert properties_of(schema, "b") == {"k": {"title": "K", "type": "string"}}
    assert resolved(schema, {"type": "null"}) == {"type": "null"}
