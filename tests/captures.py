"""Events as the stand-in's capture takes them."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

from dbt_posthog_sync.testing import CapturedEvent, Project, StandInConfig, capture_v0, capture_v1
from dbt_posthog_sync.testing.account import Account
from dbt_posthog_sync.testing.captured import Outcome
from dbt_posthog_sync.testing.wire import Request

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
UUID = "018c0000-0000-7000-8000-000000000001"
TOKEN = "phc_sandbox"


def captured(event: str = "e", distinct_id: str = "u", **changes: Any) -> CapturedEvent:
    properties = changes.pop("properties", {})
    fields = {"uuid": str(uuid.uuid4()), "timestamp": NOON, "protocol": "v1", **changes}
    return CapturedEvent(event=event, distinct_id=distinct_id, properties=properties, **fields)


def project_of(*events: CapturedEvent, person_processing: bool = True) -> Project:
    project = Project(person_processing=person_processing)
    project.take(events)
    return project


def properties_of(project: Project, distinct_id: str = "u") -> dict[str, Any]:
    person = project.person(distinct_id)
    assert person is not None
    return dict(person.properties)


def v0(
    body: object, *, path: str = "/batch/", query: str = "", headers: dict[str, str] | None = None
) -> tuple[Outcome, Project]:
    account = Account(StandInConfig())
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("POST", path, query, headers or {}, data, NOW)
    outcome = capture_v0.capture(request, account.config)
    account.take(outcome)
    return outcome, account.project


def v1(event: dict[str, Any], config: StandInConfig | None = None) -> tuple[Outcome, Project]:
    account = Account(config or StandInConfig())
    headers = {
        "authorization": f"Bearer {TOKEN}",
        "content-type": "application/json",
        "user-agent": "test/1",
        "posthog-sdk-info": "dbt/sync/1.2",
        "posthog-attempt": "1",
        "posthog-request-id": UUID,
        "posthog-request-timestamp": NOW.isoformat(),
    }
    full = {"event": "e", "uuid": UUID, "distinct_id": "u", "timestamp": "2026-01-02T03:04:05Z", **event}
    body = json.dumps({"created_at": "2026-01-02T03:04:05Z", "batch": [full]}).encode()
    outcome = capture_v1.capture(Request("POST", capture_v1.PATH, "", headers, body, NOW), account.config)
    account.take(outcome)
    return outcome, account.project


def identify_group(kind: str, key: str, properties: object) -> CapturedEvent:
    return captured("$groupidentify", properties={"$group_type": kind, "$group_key": key, "$group_set": properties})
