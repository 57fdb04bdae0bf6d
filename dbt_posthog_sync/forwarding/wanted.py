"""The wanted function: what PostHog should hold for an exposure, every input and filter spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dbt_posthog_sync.exposure import (
    EventFilter,
    Exposure,
    Filters,
    ForwardedUserId,
    Forwarding,
    PropertyFilter,
)
from dbt_posthog_sync.forwarding import INPUTS, KEY_INPUT
from dbt_posthog_sync.forwarding.function import HogTemplate
from dbt_posthog_sync.forwarding.marker import KeyMark, Marker
from dbt_posthog_sync.forwarding.own_code import TemplateChanged, own_code
from dbt_posthog_sync.forwarding.template_text import hog_flags, template_text
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.spelling import listed
from dbt_posthog_sync.sync import LoopsObject

_KEPT = {"secret": True}
"""What PostHog takes for the secret that it has. It is never sent as a value."""


@dataclass(frozen=True, slots=True)
class WantedFunction:
    """What PostHog should hold for an exposure.

    Attributes:
        exposure: whose it is.
        template: what it is made from.
        code: the template's, or a copy with changes.
        has_own_code: true for a copy with changes.
        inputs: without the key.
        filters: which events it fires on.
    """

    exposure: Exposure
    template: HogTemplate
    code: str
    has_own_code: bool
    inputs: Mapping[str, Any] = field(repr=False)
    filters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As people see it in PostHog."""
        return self.exposure.label or self.exposure.name

    def description(self, key: KeyMark | None) -> str:
        """For people, with the marker."""
        return (
            f"Kept by the dbt exposure {self.exposure.name}: what is changed here is changed back by "
            f"`dbt-posthog-sync destinations apply`. {Marker.of(self.exposure, key)}"
        )

    def body(self, key: Secret | None, mark: KeyMark | None) -> dict[str, Any]:
        """What is written to PostHog, `enabled` aside; without a key PostHog keeps the one that it has."""
        return {
            "name": self.name,
            "description": self.description(mark),
            **self.configuration({"value": key.reveal()} if key else _KEPT),
            "masking": None,
            "mappings": None,
        }

    def configuration(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """What decides which requests are made, with this input for the key."""
        return {
            "type": "destination",
            "hog": self.code,
            "inputs_schema": list(self.template.inputs_schema),
            "inputs": {KEY_INPUT: key, **self.inputs},
            "filters": self.filters,
        }


@dataclass(frozen=True, slots=True)
class Blocked:
    """An exposure whose function can be neither made nor changed, and why."""

    exposure: Exposure
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.exposure.name}: {self.reason} {self.advice}"


def wanted_function(exposure: Exposure, route: Forwarding, template: HogTemplate) -> WantedFunction | Blocked:
    """What PostHog should hold for an exposure; or why it is not known."""
    if problem := _shape_problem(template):
        return Blocked(exposure, problem, _UPDATE)
    needs_own_code = _needs_own_code(exposure, route)
    is_of_events = exposure.object is LoopsObject.EVENTS
    code = template.code
    if needs_own_code:
        try:
            lists = exposure.mailing_lists if is_of_events else ()
            code = own_code(template.code, template.id, route.user_id, lists)
        except TemplateChanged as error:
            return Blocked(exposure, f"the code of PostHog's {template.id} has changed: {error}.", _CHANGED_CODE)
    inputs = {
        "email": {"value": template_text(route.email, "person")},
        "include_all_properties": {"value": exposure.include_all_properties},
        "properties": {"value": _properties(exposure, route)},
    }
    return WantedFunction(exposure, template, code, needs_own_code, inputs, _filters(route.filters))


_UPDATE = "Update dbt-posthog-sync, or set this destination up by hand in PostHog and remove the exposure's annotation."
_CHANGED_CODE = f"`user_id` and `mailing_lists` need a copy of it with changes. Leave them out, or: {_UPDATE}"


def _shape_problem(template: HogTemplate) -> str:
    missing = [name for name in INPUTS if name not in template.keys]
    unknown = sorted(template.required_keys - set(INPUTS))
    if missing:
        return f"PostHog's {template.id} has no input {listed(missing)} any more."
    return f"PostHog's {template.id} requires the input {listed(unknown)}, which is not known here." if unknown else ""


def _needs_own_code(exposure: Exposure, route: Forwarding) -> bool:
    """The template of contacts lets a property take the place of `userId`, and carries mailing lists as one."""
    if exposure.object is LoopsObject.CONTACTS:
        return route.user_id is ForwardedUserId.NONE
    return route.user_id is not ForwardedUserId.PERSON_ID or bool(exposure.mailing_lists)


def _properties(exposure: Exposure, route: Forwarding) -> dict[str, Any]:
    is_of_contacts = exposure.object is LoopsObject.CONTACTS
    holder = "person" if is_of_contacts else "event"
    found: dict[str, Any] = {one.name: template_text(one.source, holder) for one in route.properties}
    if is_of_contacts and route.user_id is ForwardedUserId.DISTINCT_ID:
        found["userId"] = "{event.distinct_id}"
    if is_of_contacts and exposure.mailing_lists:
        # With a blank, because two braces in a row are another template language of PostHog's.
        found["mailingLists"] = f"{{ {hog_flags(exposure.mailing_lists)} }}"
    return found


def _filters(filters: Filters) -> dict[str, Any]:
    return {
        "source": "events",
        "events": [_event(order, one) for order, one in enumerate(filters.events)],
        "actions": [],
        "properties": [_condition(one) for one in filters.properties],
        "filter_test_accounts": filters.filter_test_accounts,
    }


def _event(order: int, event: EventFilter) -> dict[str, Any]:
    found: dict[str, Any] = {"id": event.name, "name": event.name, "type": "events", "order": order}
    return {**found, "properties": [_condition(one) for one in event.properties]} if event.properties else found


def _condition(one: PropertyFilter) -> dict[str, Any]:
    value = list(one.value) if isinstance(one.value, tuple) else one.value
    if value is None:  # PostHog's own form repeats the operator where there is nothing to compare with
        value = one.operator
    return {"key": one.key, "type": one.type, "operator": one.operator, "value": value}
