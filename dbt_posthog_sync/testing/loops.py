"""A local stand-in for Loops: its API over HTTP, for demos, for tests and for your own CI.

with LoopsStandIn() as loops:
...  # send to loops.url with the key loops.api_key
loops.team.contacts, loops.team.events
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from dbt_posthog_sync.testing.faults import (
    Arrival,
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
)
from dbt_posthog_sync.testing.listener import Listener
from dbt_posthog_sync.testing.loops_team import LoopsStandInConfig, LoopsTeam, Ruling

PREFIX = "/api"
_UNKNOWN_KEY = "Invalid API key"


@dataclass(frozen=True, slots=True)
class LoopsRequest:
    """A request as it came, without its key.

    Attributes:
        number: counted from 1.
        method: such as PUT.
        path: without the prefix `/api` and the query.
        body: the parsed JSON, or None.
        idempotency_key: the header, or None.
        status: what was answered; 0 when the connection was closed instead.
    """

    number: int
    method: str
    path: str
    body: Any
    idempotency_key: str | None
    status: int


class LoopsStandIn:
    """A local Loops: `with LoopsStandIn() as loops: ... loops.url ... loops.team.contacts`.

    Attributes:
        config: what it plays.
        team: contacts, events and properties; they outlive the server.
    """

    def __init__(
        self,
        config: LoopsStandInConfig | None = None,
        faults: FaultPlan | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.config = config or LoopsStandInConfig()
        self.team = LoopsTeam(self.config, clock)
        self._faults = faults
        self._clock = clock
        self._address = (host, port)
        self._lock = threading.Lock()
        self._requests: list[LoopsRequest] = []
        self._number = 0
        self._answered_at: list[float] = []
        self._server: _Server | None = None

    def __enter__(self) -> LoopsStandIn:
        self._server = _Server(self._address, self)
        self._address = (self._address[0], self._server.server_port)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """Address of the API, to point a client at."""
        return f"http://{self._address[0]}:{self._address[1]}{PREFIX}"

    @property
    def api_key(self) -> str:
        """The first API key."""
        return self.config.api_keys[0]

    @property
    def requests(self) -> tuple[LoopsRequest, ...]:
        """Every request so far, in the order of their answers."""
        with self._lock:
            return tuple(self._requests)

    def inject(self, faults: FaultPlan | None) -> None:
        """Replace the fault plan; None ends all faults. Request numbers go on."""
        self._faults = faults

    def arrival(self, method: str, path: str) -> tuple[int, Fault | None]:
        """Number a request, and say which fault it meets."""
        with self._lock:
            self._number += 1
            number = self._number
        faults = self._faults
        return number, faults.fault_for(Arrival(number, "api", f"{method} {path}")) if faults else None

    def remember(self, request: LoopsRequest) -> None:
        """Write down what a request came to."""
        with self._lock:
            self._requests.append(request)

    def remaining(self) -> int | None:
        """How many more requests this second answers, this one included; None where there is no limit."""
        limit = self.config.requests_per_second
        if limit is None:
            return None
        now = self._clock()
        with self._lock:
            self._answered_at = [moment for moment in self._answered_at if now - moment < 1.0]
            left = limit - len(self._answered_at)
            if left > 0:
                self._answered_at.append(now)
            return left

    def rule(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> Ruling:
        """Answer a request by the rules of the team."""
        if headers.get("Authorization", "").removeprefix("Bearer ") not in self.config.api_keys:
            return Ruling.refusal(_UNKNOWN_KEY, 401)
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        routes: dict[str, dict[str, Callable[[], Ruling]]] = {
            "/v1/api-key": {"GET": lambda: Ruling(200, {"success": True, "teamName": self.config.team_name})},
            # The reference names PUT; PostHog's own template posts, and is answered.
            "/v1/contacts/update": dict.fromkeys(("PUT", "POST"), lambda: self.team.update_contact(body)),
            "/v1/contacts/find": {
                "GET": lambda: self.team.find_contact(query.get("email", ""), query.get("userId", ""))
            },
            "/v1/contacts/properties": {
                "GET": self.team.list_properties,
                "POST": lambda: self.team.create_property(body),
            },
            "/v1/lists": {"GET": self.team.list_mailing_lists},
            "/v1/events/send": {"POST": lambda: self.team.send_event(body, headers.get("Idempotency-Key"))},
        }
        methods = routes.get(parts.path.removeprefix(PREFIX))
        if methods is None:
            return Ruling.refusal("Not found", 404)
        return methods[method]() if method in methods else Ruling.refusal("Method not allowed", 405)


class _Server(Listener):
    """The listener with what connections need."""

    def __init__(self, address: tuple[str, int], stand_in: LoopsStandIn) -> None:
        self.stand_in = stand_in
        super().__init__(address, _Connection)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "dbt-posthog-sync-loops-stand-in"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    _left: int | None = None

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve()

    def do_PUT(self) -> None:
        """Answer a PUT."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing; the stand-in has the requests."""

    def _serve(self) -> None:
        stand_in = cast("_Server", self.server).stand_in
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path.removeprefix(PREFIX)
        number, fault = stand_in.arrival(self.command, path)
        while isinstance(fault, Delay):
            time.sleep(fault.seconds)
            fault = fault.then
        body = _parsed(content)
        ruling, is_lost = self._ruling(stand_in, fault, body)
        status = 0 if ruling is None or is_lost else ruling.status
        key = self.headers.get("Idempotency-Key")
        stand_in.remember(LoopsRequest(number, self.command, path, body, key, status))
        if ruling is None or is_lost:
            self.close_connection = True
            return
        self._answer(ruling, fault)

    def _ruling(self, stand_in: LoopsStandIn, fault: Fault | None, body: Any) -> tuple[Ruling | None, bool]:
        """What is answered, None for nothing; and whether the answer is lost on its way."""
        self._left = None
        match fault:
            case Status(code=code, body=text):
                return Ruling(code, text if text else {"success": False, "message": "Injected"}), False
            case ExpiredKey():
                return Ruling.refusal(_UNKNOWN_KEY, 401), False
            case CloseConnection() | CutRequest():
                return None, True
        self._left = stand_in.remaining()
        if self._left is not None and self._left <= 0:
            return Ruling.refusal("Rate limit exceeded", 429), False
        ruling = stand_in.rule(self.command, self.path, cast("Mapping[str, str]", self.headers), body)
        return ruling, isinstance(fault, (LoseAnswer, CutAnswer, EventResults))

    def _answer(self, ruling: Ruling, fault: Fault | None) -> None:
        content = ruling.value.encode() if isinstance(ruling.value, str) else json.dumps(ruling.value).encode()
        self.send_response(ruling.status)
        self.send_header("Content-Type", "text/plain" if isinstance(ruling.value, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in fault.headers if isinstance(fault, Status) else ():
            self.send_header(name, value)
        limit = cast("_Server", self.server).stand_in.config.requests_per_second
        if limit is not None and self._left is not None:
            self.send_header("x-ratelimit-limit", str(limit))
            self.send_header("x-ratelimit-remaining", str(max(self._left - 1, 0)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
