"""A trial: an event that PostHog lets a function run over, and the requests that came out.

PostHog's test of a function answers with the lines of its log; a mocked request is one of them (PostHog/posthog:
plugin-server/src/cdp/cdp-api.ts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_posthog_sync.exposure import Forwarding, PostHogProperty
from dbt_posthog_sync.forwarding.template_text import properties_in
from dbt_posthog_sync.forwarding.wanted import WantedFunction

MASK = "****"
ADDRESS = "somebody@example.com"
"""The address of the person in a trial that knows no rows."""

UNKNOWN_PERSON = "00000000-0000-4000-8000-000000000000"
"""Stands for the id of a person that PostHog does not have yet."""

_FETCH = re.compile(r"fetch\('([^']*)', ?(\{.*\})\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a function makes.

    Attributes:
        method: such as POST.
        url: where it goes.
        headers: with the key masked.
        body: the JSON value in it.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a trial.

    Attributes:
        status: PostHog's word: success, error, or skipped where the filters left the event out.
        errors: what was thrown.
        requests: what was or would be sent.
        lines: other lines of the log.
    """

    status: str
    errors: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def has_unknown_person(self) -> bool:
        """True where a request carries the id that stands for a person whom PostHog does not have."""
        return any(UNKNOWN_PERSON in json.dumps(request.body) for request in self.requests)


def read_trial(payload: Any) -> Trial | None:
    """What PostHog answers to a trial; None for an answer that is none."""
    if not isinstance(payload, dict) or not isinstance(payload.get("status"), str):
        return None
    logs = payload.get("logs")
    said = [str(line.get("message", "")) for line in logs if isinstance(line, dict)] if isinstance(logs, list) else []
    read = [(line, _request(line)) for line in said]
    errors = payload.get("errors")
    return Trial(
        payload["status"],
        tuple(map(str, errors)) if isinstance(errors, list) else (),
        tuple(request for _, request in read if request is not None),
        tuple(line for line, request in read if request is None and "was mocked with arguments" not in line),
    )


def _request(line: str) -> Request | None:
    found = _FETCH.fullmatch(line.strip())
    if found is None:
        return None
    try:
        options = json.loads(found[2])
    except ValueError:
        return None
    headers = {str(name): str(value) for name, value in (options.get("headers") or {}).items()}
    shown = {name: MASK if name.lower() == "authorization" else value for name, value in headers.items()}
    return Request(str(options.get("method", "GET")), found[1], shown, options.get("body"))


def without_texts(trial: Trial, *hidden: str) -> Trial:
    """A trial whose errors and lines do not repeat these texts."""

    def cleaned(text: str) -> str:
        for one in hidden:
            text = text.replace(one, MASK)
        return text

    return replace(trial, errors=tuple(map(cleaned, trial.errors)), lines=tuple(map(cleaned, trial.lines)))


def globals_of(message: Mapping[str, Any], person_id: str, person: Mapping[str, Any]) -> dict[str, Any]:
    """PostHog's globals of a message that is sent to it, over the person as PostHog has it before.

    Args:
        message: event, distinct_id, timestamp, uuid and properties.
        person_id: UUID of the person.
        person: its properties.
    """
    properties = message.get("properties") or {}
    once = {name: value for name, value in (properties.get("$set_once") or {}).items() if name not in person}
    after = {**person, **once, **(properties.get("$set") or {})}
    kept = {name: value for name, value in after.items() if name not in (properties.get("$unset") or ())}
    return {
        "event": {
            "uuid": message.get("uuid"),
            "event": message.get("event"),
            "distinct_id": message.get("distinct_id"),
            "properties": properties,
            "timestamp": message.get("timestamp"),
            "elements_chain": "",
            "url": "",
        },
        "person": {"id": person_id, "name": "", "url": "", "properties": kept},
        "groups": {},
    }


def made_up_globals(wanted: WantedFunction) -> dict[str, Any]:
    """Globals of an event that nobody sent: the first that the filters name, of somebody with an address."""
    route = wanted.exposure.route
    holders: dict[str, dict[str, Any]] = {"person": {"email": ADDRESS}, "event": {}}
    if isinstance(route, Forwarding):
        email = route.email
        read = [("person", email.name)] if isinstance(email, PostHogProperty) else properties_in(email.text)
        for holder, name in read:
            holders[holder][name] = ADDRESS
    message = {
        "uuid": "00000000-0000-4000-8000-000000000001",
        "event": wanted.filters["events"][0]["id"],
        "distinct_id": "dbt-posthog-sync:trial",
        "timestamp": "2000-01-01T00:00:00Z",
        "properties": holders["event"],
    }
    return globals_of(message, UNKNOWN_PERSON, holders["person"])
