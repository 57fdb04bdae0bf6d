"""The judge: the stand-in against the table, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dbt_posthog_sync.testing import Project
from faults.model import Message, Model


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison came to.

    Attributes:
        lost: rows of which PostHog does not hold exactly what the table says.
        repeated: rows that PostHog received more than once.
        kept: events that PostHog keeps beyond one a row, events of no such row included, and uuids that came with
            more than one name, person or time.
    """

    lost: int
    repeated: int
    kept: int


def verdict(project: Project, model: Model, expected: Mapping[str, Message]) -> Verdict:
    """Compare what a project holds with the messages of all rows that it should have, by key."""
    held = model.held(project)
    received = Counter(model.key(event) for event in project.received)
    kept = Counter(model.key(event) for event in project.events)
    return Verdict(
        lost=sum(message not in held.get(key, ()) for key, message in expected.items()),
        repeated=sum(times > 1 for times in received.values()),
        kept=sum(times - (key in expected) for key, times in kept.items()) + _changed_identities(project),
    )


def _changed_identities(project: Project) -> int:
    """Uuids that came with another name, person or time: PostHog does not see that they are the same event."""
    identities = {(event.uuid, event.event, event.distinct_id, event.timestamp) for event in project.received}
    return len(identities) - len({uuid for uuid, *_ in identities})
