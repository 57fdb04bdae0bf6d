"""The private API: what PostHog tells of one project to the holder of a personal API key.

Facts are from PostHog/posthog (posthog/api/person.py, posthog/hogql/constants.py) and posthog.com/docs/api.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import requests

from dbt_posthog_sync import __version__
from dbt_posthog_sync.budget import Budget, Budgets, Patience
from dbt_posthog_sync.destinations.posthog_answers import HttpAnswer
from dbt_posthog_sync.errors import AnswerCut, DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.http import (
    Timeout,
    get,
    host_of,
    new_session,
    one_line,
    patch,
    post,
    redacted,
    retry_after_seconds,
)
from dbt_posthog_sync.private_answer import (
    ApiPerson,
    ApiProject,
    Deletion,
    KeyStanding,
    read_deletion,
    read_persons,
    read_project,
    read_rows,
)
from dbt_posthog_sync.private_refusal import API_HOST_ADVICE, Asker, refusal
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Settings

CURRENT_PROJECT = "@current"
"""The project that the key's owner looked at last; debug says so, because a click changes it."""

QUERY_ROWS = 50_000
"""Most rows of one answer (PostHog/posthog: posthog/hogql/constants.py)."""

PERSONS_AT_ONCE = 200
"""More ids are cut off without a word (PostHog/posthog: posthog/api/person.py, batch_by_distinct_ids)."""

DELETES_AT_ONCE = 1_000
"""PostHog/posthog: posthog/api/person.py, bulk_delete."""

_READ_SECONDS = 120.0  # a query may wait 30 s for its turn, and large answers take their time
_CONNECTIONS = 4
_SHOWN_VALUE = 3  # shorter values say nothing of anybody, and masking them would garble the answer
_LIMIT = re.compile(r"\blimit\s+(\d+)\s*;?\s*$", re.IGNORECASE)
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class PrivateApiConfig:
    """What the client needs to know.

    Attributes:
        host: address of the private API, such as `https://us.posthog.com` (`Host.api`).
        personal_key: the personal API key.
        project_id: number of the project as text, or `@current`.
        key_variable: name of the environment variable that the key came from, for advice.
        timeout: limits of one request.
    """

    host: str
    personal_key: Secret
    project_id: str = CURRENT_PROJECT
    key_variable: str = "POSTHOG_PERSONAL_API_KEY"
    timeout: Timeout = Timeout(read=_READ_SECONDS)  # noqa: RUF009 (a frozen value)


