"""A PostHog destination whose network is a function, and what it saw."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import requests
from network import Network

from dbt_posthog_sync.destinations import (
    Batch,
    Outcome,
    RequestIdentity,
    Row,
)
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig, Protocol
from dbt_posthog_sync.http import new_session

KEY = "phc_secret_of_this_test"
RUN_ID = "0190a000-0000-7000-8000-000000000009"
IDENTITY = RequestIdentity("0190a000-0000-7000-8000-000000000001", "2026-01-02T03:04:05.000Z")
NOW = datetime(2026, 1, 2, 3, 4, 6, 500_000, tzinfo=timezone.utc)


def uuid_of(position: int) -> str:
    return f"018c0000-0000-5000-8000-{position:012d}"


def row(position: int, properties: bytes = b',"plan":"pro"', head: bytes = b"") -> Row:
    head = head or b'"event":"e","distinct_id":"u%d","timestamp":"2026-01-02T03:04:05Z"' % position
    return Row.of(position, uuid_of(position), 0, False, head, properties)


def batch_of(count: int = 1, *, historical: bool = False, needs_person: bool = False) -> Batch:
    batch = Batch.of((row(n) for n in range(count)), needs_person=needs_person)
    return replace(batch, historical=historical)


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, payload: Any, status: int = 200, **headers: str) -> Reply:
        return cls(status, json.dumps(payload).encode(), headers)


@dataclass
class Seen:
    """A request as the server reads it."""

    url: str
    headers: dict[str, str]
    body: Any


def as_seen(request: requests.PreparedRequest) -> Seen:
    """What the server reads of a request."""
    assert isinstance(request.body, bytes)
    return Seen(request.url or "", dict(request.headers), json.loads(zlib.decompress(request.body, 31)))


def destination(
    *replies: Reply | Exception | Callable[[Seen], Reply], protocol: Protocol = "v1", key: str = KEY
) -> tuple[PostHog, Network[Seen]]:
    """A destination whose server gives the replies in turn and repeats the last."""
    queue = list(replies)

    def answer(seen: Seen) -> Reply | Exception:
        reply = queue.pop(0) if len(queue) > 1 else queue[0]
        return reply if isinstance(reply, (Reply, Exception)) else reply(seen)

    server = Network(as_seen, answer)
    session = new_session("https://eu.i.posthog.com", pool=1, version="0")
    session.mount("https://", server)
    config = PostHogConfig("https://eu.i.posthog.com/", key, RUN_ID, protocol=protocol, version="1.2.3")
    return PostHog(config, session=session, now=lambda: NOW), server


def all_ok(seen: Seen) -> Reply:
    if seen.url.endswith("/batch/"):
        return Reply.of({"status": "Ok"})
    return Reply.of({"results": {event["uuid"]: {"result": "ok"} for event in seen.body["batch"]}})


def results(*entries: Any) -> Reply:
    return Reply.of({"results": {uuid_of(n): entry for n, entry in enumerate(entries) if entry is not None}})


def outcome_of(
    *replies: Reply | Exception | Callable[[Seen], Reply], batch: Batch | None = None, protocol: Protocol = "v1"
) -> Outcome:
    posthog, _ = destination(*replies, protocol=protocol)
    return posthog.send(batch or batch_of(), IDENTITY, 1)
