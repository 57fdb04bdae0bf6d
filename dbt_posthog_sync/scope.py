"""Scopes: what a personal API key must be allowed, and what for. PostHog's words: posthog.com/docs/api, scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dbt_posthog_sync.sync import Sync

QUERY_READ = "query:read"
PERSON_READ = "person:read"
PROJECT_READ = "project:read"

USEFUL: Mapping[str, str] = {
    QUERY_READ: "`verify`, `run --verify` and `debug --send-test-event`",
    PROJECT_READ: "the check that both keys mean the same project",
}
"""What a key is good for beside the syncs, by scope."""


def needed_scopes(syncs: Iterable[Sync]) -> Mapping[str, str]:  # noqa: ARG001 - no sync of today needs any
    """What the syncs need, by scope: the names of the syncs that need it. Today no sync needs a personal API key."""
    return {}
