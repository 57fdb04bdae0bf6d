"""Rows of events, most of them odd, and what is found of them afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lab import Lab

from dbt_posthog_sync.destinations import Row

REASONS = {
    "null_key": "the sync key is null",
    "duplicate": "the sync key occurs more than once in the model",
    "no_distinct_id": "the distinct_id is missing",
    "illegal_distinct_id": "the distinct_id is a word that PostHog does not accept as a person",
    "long_distinct_id": "the distinct_id is longer than 200 bytes",
    "no_event": "the event name is missing",
    "long_event": "the event name is longer than 200 bytes",
    "command_event": "the event name is one that PostHog reads as a command, which would write or merge persons",
    "no_timestamp": "the timestamp is missing or outside the years 1 to 9999",
    "future": "the timestamp lies more than 23 hours in the future",
    "no_group_key": "the group key is missing",
    "long_group_key": "the group key is longer than 400 characters",
    "large": "the message is larger than 900 KiB",
    "identity": "the event name, distinct_id or day differ from what was delivered, and PostHog would keep both",
}
# PostHog/posthog: rust/capture/src/v1/analytics/constants.rs
ILLEGAL = (
    *("0", "00000000-0000-0000-0000-000000000000", "anonymous", "anonymous-user", "backend", "distinct_id"),
    *("distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null", "system"),
    *("true", "undefined", "user"),
)
EVENTS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": "what",
    "timestamp": "seen_at",
    "groups": {"company": "company"},
    "properties": ["id"],
}
RESENT: dict[str, Any] = {**EVENTS, "on_change": "resend", "properties": ["id", "note"]}
NOON = "timestamp '2026-01-02 12:00:00'"


def text(value: str | None) -> str:
    """A literal, with control characters as `chr`."""
    if value is None:
        return "null"
    if all(char >= " " for char in value):
        return "'" + value.replace("'", "''") + "'"
    return " || ".join(f"chr({ord(char)})" if char < " " else text(char) for char in value)


def row(number: int | None = 1, **values: str) -> str:
    """A select of one row of an event model; values are SQL."""
    given = {"person": "'u1'", "what": "'seen'", "seen_at": NOON, "company": "null", "note": "'n'", **values}
    return (
        f"select cast({'null' if number is None else number} as integer) as id, "
        f"cast({given['person']} as varchar) as person, cast({given['what']} as varchar) as what, "
        f"cast({given['seen_at']} as timestamp) as seen_at, cast({given['company']} as varchar) as company, "
        f"cast({given['note']} as varchar) as note"
    )


def rows(selects: Iterable[str]) -> str:
    return " union all ".join(selects)


def open_rejects(lab: Lab) -> dict[str | None, str]:
    found = lab.sql("select sync_key, reason from {state}.rejected_rows where resolved_at is null")
    return {key: reason for key, reason in found}


def sent(lab: Lab) -> list[int]:
    """Keys of the events that arrived, in order, repeats included."""
    return sorted(event.properties["id"] for event in lab.posthog.project.received)


def members(message: Row) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(b"{" + message.properties[1:] + b"}")
    return parsed


def head(message: Row) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(b"{" + message.head + b"}")
    return parsed
