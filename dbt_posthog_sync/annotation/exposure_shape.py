"""The shape of an exposure's annotation: where it departs from the schema, said in the words of what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dbt_posthog_sync.exposure import Via
from dbt_posthog_sync.schema import (
    ANNOTATION_SCHEMA,
    Fault,
    definition,
    example_of,
    faults,
    load_schema,
    properties_of,
)
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import LoopsObject

_DECIDING: Mapping[str, str] = {
    "destination": "what receives the data",
    "object": "what Loops gets",
    "via": "who sends it, PostHog (`posthog`) or this program (`direct`)",
}


def exposure_faults(value: object) -> tuple[Fault, ...]:
    """Return every departure of an exposure's annotation from its schema."""
    if not isinstance(value, Mapping):
        advice = "Write a mapping that starts with `destination: loops`."
        if value is None or value in ({}, []):
            return (Fault((), "the annotation is empty.", advice),)
        return (Fault((), f"the annotation of an exposure must be a mapping, not {shown(value)}.", advice),)
    if open_questions := tuple(_undecided(value)):
        return (*open_questions, *_keys_nobody_knows(value))
    name = definition_name(value)
    found = faults(definition(load_schema(ANNOTATION_SCHEMA), name), value)
    return tuple(_reworded(fault, name) for fault in found)


def definition_name(value: Mapping[str, Any]) -> str:
    """Return the name of the schema that holds for an annotation; its deciding keys must be right."""
    return f"loops_{value['object']}_via_{value['via']}"


def definition_names() -> tuple[str, ...]:
    """Return the names of all schemas of exposures."""
    return tuple(f"loops_{kind.value}_via_{via.value}" for via in Via for kind in LoopsObject)


def keys_of_exposure(name: str) -> Mapping[str, Any]:
    """Return the keys that an exposure of this schema knows, with the schema of each."""
    return properties_of(load_schema(ANNOTATION_SCHEMA), name)


def _undecided(value: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the keys that decide which other keys there are."""
    known = properties_of(load_schema(ANNOTATION_SCHEMA), "exposure")
    for key, meaning in _DECIDING.items():
        choices = known[key]["enum"]
        write = f"Write {listed((f'{key}: {choice}' for choice in choices), 'or')}."
        if key not in value:
            yield Fault((), f"`{key}` is missing: it says {meaning}.", write, key=key)
        elif value[key] not in choices:
            named = value[key]
            hint = did_you_mean(named, choices) if isinstance(named, str) else ""
            yield Fault((key,), f"there is no {key} {shown(named)}.", hint or write)


def _keys_nobody_knows(value: Mapping[str, Any]) -> Iterator[Fault]:
    known = {key: None for name in definition_names() for key in keys_of_exposure(name)}
    for key in value:
        if key not in known:
            yield Fault((str(key),), f"unknown key {shown(str(key))}.", did_you_mean(str(key), known), key=str(key))


def _reworded(fault: Fault, name: str) -> Fault:
    if fault.steps == ("api_key", "env"):  # whatever stands there may be the key itself, and is not repeated
        return replace(fault, message="`env` must be the name of an environment variable.")
    if fault.keyword == "additionalProperties" and len(fault.steps) == 1:
        owners = [other for other in definition_names() if fault.key in keys_of_exposure(other)]
        if owners:
            return Fault(fault.steps, f"{_asked(name)} has no `{fault.key}`; {_owned(owners)}.", "Remove it.")
    if fault.keyword == "required" and not fault.steps:
        described = keys_of_exposure(name)[fault.key]
        meaning = described["description"]
        message = f"{_asked(name)} needs `{fault.key}`, and it is missing: {meaning[:1].lower()}{meaning[1:]}"
        return Fault((), message, f"Write, for example, `{example_of(fault.key, described)}`.", key=fault.key)
    return fault


def _asked(name: str) -> str:
    _, kind, _, via = name.split("_")
    return f"`object: {kind}` with `via: {via}`"


def _owned(owners: list[str]) -> str:
    ways = {owner.split("_")[-1] for owner in owners}
    if len(owners) > 1 and len(ways) == 1:
        return f"only `via: {ways.pop()}` has it"
    return f"only {' or '.join(_asked(owner) for owner in owners)} has it"
