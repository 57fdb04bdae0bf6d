"""Loops as a destination: each message is one request of its API, and so each batch is one message.

Facts are from loops.so/docs/api-reference: contacts are updated or created, events carry an idempotency key that is
answered with 409 when it comes again within 24 hours, and a team may make ten requests a second.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

import requests

from dbt_posthog_sync import __version__
from dbt_posthog_sync.contact_property import ContactProperty
from dbt_posthog_sync.destinations import (
    SEAM,
    UUID_PLACE,
    Answered,
    Batch,
    Outcome,
    Poisoned,
    Refusal,
    RenderedRequest,
    RequestIdentity,
    Row,
    TryAgain,
    identity_of,
)
from dbt_posthog_sync.destinations.loops_answers import (
    Reply,
    check_property,
    delivery_verdict,
    existing_properties,
    property_verdict,
)
from dbt_posthog_sync.destinations.request_rate import RequestRate
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import MASK, Timeout, get, host_of, new_session, post, put, retry_after_seconds
from dbt_posthog_sync.loops_settings import LOOPS_HOST, LOOPS_REQUESTS_PER_SECOND
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import LoopsObject

CONTACT_PATH = "/v1/contacts/update"
EVENT_PATH = "/v1/events/send"
PROPERTIES_PATH = "/v1/contacts/properties"
KEY_PATH = "/v1/api-key"

MAX_MESSAGE_BYTES = 900 * 1024
"""Loops names no limit; a body of this size is an accident."""

_BODY_BEGINS = UUID_PLACE.stop + 2  # behind the uuid, its quote and the comma
_TRIES = 4
"""How often a request that is one too many is made here; the delivery repeats it on top of that."""


@dataclass(frozen=True, slots=True)
class LoopsConfig:
    """What the destination needs to know.

    Attributes:
        object: contacts or events.
        api_key: the Loops API key; empty when nothing will be sent.
        host: address of the API, such as `https://app.loops.so/api`.
        properties: contact properties that must exist before the first contact is sent.
        requests_per_second: highest rate of requests.
        timeout: limits of one request.
        in_flight: requests at once; the number of connections kept open.
        version: version of this program.
    """

    object: LoopsObject
    api_key: Secret = field(repr=False)
    host: str = LOOPS_HOST
    properties: tuple[ContactProperty, ...] = ()
    requests_per_second: float = LOOPS_REQUESTS_PER_SECOND
    timeout: Timeout = Timeout()  # noqa: RUF009 (a frozen value)
    in_flight: int = 4
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time, to be replaced in tests.

    Attributes:
        clock: seconds of a clock that never goes back.
        pause: waits so many seconds.
    """

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep


