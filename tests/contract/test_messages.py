"""Page views, and what a message holds beside its properties; on every warehouse."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest
from lab import Lab
from odd_rows import EVENTS, NOON, REASONS, head, members, row, rows, sent, text

# --- pages ---

PAGES: dict[str, Any] = {
    "object": "page",
    "sync_key": {"distinct_id": "visitor"},
    "timestamp": "seen_at",
    "properties": {"$current_url": "url", "id": "id"},
}


def view(number: int, url: str, visitor: str = "'v1'", seen_at: str = NOON) -> str:
    texts = f"cast({visitor} as varchar) as visitor, cast({url} as varchar) as url"
    return f"select {number} as id, {texts}, {seen_at} as seen_at"


def test_one_visitor_has_many_views_and_only_exact_doubles_are_rejected(lab: Lab) -> None:
    later = "timestamp '2026-01-02 12:00:00.000001'"
    lab.build(
        rows(
            [
                *(view(1, "'https://a.de/'"), view(2, "'https://a.de/x'"), view(3, "'https://a.de/'", seen_at=later)),
                *(
                    view(4, "'https://a.de/'", "'v2'"),
                    view(5, "null"),
                    view(6, "'https://b.de/'"),
                    view(7, "'https://b.de/'"),
                ),
                view(8, "'https://a.de/'", "null"),
            ]
        )
    )
    run = lab.run(PAGES)
    assert sent(lab) == [1, 2, 3, 4, 5]
    assert {REASONS["duplicate"]: 2, REASONS["null_key"]: 1} == dict(run.reasons)
    assert (lab.run(PAGES).counts.unchanged, lab.run(PAGES).requests) == (5, 0)


ADDRESSES: dict[str | None, tuple[str | None, str | None]] = {
    "https://example.com/a/b?c=d#e": ("example.com", "/a/b"),
    "https://example.com": ("example.com", "/"),
    "https://example.com?q=/x": ("example.com", "/"),
    "https://example.com#/x": ("example.com", "/"),
    "HTTPS://Example.COM:8443/Path": ("example.com:8443", "/Path"),
    "https://user:p@ss@example.com/x": ("example.com", "/x"),
    "http://[2001:DB8::1]:8080/x": ("[2001:db8::1]:8080", "/x"),
    "app+x://screen/y": ("screen", "/y"),
    "//cdn.example.com/x": ("cdn.example.com", "/x"),
    "//cdn.example.com": ("cdn.example.com", "/"),
    "https://example.com//a//b": ("example.com", "//a//b"),
    "file:///a/b": (None, "/a/b"),
    "https://bücher.example/ä ö": ("bücher.example", "/ä ö"),
    "/path/only?x=1": (None, "/path/only"),
    "/": (None, "/"),
    "example.com/path": (None, None),
    "?a=/b": (None, None),
    "#/top": (None, None),
    "mailto:a@b.de": (None, None),
    "": (None, None),
    None: (None, None),
}


def test_host_and_path_are_taken_from_the_address(lab: Lab) -> None:
    lab.build(rows(view(number, text(url), f"'v{number}'") for number, url in enumerate(ADDRESSES)))
    found = {m["$current_url"]: (m.get("$host"), m.get("$pathname")) for m in map(members, lab.messages(PAGES))}
    assert found == ADDRESSES


def test_a_mapped_host_is_not_derived(lab: Lab) -> None:
    lab.build(view(1, "'https://a.de/x'"))
    mapped = {**PAGES["properties"], "$host": {"value": "h"}, "$pathname": "visitor"}
    message = members(lab.messages({**PAGES, "properties": mapped})[0])
    assert (message["$host"], message["$pathname"]) == ("h", "v1")


# --- what a message holds ---


def test_a_session_stands_in_the_head_and_in_the_properties_and_is_a_text(lab: Lab) -> None:
    lab.build(
        rows(
            f"select s.*, cast({session} as {kind}) as session, 7 as number from ({row(number)}) s"
            for number, session, kind in ((1, "'s1'", "varchar"), (2, "''", "varchar"), (3, "null", "varchar"))
        )
    )
    properties = {"$session_id": "session", "$window_id": "number", "id": "id"}
    found = sorted(lab.messages({**EVENTS, "properties": properties}), key=lambda m: members(m)["id"])
    assert [head(message).get("session_id") for message in found] == ["s1", None, None]
    assert [members(message).get("$session_id") for message in found] == ["s1", None, None]
    assert [(head(m)["window_id"], members(m)["$window_id"]) for m in found] == [("7", "7")] * 3
    assert lab.run({**EVENTS, "properties": {**properties, "$window_id": {"value": 7}}}).counts.delivered == 3


def test_only_groups_with_a_key_are_named(lab: Lab) -> None:
    keys = ["'acme'", "''", "'  '", "null", "'it''s \"x\"'"]
    lab.build(rows(row(number, company=key) for number, key in enumerate(keys)))
    of_column = lab.messages(EVENTS)
    of_both = lab.messages({**EVENTS, "groups": {"company": "company", "pl\"an'%": {"value": "pro'%"}}})
    only = [{"company": "acme"}, None, None, None, {"company": 'it\'s "x"'}]
    assert only == [m.get("$groups") for m in sorted(map(members, of_column), key=lambda m: m["id"])]
    both = [{**(groups or {}), "pl\"an'%": "pro'%"} for groups in only]
    assert both == [m["$groups"] for m in sorted(map(members, of_both), key=lambda m: m["id"])]


@pytest.mark.parametrize(
    ("nulls", "expected"),
    [
        ("unset", {"$set": {"by": "dbt"}, "$unset": ["city", "score", "doc"]}),
        ("skip", {"$set": {"by": "dbt"}}),
        ("send", {"$set": {"city": None, "score": None, "doc": None, "by": "dbt"}}),
    ],
)
def test_a_null_of_a_person_is_what_the_annotation_says(lab: Lab, nulls: str, expected: dict[str, Any]) -> None:
    """NaN and a JSON null count as null; `set_once` is left out."""
    lab.build(
        "select 'a' as id, cast(null as varchar) as city, cast('NaN' as float8) as score, cast('null' as json) as doc, "
        "cast(null as varchar) as source union all select 'b', 'Köln', 1.5, cast('[1]' as json), 'ads'"
    )
    properties = {
        **{"city": "city", "score": "score", "doc": "doc", "by": {"value": "dbt"}},
        "source": {"column": "source", "operation": "set_once"},
    }
    person = {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "update_or_create", "nulls": nulls}
    found = {
        head(message)["distinct_id"]: members(message) for message in lab.messages({**person, "properties": properties})
    }
    full = {"$set": {"city": "Köln", "score": 1.5, "doc": [1], "by": "dbt"}, "$set_once": {"source": "ads"}}
    assert {"b": full, "a": expected} == {name: sorted_unset(message, expected) for name, message in found.items()}


def sorted_unset(message: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Names in `$unset` have no order."""
    if sorted(message.get("$unset", [])) == sorted(like.get("$unset", [])):
        return {**message, **({"$unset": like["$unset"]} if "$unset" in message else {})}
    return message


