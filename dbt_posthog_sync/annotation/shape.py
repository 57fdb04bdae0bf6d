"""The shape of an annotation: where a draft departs from the schema, said in the words of its object."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dbt_posthog_sync.annotation.draft import Draft, keys_of, object_names
from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, Fault, Steps, definition, example_of, faults, flow, load_schema
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import ObjectType

_A = {
    ObjectType.EVENT: "an event",
    ObjectType.PERSON: "a person",
    ObjectType.PAGE: "a page",
    ObjectType.GROUP: "a group",
}
_SURROGATE = (
    "Make one column of them in the model, for example with `dbt_utils.generate_surrogate_key`, and name that column."
)


def shape_faults(draft: Draft) -> tuple[Fault, ...]:
    """Return every departure of a draft from the schema of its object."""
    if not isinstance(draft.own, Mapping):
        return (_not_a_mapping(draft.own),)
    kind = draft.object
    if kind is None:
        return (_object_fault(draft.value), *_keys_no_object_knows(draft.value))
    schema = definition(load_schema(ANNOTATION_SCHEMA), kind.value)
    found = [_reworded(fault, draft, kind) for fault in faults(schema, draft.value) if not _is_about_key(fault)]
    named = _missing_name(draft)
    return (*named, *_key_faults(draft, kind), *found)


def _not_a_mapping(own: object) -> Fault:
    advice = "Write a mapping that starts with `object: event` (or person, page, group)."
    if own is None or own in ({}, []):
        return Fault((), "the annotation is empty.", advice)
    return Fault((), f"the annotation must be a mapping or a list of mappings, not {shown(own)}.", advice)


def _object_fault(value: Mapping[str, Any]) -> Fault:
    choices = f"Write `object:` with {listed(object_names(), 'or')}."
    if "object" not in value:
        return Fault((), "`object` is missing: it says what a row becomes in PostHog.", choices, key="object")
    named = value["object"]
    hint = did_you_mean(named, object_names()) if isinstance(named, str) else ""
    return Fault(("object",), f"there is no object {shown(named)}.", hint or choices)


def _keys_no_object_knows(value: Mapping[str, Any]) -> Iterator[Fault]:
    known = {key: None for kind in ObjectType for key in keys_of(kind)}
    for key in value:
        if key not in known:
            yield Fault((key,), f"unknown key {shown(key)}.", did_you_mean(key, known), key=key)


def _missing_name(draft: Draft) -> tuple[Fault, ...]:
    if not draft.steps or "name" in draft.value:
        return ()
    message = "`name` is missing: each sync of a list needs one, and it is the sync's identity."
    return (
        Fault((), message, f"Write, for example, `name: {draft.node.ref.name}_{draft.value['object']}`.", key="name"),
    )


def _is_about_key(fault: Fault) -> bool:
    return fault.steps[:1] == ("sync_key",) or (fault.keyword == "required" and fault.key == "sync_key")


def _reworded(fault: Fault, draft: Draft, kind: ObjectType) -> Fault:
    """Say a fault of the schema in the words of the object, where that says more."""
    if fault.keyword == "additionalProperties" and len(fault.steps) == 1:
        return _unknown_key(fault, kind)
    if fault.steps == ("behavior",):
        allowed = keys_of(kind)["behavior"]["enum"]
        message = f"{_A[kind]} has no behavior {shown(draft.value['behavior'])}."
        return Fault(fault.steps, message, f"Write {listed((f'behavior: {one}' for one in allowed), 'or')}.")
    if fault.steps == ("create_with",):
        return _create_with(fault, draft.value["create_with"])
    if fault.keyword == "required" and not fault.steps:
        return _missing_key(fault, kind)
    return fault


def _unknown_key(fault: Fault, kind: ObjectType) -> Fault:
    owners = [other for other in ObjectType if fault.key in keys_of(other)]
    if owners:
        message = f"{_A[kind]} has no `{fault.key}`; only {listed((other.value for other in owners), 'or')} has."
        advice = "Remove it."
        if fault.key == "distinct_id":
            advice = "Name the column in `sync_key: {distinct_id: ...}`." if kind is ObjectType.PERSON else advice
        return Fault(fault.steps, message, advice, key=fault.key)
    return fault


def _create_with(fault: Fault, written: object) -> Fault:
    """A plain text is a column everywhere else, and here it is a choice."""
    is_column = isinstance(written, str) and written.strip()
    advice = f"If {shown(written)} is a column, write `create_with: {{column: {written}}}`." if is_column else ""
    return replace(fault, advice=advice or fault.advice)


def _missing_key(fault: Fault, kind: ObjectType) -> Fault:
    described = keys_of(kind)[fault.key]
    if fault.key == "properties":
        advice = "Write `properties: all`, a list of columns, or a mapping from property to column."
        return Fault((), f"{_A[kind]} needs `properties`.", advice, key=fault.key)
    message = f"{_A[kind]} needs `{fault.key}`, and it is missing: {_lowered(described['description'])}"
    example = example_of(fault.key, described)
    return Fault((), message, f"Write, for example, `{example}`.", key=fault.key)


def _key_faults(draft: Draft, kind: ObjectType) -> Iterator[Fault]:
    """Yield what is wrong with `sync_key`: the kinds that the object allows, each with one column."""
    kinds = tuple(keys_of(kind)["sync_key"]["properties"])
    column = draft.node.primary_key[0] if draft.node.primary_key else "the_column"
    write = listed((f"sync_key: {flow({one: column})}" for one in kinds), "or")
    match draft.value.get("sync_key"):
        case None:
            message = f"{_A[kind]} needs `sync_key`: what makes a row the same row next time."
            yield Fault((), message, f"Write {write}.", key="sync_key")
        case str(name) if name.strip():
            example = write.replace("the_column", name) if not draft.node.primary_key else write
            yield Fault(("sync_key",), f"`sync_key` must say which kind of key {shown(name)} is.", f"Write {example}.")
        case [_, _, *_]:
            yield _several_columns(("sync_key",))
        case Mapping() as mapping if mapping:
            yield from _kind_faults(kind, mapping, kinds)
        case other:
            message = f"`sync_key` must be a mapping with one kind of key, not {shown(other)}."
            yield Fault(("sync_key",), message, f"Write {write}.")


def _kind_faults(kind: ObjectType, mapping: Mapping[str, Any], kinds: tuple[str, ...]) -> Iterator[Fault]:
    if len(mapping) > 1:
        message = f"`sync_key` names several kinds of key: {listed(mapping)}."
        yield Fault(("sync_key",), message, "Keep one; one column identifies a row.")
    for named, column in mapping.items():
        steps: Steps = ("sync_key", str(named))
        if named not in kinds:
            hint = did_you_mean(str(named), kinds) or f"Write {listed(kinds, 'or')}."
            yield Fault(steps, f"{_A[kind]} has no key {shown(str(named))}.", hint)
        elif isinstance(column, list) and len(column) > 1:
            yield _several_columns(steps)
        elif not isinstance(column, str) or not column.strip():
            yield Fault(steps, f"`{named}` must be the name of a column, not {shown(column)}.")


def _several_columns(steps: Steps) -> Fault:
    return Fault(steps, "a key of several columns is not possible.", _SURROGATE)


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def without(value: Mapping[str, Any], places: Iterable[Steps]) -> Mapping[str, Any]:
    """Return a copy without the faulty places, so that the rules can look at the rest."""
    kept: dict[str, Any] = copy.deepcopy(dict(value))
    for steps in places:
        holder: Any = kept
        for step in steps[:-1]:
            holder = _step_into(holder, step)
        if steps and isinstance(holder, dict):
            holder.pop(steps[-1], None)
        elif steps and isinstance(holder, list) and isinstance(steps[-1], int):
            holder[steps[-1]] = None
    return kept


def _step_into(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(str(step))
    if isinstance(holder, list) and isinstance(step, int):
        return holder[step]
    return None
