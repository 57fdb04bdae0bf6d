"""Everything the stand-in has seen: one project per key, and a log of the requests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.testing.captured import Outcome
from dbt_posthog_sync.testing.config import StandInConfig
from dbt_posthog_sync.testing.forwarding import Forwarding
from dbt_posthog_sync.testing.personal_key import Throttle
from dbt_posthog_sync.testing.project import Counts, Project
from dbt_posthog_sync.testing.tables import Tables


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, without keys and payload.

    Attributes:
        method: GET or POST.
        path: without the query.
        protocol: v0, v1, or the empty string for what is no ingestion.
        status: status of the answer; 0 where an injected fault left the client without one.
        bytes: size of the body as sent.
        events: events in the request, whether they were kept or not; 0 for a refused request.
        attempt: what the client says in PostHog-Attempt; 1 without it.
        request_id: what the client says in PostHog-Request-Id; empty without it.
        encoding: Content-Encoding; empty without one.
        fault: name of the injected fault; empty for none.
    """

    method: str
    path: str
    protocol: str
    status: int
    bytes: int
    events: int = 0
    attempt: int = 1
    request_id: str = ""
    encoding: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts for a closing table; pairs are (name, count).

    Attributes:
        project: what the main project holds.
        requests: ingestion requests by path.
        statuses: ingestion requests by status; 0 for those left without an answer.
        events_received: events in all ingestion requests, repeats and lost ones included.
        bytes_received: bytes of all ingestion requests.
    """

    project: Counts
    requests: tuple[tuple[str, int], ...]
    statuses: tuple[tuple[int, int], ...]
    events_received: int
    bytes_received: int


class Account:
    """The projects and the request log. Safe to use from several threads."""

    def __init__(self, config: StandInConfig) -> None:
        self.config = config
        self.projects = {token: Project(person_processing=config.person_processing) for token in config.tokens}
        self._forwardings = {
            token: Forwarding(config.loops_url, config.test_account_filters) for token in config.tokens
        }
        self._lock = threading.Lock()
        self._requests: list[RequestRecord] = []
        self._ingestions = 0
        self._api_requests = 0
        self._blind_queries = config.blind_queries
        self.throttle = Throttle(config.api_limits)
        self._tables: dict[str, Tables] = {}
        self._answers: dict[str, dict[str, Any]] = {}

    @property
    def project(self) -> Project:
        """The main project: that of the first key."""
        return self.projects[self.config.tokens[0]]

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """Every request so far, in the order in which they were finished."""
        with self._lock:
            return tuple(self._requests)

    def next_number(self) -> int:
        """Count one more ingestion request."""
        with self._lock:
            self._ingestions += 1
            return self._ingestions

    def next_api_number(self) -> int:
        """Count one more request that is no ingestion."""
        with self._lock:
            self._api_requests += 1
            return self._api_requests

    def tables(self, token: str) -> Tables:
        """The tables of one project, as queries see them."""
        with self._lock:
            if token not in self._tables:
                self._tables[token] = Tables(self.projects[token])
            return self._tables[token]

    def forwarding(self, token: str) -> Forwarding:
        """The destinations of one project."""
        return self._forwardings[token]

    def kept_answer(self, question: str) -> dict[str, Any] | None:
        """PostHog's cache of answers: whoever does not ask for a fresh one gets the old one."""
        with self._lock:
            return self._answers.get(question)

    def keep_answer(self, question: str, answer: dict[str, Any]) -> None:
        """Keep an answer for those who take an old one."""
        with self._lock:
            self._answers[question] = answer

    def sees_events(self, tables: Collection[str]) -> bool:
        """Tell whether a query over these tables comes late enough to see events."""
        with self._lock:
            if "events" not in tables or not self._blind_queries:
                return True
            self._blind_queries -= 1
            return False

    def record(self, request: RequestRecord) -> None:
        """Log a finished request."""
        with self._lock:
            self._requests.append(request)

    def take(self, outcome: Outcome) -> None:
        """Give the events of a request to the project of its key; events of unknown keys are lost."""
        project = self.projects.get(outcome.token)
        if project is not None:
            project.take(outcome.captured, outcome.lost)
            self._forwardings[outcome.token].offer(outcome.captured, project.person)
        elif outcome.captured:
            # Nobody owns them; the main project shows them so that they can be found at all.
            self.project.lose("unknown project API key", outcome.captured)

    def reset(self) -> None:
        """Forget all events and requests, and count from 1 again; destinations stay as they are set up."""
        with self._lock:
            self._requests.clear()
            self._answers.clear()
            self._ingestions = self._api_requests = 0
            self._blind_queries = self.config.blind_queries
        for project in self.projects.values():
            project.reset()
        for forwarding in self._forwardings.values():
            forwarding.reset()


def summary(account: Account) -> Summary:
    """Count what arrived and what was kept."""
    ingestions = [request for request in account.requests if request.protocol]
    return Summary(
        project=account.project.counts(),
        requests=_counted(ingestions, lambda request: request.path),
        statuses=tuple(sorted(Counter(request.status for request in ingestions).items())),
        events_received=sum(request.events for request in ingestions),
        bytes_received=sum(request.bytes for request in ingestions),
    )


def _counted(requests: Iterable[RequestRecord], name: Callable[[RequestRecord], str]) -> tuple[tuple[str, int], ...]:
    """Count requests by a name of theirs."""
    return tuple(sorted(Counter(map(name, requests)).items()))
