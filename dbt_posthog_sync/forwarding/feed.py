"""Feeds: which syncs set off a destination of PostHog, and how fast they may then be sent.

PostHog hands every event that a destination's filters match to it at once, repeats a request three times within
seconds, whatever the answer says, and then loses it (PostHog/posthog issue 92214). Loops takes ten requests a second of
a whole team (loops.so/docs/api-reference/intro). So a first load at full speed would lose nearly everything, and nobody
would be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dbt_posthog_sync.exposure import EventFilter, Exposure, Forwarding, PropertyFilter
from dbt_posthog_sync.sync import Behavior, Constant, LoopsObject, ObjectType, Sync

FORWARDED_PER_SECOND = 5.0
"""Half of what Loops takes, because PostHog works in bursts and shares the limit with everything else of the team."""

LIBRARY = "dbt-posthog-sync"
"""`$lib` of everything that this program sends."""

_EVENT_OF: Mapping[ObjectType | LoopsObject, str] = {
    ObjectType.PERSON: "$set",
    ObjectType.GROUP: "$groupidentify",
    ObjectType.PAGE: "$pageview",
}

_COMMANDS = frozenset({"$set", "$identify", "$create_alias", "$merge_dangerously", "$groupidentify", "$snapshot"})

HasEvent: TypeAlias = Callable[[str], bool]
"""Tells whether rows of a model have an event of a name."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A sync whose events PostHog hands on to Loops.

    Attributes:
        exposures: names of the exposures whose destinations they set off.
    """

    exposures: tuple[str, ...]

    @property
    def events_per_second(self) -> float:
        """How fast the sync may be sent; each of the exposures makes a request of every event."""
        return FORWARDED_PER_SECOND / len(self.exposures)


def _may_have(_name: str) -> bool:
    return True


def feed_of(sync: Sync, exposures: Iterable[Exposure], has_event: HasEvent = _may_have) -> Feed | None:
    """The feed that a sync is; None where it sets off none of these exposures' destinations.

    Args:
        sync: the sync.
        exposures: of the project.
        has_event: tells whether rows have an event name, where a column holds it; without it any may be there.
    """
    names = tuple(
        one.name for one in exposures if isinstance(one.route, Forwarding) and _sets_off(sync, one.route, has_event)
    )
    return Feed(names) if names else None


def feeding(exposure: Exposure, syncs: Iterable[Sync]) -> tuple[Sync, ...]:
    """The syncs of an exposure's own models whose events its destination hands on."""
    ids = {model.unique_id for model in exposure.models}
    return tuple(sync for sync in syncs if sync.model.unique_id in ids and feed_of(sync, [exposure]) is not None)


def _sets_off(sync: Sync, route: Forwarding, has_event: HasEvent) -> bool:
    if sync.loops is not None or sync.behavior is Behavior.DELETE or not _may_hold(route.filters.properties):
        return False
    return any(_may_hold(wanted.properties) and _is_sent(sync, wanted, has_event) for wanted in route.filters.events)


def _is_sent(sync: Sync, wanted: EventFilter, has_event: HasEvent) -> bool:
    """Tell whether a sync sends events of a name. A row whose column holds a command of PostHog's is never sent."""
    name = _EVENT_OF.get(sync.object)
    if name is not None:
        return wanted.name == name
    if isinstance(sync.event, Constant):
        return wanted.name == str(sync.event.value)
    return wanted.name not in _COMMANDS and has_event(wanted.name)


def _may_hold(conditions: Iterable[PropertyFilter]) -> bool:
    """False where a condition on `$lib` leaves out everything that this program sends; rows decide over the others."""
    return all(_holds_for_us(one) for one in conditions if one.key == "$lib" and one.type == "event")


def _holds_for_us(condition: PropertyFilter) -> bool:
    wanted = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    match condition.operator:
        case "exact":
            return LIBRARY in wanted
        case "is_not":
            return LIBRARY not in wanted
        case "icontains":
            return any(str(one).lower() in LIBRARY for one in wanted)
        case "not_icontains":
            return all(str(one).lower() not in LIBRARY for one in wanted)
        case operator:
            return operator != "is_not_set"
