"""Reading exposures: an annotation of the right shape becomes an `Exposure`, with PostHog's defaults spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dbt_posthog_sync.annotation.reading import cursor_from, term, truth
from dbt_posthog_sync.exposure import (
    DirectSending,
    EventFilter,
    Exposure,
    Filters,
    ForwardedProperty,
    ForwardedTerm,
    ForwardedUserId,
    Forwarding,
    PostHogProperty,
    PropertyFilter,
    Template,
    Via,
)
from dbt_posthog_sync.exposure_node import ExposureNode
from dbt_posthog_sync.schema import Steps
from dbt_posthog_sync.sync import Column, Constant, LoopsObject, ModelRef, Nulls, PropertyMapping

# What PostHog's own templates begin with (PostHog/posthog: posthog/cdp/templates/loops/template_loops.py); its API
# takes neither filters nor inputs from a template, so they are always sent.
_DEFAULT_EVENTS = {LoopsObject.CONTACTS: ("$identify", "$set"), LoopsObject.EVENTS: ("$pageview",)}
_DEFAULT_PROPERTIES = {
    LoopsObject.CONTACTS: {"firstName": "firstname", "lastName": "lastname"},
    LoopsObject.EVENTS: {"pathname": "$pathname"},
}


def exposure_from(node: ExposureNode, models: Sequence[ModelRef], project: str) -> Exposure:
    """Return the exposure of an annotation whose shape is right and whose models are known."""
    value: Mapping[str, Any] = node.annotation if isinstance(node.annotation, Mapping) else {}
    kind = LoopsObject(value["object"])
    direct = value["via"] == Via.DIRECT.value
    return Exposure(
        name=node.name,
        unique_id=node.unique_id,
        project=project,
        object=kind,
        api_key=value["api_key"]["env"],
        models=tuple(models),
        route=_direct(value, kind, meant_model(value, models)) if direct else _forwarding(value, kind),
        include_all_properties=truth(value.get("include_all_properties", False)),
        mailing_lists=tuple((name, truth(flag)) for name, flag in sorted(value.get("mailing_lists", {}).items())),
        label=node.label,
        file=node.file,
        path=node.path,
    )


def meant_model(value: Mapping[str, Any], models: Sequence[ModelRef]) -> ModelRef:
    """Return the model whose rows are sent: the one that is named, or the only one."""
    named = value.get("model")
    return next(model for model in models if named in (None, model.name))


def names_and_sources(properties: object) -> Iterator[tuple[Steps, str, object]]:
    """Yield the place, the name in Loops and the source of each property; what has no right shape is left out."""
    match properties:
        case list() as listed:
            for place, name in enumerate(listed):
                if isinstance(name, str):
                    yield ("properties", place), name, name
        case Mapping() as mapping:
            for name, source in mapping.items():
                if isinstance(source, (str, Mapping)):
                    yield ("properties", str(name)), str(name), source


def columns_named(value: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Yield every column that the annotation of a direct exposure names, with the place that names it."""
    for key in ("email", "user_id", "event_id", "event", "cursor"):
        yield from _named_column((key,), value.get(key))
    for steps, _, source in names_and_sources(value.get("properties")):
        yield from _named_column(steps, source)
    exclude = value.get("exclude")
    for place, column in enumerate(exclude) if isinstance(exclude, list) else ():
        yield from _named_column(("exclude", place), column)


def _named_column(steps: Steps, source: object) -> Iterator[tuple[Steps, str]]:
    if isinstance(source, str):
        yield steps, source
    elif isinstance(source, Mapping) and isinstance(source.get("column"), str):
        yield (*steps, "column"), source["column"]


def _direct(value: Mapping[str, Any], kind: LoopsObject, model: ModelRef) -> DirectSending:
    mappings = (PropertyMapping(name, _term(source)) for _, name, source in names_and_sources(value.get("properties")))
    is_event = kind is LoopsObject.EVENTS
    return DirectSending(
        model=model,
        email=Column(value["email"]) if "email" in value else None,
        user_id=Column(value["user_id"]) if "user_id" in value else None,
        event_id=value.get("event_id"),
        event=term(value["event"]) if is_event else None,
        properties=tuple(sorted(mappings, key=lambda mapping: mapping.property)),
        exclude=tuple(value.get("exclude", ())),
        nulls=Nulls(value.get("nulls", Nulls.SKIP.value if is_event else Nulls.UNSET.value)),
        cursor=cursor_from(value.get("cursor")),
        backfill=truth(value.get("backfill", not is_event)),
        time_zone=value.get("time_zone", "UTC"),
    )


def _term(source: object) -> Column | Constant:
    return term(source) if isinstance(source, (str, Mapping)) else Constant(None)


def _forwarding(value: Mapping[str, Any], kind: LoopsObject) -> Forwarding:
    properties = value.get("properties", _DEFAULT_PROPERTIES[kind])
    named = (ForwardedProperty(name, _forwarded(source)) for _, name, source in names_and_sources(properties))
    email = value.get("email", "email")
    return Forwarding(
        filters=_filters(value.get("filters", {}), kind),
        email=Template(email["template"]) if isinstance(email, Mapping) else PostHogProperty(email),
        user_id=ForwardedUserId(value.get("user_id", ForwardedUserId.PERSON_ID.value)),
        properties=tuple(sorted(named, key=lambda one: one.name)),
    )


def _forwarded(source: object) -> ForwardedTerm:
    if isinstance(source, Mapping):
        return Template(source["template"]) if "template" in source else Constant(source.get("value"))
    return PostHogProperty(str(source))


def _filters(value: Mapping[str, Any], kind: LoopsObject) -> Filters:
    return Filters(
        events=tuple(_event_filter(one) for one in value.get("events", _DEFAULT_EVENTS[kind])),
        properties=_property_filters(value),
        filter_test_accounts=truth(value.get("filter_test_accounts", True)),
    )


def _event_filter(event: str | Mapping[str, Any]) -> EventFilter:
    return EventFilter(event) if isinstance(event, str) else EventFilter(event["name"], _property_filters(event))


def _property_filters(value: Mapping[str, Any]) -> tuple[PropertyFilter, ...]:
    return tuple(
        PropertyFilter(
            key=one["key"],
            value=tuple(one["value"]) if isinstance(one.get("value"), list) else one.get("value"),
            operator=one.get("operator", "exact"),
            type=one.get("type", "event"),
        )
        for one in value.get("properties", ())
    )
