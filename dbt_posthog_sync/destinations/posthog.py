"""PostHog as a destination: batches become requests of its ingestion API, and its answers become outcomes.

Facts and limits are from PostHog/posthog: rust/capture (v1 in src/v1/analytics, v0 in src/events/analytics.rs).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal, TypeAlias

import requests
from isal import isal_zlib

from dbt_posthog_sync import __version__
from dbt_posthog_sync.destinations import SEAM, Batch, Outcome, RenderedRequest, RequestIdentity, TryAgain, identity_of
from dbt_posthog_sync.destinations.posthog_answers import HttpAnswer, v0_outcome, v1_outcome
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable, SettingsError
from dbt_posthog_sync.http import MASK, Timeout, host_of, new_session, post, redacted, retry_after_seconds

Protocol: TypeAlias = Literal["auto", "v0", "v1"]
_Spoken: TypeAlias = Literal["v0", "v1"]

LIBRARY = "dbt-posthog-sync"
RUN_ID_PROPERTY = "dbt_posthog_sync_run_id"
"""Event property that names the run; without `$`, which is PostHog's own, so that it shows up in its interface."""

V1_PATH = "/i/v1/analytics/events"
V0_PATH = "/batch/"

MAX_MESSAGE_BYTES = 900 * 1024
"""PostHog's own SDKs drop larger events (posthog-python: consumer.py, MAX_MSG_SIZE); its queue ends at 1,000,000."""

MAX_TOKEN_LENGTH = 64
"""PostHog/posthog: rust/capture/src/token.rs."""

_GZIP = 31  # wbits of a gzip stream (docs.python.org: zlib.compressobj)
_SLICE = 100
"""Messages joined before they are compressed: few calls into zlib, and no second copy of the whole body."""


