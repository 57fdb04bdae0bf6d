"""What was erased stays erased, whatever other syncs know people by."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from lab import Lab
from people import LONG_AGO, make_person, people

from dbt_posthog_sync.testing import CapturedEvent

DELETE: dict[str, Any] = {"name": "erase", "object": "person", "sync_key": {"email": "email"}, "behavior": "delete"}
PEOPLE = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["note"]}
EVENTS = {
    "object": "event",
    "sync_key": {"event_id": "note"},
    "distinct_id": "id",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
    "properties": ["note"],
}
MODEL = "select '{id}' as id, ' U1@example.com' as email, 'a' as note, timestamp '2024-01-02 03:04:05' as seen_at"


@pytest.mark.parametrize("annotation", [PEOPLE, EVENTS], ids=["person", "event"])
@pytest.mark.parametrize("distinct_id", ["u1@example.com", "U1@Example.com", "known", "alias"])
def test_nothing_is_sent_to_an_erased_address_under_any_of_its_names(
    lab: Lab, annotation: dict[str, Any], distinct_id: str
) -> None:
    make_person(lab.posthog, "known", email="u1@example.com")
    alias = CapturedEvent("$create_alias", "known", str(uuid.uuid4()), LONG_AGO, {"alias": "alias"}, "v1")
    lab.posthog.project.take([alias])
    lab.build(MODEL.format(id=distinct_id))
    assert lab.run(DELETE, force=True).counts.delivered == 1
    run = lab.run({**annotation, "name": "write"}, force=True)
    assert run.skips == (("the person was deleted, and nothing of it is sent any more", 1),)
    assert people(lab.posthog) == {}
