"""Ingestion warnings: what PostHog notes about events that it answered 200 to, in people's words.

Types and their effects: PostHog/posthog: nodejs ingestion-warnings registry; posthog.com/docs/data/ingestion-warnings.
Warnings are sampled: that there is one matters, and not how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Effect(str, Enum):
    """What became of the event."""

    LOST = "lost"  # it, or what it says of a person or group, is not in PostHog
    ALTERED = "altered"  # it is there, and not as it was sent
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a type of warning means.

    Attributes:
        effect: what became of the event.
        words: what happened, and what to do.
    """

    effect: Effect
    words: str


_LOST = {
    "message_size_too_large": (
        "the event was larger than 1 MB after PostHog had added to it, and was dropped. Map fewer or shorter columns"
    ),
    "event_dropped_too_old": (
        "the event was older than the project accepts, and was dropped. Look at the project's settings, or leave "
        "old rows out of the model"
    ),
    "event_dropped_by_transformation": (
        "a transformation of the project dropped the event. Look at Data pipeline > Transformations"
    ),
    "schema_validation_failed": "the event does not follow the schema that the project enforces, and was dropped",
    "skipping_event_invalid_distinct_id": (
        "PostHog takes the distinct id for a bug, and dropped the event. Look for ids such as `null` or "
        "`undefined` in the model"
    ),
    "invalid_event_when_process_person_profile_is_false": (
        "an event that is about a person came without person processing, and was dropped. Look whether the "
        "project has opted out of person profiles"
    ),
    "person_properties_size_violation": (
        "the properties of a person are larger than 512 KiB, and the update was dropped. Map fewer columns, or "
        "unset large properties"
    ),
    "person_upsert_message_size_too_large": (
        "a person with all properties is too large to be stored, and the update was dropped. Map fewer columns, "
        "or unset large properties"
    ),
    "group_upsert_message_size_too_large": (
        "a group with all properties is too large to be stored, and the update was dropped. Map fewer columns"
    ),
    "group_key_too_long": "a group key is longer than 400 characters, and the group was not written",
    "cannot_merge_already_identified": "two persons that are both identified were not merged",
    "cannot_merge_with_illegal_distinct_id": "persons were not merged, because PostHog takes one id for a bug",
    "merge_race_condition": "persons were not merged, because something else merged them at the same time",
}
_ALTERED = {
    "ignored_invalid_timestamp": "the timestamp could not be read, and the event has the time of its arrival",
    "invalid_process_person_profile": "`$process_person_profile` was neither true nor false, and counted as true",
    "message_timestamp_diff_too_large": (
        "the timestamp is more than 23 hours in the future; the event is stored and may not show"
    ),
}
_REFUSED = "a request was refused before anything of the event was stored, so the run has counted it as rejected"

MEANINGS: Mapping[str, Meaning] = {
    **{kind: Meaning(Effect.LOST, words) for kind, words in _LOST.items()},
    **{kind: Meaning(Effect.ALTERED, words) for kind, words in _ALTERED.items()},
    **{
        kind: Meaning(Effect.ALTERED, _REFUSED)
        for kind in (
            "missing_distinct_id",
            "distinct_id_too_large",
            "missing_event_name",
            "event_name_too_long",
            "invalid_event_timestamp",
            "malformed_event_properties",
            "invalid_options",
            "missing_event_uuid",
            "invalid_event_uuid",
            "duplicate_event_uuid",
            "empty_batch",
            "invalid_batch",
        )
    },
}
"""What the types mean that can concern us."""

_UNHEARD_OF = Meaning(
    Effect.UNKNOWN, "this version does not know it. Look it up in PostHog > Data management > Ingestion warnings"
)


def meaning_of(kind: str) -> Meaning:
    """What a type of warning means."""
    return MEANINGS.get(kind, _UNHEARD_OF)
