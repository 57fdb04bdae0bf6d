"""Rules: what a schema cannot say about one annotation. Each rule is a function from a draft to problems.

A rule reads what has the right shape and passes over the rest, so that one fault does not hide another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from dbt_posthog_sync.annotation.draft import Draft, annotation_path
from dbt_posthog_sync.annotation.person_rules import PERSON_RULES, deletes
from dbt_posthog_sync.annotation.reading import ALL, Entry, column_from, column_uses, columns_of_all, entries
from dbt_posthog_sync.annotation.snapshot_rules import SNAPSHOT_RULES
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.reserved_name import reserved_event, reserved_property
from dbt_posthog_sync.schema import json_path
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import Column, Constant, Keep, ModelColumn, ObjectType, Operation

_URL = "$current_url"


def rule_problems(draft: Draft) -> Iterator[Problem]:
    """Yield every problem of a draft that its schema does not see."""
    for rule in _RULES:
        yield from rule(draft)


def _reserved_names(draft: Draft) -> Iterator[Problem]:
    kind = draft.object
    for entry in entries(draft.value):
        reason = kind and reserved_property(entry.mapping.property, kind)
        if reason:
            message = f"the property {shown(entry.mapping.property)} is reserved: {reason}."
            yield draft.problem(entry.steps, message, "Choose another property name, or leave it out.")
    for column in columns_of_all(draft):
        reason = kind and reserved_property(column.property or column.name, kind)
        if reason:
            message = (
                f"`properties: all` would send the reserved property {shown(column.property or column.name)}: {reason}."
            )
            yield draft.problem(("properties",), message, f"Write `exclude: [{column.name}]`, or rename the column.")


def _reserved_event_name(draft: Draft) -> Iterator[Problem]:
    event = draft.value.get("event")
    name = event.get("value") if isinstance(event, Mapping) else None
    reason = reserved_event(name) if isinstance(name, str) else None
    if reason:
        yield draft.problem(("event", "value"), f"the event name {shown(name)} is reserved: {reason}.")


def _undeclared_columns(draft: Draft) -> Iterator[Problem]:
    """An enforced contract lists every column; without one the warehouse is asked later."""
    if not draft.node.has_contract:
        return
    declared = [column.name for column in draft.node.ref.columns]
    lowered = {name.lower() for name in declared}
    for steps, column in column_uses(draft.value):
        if column.lower() not in lowered:
            advice = did_you_mean(column, declared) or f"Its columns are {listed(declared)}."
            yield draft.problem(steps, f"the model has no column {shown(column)} in its contract.", advice)


def _exclude_without_all(draft: Draft) -> Iterator[Problem]:
    properties = draft.value.get("properties")
    if "exclude" in draft.value and properties is not None and properties != ALL:
        advice = "Leave the column out of `properties` and remove `exclude`."
        yield draft.problem(("exclude",), "`exclude` goes with `properties: all` only.", advice)


def _operation_without_person(draft: Draft) -> Iterator[Problem]:
    if draft.object in (None, ObjectType.PERSON):
        return
    advice = "Remove the operation; only `object: person` knows it."
    for entry in entries(draft.value):
        if entry.mapping.operation is Operation.SET_ONCE:
            yield draft.problem((*entry.steps, "operation"), "`set_once` is for persons.", advice)
    for column in columns_of_all(draft):
        if column.operation is Operation.SET_ONCE:
            yield _at_column(draft, column.name, "operation", "`set_once` is for persons.", advice)


def _constants(draft: Draft) -> Iterator[Problem]:
    for entry in entries(draft.value):
        source = entry.mapping.source
        if isinstance(source, Constant) and isinstance(source.value, float) and not math.isfinite(source.value):
            yield draft.problem((*entry.steps, "value"), "JSON has no infinity and no not-a-number.", "Write a number.")


def _page_without_url(draft: Draft) -> Iterator[Problem]:
    properties = draft.value.get("properties")
    if draft.object is not ObjectType.PAGE or not isinstance(properties, (str, list, Mapping)):
        return
    sent = {entry.mapping.property for entry in entries(draft.value)}
    sent |= {column.property or column.name for column in columns_of_all(draft)}
    if _URL not in sent:
        advice = f"Map it: `properties: {{{_URL}: url}}`, where `url` is the column with the full URL."
        if properties == ALL:
            mapping = f"config: {{meta: {{posthog_sync: {{property: {_URL}}}}}}}"
            advice = f"Give the column with the full URL `{mapping}`, or list the properties."
        yield draft.problem(("properties",), f"a page needs the property `{_URL}`.", advice)


def _keep_without_hook(draft: Draft) -> Iterator[Problem]:
    if deletes(draft) or draft.node.ref.stages_at_build:
        return
    if draft.value.get("keep") == Keep.EVERY.value:
        message = "`keep: every` is done by a post-hook, and the model has none."
        advice = 'Write `post_hook: "{{ dbt_posthog_sync.stage_changes() }}"` in its config (docs/hooks.md), and parse.'
        yield draft.problem(("keep",), message, advice)


def _two_distinct_ids(draft: Draft) -> Iterator[Problem]:
    key = draft.value.get("sync_key")
    other = draft.value.get("distinct_id")
    if draft.object is ObjectType.PAGE and isinstance(key, Mapping) and other is not None:
        own = key.get("distinct_id")
        if own is not None and own != other:
            message = f"`distinct_id` is {shown(other)} and `sync_key` says {shown(own)}."
            yield draft.problem(("distinct_id",), message, "Remove `distinct_id`: the sync key is the distinct id.")


def _unknown_time_zone(draft: Draft) -> Iterator[Problem]:
    name = draft.value.get("time_zone")
    advice = time_zone_advice(name) if isinstance(name, str) else None
    if advice is not None:
        yield draft.problem(("time_zone",), f"there is no time zone {shown(name)}.", advice)


def time_zone_advice(name: str) -> str | None:
    """Return what to write instead of a name that is no time zone; None where nothing is wrong with it."""
    if not name.strip() or not _time_zones() or _is_time_zone(name):
        return None
    return did_you_mean(name, _time_zones()) or "Write a name of the IANA database, such as `Europe/Berlin`."


def _doubled_properties(draft: Draft) -> Iterator[Problem]:
    """Under `properties: all`, column annotations can give two columns one property."""
    owners: dict[str, str] = {}
    for column in columns_of_all(draft):
        name = column.property or column.name
        if name in owners:
            message = f"the columns `{owners[name]}` and `{column.name}` would both become the property {shown(name)}."
            yield draft.problem(("properties",), message, "Exclude one of them, or give one another `property`.")
        owners.setdefault(name, column.name)


def _column_conflicts(draft: Draft) -> Iterator[Problem]:
    """A mapping that lists its properties says it all; a column annotation may only say the same."""
    annotated = {one.column: column_from(one.column, one.value) for one in draft.node.column_annotations}
    for entry in entries(draft.value):
        mapping = entry.mapping
        yield from _other_claims(draft, entry, annotated.values())
        column = annotated.get(mapping.source.name) if isinstance(mapping.source, Column) else None
        if column is None:
            continue
        if column.exclude:
            yield _conflict(draft, column.name, "exclude", "excludes the column")
        elif column.property not in (None, mapping.property):
            yield _conflict(draft, column.name, "property", f"names the property {shown(column.property)}")
        elif column.operation is not None and column.operation is not mapping.operation:
            yield _conflict(draft, column.name, "operation", f"says `{column.operation.value}`")


def _other_claims(draft: Draft, entry: Entry, annotated: Iterable[ModelColumn]) -> Iterator[Problem]:
    """A property that the model fills from one place, while the annotation of another column claims it."""
    mapping = entry.mapping
    own = mapping.source.name.lower() if isinstance(mapping.source, Column) else None
    for column in annotated:
        if column.property == mapping.property and column.name.lower() != own and not column.exclude:
            source = f"the column {shown(own)}" if own else "a constant"
            says = f"names the property {shown(mapping.property)}"
            message = f"the column's own annotation {says}, and `properties` of the model fills that from {source}."
            yield _at_column(draft, column.name, "property", message, "Give one of them another `property`.")


def _conflict(draft: Draft, column: str, key: str, says: str) -> Problem:
    message = f"the column's own annotation {says}, and `properties` of the model maps the column otherwise."
    return _at_column(draft, column, key, message, "Keep one of the two; column annotations serve `properties: all`.")


def _at_column(draft: Draft, column: str, key: str, message: str, advice: str) -> Problem:
    return Problem(message, advice, draft.node.ref.name, draft.node.ref.file, column_path(draft, column, key))


def column_path(draft: Draft, column: str, key: str) -> str:
    """Return the JSON path of a key in the annotation of a column."""
    base = annotation_path(draft.node).removeprefix(draft.node.location)
    return json_path(f"{draft.node.location}.columns[{column}]{base}", (key,))


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # unknown, not a file, or a path that leads out of the database
        return False
    return True


@cache
def _time_zones() -> frozenset[str]:
    """Return the zones this machine knows; a small container may know none, and then the warehouse decides."""
    return frozenset(available_timezones())


_RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _reserved_names,
    _reserved_event_name,
    _undeclared_columns,
    _exclude_without_all,
    _operation_without_person,
    _constants,
    _page_without_url,
    _two_distinct_ids,
    _keep_without_hook,
    _unknown_time_zone,
    _doubled_properties,
    _column_conflicts,
    *PERSON_RULES,
    *SNAPSHOT_RULES,
)
