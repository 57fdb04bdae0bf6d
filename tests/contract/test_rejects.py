"""Rows that must not go out stay behind with a reason, the others go; on every warehouse."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from lab import Lab
from odd_rows import EVENTS, ILLEGAL, REASONS, RESENT, open_rejects, row, rows, sent, text

from dbt_posthog_sync.sync_run import RunStatus


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