def private_api_config(settings: Settings, personal_key: Secret, host: Host | None = None) -> PrivateApiConfig:
    """How the private API is reached, as the settings say; `host` asks another one than theirs."""
    return PrivateApiConfig(
        host=(host or settings.host).api,
        personal_key=personal_key,
        project_id=settings.project_id or CURRENT_PROJECT,
        key_variable=settings.personal_key_variable,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: what is asked, whom it counts for, who needs it, and what no message may repeat.

    With a body it is a POST, unless it `changes` what is there. `once` never repeats it: twice would be too often.
    """

    path: str
    budget: Budget
    needed_by: str
    body: Mapping[str, Any] | None = None
    private: Sequence[str] = ()
    changes: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class ProjectRequest:
    """A request for something of the project that other modules know how to read.

    Attributes:
        path: what follows the project's number in the path.
        needed_by: what needs the answer, for messages.
        body: the JSON of a POST or PATCH; None for a GET.
        private: texts that no message may repeat.
        changes: true for a PATCH.
        once: true where a repeat would do more than the request did.
    """

    path: str
    needed_by: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    private: tuple[str, ...] = field(default=(), repr=False)
    changes: bool = False
    once: bool = False


class PrivateApi:
    """Asks PostHog about one project. Threads may share it; give all clients of a project the same budgets."""

    def __init__(
        self,
        config: PrivateApiConfig,
        *,
        budgets: Budgets | None = None,
        patience: Patience | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self._config = config
        self._patience = patience or Patience()
        self._budgets = budgets or Budgets.of_posthog(self._patience)
        self._session = session or new_session(
            config.host, pool=_CONNECTIONS, version=__version__, timeout=config.timeout
        )
        self._lock = threading.Lock()
        self._calls = 0

    @property
    def calls(self) -> int:
        """Requests made so far, repeats included."""
        return self._calls

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def query(
        self, hogql: str, values: Mapping[str, Any] | None = None, *, name: str, needed_by: str, may_fill: bool = False
    ) -> list[tuple[Any, ...]]:
        """Run a HogQL query now, past PostHog's cache, and return its rows. Needs the scope query:read.

        Args:
            hogql: the query; it ends in `LIMIT n`, at most 50,000, because PostHog gives 100 rows without one.
            values: what stands for `{name}` in the query.
            name: what PostHog's query log calls it.
            needed_by: what needs the answer, for messages: a model or a command.
            may_fill: True where as many rows as the limit hide none: the caller asks for the next page, or for one row.

        Raises:
            ValueError: the query has no limit, or a higher one than PostHog's.
            AnswerCut: there may be more rows than were given.
            DestinationRefused: the key, its scopes, the project or the query is wrong.
            DestinationUnavailable: PostHog did not answer, for as long as the patience lasts.
        """
        limit = _limit_of(hogql)
        question = {"kind": "HogQLQuery", "query": hogql, "values": dict(values or {})}
        # Answers are cached by default; an identity from yesterday's cache would be sent to a person who is gone.
        body = {"query": question, "name": name, "refresh": "force_blocking"}
        path = self._project_path("query/")
        private = tuple(_texts(values))
        rows, has_more = self._ask(_Call(path, self._budgets.queries, needed_by, body, private), read_rows)
        if (has_more and len(rows) < limit) or (len(rows) >= limit and not may_fill):
            raise AnswerCut(
                f"PostHog gave {len(rows):,} rows for the query `{name}` of {needed_by}, and there may be more: the "
                f"query asks for {limit:,} at most. Nothing was concluded from the part; please report this."
            )
        return rows

    def persons_by_distinct_ids(self, ids: Iterable[str], *, needed_by: str) -> Mapping[str, ApiPerson]:
        """Find persons; ids that no person has are absent. Needs the scope person:read. Raises as `query` does."""
        found: dict[str, ApiPerson] = {}
        path = self._project_path("persons/batch_by_distinct_ids/")
        for chunk in _chunks(dict.fromkeys(ids), PERSONS_AT_ONCE):
            call = _Call(path, self._budgets.persons, needed_by, {"distinct_ids": chunk}, chunk)
            found.update(self._ask(call, read_persons))
        return found

    def delete_persons(
        self, *, ids: Iterable[str] = (), distinct_ids: Iterable[str] = (), delete_events: bool, needed_by: str
    ) -> Deletion:
        """Delete persons, named by UUIDs or by distinct ids. Needs the scope person:write. Raises as `query` does.

        PostHog deletes a person soon and its events at the weekend. Where an answer was lost and the request was
        repeated, persons that the first one deleted are not counted as found.

        Args:
            ids: UUIDs of persons.
            distinct_ids: any distinct id of each person; give these or `ids`.
            delete_events: delete the events of the persons too.
            needed_by: what wants it, for messages.

        Raises:
            ValueError: both kinds of ids are given.
        """
        by_id, by_distinct_id = list(dict.fromkeys(ids)), list(dict.fromkeys(distinct_ids))
        if by_id and by_distinct_id:
            raise ValueError("PostHog takes ids or distinct_ids in one request, not both")
        name, wanted = ("ids", by_id) if by_id else ("distinct_ids", by_distinct_id)
        path = self._project_path("persons/bulk_delete/")
        total = Deletion()
        for chunk in _chunks(wanted, DELETES_AT_ONCE):
            body = {name: chunk, "delete_events": delete_events}
            total += self._ask(_Call(path, self._budgets.deletes, needed_by, body, chunk), read_deletion)
        return total

    def project(self, *, needed_by: str) -> ApiProject:
        """The project itself. Needs the scope project:read. Raises as `query` does."""
        return self._ask(_Call(self._project_path(""), self._budgets.others, needed_by), read_project)

    def ask(self, asked: ProjectRequest, read: Callable[[Any], _Read | None]) -> _Read:
        """Ask for something of the project, and read the answer. Raises as `query` does, and ChangedMeanwhile."""
        path = self._project_path(asked.path)
        private, once = asked.private, asked.once
        call = _Call(path, self._budgets.others, asked.needed_by, asked.body, private, asked.changes, once)
        return self._ask(call, read)

    def who_am_i(self) -> KeyStanding:
        """Say whether the key is one: PostHog answers 401 for no key and 403 for one without user:read.

        Raises:
            DestinationRefused: the host has no private API.
            DestinationUnavailable: PostHog did not answer.
        """
        call = _Call("/api/users/@me/", self._budgets.others, "the check of the key")
        answer = self._answer(call)
        if answer.status == 401:
            return KeyStanding.INVALID
        if answer.status == 403:
            return KeyStanding.VALID_WITHOUT_USER
        if answer.status == 200 and isinstance(answer.json(), dict):
            return KeyStanding.VALID
        raise self._refusal(call, answer)

    def _project_path(self, rest: str) -> str:
        return f"/api/projects/{self._config.project_id}/{rest}"

    def _ask(self, call: _Call, read: Callable[[Any], _Read | None]) -> _Read:
        """Make the request until it is answered, and read the answer; None is an answer nobody can read."""
        answer = self._answer(call, is_readable=lambda payload: read(payload) is not None)
        result = read(answer.json()) if _is_success(answer.status) else None
        if result is None:
            raise self._refusal(call, answer)
        return result

    def _answer(self, call: _Call, is_readable: Callable[[Any], bool] = lambda _: True) -> HttpAnswer:
        """An answer that another attempt would not better."""
        patience = self._patience
        begun, attempt = patience.clock(), 0
        while True:
            attempt += 1
            retry_after: float | None = None
            try:
                answer = self._attempt(call)
            except DestinationUnavailable as error:
                problem = str(error)
            else:
                if not _may_heal(answer.status) and (not _is_success(answer.status) or is_readable(answer.json())):
                    return answer
                retry_after = answer.retry_after
                problem = self._problem(answer)
            wait = patience.retry.wait(attempt, retry_after, patience.random)
            if call.once or not patience.retry.allows(attempt, patience.clock() - begun, wait):
                raise DestinationUnavailable(f"{problem}. It is needed by {call.needed_by}; run again later.")
            if retry_after:
                call.budget.close(retry_after)
            patience.pause(wait)

    def _attempt(self, call: _Call) -> HttpAnswer:
        url = self._config.host.rstrip("/") + call.path
        headers = {"Authorization": f"Bearer {self._config.personal_key.reveal()}"}
        with call.budget.request():
            with self._lock:
                self._calls += 1
            if call.body is None:
                response = get(self._session, url, headers)
            else:
                headers["Content-Type"] = "application/json"
                send = patch if call.changes else post
                response = send(self._session, url, headers, json.dumps(call.body).encode())
        return HttpAnswer(
            host=host_of(self._config.host),
            status=response.status_code,
            body=response.content,
            retry_after=retry_after_seconds(response.headers.get("Retry-After"), self._patience.now()),
            location=response.headers.get("Location", ""),
            secret=self._config.personal_key.reveal(),
        )

    def _problem(self, answer: HttpAnswer) -> str:
        if _is_success(answer.status):
            return f"{answer.host} answered {answer.status} without PostHog's words; {API_HOST_ADVICE}"
        wait = f" and asks to wait {answer.retry_after:.0f} s" if answer.retry_after else ""
        return f"{answer.host} answered {answer.status} to the private API{wait}"

    def _refusal(self, call: _Call, answer: HttpAnswer) -> DestinationRefused:
        asker = Asker(call.needed_by, call.path, self._config.project_id, self._config.key_variable)
        return refusal(answer, self._said(call, answer), asker)

    def _said(self, call: _Call, answer: HttpAnswer) -> str:
        """PostHog's reason on one line, without the key and without anything that was asked about."""
        payload = answer.json()
        detail = payload.get("detail") if isinstance(payload, dict) else None
        if not isinstance(detail, str):
            return ""
        # The longest first, or masking a part of a value would leave the rest of it.
        hidden = sorted((value for value in call.private if len(value) >= _SHOWN_VALUE), key=len, reverse=True)
        return one_line(redacted(detail, answer.secret, *hidden))


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _may_heal(status: int) -> bool:
    return status in (408, 425, 429) or status >= 500


def _limit_of(hogql: str) -> int:
    found = _LIMIT.search(hogql)
    if found is None:
        raise ValueError("a HogQL query must end in LIMIT: without it PostHog gives 100 rows and says nothing")
    limit = int(found.group(1))
    if not 1 <= limit <= QUERY_ROWS:
        raise ValueError(f"PostHog gives between 1 and {QUERY_ROWS:,} rows at once, not {limit:,}")
    return limit


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple() | set() | frozenset():
            for inner in value:
                yield from _texts(inner)


def _chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, size)):
        yield chunk
