"""The stand-in's private API: the project, its persons, and HogQL, for the holders of personal API keys.

Rules: PostHog/posthog: posthog/api/person.py, posthog/auth.py, posthog/permissions.py, posthog/hogql/constants.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dbt_posthog_sync.testing import hog_functions
from dbt_posthog_sync.testing.account import Account
from dbt_posthog_sync.testing.asked import Asked, RefusedError, error_reply
from dbt_posthog_sync.testing.hogql import HogQlError, translated
from dbt_posthog_sync.testing.people import Person
from dbt_posthog_sync.testing.personal_key import PersonalKey
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.wire import Reply, Request

PREFIX = "/api/"
_LISTED = 100
_BATCH = 200
_BULK = 1_000
_SHOWN_IDS = 10
_PAGE_WORDS = frozenset({"email", "distinct_id", "limit", "offset"})
_FRESH = frozenset({"force_blocking", True})
_CACHED = frozenset({None, False, "blocking", "force_cache"})


_Answer: TypeAlias = Callable[[Asked], Reply]


def answer(request: Request, account: Account) -> Reply:
    """Answer a request of the private API."""
    if not account.config.private_api:
        return Reply(404, b"<html><body>Not found</body></html>", "text/html")
    if request.path.strip("/") == hog_functions.PUBLIC_TEMPLATES:
        return hog_functions.public_templates(request)
    route = _route(request)
    if route is None:
        return error_reply(404, "not_found", "Endpoint not found.")
    methods, answered, number, rest = route
    try:
        key = _key(request, account)
        if request.method not in methods.split():
            return error_reply(405, "method_not_allowed", f'Method "{request.method}" not allowed.')
        return answered(Asked(request, account, key, number, rest))
    except RefusedError as refused:
        return refused.reply


def _route(request: Request) -> tuple[str, _Answer, str, str] | None:
    """Methods, answer, project and rest of a path."""
    kind, _, rest = request.path.removeprefix(PREFIX).strip("/").partition("/")
    if (kind, rest) == ("users", "@me"):
        return "GET", _user, "", ""
    number, _, endpoint = rest.partition("/")
    if kind not in ("projects", "environments"):
        return None
    if endpoint in _ENDPOINTS:
        return *_ENDPOINTS[endpoint], number, ""
    name, _, rest = endpoint.partition("/")
    found = hog_functions.endpoint(name, rest)
    return None if found is None else (*found, number, rest)


def _key(request: Request, account: Account) -> PersonalKey:
    """The key in the header; a key that is unknown or expired is answered the same."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise RefusedError(error_reply(401, "not_authenticated", "Authentication credentials were not provided."))
    for key in account.config.personal_keys:
        if key.value == value.strip() and not key.expired:
            return key
    raise RefusedError(unknown_key())


def unknown_key() -> Reply:
    """What PostHog answers to a personal key that it does not know."""
    return error_reply(
        401, "authentication_failed", "Personal API key found in request Authorization header is invalid."
    )


# User and project.


def _user(asked: Asked) -> Reply:
    asked.needs("user:read")
    return Reply.from_json(200, {"uuid": "0190a000-0000-7000-8000-00000000000a", "email": "somebody@example.com"})


def _project(asked: Asked) -> Reply:
    asked.needs("project:read")
    number = asked.project_number
    return Reply.from_json(
        200, {"id": number, "name": f"Project {number}", "api_token": asked.token, "timezone": "UTC"}
    )


# Persons.


def _persons(asked: Asked) -> Reply:
    """List persons: found by ClickHouse, so without those that only Postgres has."""
    asked.needs("person:read")
    project = asked.project
    asked.counts_as("persons")
    words = asked.request.query_values()
    unknown = set(words) - _PAGE_WORDS
    if unknown:
        return error_reply(
            400, "invalid_input", f"The stand-in does not play these filters: {', '.join(sorted(unknown))}."
        )
    found = [person for person in _listed(project, words) if not person.is_ghost]
    offset, limit = _number(words.get("offset"), 0), _number(words.get("limit"), _LISTED)
    page = found[offset : offset + limit]
    following = f"?offset={offset + limit}&limit={limit}" if offset + limit < len(found) else None
    return Reply.from_json(200, {"next": following, "previous": None, "results": [_as_json(one) for one in page]})


def _listed(project: Project, words: Mapping[str, str]) -> list[Person]:
    if "distinct_id" in words:
        person = project.person(words["distinct_id"])
        found = [] if person is None else [person]
    else:
        found = list(project.persons)
    return [one for one in found if "email" not in words or one.properties.get("email") == words["email"]]


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default


