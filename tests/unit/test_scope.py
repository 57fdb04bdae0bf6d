"""Scopes: what a personal API key must be allowed for the syncs of a project."""

from __future__ import annotations

import pytest

from dbt_posthog_sync.scope import needed_scopes, needing
from dbt_posthog_sync.settings import Identities, IdentitySource
from dbt_posthog_sync.sync import Behavior, KeyKind, ModelRef, ObjectType, Sync, SyncKey

LOOKUP, MIRROR, MODEL = IdentitySource.LOOKUP, IdentitySource.MIRROR, IdentitySource.MODEL
EMAIL, DISTINCT_ID = KeyKind.EMAIL, KeyKind.DISTINCT_ID
UPDATE_OR_CREATE, UPDATE_ONLY, DELETE = Behavior.UPDATE_OR_CREATE, Behavior.UPDATE_ONLY, Behavior.DELETE


def sync(name: str, kind: KeyKind, behavior: Behavior) -> Sync:
    return Sync(
        name=name,
        name_is_explicit=True,
        project="shop",
        model=ModelRef("model.shop.people", "people", "people", None, "main", "people"),
        object=ObjectType.PERSON,
        sync_key=SyncKey(kind, "key"),
        behavior=behavior,
    )


@pytest.mark.parametrize(
    ("kind", "behavior", "source", "expected"),
    [
        (DISTINCT_ID, UPDATE_OR_CREATE, LOOKUP, set()),
        (DISTINCT_ID, UPDATE_OR_CREATE, MIRROR, set()),
        (DISTINCT_ID, UPDATE_ONLY, LOOKUP, {"person:read"}),
        (DISTINCT_ID, UPDATE_ONLY, MIRROR, {"query:read"}),
        (DISTINCT_ID, UPDATE_ONLY, MODEL, set()),
        (DISTINCT_ID, DELETE, LOOKUP, {"person:read", "person:write", "query:read"}),
        (DISTINCT_ID, DELETE, MIRROR, {"person:write", "query:read"}),
        (DISTINCT_ID, DELETE, MODEL, {"person:write", "query:read"}),
        (EMAIL, UPDATE_OR_CREATE, LOOKUP, {"query:read"}),
        (EMAIL, UPDATE_OR_CREATE, MIRROR, {"query:read"}),
        (EMAIL, UPDATE_OR_CREATE, MODEL, set()),
        (EMAIL, UPDATE_ONLY, LOOKUP, {"query:read"}),
        (EMAIL, UPDATE_ONLY, MODEL, set()),
        (EMAIL, DELETE, LOOKUP, {"person:write", "query:read"}),
        (EMAIL, DELETE, MODEL, {"person:write", "query:read"}),
    ],
)
def test_scopes_follow_key_behavior_and_source(
    kind: KeyKind, behavior: Behavior, source: IdentitySource, expected: set[str]
) -> None:
    assert set(needed_scopes([sync("a", kind, behavior)], Identities(source))) == expected


def test_every_sync_that_needs_a_scope_is_named_once() -> None:
    syncs = [sync("a", EMAIL, DELETE), sync("b", DISTINCT_ID, UPDATE_OR_CREATE), sync("c", EMAIL, UPDATE_ONLY)]
    assert needed_scopes(syncs, Identities()) == {"query:read": ("a", "c"), "person:write": ("a",)}


def test_who_needs_something_is_a_sentence() -> None:
    assert needing(["a"]) == "the sync `a` needs"
    assert needing(("a", "b")) == "the syncs `a` and `b` need"
