"""Filters of a destination: which events it fires on.

Rules: PostHog/posthog: posthog/cdp/filters.py. A function without filters fires on every event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "exact": lambda found, wanted: str(found) in map(str, _several(wanted)),
    "is_not": lambda found, wanted: str(found) not in map(str, _several(wanted)),
    "icontains": lambda found, wanted: str(wanted).lower() in str(found or "").lower(),
    "not_icontains": lambda found, wanted: str(wanted).lower() not in str(found or "").lower(),
    "regex": lambda found, wanted: re.search(str(wanted), str(found or "")) is not None,
    "not_regex": lambda found, wanted: re.search(str(wanted), str(found or "")) is None,
    "gt": lambda found, wanted: found is not None and float(found) > float(wanted),
    "gte": lambda found, wanted: found is not None and float(found) >= float(wanted),
    "lt": lambda found, wanted: found is not None and float(found) < float(wanted),
    "lte": lambda found, wanted: found is not None and float(found) <= float(wanted),
    "is_set": lambda found, _: found is not None,
    "is_not_set": lambda found, _: found is None,
}


class FilterError(Exception):
    """The filters use what the stand-in does not play."""


def check_filters(filters: Mapping[str, Any]) -> None:
    """Refuse filters that are not played.

    Raises:
        FilterError: with what they use.
    """
    events = filters.get("events") or []
    conditions = [
        *(filters.get("properties") or []),
        *(one for event in events for one in event.get("properties") or ()),
    ]
    if filters.get("actions"):
        raise FilterError("The stand-in plays no actions.")
    for condition in conditions:
        operator, kind = condition.get("operator", "exact"), condition.get("type", "event")
        if operator not in _OPERATORS or kind not in ("event", "person"):
            raise FilterError(f"The stand-in does not play the filter {kind} {operator}.")


def matches(
    filters: Mapping[str, Any] | None, given: Mapping[str, Any], test_accounts: Iterable[Mapping[str, Any]] = ()
) -> bool:
    """Tell whether a function with these filters fires.

    Args:
        filters: as PostHog keeps them; None and the empty object fire on everything.
        given: PostHog's globals of the event.
        test_accounts: the project's own filter, which holds for everybody who is no test account.
    """
    wanted = filters or {}
    events = wanted.get("events") or []
    if events and not any(_is_event(one, given) for one in events):
        return False
    conditions = list(wanted.get("properties") or ())
    if wanted.get("filter_test_accounts"):
        conditions += test_accounts
    return _hold(conditions, given)


def _is_event(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    name = wanted.get("id")
    return name in (None, given["event"]["event"]) and _hold(wanted.get("properties") or (), given)


def _hold(conditions: Iterable[Mapping[str, Any]], given: Mapping[str, Any]) -> bool:
    return all(_holds(condition, given) for condition in conditions)


def _holds(condition: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    holder = given.get(condition.get("type", "event")) or {}
    found = (holder.get("properties") or {}).get(condition.get("key"))
    return _OPERATORS[condition.get("operator", "exact")](found, condition.get("value"))


def _several(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]
