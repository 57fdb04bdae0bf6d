"""A caller of the stand-in's private API for tests, and what it looks at."""

from __future__ import annotations

import http.client
import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from dbt_posthog_sync.testing import CapturedEvent, PersonalKey, StandIn

NOW = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=timezone.utc)
ALL = PersonalKey("phx_all")
PERSONS = "/api/projects/1/persons/"


def event(name: str, distinct_id: str, number: int = 0, **properties: Any) -> CapturedEvent:
    """An event of today's sender."""
    uuid = f"018c0000-0000-5000-8000-{number:012d}"
    library = {"$lib": "dbt-posthog-sync", "$lib_version": "1"}
    return CapturedEvent(name, distinct_id, uuid, NOW, {**library, **properties}, "v1")


def person(distinct_id: str, **properties: Any) -> CapturedEvent:
    """Properties of a person."""
    return event("$set", distinct_id, 0, **{"$set": properties})


class Caller:
    """The smallest client of the private API; it never tries again."""

    def __init__(self, posthog: StandIn, key: str = "phx_sandbox") -> None:
        self.address = urlsplit(posthog.url).netloc
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __call__(self, path: str, body: Any = None, method: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method or ("GET" if body is None else "POST"), path, text, self.headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.retry_after = response.headers.get("Retry-After")
        is_json = response.headers.get("Content-Type") == "application/json"
        return response.status, json.loads(content) if is_json else content.decode()

    def change(self, path: str, body: Any) -> tuple[int, Any]:
        return self(path, body, "PATCH")

    def query(self, text: str, refresh: Any = "force_blocking", project: str = "1", **values: Any) -> tuple[int, Any]:
        query = {"kind": "HogQLQuery", "query": text, "values": values}
        return self(f"/api/projects/{project}/query/", {"query": query, "refresh": refresh})

    def rows(self, text: str, **values: Any) -> list[list[Any]]:
        status, answer = self.query(text, **values)
        assert status == 200, answer
        found: list[list[Any]] = answer["results"]
        return found


def filled_caller(posthog: StandIn) -> Caller:
    """A caller of a project with three persons and a few events."""
    posthog.project.take(
        [
            person("u1", email="Anna@Example.com", age=30, vip=True),
            person("u2", email="bert@example.com", plan=None),
            person("u3", plan="pro"),
            event("order", "u1", 1, dbt_posthog_sync_run_id="r1"),
            event("order", "u1", 1, dbt_posthog_sync_run_id="r1"),
            event("order", "u2", 2, dbt_posthog_sync_run_id="r1"),
            event("refund", "u2", 3, dbt_posthog_sync_run_id="r2"),
        ]
    )
    return Caller(posthog)
