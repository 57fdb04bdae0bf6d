"""The report of a comparison: what a change of the project means, as text, JSON values or a comment in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dbt_posthog_sync.comparison import Change, Comparison, Difference, Effect, SyncChange
from dbt_posthog_sync.plan import GUARDS_FROM_ROWS
from dbt_posthog_sync.sync import Sync

COMMENT_MARK = "<!-- dbt-posthog-sync diff -->"
"""First line of the Markdown, by which a comment that is there already is found again."""

_EFFECTS = {
    Effect.FIRST_LOAD: "the next run sends every row",
    Effect.TAKEN_AS_KNOWN: "the next run takes the rows that are there as known and sends none (`backfill: false`)",
    Effect.EVERY_ROW: "every row is sent again",
    Effect.ONLY_NEW_ROWS: "no row is sent again; new rows are sent the new way (`on_change: ignore`)",
    Effect.CHANGED_ROWS: "rows that changed since they were sent are sent again; `plan` counts them",
    Effect.NOTHING: "no row is sent again",
    Effect.STOPS: "the next run stops before it sends anything",
    Effect.ENDS: "nothing more is sent; PostHog keeps what it has",
}
_NONE = "(nothing)"


def comparison_text(comparison: Comparison) -> str:
    """A comparison as people read it."""
    lines: list[str] = []
    for one in comparison.changes:
        lines.append(f"{one.sync.name}: {_headline(one)}")
        lines += [f"  {line}" for line in _told(one)]
        lines += [f"  {_effect(one)}", *(f"  {line}" for line in _advice(one, comparison)), ""]
    return "\n".join([*lines, _summary(comparison)])


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison as a comment of a pull request."""
    parts = [COMMENT_MARK, "### What this change means for PostHog", ""]
    if comparison.changes:
        parts += ["| sync | | what changed | the next run |", "|---|---|---|---|"]
        parts += [_row(one, comparison) for one in comparison.changes]
        parts += [""]
    return "\n".join([*parts, _summary(comparison)])


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values."""
    return {
        "syncs": [_values(one, comparison) for one in comparison.changes],
        "unchanged": comparison.unchanged,
        "unread": comparison.unread,
    }


def _values(one: SyncChange, comparison: Comparison) -> dict[str, Any]:
    return {
        "sync": one.sync.name,
        "former_name": one.former_name,
        "model": one.sync.model.unique_id,
        "object": one.sync.object.value,
        "change": one.change.value,
        "effect": one.effect.value,
        "key_changed": one.key_changed,
        "differences": [_difference_values(each) for each in one.differences],
        "columns": [_difference_values(each) for each in one.columns],
        "left_properties": list(one.left_properties),
        "advice": _advice(one, comparison),
    }


def _difference_values(one: Difference) -> dict[str, str | None]:
    return {"what": one.what, "before": one.before, "after": one.after}


def _headline(one: SyncChange) -> str:
    return f"{_change(one)} ({one.sync.object.value} from {_node(one.sync)})"


def _change(one: SyncChange) -> str:
    return f"renamed from {one.former_name}" if one.former_name else one.change.value


def _node(sync: Sync) -> str:
    kind = sync.model.resource_type
    return sync.model.name if kind == "model" else f"the {kind} {sync.model.name}"


def _told(one: SyncChange) -> list[str]:
    told = [f"{each.what}: {each.before or _NONE} -> {each.after or _NONE}" for each in one.differences]
    return told + [_column(each, str) for each in one.columns]


def _column(one: Difference, shown: Callable[[str], str]) -> str:
    """What is declared otherwise of a column."""
    if one.after is None:
        return f"column {shown(one.what)} is declared no more"
    if one.before is None:
        return f"column {shown(one.what)} is new"
    return f"type of column {shown(one.what)}: {shown(one.before)} -> {shown(one.after)}"


def _effect(one: SyncChange) -> str:
    return _EFFECTS[one.effect]


def _advice(one: SyncChange, comparison: Comparison) -> list[str]:
    """Ways on, and what stays behind."""
    return [*_ways_on(one, comparison), *_left_behind(one)]


def _ways_on(one: SyncChange, comparison: Comparison) -> Iterator[str]:
    if one.change is Change.RENAMED:
        yield f"Go on with the state it has by `--adopt {one.former_name}`, or give it back its name."
    if one.key_changed:
        yield (
            "Rows are not recognised under another object, key or behavior: give the sync a new `name`, or send every "
            "row again with --full-refresh."
        )
    if any(each.what == "rows" for each in one.differences):
        yield "Rows that were not read before are new, and sent; rows that are read no more count as gone."
    if one.effect is Effect.EVERY_ROW:
        limit = comparison.max_changed_percent
        yield f"`--rebaseline` takes the rows as delivered instead, and sends none.{_guard(limit)}"


def _guard(limit: float | None) -> str:
    if limit is None:
        return ""
    return f" From {GUARDS_FROM_ROWS:,} known rows on, a run asks for --force beyond {limit:g} %."


def _left_behind(one: SyncChange) -> Iterator[str]:
    names = ", ".join(one.left_properties)
    if names and one.sync.object.value == "person":
        yield f"PostHog keeps the properties that left; `unset: [{names}]` removes them."
    elif names:
        keeper = "Loops" if one.sync.loops is not None else "PostHog"
        yield f"{keeper} keeps the properties that left: {names}."


def _row(one: SyncChange, comparison: Comparison) -> str:
    told = [f"{_code(each.what)}: {_code(each.before)} -> {_code(each.after)}" for each in one.differences]
    told += [_column(each, _code) for each in one.columns]
    then = [f"**{_effect(one)}**", *_advice(one, comparison)]
    cells = (f"{_code(one.sync.name)}<br>{one.sync.object.value}", _escaped(_change(one)), "<br>".join(told))
    return f"| {' | '.join(cells)} | {_escaped('<br>'.join(then))} |"


def _code(text: str | None) -> str:
    """A name or value in a cell of a table; what would end the code or the cell is taken out of its meaning."""
    if text is None:
        return "nothing"
    flat = " ".join(text.split()).replace("`", "'")
    return f"`{_escaped(flat)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _summary(comparison: Comparison) -> str:
    counts = {kind: sum(one.change is kind for one in comparison.changes) for kind in Change}
    told = [f"{count} {kind.value}" for kind, count in counts.items() if count]
    told.append(f"{comparison.unchanged} unchanged")
    unread = f" {comparison.unread} problems of annotations before count as absent." if comparison.unread else ""
    return f"Syncs: {', '.join(told)}.{unread}"
