"""Settings of Loops: where it is, at which rate, and the key of the environment."""

from __future__ import annotations

from typing import Any

import pytest

from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.loops_settings import LoopsSettings, loops_key
from dbt_posthog_sync.settings import settings_from

LOCAL = "http://127.0.0.1:8011/api"


@pytest.mark.parametrize(
    ("section", "environ", "expected"),
    [
        (None, {}, LoopsSettings("https://app.loops.so/api", 10.0)),
        ({}, {"LOOPS_HOST": "https://elsewhere.example.com"}, LoopsSettings()),
        ({"host": f"{LOCAL}/", "requests_per_second": 5}, {}, LoopsSettings(LOCAL, 5.0)),
        ({"host": {"env": "SHOP_LOOPS"}}, {"SHOP_LOOPS": f" {LOCAL} "}, LoopsSettings(LOCAL)),
    ],
)
def test_settings(section: object, environ: dict[str, str], expected: LoopsSettings) -> None:
    assert settings_from({"loops": section}, environ).loops == expected


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ({"host": "loops"}, "$.loops.host", "`loops` is no address that a key may be sent to."),
        ({"host": "http://app.loops.so/api"}, "$.loops.host", "is no address that a key may be sent to."),
        ({"host": {"env": "NOT_SET"}}, "$.loops.host", "the environment variable NOT_SET is not set."),
        ({"host": {"env": "WRONG"}}, "$.loops.host", "the environment variable WRONG is no address"),
        ({"host": 5}, "$.loops.host", "`host` must be an address, or `{env: NAME}`, not `5`."),
        ({"requests_per_second": 0}, "$.loops.requests_per_second", "must be more than 0"),
        ({"requests_per_second": float("nan")}, "$.loops.requests_per_second", "must be a number."),
        ({"requests_per_second": "fast"}, "$.loops.requests_per_second", "must be number"),
        ({"hosts": LOCAL}, "$.loops.hosts", "unknown key `hosts`."),
        ("x", "$.loops", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_told(section: Any, path: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings_from({"loops": section}, {"WRONG": "nowhere"}, file="posthog_sync.yml")
    (problem,) = raised.value.problems
    assert (problem.path, problem.file, words in problem.message) == (path, "posthog_sync.yml", True), problem


def test_key_is_read_and_never_shown() -> None:
    key = loops_key({"K": " 8d5c7b1a \n"}, "K", exposure="loops", file="x.yml", path="$")
    assert (key.reveal(), "8d5c" in f"{key!r} {key}") == ("8d5c7b1a", False)
    for value in ("", "two words", "\u00e4"):
        with pytest.raises(SettingsError) as raised:
            loops_key({"K": value}, "K", exposure="loops", file="x.yml", path="$.p")
        assert "8d5c" not in str(raised.value)
        assert [problem.model for problem in raised.value.problems] == ["loops"]
