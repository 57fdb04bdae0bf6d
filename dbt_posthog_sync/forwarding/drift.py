"""Drift: where a hog function in PostHog differs from what its exposure says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.forwarding import INPUTS, KEY_INPUT
from dbt_posthog_sync.forwarding.function import HogFunction
from dbt_posthog_sync.forwarding.marker import Marker
from dbt_posthog_sync.forwarding.wanted import WantedFunction

CODE, KEY = "code", "api key"
MISSING = object()
"""Stands for what is not there, which null would not tell apart."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that differs.

    Attributes:
        place: such as `properties.firstName`.
        found: what PostHog has; `MISSING` for nothing.
        wanted: what the exposure says; `MISSING` for nothing.
    """

    place: str
    found: Any
    wanted: Any


def differences(found: HogFunction, wanted: WantedFunction, *, is_key_other: bool) -> tuple[Difference, ...]:
    """Every place that differs; what PostHog derives, such as bytecode, is no difference.

    Args:
        found: the function.
        wanted: what the exposure says.
        is_key_other: true where PostHog has another key than the environment, or none.
    """
    return tuple(_differences(found, wanted, is_key_other=is_key_other))


def _differences(found: HogFunction, wanted: WantedFunction, *, is_key_other: bool) -> Iterator[Difference]:
    marker = Marker.in_text(found.description)
    yield from _compared("name", found.name, wanted.name)
    yield from _compared("description", found.description, wanted.description(marker.key if marker else None))
    yield from _compared("enabled", found.is_enabled, True)
    if is_key_other:
        yield Difference(KEY, "another", "from the environment")
    yield from _input_differences(found.inputs, wanted.inputs)
    yield from _compared_in("filters", _filters(found.filters), _filters(wanted.filters))
    yield from _compared("masking", found.masking, None)
    yield from _compared("mappings", found.mappings, None)
    yield from _compared(CODE, found.code.strip(), wanted.code.strip())


def _input_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Difference]:
    for name in INPUTS:
        if name == KEY_INPUT:
            continue
        there, here = _value(found.get(name)), _value(wanted.get(name))
        if isinstance(here, Mapping):
            yield from _compared_in(name, there if isinstance(there, Mapping) else {}, here)
        else:
            yield from _compared(name, there, here)


def _value(given: Any) -> Any:
    return given.get("value") if isinstance(given, Mapping) else None


def _compared(place: str, found: Any, wanted: Any) -> Iterator[Difference]:
    # In Python 1 equals true, and in PostHog it does not.
    if found != wanted or isinstance(found, bool) is not isinstance(wanted, bool):
        yield Difference(place, found, wanted)


def _compared_in(place: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*wanted, *found)):
        yield from _compared(f"{place}.{name}", found.get(name, MISSING), wanted.get(name, MISSING))


def _filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters without what PostHog adds to them."""
    events = sorted((one for one in filters.get("events") or ()), key=lambda one: int(one.get("order") or 0))
    return {
        "source": filters.get("source") or "events",
        "events": [_event(one) for one in events],
        "actions": list(filters.get("actions") or ()),
        "properties": [_condition(one) for one in filters.get("properties") or ()],
        "filter_test_accounts": bool(filters.get("filter_test_accounts")),
    }


def _event(one: Mapping[str, Any]) -> Any:
    conditions = [_condition(condition) for condition in one.get("properties") or ()]
    return {"name": one.get("id"), "properties": conditions} if conditions else one.get("id")


def _condition(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": one.get("key"),
        "type": one.get("type") or "event",
        "operator": one.get("operator") or "exact",
        "value": one.get("value"),
    }
