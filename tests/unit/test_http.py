from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3.exceptions import NewConnectionError

from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import (
    RetryPolicy,
    Timeout,
    host_of,
    new_session,
    one_line,
    post,
    redacted,
    retry_after_seconds,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
URL = "https://eu.i.posthog.com/batch/"


def no_chance() -> float:
    return 0.0


def most_chance() -> float:
    return 1.0


class Failing(BaseAdapter):
    """Raises instead of sending."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise self.error

    def close(self) -> None:
        """Nothing is open."""


class Recording(BaseAdapter):
    """Keeps what would be sent and answers with one status."""

    def __init__(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.status = status
        self.headers = headers or {}
        self.requests: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.requests.append(request)
        response = requests.Response()
        response.status_code = self.status
        response.headers.update(self.headers)
        response.request = request
        response.url = request.url or ""
        response._content = b"{}"
        return response

    def close(self) -> None:
        """Nothing is open."""


def session_with(adapter: BaseAdapter) -> requests.Session:
    session = new_session(URL, pool=2, version="1.2.3")
    session.mount("https://", adapter)
    return session


def test_waits_double_up_to_the_cap() -> None:
    policy = RetryPolicy(base=1, cap=30)
    assert [policy.wait(n, None, no_chance) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_jitter_shortens_a_wait_by_its_share_at_most() -> None:
    assert RetryPolicy(base=8, jitter=0.25).wait(1, None, most_chance) == 6


def test_retry_after_is_a_floor_and_is_not_cut() -> None:
    policy = RetryPolicy(base=1, cap=30)
    assert policy.wait(1, 60.0, no_chance) == 60
    assert policy.wait(5, 2.0, no_chance) == 16


def test_attempts_end_by_count() -> None:
    policy = RetryPolicy(attempts=3, total_seconds=100)
    assert [policy.allows(n, 0, 0) for n in (1, 2, 3)] == [True, True, False]


def test_attempts_end_when_the_next_would_start_too_late() -> None:
    policy = RetryPolicy(attempts=99, total_seconds=100)
    assert policy.allows(1, 70, 30)
    assert not policy.allows(1, 71, 30)


def test_a_large_attempt_number_does_not_overflow() -> None:
    assert RetryPolicy(cap=30).wait(100_000, None, no_chance) == 30


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Fri, 02 Jan 2026 03:04:15 -0000", 10.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_redaction_masks_every_secret() -> None:
    assert redacted("key phc_a and phx_b", "phc_a", "", "phx_b") == "key *** and ***"


def test_foreign_text_becomes_one_short_printable_line() -> None:
    assert one_line("a\n b\x1b[31m\tc") == "a b [31m c"
    assert len(one_line("x" * 5000)) == 200


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:secret@posthog.example:8443/x", "posthog.example:8443"),
        ("https://eu.i.posthog.com/batch/", "eu.i.posthog.com"),
        ("https://h:notaport/", "h"),
        ("nonsense", "the host"),
    ],
)
def test_a_host_is_named_without_credentials(url: str, host: str) -> None:
    assert host_of(url) == host


def test_a_post_names_the_program_and_keeps_its_authorization(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine eu.i.posthog.com login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    adapter = Recording()
    post(session_with(adapter), URL, {"Authorization": "Bearer phc_x"}, b"{}")
    headers = adapter.requests[0].headers
    assert headers["User-Agent"] == "dbt-posthog-sync/1.2.3"
    assert headers["Authorization"] == "Bearer phc_x"


def test_the_proxy_and_certificates_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company.pem")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    outside, inside = (new_session(url, pool=1, version="1") for url in (URL, "https://inside.example"))
    assert outside.proxies["https"] == "http://proxy.example:3128"
    assert "https" not in inside.proxies
    assert outside.verify == "/etc/company.pem"


def test_a_redirect_is_not_followed() -> None:
    adapter = Recording(302, {"Location": "https://elsewhere.example/"})
    assert post(session_with(adapter), URL, {}, b"{}").status_code == 302
    assert len(adapter.requests) == 1


def test_every_request_has_a_timeout() -> None:
    session = new_session(URL, pool=1, version="1", timeout=Timeout(connect=0.05, read=0.05))
    adapter = session.get_adapter(URL)
    seen: list[Any] = []

    class Stop(requests.exceptions.ConnectionError):
        pass

    def urlopen(**options: Any) -> None:
        seen.append((options["timeout"].connect_timeout, options["timeout"].read_timeout))
        raise Stop

    pool = type("Pool", (), {"urlopen": staticmethod(urlopen)})()
    adapter.get_connection_with_tls_context = lambda *_, **__: pool  # type: ignore[attr-defined]
    with pytest.raises(DestinationUnavailable):
        post(session, URL, {}, b"{}")
    assert seen == [(0.05, 0.05)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.ConnectTimeout("secret"), "no connection in time"),
        (requests.exceptions.ReadTimeout("secret"), "no answer in time"),
        (requests.exceptions.SSLError("secret"), "the encrypted connection failed"),
        (requests.exceptions.ProxyError("http://user:secret@proxy"), "HTTPS_PROXY"),
        (requests.exceptions.ChunkedEncodingError("secret"), "the connection was lost"),
        (requests.exceptions.ContentDecodingError("secret"), "cannot be decompressed"),
        (requests.exceptions.ConnectionError(ConnectionResetError(104, "Connection reset by peer")), "reset by peer"),
    ],
)
def test_network_errors_name_the_host_and_heal(error: Exception, words: str) -> None:
    with pytest.raises(DestinationUnavailable, match=r"eu\.i\.posthog\.com") as caught:
        post(session_with(Failing(error)), URL, {}, b"{}")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_operating_system_says_why_a_connection_failed() -> None:
    refused = NewConnectionError(None, "[Errno 111] Connection refused")  # type: ignore[arg-type]
    refused.__context__ = ConnectionRefusedError(111, "Connection refused")
    error = requests.exceptions.ConnectionError(refused)
    with pytest.raises(DestinationUnavailable, match="Connection refused"):
        post(session_with(Failing(error)), URL, {}, b"{}")


def test_an_untrusted_certificate_is_not_retried() -> None:
    error = requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    with pytest.raises(DestinationRefused, match="REQUESTS_CA_BUNDLE"):
        post(session_with(Failing(error)), URL, {}, b"{}")


def test_a_wrong_address_is_not_retried() -> None:
    with pytest.raises(DestinationRefused, match="Check the host"):
        post(session_with(Recording()), "htp:/eu.i.posthog.com", {}, b"{}")


def test_a_header_that_cannot_be_sent_does_not_show_its_value() -> None:
    with pytest.raises(DestinationRefused) as caught:
        post(session_with(Recording()), URL, {"Authorization": "Bearer phc_secret\n"}, b"{}")
    assert "phc_secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
