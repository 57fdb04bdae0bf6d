"""What a run tells on standard error while it is under way."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from lab import Lab

from dbt_posthog_sync.testing import Script, Status

PEOPLE: dict[str, Any] = {
    "object": "person",
    "sync_key": {"distinct_id": "id"},
    "behavior": "update_or_create",
    "properties": ["plan"],
}
MODEL = "select 'a' as id, 'free' as plan union all select 'b', 'team'"


def test_a_reason_to_try_again_is_told_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.build(MODEL)
    lab.posthog.inject(Script((Status(503), Status(503))))
    assert lab.run(PEOPLE).counts.delivered == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"{lab.table}: ")
    assert "503" in told
    assert told.endswith("; trying again.")


def test_a_terminal_shows_how_far_it_is(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("CI", raising=False)
    lab.build(MODEL)
    lab.posthog.inject(Script((Status(503),)))
    lab.run(PEOPLE)
    told = capsys.readouterr().err
    assert told.endswith(f"\r{lab.table}: 2 of 2\n")
    assert "; trying again.\n\r" in told
