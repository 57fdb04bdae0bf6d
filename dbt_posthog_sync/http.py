"""Reaching a server: sessions that always time out, a retry policy as a value, and errors in our own words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0

MASK = "***"


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long one request may take: to connect, and between two reads of the answer."""

    connect: float = CONNECT_SECONDS
    read: float = READ_SECONDS


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently the same request is repeated.

    Attributes:
        attempts: how many attempts in all, the first included.
        total_seconds: no attempt starts later than this after the first.
        base: seconds before the second attempt; each further wait is twice as long.
        cap: longest wait of our own choosing, as PostHog's SDKs have it.
        jitter: share of a wait that is left to chance, so that senders do not return in step.
    """

    attempts: int = 8
    total_seconds: float = 300.0
    base: float = 1.0
    cap: float = 30.0
    jitter: float = 0.5

    def wait(self, attempt: int, retry_after: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after `attempt` failed.

        What the server asks for is a floor and is not cut: coming back sooner would only be refused again. A
        demand that does not fit into `total_seconds` ends the attempts instead (see `allows`).

        Args:
            attempt: the attempt that failed, counted from 1.
            retry_after: seconds the server asked for, if it did.
            random: gives a number in [0, 1).
        """
        doubled = self.base * 2.0 ** min(attempt - 1, 30)
        backoff = min(self.cap, doubled) * (1.0 - self.jitter * random())
        return max(backoff, retry_after or 0.0)

    def allows(self, attempt: int, elapsed: float, wait: float) -> bool:
        """Whether another attempt may follow `attempt`, `elapsed` seconds after the first began, after `wait`."""
        return attempt < self.attempts and elapsed + wait <= self.total_seconds


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date; None when absent or unreadable (RFC 9110, 10.2.3)."""
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        return _seconds_until(text, now)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        # The obsolete "-0000" zone and asctime dates parse as naive; HTTP dates are always UTC.
        moment = moment.replace(tzinfo=timezone.utc)
    return max((moment - now).total_seconds(), 0.0)


_ADDRESS = re.compile(r"[^\s\"'<>(),;:=]+@[^\s\"'<>(),;:=]+")


def redacted(text: str, *secrets: str) -> str:
    """Return foreign text with every secret and every e-mail address masked."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return _ADDRESS.sub(MASK, text)


def one_line(text: str, limit: int = 200) -> str:
    """Cut foreign text to one printable line that is safe in a message or a log."""
    line = "".join(c if c.isprintable() else " " for c in text[: limit * 4])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def new_session(url: str, *, pool: int, version: str, timeout: Timeout | None = None) -> requests.Session:
    """Make a session for one host and `pool` requests in flight; threads may share it.

    Proxies and certificates come from the environment as requests reads them (HTTPS_PROXY, NO_PROXY,
    REQUESTS_CA_BUNDLE), but once: reading them anew costs a tenth of a request. Repeating a request is the caller's
    business, so the transport never does.
    """
    session = requests.Session()
    environment = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies.update(environment["proxies"])
    session.verify = environment["verify"]
    # With trust in the environment, requests also looks into ~/.netrc and would replace our Authorization header.
    session.trust_env = False
    session.headers["User-Agent"] = f"dbt-posthog-sync/{version}"
    # Load balancers set cookies; ingestion needs none, and a shared jar is the one part threads would fight over.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _TimedAdapter(timeout or Timeout(), pool)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _TimedAdapter(HTTPAdapter):
    """Sends no request without a timeout."""

    def __init__(self, timeout: Timeout, pool: int) -> None:
        self._timeout = (timeout.connect, timeout.read)
        super().__init__(pool_connections=4, pool_maxsize=max(pool, 1), max_retries=0)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        *transport: Any,
        **options: Any,
    ) -> requests.Response:
        """Send the request; see `requests.adapters.HTTPAdapter.send`."""
        return super().send(request, stream, timeout or self._timeout, *transport, **options)


def post(session: requests.Session, url: str, headers: Mapping[str, str], body: bytes) -> requests.Response:
    """Make one POST and read the whole answer, whatever its status; redirects are not followed.

    A redirected POST becomes a GET in most clients, and the project key would follow to another host.

    Raises:
        DestinationUnavailable: the host could not be reached or did not answer in time.
        DestinationRefused: the address, the proxy setting or the certificate is wrong.
    """
    with reaching(url):
        return session.post(url, data=body, headers=dict(headers), allow_redirects=False)


def put(session: requests.Session, url: str, headers: Mapping[str, str], body: bytes) -> requests.Response:
    """Make one PUT and read the whole answer, whatever its status; see `post` for the rest."""
    with reaching(url):
        return session.put(url, data=body, headers=dict(headers), allow_redirects=False)


def get(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Make one GET and read the whole answer, whatever its status; see `post` for the rest."""
    with reaching(url):
        return session.get(url, headers=dict(headers), allow_redirects=False)


def patch(session: requests.Session, url: str, headers: Mapping[str, str], body: bytes) -> requests.Response:
    """Make one PATCH and read the whole answer, whatever its status; see `post` for the rest."""
    with reaching(url):
        return session.patch(url, data=body, headers=dict(headers), allow_redirects=False)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Translate the errors of requests for `url` into ours; their own texts may quote headers, so none is passed on."""
    try:
        yield
    except requests.exceptions.InvalidHeader as error:
        # Its text quotes the header's value, which may be a key: not even the cause may carry it on.
        raise _in_our_words(host_of(url), error) from None
    except requests.exceptions.RequestException as error:
        raise _in_our_words(host_of(url), error) from error


def _in_our_words(
    host: str, error: requests.exceptions.RequestException
) -> DestinationUnavailable | DestinationRefused:
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DestinationRefused(
            f"{host}: its certificate is not trusted here. Behind a company proxy, point REQUESTS_CA_BUNDLE to the "
            "company's certificates."
        )
    if isinstance(error, _HEALING):
        return DestinationUnavailable(f"{host}: {_what_happened(error)}")
    return DestinationRefused(
        f"{host}: no request can be made ({type(error).__name__}). Check the host and the proxy settings."
    )


_HEALING = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


def _what_happened(error: requests.exceptions.RequestException) -> str:
    match error:  # the order matters: the first, third and fourth are connection errors too
        case requests.exceptions.ConnectTimeout():
            return "no connection in time"
        case requests.exceptions.Timeout():
            return "no answer in time"
        case requests.exceptions.SSLError():
            return "the encrypted connection failed"
        case requests.exceptions.ProxyError():
            return "the proxy of HTTP_PROXY or HTTPS_PROXY did not pass the request on"
        case requests.exceptions.ContentDecodingError():
            return "the answer cannot be decompressed"
        case _:
            return _cause(error)


def host_of(url: str) -> str:
    """The host and port of a URL, without any user name or password in it."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname}{port}" if parts.hostname else "the host"


def _cause(error: BaseException) -> str:
    """The operating system's words for a failed connection, such as "Connection refused"."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return one_line(seen.strerror)
        reason = seen.args[-1] if seen.args else None
        nested = getattr(reason, "reason", reason)
        seen = nested if isinstance(nested, BaseException) and nested is not seen else seen.__context__
    return "the connection was lost"
