"""Reserved names: properties and events that PostHog reads as commands, so that no row may bring them along.

Source: PostHog's ingestion (PostHog/posthog: rust/capture, and the person and group steps of nodejs).
"""

from __future__ import annotations

from collections.abc import Mapping

from dbt_posthog_sync.sync import ObjectType

_SENT_BY_US = "this program sends it with every message"
_PERSON_WRITE = "PostHog reads it as a change of the person"
_GROUP_WRITE = "PostHog reads it as a change of a group"
_IDENTITY = "PostHog reads it as the identity of the person"
_KEY = "PostHog reads it as the project's key and refuses the request"

_EVERYWHERE: Mapping[str, str] = {
    "$set": _PERSON_WRITE,
    "$set_once": _PERSON_WRITE,
    "$unset": _PERSON_WRITE,
    "$groups": "groups are mapped with `groups:`",
    "$group_type": _GROUP_WRITE,
    "$group_key": _GROUP_WRITE,
    "$group_set": _GROUP_WRITE,
    "$lib": _SENT_BY_US,
    "$lib_version": _SENT_BY_US,
    "$geoip_disable": _SENT_BY_US,
    "$ignore_sent_at": _SENT_BY_US,
    "$process_person_profile": "it switches persons off for the event",
    "$cookieless_mode": "it replaces the person of the event",
    "$product_tour_id": "PostHog moves it out of the properties",
    "$anon_distinct_id": "PostHog merges persons by it",
    **{f"$group_{index}": "PostHog fills it from the groups of the event" for index in range(5)},
}
_IN_EVENTS: Mapping[str, str] = {"distinct_id": _IDENTITY, "token": _KEY, "api_key": _KEY}
_IN_PROFILES: Mapping[str, str] = {
    "$session_id": "a session belongs to events",
    "$window_id": "a window belongs to events",
    "$creator_event_uuid": "PostHog keeps it itself",
}
_EVENT_NAMES: Mapping[str, str] = {
    "$set": "it writes persons: use `object: person`",
    "$identify": "it writes and merges persons: use `object: person`",
    "$create_alias": "it merges persons for good",
    "$merge_dangerously": "it merges persons for good",
    "$groupidentify": "it writes groups: use `object: group`",
    "$pageview": "page views have an object of their own: use `object: page`",
    "$snapshot": "it belongs to session recordings",
}
_EVENT_PREFIXES: Mapping[str, str] = {
    "$ai_": "PostHog handles it apart, as a call of a language model",
    "$$": "PostHog keeps such names to itself",
}


def reserved_property(name: str, kind: ObjectType) -> str | None:
    """Return why a property may not have this name, or None when it may."""
    is_event = kind in (ObjectType.EVENT, ObjectType.PAGE)
    return _EVERYWHERE.get(name) or (_IN_EVENTS if is_event else _IN_PROFILES).get(name)


def reserved_names() -> Mapping[str, Mapping[str, str]]:
    """Return every reserved name with its reason, by where it is reserved."""
    events = {**_EVENT_NAMES, **{f"{prefix}...": reason for prefix, reason in _EVENT_PREFIXES.items()}}
    return {
        "Properties of every object": _EVERYWHERE,
        "Properties of events and pages": _IN_EVENTS,
        "Properties of persons and groups": _IN_PROFILES,
        "Names of events": events,
    }


def reserved_event(name: str) -> str | None:
    """Return why an event may not have this name, or None when it may."""
    if name in _EVENT_NAMES:
        return _EVENT_NAMES[name]
    return next((reason for prefix, reason in _EVENT_PREFIXES.items() if name.startswith(prefix)), None)
