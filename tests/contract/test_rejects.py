"""Rows that must not go out stay behind with a reason, the others go; on every warehouse."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from lab import Lab

from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.sync_run import RunStatus

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


def cases(kind: str) -> list[tuple[dict[str, str], str | None]]:
    """Values of a row that differ from a good one, and the reason they come to."""
    odd = [form for word in ILLEGAL for form in (word, word.upper(), f" {word}\t", f'"{word.title()}"', f"'{word}' ")]
    before_christ = "'0044-03-15 12:00:00 BC'" if kind == "postgres" else "'0044-03-15 (BC) 12:00:00'"
    now = "cast(current_timestamp as timestamp)"
    return [
        *(
            ({"person": text(word)}, "illegal_distinct_id")
            for word in (*odd, "[object Object]", "[OBJECT OBJECT]", "`null`")
        ),
        *(({"person": text(word)}, None) for word in ("nullable", "users", "00", "id 1", "none of these", "u'1")),
        *(({"person": text(word)}, "no_distinct_id") for word in (None, "", "  ", "\n\t", "\u00a0\u3000", '""', "' '")),
        ({"person": "repeat('x', 200)"}, None),
        ({"person": "repeat('x', 201)"}, "long_distinct_id"),
        ({"person": "repeat('é', 100)"}, None),
        ({"person": "repeat('é', 100) || 'x'"}, "long_distinct_id"),
        ({"person": "repeat('😀', 51)"}, "long_distinct_id"),
        *(({"what": text(name)}, "no_event") for name in (None, "", "  ", "\t\n", "\u2003")),
        ({"what": "repeat('x', 200)"}, None),
        ({"what": "repeat('x', 201)"}, "long_event"),
        ({"what": "repeat('é', 101)"}, "long_event"),
        ({"what": text('it\'s 100% "done" \\ {{ x }} 😀')}, None),
        ({"what": "'$pageleave'"}, None),
        *(
            ({"what": text(name)}, "command_event")
            for name in ("$set", "$identify", "$create_alias", "$merge_dangerously", "$groupidentify", "$snapshot")
        ),
        *(({"what": text(name)}, "command_event") for name in ("$$heatmap", " $set", "$identify\n")),
        *(({"seen_at": when}, "no_timestamp") for when in ("null", "'infinity'", "'-infinity'", before_christ)),
        *(({"seen_at": f"'{when}'"}, "no_timestamp") for when in ("10000-01-01 00:00:00", "290000-01-01 00:00:00")),
        *(({"seen_at": f"'{when}'"}, None) for when in ("0001-01-01 00:00:00", "1970-01-01 00:00:00")),
        ({"seen_at": "'9999-12-31 23:59:59'"}, "future"),
        ({"seen_at": f"{now} + interval '24' hour"}, "future"),
        ({"seen_at": f"{now} + interval '22' hour"}, None),
        ({"company": "''"}, None),
        ({"company": "repeat('é', 400)"}, None),
        ({"company": "repeat('x', 401)"}, "long_group_key"),
        ({"company": "repeat('😀', 200)"}, None),
        ({"company": "repeat('😀', 201)"}, "long_group_key"),
    ]


def test_each_bad_row_is_rejected_with_its_reason_and_the_others_go_out(lab: Lab) -> None:
    expected = {number: reason for number, (_, reason) in enumerate(cases(lab.server.kind))}
    lab.build(rows(row(number, **values) for number, (values, _) in enumerate(cases(lab.server.kind))))
    counts = Counter(REASONS[reason] for reason in expected.values() if reason)
    good = [number for number, reason in expected.items() if reason is None]

    assert tuple(sorted(counts.items())) == lab.plan(EVENTS).staged.rejected
    run = lab.run(EVENTS)

    assert (run.status, run.exit_code) == (RunStatus.REJECTED, 1)
    assert (len(good), sum(counts.values())) == (run.counts.delivered, run.counts.rejected)
    assert {str(number): REASONS[reason] for number, reason in expected.items() if reason} == open_rejects(lab)
    assert good == sent(lab)


def test_a_row_without_a_key_is_rejected_every_time(lab: Lab) -> None:
    lab.build(rows([row(None), row(None, person="'u2'"), row(1)]))
    first, second = lab.run(EVENTS), lab.run(EVENTS)
    assert ((REASONS["null_key"], 2),) == first.reasons == second.reasons
    assert (first.counts.delivered, second.counts.delivered, second.counts.unchanged) == (1, 0, 1)
    assert sent(lab) == [1]


def test_every_row_of_a_doubled_key_is_rejected_until_one_is_left(lab: Lab) -> None:
    lab.build(rows([row(1), row(1), row(2), row(2, note="'other'"), row(3)]))
    assert ((REASONS["duplicate"], 4),) == lab.run(RESENT).reasons
    assert sent(lab) == [3]
    lab.build(rows([row(1), row(2), row(2, note="'other'"), row(3)]))
    assert ((REASONS["duplicate"], 2),) == lab.run(RESENT).reasons
    assert sent(lab) == [1, 3]
    assert {"2": REASONS["duplicate"]} == open_rejects(lab)


def test_a_second_row_of_a_delivered_key_rejects_both_and_sends_nothing(lab: Lab) -> None:
    lab.build(rows([row(1), row(2)]))
    lab.run(RESENT)
    lab.build(rows([row(1), row(1, note="'other'"), row(2)]))
    run = lab.run(RESENT)
    assert (run.counts.rows, run.counts.unchanged, run.counts.rejected, run.counts.delivered) == (3, 1, 2, 0)
    assert sent(lab) == [1, 2]


def test_an_unchanged_bad_row_keeps_its_first_time_and_a_mended_one_is_sent(lab: Lab) -> None:
    seen = "select first_seen_at, last_seen_at, resolved_at is null from {state}.rejected_rows order by sync_key"
    lab.build(rows([row(1, person="'null'"), row(2, person="''"), row(3)]))
    lab.run(EVENTS)
    before = lab.sql(seen)
    assert (lab.run(EVENTS).counts.delivered, len(before)) == (0, 2)
    after = lab.sql(seen)
    assert [first for first, _, _ in before] == [first for first, _, _ in after]
    assert all(later > earlier for (_, earlier, _), (_, later, _) in zip(before, after, strict=True))
    lab.build(rows([row(1, person="'u1'"), row(2, person="''"), row(3)]))
    assert lab.run(EVENTS).counts.delivered == 1
    assert [is_open for _, _, is_open in lab.sql(seen)] == [False, True]
    assert sent(lab) == [1, 3]


def test_a_removed_bad_row_is_no_reject_any_more(lab: Lab) -> None:
    lab.build(rows([row(1, person="'null'"), row(2)]))
    lab.run(EVENTS)
    lab.build(rows([row(2)]))
    assert RunStatus.SUCCESS is lab.run(EVENTS).status
    assert open_rejects(lab) == {}


def test_time_heals_a_row_of_the_future(lab: Lab) -> None:
    lab.build(row(1, seen_at="cast(current_timestamp as timestamp) + interval '23' hour + interval '4' second"))
    assert ((REASONS["future"], 1),) == lab.run(EVENTS).reasons
    assert lab.sql("select try_again from {state}.rejected_rows") == [("every run",)]
    deadline = time.monotonic() + 30
    while not sent(lab) and time.monotonic() < deadline:
        time.sleep(1)
        run = lab.run(EVENTS)
    assert (run.counts.delivered, run.status, open_rejects(lab)) == (1, RunStatus.SUCCESS, {})


def test_a_message_over_900_kib_is_rejected_and_one_just_under_goes(lab: Lab) -> None:
    document = "'[\"' || repeat('y', {}) || '\"]'"
    lab.build(
        "select t.*, cast(d as json) as document from ("
        + rows(
            f"select s.*, {document.format(size)} as d from ({row(number, note=note)}) s"
            for number, note, size in (
                (1, "repeat('x', 919000)", 1),
                (2, "repeat('x', 919600)", 1),
                (3, "repeat('é', 459500)", 1),
                (4, "repeat(chr(1), 155000)", 1),
                (5, "repeat('😀', 231000)", 1),
                (6, "'n'", 919000),
                (7, "'n'", 930000),
                (8, "repeat('x', 500000)", 500000),
            )
        )
        + ") t"
    )
    run = lab.run({**RESENT, "properties": ["id", "note", "document"]})
    assert sent(lab) == [1, 3, 6]
    assert dict.fromkeys("24578", REASONS["large"]) == open_rejects(lab)
    assert ((REASONS["large"], 5),) == run.reasons


def test_a_group_needs_a_key_of_at_most_400_characters(lab: Lab) -> None:
    keys = [
        "null",
        "''",
        "'  '",
        "chr(9)",
        "repeat('x', 401)",
        "repeat('😀', 201)",
        "repeat('x', 400)",
        "repeat('😀', 200)",
        "'acme'",
    ]
    lab.build(rows(f"select cast({key} as varchar) as account, {number} as seats" for number, key in enumerate(keys)))
    annotation = {
        "object": "group",
        "group_type": "company",
        "sync_key": {"group_key": "account"},
        "properties": ["seats"],
    }
    run = lab.run(annotation)
    reasons = {REASONS["null_key"]: 1, REASONS["no_group_key"]: 3, REASONS["long_group_key"]: 2}
    assert (reasons, 3) == (dict(run.reasons), run.counts.delivered)
    assert {g.key: g.properties["seats"] for g in lab.posthog.project.groups} == {
        "acme": 8,
        "x" * 400: 6,
        "😀" * 200: 7,
    }


# --- events that change ---


def test_a_changed_event_is_not_sent_again_by_default(lab: Lab) -> None:
    lab.build(row(1))
    lab.run({**EVENTS, "properties": ["id", "note"]})
    lab.build(row(1, note="'other'", person="'u2'", seen_at="timestamp '2026-05-05 12:00:00'"))
    run = lab.run({**EVENTS, "properties": ["id", "note"]})
    assert (run.counts.unchanged, run.counts.delivered, run.requests) == (1, 0, 0)


def test_a_changed_event_is_resent_with_the_same_identity(lab: Lab) -> None:
    lab.build(row(1))
    lab.run(RESENT)
    lab.build(row(1, note="'other'", seen_at="timestamp '2026-01-02 23:59:59'"))
    assert lab.run(RESENT).counts.delivered == 1
    assert [event.properties["note"] for event in lab.posthog.project.events] == ["other"]


@pytest.mark.parametrize(
    "change",
    [{"what": "'left'"}, {"person": "'u2'"}, {"seen_at": "timestamp '2026-01-03 00:00:00'"}],
    ids=lambda c: next(iter(c)),
)
def test_an_event_that_would_be_kept_twice_is_not_resent(lab: Lab, change: dict[str, str]) -> None:
    lab.build(rows([row(1), row(2)]))
    lab.run(RESENT)
    lab.build(rows([row(1, note="'other'", **change), row(2, note="'other'")]))
    run = lab.run(RESENT)
    assert (((REASONS["identity"], 1),), 1) == (run.reasons, run.counts.delivered)
    assert ((REASONS["identity"], 1),) == lab.run(RESENT).reasons
    lab.build(rows([row(1, note="'other'"), row(2, note="'other'")]))
    assert (lab.run(RESENT).counts.delivered, open_rejects(lab)) == (1, {})
    assert len(lab.posthog.project.events) == 2


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