def _batch_by_distinct_ids(asked: Asked) -> Reply:
    asked.needs("person:read")
    project = asked.project
    asked.counts_as("persons")
    wanted = asked.body().get("distinct_ids")
    ids = [one for one in wanted if isinstance(one, str)][:_BATCH] if isinstance(wanted, list) else []
    found = {distinct_id: project.person(distinct_id) for distinct_id in ids}
    return Reply.from_json(200, {"results": {one: _as_json(person) for one, person in found.items() if person}})


def _as_json(person: Person) -> dict[str, Any]:
    return {
        "id": person.uuid,
        "uuid": person.uuid,
        "distinct_ids": list(person.distinct_ids[:_SHOWN_IDS]),
        "properties": dict(person.properties),
        "is_identified": person.is_identified,
        "created_at": person.created_at.isoformat().replace("+00:00", "Z"),
    }


def _bulk_delete(asked: Asked) -> Reply:
    asked.needs("person:write")
    project = asked.project
    asked.counts_as("deletes")
    body = asked.body()
    ids, distinct_ids = body.get("ids"), body.get("distinct_ids")
    if bool(ids) == bool(distinct_ids):
        return error_reply(400, "invalid_input", "You need to specify either distinct_ids or ids")
    wanted = ids or distinct_ids
    if not isinstance(wanted, list) or len(wanted) > _BULK:
        return error_reply(
            400, "invalid_input", f"You can only pass {_BULK} {'ids' if ids else 'distinct_ids'} in one call"
        )
    delete_events = bool(body.get("delete_events"))
    found = project.delete_persons(
        uuids=wanted if ids else (), distinct_ids=distinct_ids or (), delete_events=delete_events
    )
    counts = {
        "persons_found": found,
        "persons_deleted": found,
        "events_queued_for_deletion": delete_events and found > 0,
        "recordings_queued_for_deletion": False,
        "deletion_errors": [],
    }
    return Reply.from_json(202, counts)


def _reset_distinct_id(asked: Asked) -> Reply:
    asked.needs("person:write")
    distinct_id = asked.body().get("distinct_id")
    if not distinct_id or not isinstance(distinct_id, str):
        return error_reply(400, "invalid_input", "distinct_id is required")
    asked.project.reset_distinct_id(distinct_id)
    return Reply.from_json(202, None)


# HogQL.


def _query(asked: Asked) -> Reply:
    asked.needs("query:read")
    number = asked.project_number
    asked.counts_as("queries")
    if not asked.account.throttle.begin_query():
        return error_reply(
            429, "concurrency_limit_exceeded", "You have exceeded the maximum number of concurrent queries."
        )
    try:
        if asked.account.config.query_seconds:
            time.sleep(asked.account.config.query_seconds)
        return Reply.from_json(200, _answered(asked, number))
    except HogQlError as error:
        return error_reply(400, "invalid_input", str(error))
    finally:
        asked.account.throttle.end_query()


def _answered(asked: Asked, number: int) -> dict[str, Any]:
    body = asked.body()
    query, refresh = body.get("query"), body.get("refresh")
    if not isinstance(query, dict) or query.get("kind") != "HogQLQuery" or not isinstance(query.get("query"), str):
        raise HogQlError("The stand-in plays queries of the kind HogQLQuery.")
    if isinstance(refresh, list | dict) or refresh not in _FRESH | _CACHED:
        raise HogQlError(f"The stand-in does not play refresh: {refresh}")
    key = f"{number}:{json.dumps(query, sort_keys=True)}"
    kept = asked.account.kept_answer(key)
    if kept is not None and refresh in _CACHED:
        return {**kept, "is_cached": True}
    translation = translated(query["query"], query.get("values") or {})
    tables = asked.account.tables(asked.token)
    columns, rows = tables.rows(translation, sees_events=asked.account.sees_events(translation.tables))
    answer = {"columns": columns, "results": rows[: translation.limit], "is_cached": False, "error": None}
    if not translation.has_own_limit:
        answer |= {"hasMore": len(rows) > translation.limit, "limit": translation.limit}
    asked.account.keep_answer(key, answer)
    return answer


_ENDPOINTS: Mapping[str, tuple[str, _Answer]] = {
    "": ("GET", _project),
    "query": ("POST", _query),
    "persons": ("GET", _persons),
    "persons/batch_by_distinct_ids": ("POST", _batch_by_distinct_ids),
    "persons/bulk_delete": ("POST", _bulk_delete),
    "persons/reset_person_distinct_id": ("POST", _reset_distinct_id),
}
"""Answers by what follows the project in the path."""
