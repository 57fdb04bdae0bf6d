"""One client connection: reads requests, meets them with the fault of the plan, and answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol, cast

from dbt_posthog_sync.testing import capture_v0, capture_v1, private_api, views
from dbt_posthog_sync.testing.account import Account, RequestRecord
from dbt_posthog_sync.testing.captured import Choice, Outcome, no_choice
from dbt_posthog_sync.testing.faults import (
    Arrival,
    ArrivalKind,
    CloseConnection,
    CutAnswer,
    CutRequest,
    Delay,
    EventResults,
    ExpiredKey,
    Fault,
    FaultPlan,
    LoseAnswer,
    Status,
    retry_after_header,
)
from dbt_posthog_sync.testing.request_v1 import RETRY_AFTER, error_reply
from dbt_posthog_sync.testing.wire import Reply, Request

_CHUNK_BYTES = 256 * 1024
_OTHER_BODY_LIMIT = 1024 * 1024
_API_BODY_LIMIT = 20 * 1024 * 1024
_V1_TAGS = {
    400: "invalid_batch",
    401: "invalid_api_token",
    402: "billing_limit_exceeded",
    408: "request_timeout",
    413: "payload_too_large",
    415: "unsupported_encoding",
    429: "rate_limited",
    503: "service_unavailable",
    504: "gateway_timeout",
}
"""Names of v1's errors (PostHog/posthog: rust/capture/src/v1/error.rs)."""


class _Host(Protocol):
    """What a connection needs of its server."""

    account: Account
    plan: Callable[[ArrivalKind], FaultPlan | None]
    stopping: threading.Event


@dataclass(frozen=True, slots=True)
class _Route:
    """How a path is answered that faults can hit: ingestion, or `api` for what PostHog answers beside it."""

    protocol: ArrivalKind
    body_limit: int


