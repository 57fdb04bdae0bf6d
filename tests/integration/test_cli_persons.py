"""Persons by e-mail, update_only and deletions from the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from people import make_person, noted, people
from shop import E_MAIL, KEY, Shop

from dbt_posthog_sync.testing import PersonalKey, StandIn, StandInConfig

pytestmark = pytest.mark.usefixtures("macros_are_read_once")

READERS = {
    "object": "person",
    "sync_key": {"email": "email"},
    "create_with": "skip",
    "properties": {"note": "note"},
}
ERASE = {"object": "person", "sync_key": {"email": "email"}, "behavior": "delete"}


@pytest.fixture
def readers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose table holds readers by e-mail address, with everything that looking them up needs."""
    shop.annotate(READERS)
    shop.settings(posthog={"host": shop.posthog.url, "project_id": 1})
    shop.server.sql(f"create table {shop.table} as select '{E_MAIL.upper()}' as email, 'a' as note")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    return shop


def test_a_reader_is_found_and_told(readers: Shop) -> None:
    make_person(readers.posthog, "anna", email=E_MAIL)
    plan = readers("plan")
    assert "would send 1 event" in plan.out
    run = readers("run")
    assert (run.code, noted(readers.posthog)) == (0, {"anna": "a"})
    assert E_MAIL not in run.out + run.err


def test_skipped_rows_are_counted_and_do_not_fail_the_command(readers: Shop) -> None:
    answer = readers("run")
    assert answer.code == 0
    assert "1 row = 0 unchanged + 0 delivered + 0 rejected + 1 skipped" in answer.out
    assert "skipped: 1 x PostHog has no such person" in answer.out
    found = readers("run", "--output", "json").json["runs"][0]
    assert (found["counts"]["skipped"], found["skipped"]) == (1, {"PostHog has no such person": 1})
    results = json.loads((readers.folder / "target" / "posthog_sync_results.json").read_text())
    assert results["results"][0]["skipped"] == {"PostHog has no such person": 1}
    assert readers("plan").out.count("skipped: 1 x PostHog has no such person") == 1


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_missing_key_and_a_missing_project_are_told_at_once(
    readers: Shop, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    readers.settings()
    answer = readers(command)
    assert answer.code == 2
    assert f"{readers.table}" in answer.err
    assert "the environment variable POSTHOG_PERSONAL_API_KEY is not set" in answer.err
    assert "$.posthog.project_id" in answer.err
    assert readers.posthog.project.received == ()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_persons_of_another_project_are_not_taken(readers: Shop, command: str) -> None:
    readers.settings(posthog={"host": readers.posthog.url, "project_id": 2})
    answer = readers(command)
    assert answer.code != 0
    assert "no project 2 that the personal API key can see" in answer.err
    assert readers.posthog.project.received == ()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_keys_of_two_projects_are_told(readers: Shop, command: str) -> None:
    with StandIn(StandInConfig(tokens=("phc_another", KEY))) as posthog:
        readers.settings(posthog={"host": posthog.url, "project_id": 1})
        answer = readers(command)
        assert answer.code == 1
        assert f"does not belong to the project 1 (`Project 1`), in which {readers.table} looks" in answer.err
        assert posthog.project.received == ()


NARROW = PersonalKey("phx_narrow", scopes=("project:read",))
INVALID = "does not accept the personal API key|the personal API key is not valid"
EXPIRED = PersonalKey("phx_expired", expired=True)


@pytest.mark.parametrize("command", ["plan", "run", "debug"])
@pytest.mark.parametrize(
    ("key", "words"),
    [(NARROW, "`query:read`"), (EXPIRED, INVALID), (None, INVALID)],
    ids=["narrow", "expired", "unknown"],
)
def test_every_command_says_what_the_key_lacks_and_who_needs_it(
    readers: Shop, monkeypatch: pytest.MonkeyPatch, command: str, key: PersonalKey | None, words: str
) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", key.value if key else "phx_nobody")
    with StandIn(StandInConfig(personal_keys=(NARROW, EXPIRED))) as posthog:
        readers.settings(posthog={"host": posthog.url, "project_id": 1})
        answer = readers(command)
        assert answer.code in (1, 4)
        assert re.search(words, answer.out + answer.err)
        assert readers.table in answer.out + answer.err
        assert posthog.project.received == ()


def test_a_mock_without_a_key_says_what_it_cannot_show(readers: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    answer = readers("run", "--mock")
    assert answer.code == 1
    assert "--mock asks nobody. `plan` says how many" in answer.err


def test_a_command_that_only_reads_the_state_needs_no_personal_key(
    readers: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers("run")
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    assert readers("status").code == 0


def test_deletions_come_before_everything_that_is_sent(readers: Shop) -> None:
    make_person(readers.posthog, "anna", email=E_MAIL)
    erase: dict[str, Any] = {**ERASE, "name": "erase"}
    readers.annotate([{**READERS, "name": "readers"}, erase])
    readers.settings(posthog={"host": readers.posthog.url, "project_id": 1}, deletion={"enabled": True})
    first = readers("run")
    assert first.code == 1
    assert "1 person would be deleted" in first.out
    assert noted(readers.posthog) == {"anna": "a"}
    readers.server.sql(f"update {readers.table} set note = 'b'")
    second = readers("run", "--output", "json")
    assert [run["sync"] for run in second.json["runs"]] == ["erase", "readers"]
    assert people(readers.posthog) == {}
    assert second.json["runs"][1]["counts"]["skipped"] == 1
    assert second.code == 0


def test_a_property_that_left_the_annotation_is_told_and_removed_on_request(readers: Shop) -> None:
    make_person(readers.posthog, "anna", email=E_MAIL)
    readers.annotate({**READERS, "properties": {"note": "note", "tier": "note"}})
    readers("run")
    readers.annotate(READERS)
    told = readers("plan")
    assert "no longer in the annotation, and PostHog keeps it: tier (`unset: [tier]` removes it)" in told.out
    assert "tier" in people(readers.posthog)["anna"]
    readers.annotate({**READERS, "unset": ["tier"]})
    assert "no longer in the annotation" not in readers("plan").out
    assert readers("run").code == 0
    assert dict(people(readers.posthog)["anna"]) == {"email": E_MAIL, "note": "a"}