class Loops:
    """Delivers contacts or events to one Loops team. Safe to call from several threads.

    Attributes:
        rate: at which requests may go; Loops counts by team, so destinations of one team share it.
    """

    def __init__(
        self,
        config: LoopsConfig,
        *,
        session: requests.Session | None = None,
        surroundings: Surroundings | None = None,
        rate: RequestRate | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            config: what to send where.
            session: connections; None makes them.
            surroundings: the clock, and how to wait.
            rate: shared by all destinations of one team, because Loops counts by team; None makes one.
        """
        around = surroundings or Surroundings()
        self._config = config
        self._session = session or new_session(
            config.host, pool=config.in_flight, version=config.version, timeout=config.timeout
        )
        self._pause = around.pause
        self.rate = rate or RequestRate(config.requests_per_second, around.clock)
        self._lock = threading.Lock()
        self._properties_lock = threading.Lock()
        self._are_properties_there = not config.properties
        self._wrong_property: DestinationRefused | None = None
        self._has_accepted = False
        self._requests_sent = 0
        self._bytes_sent = 0

    def __repr__(self) -> str:
        return f"Loops({self._config.host!r})"

    @property
    def identity(self) -> str:
        """Host and a hash of the API key; see `Destination.identity`."""
        return identity_of(self._config.host, self._config.api_key.reveal())

    @property
    def max_message_bytes(self) -> int:
        """See `Destination.max_message_bytes`."""
        return MAX_MESSAGE_BYTES

    @property
    def requests_sent(self) -> int:
        """Requests made so far, repeats included."""
        return self._requests_sent

    @property
    def bytes_sent(self) -> int:
        """Bytes of request bodies put on the wire so far, repeats included."""
        return self._bytes_sent

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def send(self, batch: Batch, identity: RequestIdentity, attempt: int) -> Outcome:  # noqa: ARG002 - the protocol's
        """Make the request of a batch of one message; see `Destination.send`.

        Raises:
            DestinationRefused: the key is refused, or a contact property cannot be had.
        """
        if not self._config.api_key.reveal():
            raise DestinationRefused("No Loops API key is set, so nothing can be sent to Loops.")
        (row,) = batch.rows()
        method, path, headers = self._way(row)
        try:
            self._ensure_properties()
            reply = self._reach(method, path, headers, body_of(row))
        except DestinationUnavailable as error:
            return TryAgain(str(error))
        verdict = delivery_verdict(reply, is_event=self._config.object is LoopsObject.EVENTS)
        if verdict is None:
            self._has_accepted = True
            return Answered((row.position,))
        if isinstance(verdict, TryAgain):
            return verdict
        if not self._has_accepted:
            # As long as Loops has taken nothing, the fault may lie in what all messages share; the delivery finds out.
            return Poisoned(verdict)
        return Answered(refused=(Refusal(row.position, verdict),))

    def _way(self, row: Row) -> tuple[str, str, dict[str, str]]:
        """Method, path and headers of a message."""
        if self._config.object is LoopsObject.EVENTS:
            return "POST", EVENT_PATH, {"Idempotency-Key": row.uuid}
        return "PUT", CONTACT_PATH, {}

    def _ensure_properties(self) -> None:
        """Create the contact properties that Loops does not have: it takes no others.

        Raises:
            DestinationRefused: one has another type there, or cannot be created.
            DestinationUnavailable: Loops does not answer.
        """
        with self._properties_lock:
            if self._wrong_property is not None:  # another thread has found it
                raise self._wrong_property
            if not self._are_properties_there:
                self._create_properties()
                self._are_properties_there = True

    def _create_properties(self) -> None:
        existing = existing_properties(self._reach("GET", PROPERTIES_PATH, {}, b""))
        try:
            for wanted in self._config.properties:
                if wanted.name in existing:
                    check_property(wanted, existing[wanted.name])
                else:
                    body = json.dumps({"name": wanted.name, "type": wanted.type}).encode()
                    property_verdict(wanted, self._reach("POST", PROPERTIES_PATH, {}, body))
        except DestinationRefused as error:
            self._wrong_property = error
            raise

    def _reach(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Make a request at the rate that Loops allows, again while it says that it was one too many."""
        for _ in range(_TRIES):
            wait = self.rate.reserve()
            if wait > 0:
                self._pause(wait)
            reply = self._request(method, path, headers, body)
            if not reply.is_too_many:
                self.rate.passed()
                break
            self.rate.refused(reply.retry_after)
        return reply

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        config = self._config
        key = config.api_key.reveal()
        with self._lock:
            self._requests_sent += 1
            self._bytes_sent += len(body)
        url, sent = config.host + path, {**self._headers(key), **headers}
        if method == "GET":
            response = get(self._session, url, sent)
        else:
            response = (put if method == "PUT" else post)(self._session, url, sent, body)
        return Reply(
            host=host_of(config.host),
            status=response.status_code,
            body=response.content,
            retry_after=retry_after_seconds(response.headers.get("Retry-After"), datetime.now(timezone.utc)),
            secret=key,
        )

    def _headers(self, key: str) -> dict[str, str]:
        program = f"dbt-posthog-sync/{self._config.version}"
        return {"User-Agent": program, "Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def rendered(self, batch: Batch, identity: RequestIdentity) -> tuple[RenderedRequest, ...]:  # noqa: ARG002
        """The request of each message; see `RunDestination.rendered`."""
        return tuple(self._rendered_one(row) for row in batch.rows())

    def _rendered_one(self, row: Row) -> RenderedRequest:
        method, path, headers = self._way(row)
        sent = {**self._headers(MASK), **headers}
        return RenderedRequest(method, self._config.host + path, tuple(sent.items()), body_of(row).decode())


def body_of(row: Row) -> bytes:
    """The JSON body that the warehouse built of a row."""
    return b"{%b}" % row.message[_BODY_BEGINS:].replace(SEAM, b"")
