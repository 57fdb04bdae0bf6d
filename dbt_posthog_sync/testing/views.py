"""What the stand-in answers beside ingestion: PostHog's key checks, and JSON views of what was kept.

The key checks follow PostHog/posthog#54670 (what each endpoint says of an unknown key).
"""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dbt_posthog_sync.testing import private_api
from dbt_posthog_sync.testing.account import Account, summary
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.wire import GZIP_MAGIC, Reply, Request, read_json

VIEWS = "/_standin/"
PAGE = 1_000
"""Rows of a view unless `?limit=` says otherwise."""

_ABOUT = """A local stand-in for PostHog: it takes events as PostHog's capture service does and keeps them in memory.

  /_standin/summary    counts of everything
  /_standin/events     events, repeats removed (?event=NAME, ?limit=, ?offset=)
  /_standin/persons    persons
  /_standin/groups     groups
  /_standin/lost       events that PostHog would lose, each with the reason
  /_standin/warnings   ingestion warnings
  /_standin/requests   request counts and the last requests
  /_standin/reset      forget everything (POST)

With several project API keys, ?token=KEY picks the project.
"""


def answer(request: Request, account: Account) -> Reply:
    """Answer a request that is no ingestion."""
    path = request.path
    if path == "/":
        return Reply.from_text(200, _ABOUT)
    if path.startswith(VIEWS):
        return _view(path.removeprefix(VIEWS), request, account)
    if path.startswith(private_api.PREFIX):
        return private_api.answer(request, account)
    if path.rstrip("/") == "/flags":
        return _flags(request, account)
    match path.strip("/").split("/"):
        case ["array", token, "config"] if token in account.projects:
            return Reply.from_json(200, {"token": token, "hasFeatureFlags": False, "supportedCompression": ["gzip"]})
        case _:
            return Reply.from_text(404, "not found")


def _flags(request: Request, account: Account) -> Reply:
    """Answer `/flags/`, the one endpoint that tells whether a key exists."""
    token = request.query_value("api_key", "token") or _token_in(request.body)
    if token.strip() in account.projects:
        return Reply.from_json(
            200, {"flags": {}, "errorsWhileComputingFlags": False, "quotaLimited": list(account.config.quota_limited)}
        )
    refusal = {
        "type": "authentication_error",
        "code": "invalid_api_key",
        "detail": "Project API key invalid. You can find your project API key in your PostHog project settings.",
        "attr": None,
    }
    return Reply.from_json(401, refusal)


def _token_in(body: bytes) -> str:
    """Find the key in a body."""
    try:
        text = (zlib.decompress(body, 16 + zlib.MAX_WBITS) if body.startswith(GZIP_MAGIC) else body).decode()
        value = read_json(text)
    except (zlib.error, ValueError):
        return ""
    token = (value.get("api_key") or value.get("token")) if isinstance(value, dict) else ""
    return token if isinstance(token, str) else ""


def _view(name: str, request: Request, account: Account) -> Reply:
    """Answer one of the views."""
    if name == "reset":
        return _reset(request, account)
    project = account.projects.get(request.query_value("token") or account.config.tokens[0])
    if project is None:
        return Reply.from_text(404, "no project has this key")
    match name:
        case "requests":
            return Reply.from_json(200, _requests(account))
        case "summary":
            return Reply.from_json(200, dataclasses.asdict(summary(account)))
        case "events" | "persons" | "groups" | "lost" | "warnings":
            return Reply.from_json(200, _page(name, _rows(name, request, project), request))
        case _:
            return Reply.from_text(404, _ABOUT)


def _reset(request: Request, account: Account) -> Reply:
    """Forget everything, if asked by POST."""
    if request.method != "POST":
        return Reply.from_text(405, "POST /_standin/reset forgets everything")
    account.reset()
    return Reply.from_json(200, {"status": "reset"})


def _rows(name: str, request: Request, project: Project) -> tuple[Any, ...]:
    """Return the rows of a view, filtered by event name where asked."""
    wanted = request.query_value("event")
    rows: tuple[Any, ...] = getattr(project, name)
    return tuple(row for row in rows if row.event == wanted) if wanted and name == "events" else rows


def _page(name: str, rows: tuple[Any, ...], request: Request) -> dict[str, Any]:
    """Cut the page that was asked for."""
    offset = _number(request.query_value("offset"), 0)
    page = rows[offset : offset + _number(request.query_value("limit"), PAGE)]
    return {"total": len(rows), "offset": offset, name: list(_as_json(page))}


def _as_json(rows: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Turn rows into plain JSON values."""
    for row in rows:
        value = row.as_json() if hasattr(row, "as_json") else dataclasses.asdict(row)
        yield {name: one.isoformat() if isinstance(one, datetime) else one for name, one in value.items()}


def _number(text: str, default: int) -> int:
    """Read a number of the query."""
    return int(text) if text.isascii() and text.isdigit() else default


def _requests(account: Account) -> dict[str, Any]:
    """Return counts over everything and the last requests one by one."""
    requests = account.requests
    return {
        "total": len(requests),
        "by_path": Counter(request.path for request in requests),
        "by_protocol": Counter(request.protocol for request in requests if request.protocol),
        "by_status": Counter(str(request.status) for request in requests),
        "events_received": sum(request.events for request in requests),
        "bytes_received": sum(request.bytes for request in requests),
        "last": [dataclasses.asdict(request) for request in requests[-PAGE:]],
    }
