"""Advice on destinations: what works and yet surprises, told with every plan of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbt_posthog_sync.exposure import (
    Exposure,
    ForwardedProperty,
    ForwardedUserId,
    Forwarding,
    PostHogProperty,
)
from dbt_posthog_sync.forwarding.feed import FORWARDED_PER_SECOND, feed_of, feeding
from dbt_posthog_sync.forwarding.function import HogFunction
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import LoopsObject, ObjectType, Sync


def advice_on(exposures: Sequence[Exposure], syncs: Sequence[Sync]) -> Iterator[str]:
    """Yield what is to be known about these exposures and the syncs that set them off."""
    for exposure in exposures:
        if isinstance(exposure.route, Forwarding):
            yield from _of_feeds(exposure, exposure.route, syncs)
            yield from _of_names(exposure, exposure.route, syncs)
            yield from _of_user_id(exposure, exposure.route)


def advice_on_strangers(strangers: Sequence[HogFunction]) -> Iterator[str]:
    """Yield a line for each destination that sends to Loops beside ours."""
    for one in strangers:
        yield (
            f"PostHog has another enabled destination for Loops, `{one.name or one.id}`, which no exposure of this "
            "project stands for: Loops gets what both send. Disable it in PostHog unless that is meant."
        )


def _of_feeds(exposure: Exposure, route: Forwarding, syncs: Sequence[Sync]) -> Iterator[str]:
    feeds = [sync.name for sync in syncs if feed_of(sync, [exposure]) is not None]
    if feeds:
        whose = f"The sync {listed(feeds)} sets" if len(feeds) == 1 else f"The syncs {listed(feeds)} set"
        yield (
            f"{exposure.name}: {whose} it off with every row. PostHog repeats a request to Loops three times within "
            f"seconds and then loses it, so these syncs are sent at {FORWARDED_PER_SECOND:g} events a second at most. "
            "For more, send with `via: direct`, or leave them out by the filter `{key: $lib, operator: is_not, value: "
            "dbt-posthog-sync}`."
        )
    if not feeding(exposure, syncs):
        names = listed(one.name for one in route.filters.events)
        yield (
            f"{exposure.name}: no sync of its models sends {names} as its filters want it, so only events of others "
            "set it off."
        )


def _of_names(exposure: Exposure, route: Forwarding, syncs: Sequence[Sync]) -> Iterator[str]:
    """Properties of persons that nothing here writes: the template finds them empty and leaves them out."""
    ids = {model.unique_id for model in exposure.models}
    writing = [one for one in syncs if one.object is ObjectType.PERSON and one.model.unique_id in ids]
    if not writing or any(sync.all_properties for sync in writing):
        return
    written = {mapping.property for sync in writing for mapping in sync.properties}
    for use, name in _person_properties(exposure, route):
        if name not in written:
            yield (
                f"{exposure.name}: {use} reads the person property `{name}`, and the syncs of its models do not write "
                f"it.{_hint(name, written)} Where nobody writes it, nothing is sent for it."
            )


def _hint(name: str, written: set[str]) -> str:
    plain = {one.replace("_", "").lower(): one for one in written}
    alike = plain.get(name.replace("_", "").lower())
    return f" They write `{alike}`." if alike else f" {did_you_mean(name, written)}".rstrip()


def _person_properties(exposure: Exposure, route: Forwarding) -> Iterator[tuple[str, str]]:
    if isinstance(route.email, PostHogProperty):
        yield "`email`", route.email.name
    listed_ones: tuple[ForwardedProperty, ...] = route.properties if exposure.object is LoopsObject.CONTACTS else ()
    for one in listed_ones:
        if isinstance(one.source, PostHogProperty):
            yield f"`{one.name}`", one.source.name


def _of_user_id(exposure: Exposure, route: Forwarding) -> Iterator[str]:
    if route.user_id is ForwardedUserId.PERSON_ID:
        yield (
            f"{exposure.name}: `userId` in Loops is the UUID of the PostHog person, which no model knows. Whatever "
            "else sends these contacts to Loops must send no `userId`, or each overwrites the other's."
        )
