"""Scopes: what a personal API key must be allowed, and what for. PostHog's words: posthog.com/docs/api, scopes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dbt_posthog_sync.settings import Identities, IdentitySource
from dbt_posthog_sync.spelling import listed
from dbt_posthog_sync.sync import Behavior, KeyKind, Sync

QUERY_READ = "query:read"
PERSON_READ = "person:read"
PERSON_WRITE = "person:write"
PROJECT_READ = "project:read"
HOG_FUNCTION_READ = "hog_function:read"
HOG_FUNCTION_WRITE = "hog_function:write"

USEFUL: Mapping[str, str] = {
    QUERY_READ: "`verify`, `run --verify` and `debug --send-test-event`",
    PROJECT_READ: "the check that both keys mean the same project",
}
"""What a key is good for beside the syncs, by scope."""


def useful_scopes(forwarded: Iterable[str]) -> Mapping[str, str]:
    """Return what a key is good for beside the syncs, by scope.

    Args:
        forwarded: names of the exposures with `via: posthog`.
    """
    known = tuple(forwarded)
    if not known:
        return USEFUL
    names = listed(known)
    of_destinations = {
        HOG_FUNCTION_READ: f"`destinations plan` and `destinations status` of the exposures {names}",
        HOG_FUNCTION_WRITE: f"`destinations apply` and `destinations test` of the exposures {names}",
    }
    return {**USEFUL, **of_destinations}


def needed_scopes(syncs: Iterable[Sync], identities: Identities) -> Mapping[str, tuple[str, ...]]:
    """Return what the syncs need, by scope: the names of the syncs that need it."""
    needed: dict[str, list[str]] = {}
    for sync in syncs:
        for scope in dict.fromkeys(_scopes_of(sync, identities.source)):
            needed.setdefault(scope, []).append(sync.name)
    return {scope: tuple(names) for scope, names in needed.items()}


def needing(names: Iterable[str]) -> str:
    """Return who needs something, as a sentence begins: the sync `a` needs, the syncs `a` and `b` need."""
    known = tuple(names)
    return f"the sync {listed(known)} needs" if len(known) == 1 else f"the syncs {listed(known)} need"


def _scopes_of(sync: Sync, source: IdentitySource) -> Iterator[str]:
    if sync.needs_identities:
        match source:
            case IdentitySource.MIRROR:
                yield QUERY_READ
            case IdentitySource.LOOKUP:  # only a query finds persons by a property
                yield QUERY_READ if sync.sync_key.kind is KeyKind.EMAIL else PERSON_READ
            case IdentitySource.MODEL:
                pass
    if sync.behavior is Behavior.DELETE:  # it reads every distinct id of the persons, so that none is sent again
        yield PERSON_WRITE
        yield QUERY_READ