class Connection(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive; answers leave in one packet where they fit."""

    protocol_version = "HTTP/1.1"
    server_version = "dbt-posthog-sync-stand-in"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def setup(self) -> None:
        """Prepare the connection; see `socketserver`."""
        super().setup()
        self._host = cast("_Host", self.server)
        self._body: bytes | None = None
        self._size = 0

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve()

    def do_PATCH(self) -> None:
        """Answer a PATCH."""
        self._serve()

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing; the request log is in the account."""

    def handle_expect_100(self) -> bool:
        """Invite the body at once: the answer must not wait in the buffer."""
        invited = super().handle_expect_100()
        self.wfile.flush()
        return invited

    # Routing.

    def _serve(self) -> None:
        """Answer one request."""
        self._body, self._size = None, 0
        path = self.path.partition("?")[0]
        route = self._route(path)
        if route is None:
            self._finish(views.answer(self._request(_OTHER_BODY_LIMIT), self._host.account))
        elif route.protocol == "v1" and self.command != "POST":
            self._finish(Reply.from_text(405, ""), route)
        elif route.protocol == "v1" and not self._host.account.config.v1_routed:
            self._read_body(route.body_limit)
            self._finish(Reply.from_text(404, ""), route)
        else:
            self._arrive(path, route)

    def _route(self, path: str) -> _Route | None:
        """Return how this path is answered; None for the stand-in's own views."""
        config = self._host.account.config
        bare = path.removesuffix("/")
        if path.startswith((private_api.PREFIX, "/flags", "/array/")):
            return _Route("api", _API_BODY_LIMIT)
        if bare == capture_v1.PATH:
            return _Route("v1", config.v1_wire_bytes)
        return _Route("v0", config.v0_wire_bytes) if bare in capture_v0.PATHS else None

    # Ingestion.

    def _arrive(self, path: str, route: _Route) -> None:
        """Ask the plan for a fault and meet it."""
        host = self._host
        is_api = route.protocol == "api"
        raw_events = capture_v1.raw_events if route.protocol == "v1" else capture_v0.raw_events

        def events() -> tuple[dict[str, Any], ...]:
            return () if is_api else raw_events(self._request(route.body_limit), host.account.config)

        arrival = Arrival(
            host.account.next_api_number() if is_api else host.account.next_number(),
            route.protocol,
            path,
            self._attempt(),
            events,
        )
        plan = host.plan(route.protocol)
        fault = None if plan is None else plan.fault_for(arrival)
        if host.account.config.latency_seconds and not is_api:
            host.stopping.wait(host.account.config.latency_seconds)
        self._meet(fault, route)

    def _meet(self, fault: Fault | None, route: _Route) -> None:  # noqa: C901 - a decision table, one branch a fault
        """Do what the fault says; every branch ends with an answer, a hang-up, or both in halves."""
        match fault:
            case None:
                self._finish_outcome(self._captured(route), route)
            case Delay(seconds, then):
                self._host.stopping.wait(seconds)
                self._meet(then, route)
            case EventResults(choice, retry_after):
                outcome = self._captured(route, choice)
                self._finish_outcome(_with_retry_after(outcome, retry_after), route, fault)
            case Status() | ExpiredKey():
                self._read_body(route.body_limit)
                self._finish(_fault_reply(fault, route.protocol), route, fault)
            case CutRequest():
                self._read_half()
                self._hang_up(route, fault)
            case CloseConnection():
                self._read_body(route.body_limit)
                self._hang_up(route, fault)
            case LoseAnswer():
                self._hang_up(route, fault, self._captured(route).received)
            case CutAnswer():
                outcome = self._captured(route)
                self._send(outcome.reply, len(outcome.reply.body) // 2)
                self._hang_up(route, fault, outcome.received)

    def _captured(self, route: _Route, choice: Choice = no_choice) -> Outcome:
        """Let the protocol judge the request and the account keep the events; the private API does what it says."""
        account = self._host.account
        request = self._request(route.body_limit)
        if route.protocol == "api":
            return Outcome(views.answer(request, account))
        capture = capture_v0.capture if route.protocol == "v0" else capture_v1.capture
        outcome = capture(request, account.config, choice)
        account.take(outcome)
        return outcome

    def _finish_outcome(self, outcome: Outcome, route: _Route, fault: Fault | None = None) -> None:
        """Finish with what capture answers."""
        self._finish(outcome.reply, route, fault, outcome.received)

    def _finish(self, reply: Reply, route: _Route | None = None, fault: Fault | None = None, events: int = 0) -> None:
        """Log the request, then send the answer, so that a client that has it finds the log complete."""
        self._record(reply.status, route, fault, events)
        self._send(reply, len(reply.body))

    def _hang_up(self, route: _Route, fault: Fault, events: int = 0) -> None:
        """Log the request and close the connection instead of answering."""
        self._record(0, route, fault, events)
        self.close_connection = True

    def _record(self, status: int, route: _Route | None, fault: Fault | None, events: int) -> None:
        """Log the request; looking at the stand-in itself is not logged."""
        path = self.path.partition("?")[0]
        if path.startswith(views.VIEWS):
            return
        if path.startswith("/array/"):
            path = "/array/:token/config"  # the log holds no keys
        self._host.account.record(
            RequestRecord(
                method=self.command,
                path=path,
                protocol="" if route is None or route.protocol == "api" else route.protocol,
                status=status,
                bytes=self._size,
                events=events,
                attempt=self._attempt(),
                request_id=self.headers.get("PostHog-Request-Id", ""),
                encoding=self.headers.get("Content-Encoding", ""),
                fault="" if fault is None else type(fault).__name__,
            )
        )

    def _attempt(self) -> int:
        """Return what the client says in PostHog-Attempt."""
        text = self.headers.get("PostHog-Attempt", "1")
        return int(text) if text.isascii() and text.isdigit() else 1

    # Bytes in.

    def _request(self, limit: int) -> Request:
        """Return the request as a value, with its body read."""
        path, _, query = self.path.partition("?")
        body = self._read_body(limit)
        return Request(
            method=self.command,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            received_at=datetime.now(timezone.utc),
            oversized=self._size > limit,
        )

    def _read_body(self, limit: int) -> bytes:
        """Read the body once. What is beyond the limit is read and thrown away, so that the answer is heard."""
        if self._body is None:
            chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
            kept: list[bytes] = []
            for piece in self._chunked_pieces() if chunked else self._pieces(self._length()):
                self._size += len(piece)
                if self._size <= limit:
                    kept.append(piece)
            self._body = b"".join(kept)
        return self._body

    def _read_half(self) -> None:
        """Read half of the body and leave the rest."""
        for piece in self._pieces(self._length() // 2):
            self._size += len(piece)

    def _length(self) -> int:
        """Return the announced length of the body."""
        text = self.headers.get("Content-Length", "0")
        return int(text) if text.isascii() and text.isdigit() else 0

    def _pieces(self, count: int) -> Iterator[bytes]:
        """Read so many bytes, piece by piece.

        Raises:
            ConnectionResetError: the client hung up before it had sent them.
        """
        while count > 0:
            piece = self.rfile.read(min(count, _CHUNK_BYTES))
            if not piece:
                raise ConnectionResetError("the client hung up in the middle of its request")
            count -= len(piece)
            yield piece

    def _chunked_pieces(self) -> Iterator[bytes]:
        """Read a body in chunked transfer coding (RFC 9112, 7.1); trailers are read and ignored."""
        while size := int(self.rfile.readline().partition(b";")[0].strip() or b"0", 16):
            yield from self._pieces(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    # Bytes out.

    def _send(self, reply: Reply, body_bytes: int) -> None:
        """Send the answer, or only so many bytes of its body."""
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[:body_bytes])
        self.wfile.flush()


def _with_retry_after(outcome: Outcome, retry_after: float | datetime | None) -> Outcome:
    """Replace PostHog's Retry-After, where there is one, by that of the fault."""
    if retry_after is None or RETRY_AFTER not in outcome.reply.headers:
        return outcome
    return replace(outcome, reply=replace(outcome.reply, headers=retry_after_header(retry_after)))


def _fault_reply(fault: Status | ExpiredKey, protocol: ArrivalKind) -> Reply:
    """Build the answer of a fault in the words of the protocol."""
    if isinstance(fault, ExpiredKey):
        if protocol == "api":
            return private_api.unknown_key()
        if protocol == "v1":
            return error_reply(401, "invalid_api_token", "The provided API token is not valid.")
        return Reply.from_text(401, "api_key does not resolve to a known project")
    if protocol == "v1" and not fault.body:
        reply = error_reply(fault.code, _V1_TAGS.get(fault.code, "internal_error"))
        return replace(reply, headers=fault.headers or reply.headers)
    return Reply(fault.code, fault.body.encode(), fault.content_type, fault.headers)