KEYS = {
    "cast(7 as integer)": "7",
    "cast(-7 as bigint)": "-7",
    "cast('k''é😀|' as varchar)": "k'é😀|",
    "cast(7.50 as numeric(10, 2))": "7.5",
    "cast(700 as numeric(10, 0))": "700",
    "cast('550E8400-E29B-41D4-A716-446655440000' as uuid)": "550e8400-e29b-41d4-a716-446655440000",
}


def test_the_uuid_of_an_event_comes_from_its_key_alone(lab: Lab) -> None:
    """The expected value is made here, so it is the same in every warehouse and every run."""
    annotation = {**EVENTS, "name": "visits", "event": {"value": "seen"}, "groups": {}, "properties": {}}
    for literal, canonical in KEYS.items():
        lab.build(f"select {literal} as id, {literal} as person, {NOON} as seen_at")
        (message,) = lab.messages(annotation)
        digest = hashlib.md5("\x1f".join(("lab", "event", "visits", canonical)).encode()).hexdigest()
        assert message.uuid.replace("-", "") == f"{digest[:12]}5{digest[13:16]}8{digest[17:]}", literal
        assert (uuid.UUID(message.uuid).version, uuid.UUID(message.uuid).variant) == (5, uuid.RFC_4122)
        assert head(message)["distinct_id"] == canonical