@dataclass(frozen=True, slots=True)
class PostHogConfig:
    """What the destination needs to know.

    Attributes:
        host: address of the ingestion host, such as `https://us.i.posthog.com`.
        project_key: the project API key (`phc_...`); empty when nothing will be sent.
        run_id: UUID text of the sync run, put on every event.
        protocol: v1, v0, or auto: v1 until the host answers that it has none.
        timeout: limits of one request.
        in_flight: requests at once; the number of connections kept open.
        version: version of this program as PostHog shows it (`$lib_version`).
    """

    host: str
    project_key: str = field(repr=False)
    run_id: str
    protocol: Protocol = "auto"
    timeout: Timeout = Timeout()  # noqa: RUF009 (a frozen value)
    in_flight: int = 8
    version: str = __version__

    def __post_init__(self) -> None:
        key = self.project_key.strip()
        if key.startswith(("phx_", "phs_")):
            raise SettingsError(
                f"The project API key starts with {key[:4]}, which is a personal or secret key. Ingestion takes the "
                "project API key (phc_...): PostHog > Settings > Project > General."
            )
        if not key.isascii() or not key.isprintable() or len(key) > MAX_TOKEN_LENGTH:
            raise SettingsError(
                f"The project API key has a character that no key has, or more than {MAX_TOKEN_LENGTH} of them. Copy "
                "it again from PostHog > Settings > Project > General."
            )
        # A newline from a secret file would otherwise end up in a header.
        object.__setattr__(self, "project_key", key)
        object.__setattr__(self, "host", self.host.strip().rstrip("/"))


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class PostHog:
    """Delivers batches to one PostHog project. Safe to call from several threads."""

    def __init__(
        self,
        config: PostHogConfig,
        *,
        session: requests.Session | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._config = config
        self._session = session or new_session(
            config.host, pool=config.in_flight, version=config.version, timeout=config.timeout
        )
        self._now = now
        self._lock = threading.Lock()
        self._spoken: _Spoken | None = None if config.protocol == "auto" else config.protocol
        self._requests_sent = 0
        self._bytes_sent = 0

    def __repr__(self) -> str:
        return f"PostHog({self._config.host!r})"

    @property
    def identity(self) -> str:
        """Host and a hash of the project key; see `Destination.identity`."""
        return identity_of(self._config.host, self._config.project_key)

    @property
    def max_message_bytes(self) -> int:
        """See `Destination.max_message_bytes`."""
        return MAX_MESSAGE_BYTES

    @property
    def protocol(self) -> _Spoken | None:
        """The protocol in use: v1, v0, or None while the host has not shown which it speaks."""
        return self._spoken

    @property
    def requests_sent(self) -> int:
        """Requests made so far, repeats included."""
        return self._requests_sent

    @property
    def bytes_sent(self) -> int:
        """Bytes of request bodies put on the wire so far, compressed, repeats included."""
        return self._bytes_sent

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def send(self, batch: Batch, identity: RequestIdentity, attempt: int) -> Outcome:
        """Make one attempt to deliver the batch; see `Destination.send`.

        While the protocol is unknown, a host without v1 (404, 405) is asked in v0 within the same attempt.
        """
        if not self._config.project_key:
            raise DestinationRefused("No project API key is set, so nothing can be sent to PostHog.")
        try:
            outcome = self._send_v0(batch, identity) if self._spoken == "v0" else None
            outcome = outcome or self._send_v1(batch, identity, attempt) or self._send_v0(batch, identity)
        except DestinationUnavailable as error:
            return TryAgain(str(error))
        return outcome

    def _send_v1(self, batch: Batch, identity: RequestIdentity, attempt: int) -> Outcome | None:
        """Send in v1; None means that this host speaks only v0."""
        answer = self._post("v1", batch, identity, attempt)
        if answer.status in (404, 405):
            with self._lock:
                if self._spoken is None:
                    self._spoken = "v0"
                if self._spoken == "v0":
                    return None
            if self._config.protocol == "auto":
                # It spoke v1 before: a proxy or a rollout is in the way, and v0 would lose the answers per message.
                return TryAgain(f"{answer.host} answered {answer.status} for a path it knew before")
        outcome = v1_outcome(batch, answer)
        if answer.status == 200 and not isinstance(outcome, TryAgain):
            with self._lock:
                self._spoken = self._spoken or "v1"
        return outcome

    def _send_v0(self, batch: Batch, identity: RequestIdentity) -> Outcome:
        return v0_outcome(batch, self._post("v0", batch, identity, 1))

    def _post(self, spoken: _Spoken, batch: Batch, identity: RequestIdentity, attempt: int) -> HttpAnswer:
        body = gzipped(self._body(spoken, batch, identity, self._config.project_key))
        headers = self._headers(spoken, identity, attempt, self._config.project_key)
        with self._lock:
            self._requests_sent += 1
            self._bytes_sent += len(body)
        response = post(self._session, self._url(spoken), headers, body)
        return HttpAnswer(
            host=host_of(self._config.host),
            status=response.status_code,
            body=response.content,
            retry_after=retry_after_seconds(response.headers.get("Retry-After"), self._now()),
            location=redacted(response.headers.get("Location", ""), self._config.project_key),
            secret=self._config.project_key,
        )

    def render(self, batch: Batch, identity: RequestIdentity, attempt: int = 1) -> RenderedRequest:
        """The request that `send` would make, with the key masked; nothing is sent and no key is needed."""
        spoken = self._spoken or "v1"
        return RenderedRequest(
            method="POST",
            url=self._url(spoken),
            headers=tuple(self._headers(spoken, identity, attempt, MASK).items()),
            body=b"".join(self._body(spoken, batch, identity, MASK)).decode(),
        )

    def rendered(self, batch: Batch, identity: RequestIdentity) -> tuple[RenderedRequest, ...]:
        """The one request of the batch; see `RunDestination.rendered`."""
        return (self.render(batch, identity),)

    def _url(self, spoken: _Spoken) -> str:
        return self._config.host + (V1_PATH if spoken == "v1" else V0_PATH)

    def _headers(self, spoken: _Spoken, identity: RequestIdentity, attempt: int, key: str) -> dict[str, str]:
        program = f"{LIBRARY}/{self._config.version}"
        shared = {"User-Agent": program, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        if spoken == "v0":
            return shared
        return {
            **shared,
            "Authorization": f"Bearer {key}",
            "PostHog-Sdk-Info": program,
            "PostHog-Attempt": str(attempt),
            "PostHog-Request-Id": identity.request_id,
            "PostHog-Request-Timestamp": self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _body(self, spoken: _Spoken, batch: Batch, identity: RequestIdentity, key: str) -> Iterator[bytes]:
        historical = b"true" if batch.historical else b"false"
        opening = b'"created_at":%b' % _json(identity.created_at) if spoken == "v1" else b'"api_key":%b' % _json(key)
        yield b'{%b,"historical_migration":%b,"batch":[' % (opening, historical)
        yield from _events(batch, self._middle(spoken))
        yield b"]}"

    def _middle(self, spoken: _Spoken) -> bytes:
        """What stands between a message's head and its own properties: the constants of every event.

        Without skew correction switched off, PostHog would move timestamps by the age of the request, and without
        `$geoip_disable` every person would live where the sync runs.
        """
        constants = b'"$geoip_disable":true,"%b":%b' % (RUN_ID_PROPERTY.encode(), _json(self._config.run_id))
        if spoken == "v1":  # takes $lib and $lib_version from PostHog-Sdk-Info
            return b',"options":{"disable_skew_correction":true},"properties":{%b' % constants
        library = (_json(LIBRARY), _json(self._config.version))
        return b',"properties":{"$ignore_sent_at":true,"$lib":%b,"$lib_version":%b,%b' % (*library, constants)


def _events(batch: Batch, middle: bytes) -> Iterator[bytes]:
    messages = batch.messages
    for start in range(0, len(messages), _SLICE):
        joined = b"}},{".join(messages[start : start + _SLICE])
        # One pass for all of them: a message has exactly one seam.
        yield b"%b{%b}}" % (b"," if start else b"", joined.replace(SEAM, middle))


def gzipped(parts: Iterator[bytes]) -> bytes:
    """Compress the parts as one gzip stream; level 1: a higher one costs more time than it saves on the wire."""
    compressor = isal_zlib.compressobj(level=1, wbits=_GZIP)
    compressed = [compressor.compress(part) for part in parts]
    return b"".join((*compressed, compressor.flush()))


def _json(text: str) -> bytes:
    return json.dumps(text).encode()
