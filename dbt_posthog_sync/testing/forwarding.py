"""Forwarding: captured events go to the enabled destinations of their project.

PostHog repeats a request three times within a few seconds, whatever Retry-After says, and then loses the event
(PostHog/posthog issue 92214). The stand-in does not wait in between.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dbt_posthog_sync.testing.captured import CapturedEvent
from dbt_posthog_sync.testing.hog_filters import matches
from dbt_posthog_sync.testing.hog_function import HogFunction, HogFunctions
from dbt_posthog_sync.testing.hog_run import run
from dbt_posthog_sync.testing.people import Person

ATTEMPTS = 3
LOOPS = "https://app.loops.so/api"
_TIMEOUT = 10.0

FindPerson: TypeAlias = Callable[[str], "Person | None"]
"""Finds the person of a distinct id."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One request of a destination.

    Attributes:
        function: id of the function.
        url: as its code says.
        method: as its code says.
        headers: as its code says; the key is in them.
        body: what its code sends.
        status: of the answer; 200 where nobody is asked.
        attempt: 1 for the first.
    """

    function: str
    url: str
    method: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any
    status: int
    attempt: int


class Forwarding:
    """The destinations of one project, and what they sent. Safe to use from several threads."""

    def __init__(self, loops_url: str | None = None, test_accounts: Iterable[Mapping[str, Any]] = ()) -> None:
        self.functions = HogFunctions()
        self._loops_url = loops_url
        self._test_accounts = tuple(test_accounts)
        self._lock = threading.Lock()
        self._sent: list[Forwarded] = []

    @property
    def sent(self) -> tuple[Forwarded, ...]:
        """Every request so far, repeats included."""
        with self._lock:
            return tuple(self._sent)

    def reset(self) -> None:
        """Forget the requests; functions stay."""
        with self._lock:
            self._sent.clear()

    def offer(self, events: Iterable[CapturedEvent], find: FindPerson) -> None:
        """Run every enabled function whose filters an event matches."""
        enabled = [one for one in self.functions.all if one.is_enabled and one.state != 3]
        for event in events if enabled else ():
            given = globals_of(event, find(event.distinct_id))
            for function in enabled:
                if self.is_wanted(function.values["filters"], given):
                    self._run(function, given)

    def is_wanted(self, filters: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        """Tell whether filters match, with the project's own for test accounts."""
        return matches(filters, given, self._test_accounts)

    def fetch(self, function: str, url: str, options: Mapping[str, Any]) -> tuple[int, Any]:
        """Make a request as PostHog does: at most three times."""
        status, answer = 0, None
        for attempt in range(1, ATTEMPTS + 1):
            status, answer = self._request(url, options)
            with self._lock:
                self._sent.append(
                    Forwarded(
                        function,
                        url,
                        str(options.get("method", "GET")),
                        dict(options.get("headers") or {}),
                        options.get("body"),
                        status,
                        attempt,
                    )
                )
            if status not in (0, 429) and status < 500:
                break
        return status or 503, answer

    def _run(self, function: HogFunction, given: Mapping[str, Any]) -> None:
        done = run(
            function.values["hog"], function.inputs, given, lambda url, options: self.fetch(function.id, url, options)
        )
        with self._lock:
            function.failed += bool(done.errors)
            function.succeeded += not done.errors

    def _request(self, url: str, options: Mapping[str, Any]) -> tuple[int, Any]:
        if self._loops_url is None or not url.startswith(LOOPS):
            return 200, {"success": True}
        request = urllib.request.Request(  # noqa: S310 - the address of another stand-in
            self._loops_url + url.removeprefix(LOOPS),
            data=json.dumps(options.get("body")).encode(),
            headers=dict(options.get("headers") or {}),
            method=str(options.get("method", "GET")),
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                return response.status, _read(response.read())
        except urllib.error.HTTPError as error:
            return error.code, _read(error.read())
        except OSError:
            return 0, None


def _read(body: bytes) -> Any:
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def globals_of(event: CapturedEvent, person: Person | None) -> dict[str, Any]:
    """What a function's code sees of an event and its person."""
    found = None if person is None else {"id": person.uuid, "name": person.uuid, "properties": dict(person.properties)}
    return {
        "event": {
            "uuid": event.uuid,
            "event": event.event,
            "distinct_id": event.distinct_id,
            "properties": dict(event.properties),
            "timestamp": event.timestamp.isoformat().replace("+00:00", "Z"),
            "elements_chain": "",
            "url": "",
        },
        "person": found,
        "groups": {},
        "project": {"id": 1, "name": "Project 1", "url": "http://localhost/project/1"},
    }
