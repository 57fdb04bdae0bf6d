"""The sink: a server that takes what PostHog would take, at as little cost as Python allows, in its own process.

It answers as PostHog does and keeps the bodies as they come. They are counted when the tally is asked for, after its
CPU time was read, so counting costs the measured run nothing. Results per message (v1) cannot be had that way: for
these it decompresses each body at once and looks for the uuids, and its CPU time says what that costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
import zlib
from dataclasses import dataclass, field
from pathlib import Path

V1_PATH = b"/i/v1/analytics/events"
ROOT = Path(__file__).resolve().parent.parent

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_UUID = re.compile(rb'\{"uuid":"([0-9a-f-]{36})"')
_EVENT = b'"event":'
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Tally:
    """What arrived since the last tally.

    Attributes:
        requests: requests of any kind, refused ones included.
        events: messages in the requests that were accepted.
        wire_bytes: bytes of the accepted bodies as they came.
        json_bytes: bytes of the accepted bodies, decompressed.
        cpu_seconds: CPU time of the sink, without that of counting.
        seconds: from the end of the first request to the end of the last answer.
    """

    requests: int
    events: int
    wire_bytes: int
    json_bytes: int
    cpu_seconds: float
    seconds: float


class Sink:
    """The server as the benchmark sees it; use as a context manager."""

    def __init__(self, protocol: str = "v0", latency: float = 0.0) -> None:
        self._words = ("--protocol", protocol, "--latency", str(latency))

    def __enter__(self) -> Sink:
        command = (sys.executable, "-m", "bench.sink", *self._words)
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tally(self) -> Tally:
        """Count what arrived, and forget it."""
        with urllib.request.urlopen(f"{self.url}/tally") as answer:
            return Tally(**json.load(answer))


@dataclass
class _Arrivals:
    protocol: bytes
    latency: float
    requests: int = 0
    bodies: list[bytes] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    cpu: float = 0.0

    def answer(self, path: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a message request."""
        self.requests += 1
        self.last = time.monotonic()
        self.first = self.first or self.last
        if (path == V1_PATH) != (self.protocol == b"v1"):
            return 404, b"{}"
        self.bodies.append(body)
        if self.protocol == b"v0":
            return 200, b'{"status":"Ok"}'
        found = _UUID.findall(_plain(body))
        return 200, b'{"results":{%b}}' % b",".join([b'"%b":{"result":"ok"}' % uuid for uuid in found])

    def tally(self) -> bytes:
        """What arrived since the last time, as JSON."""
        cpu = time.process_time()
        tally = {
            "requests": self.requests,
            "wire_bytes": sum(map(len, self.bodies)),
            "cpu_seconds": cpu - self.cpu,
            "seconds": self.last - self.first,
            "events": 0,
            "json_bytes": 0,
        }
        for body in self.bodies:
            plain = _plain(body)
            tally["events"] += plain.count(_EVENT)
            tally["json_bytes"] += len(plain)
        self.bodies, self.requests, self.first, self.last = [], 0, 0.0, 0.0
        self.cpu = time.process_time()
        return json.dumps(tally).encode()


class _Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, one after the other; nothing else is sent here."""

    def __init__(self, arrivals: _Arrivals) -> None:
        self._arrivals = arrivals
        self._received = bytearray()
        self._ends = 0
        self._body_at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._ends:
            head_ends = self._received.find(b"\r\n\r\n")
            if head_ends < 0:
                return
            length = _LENGTH.search(self._received, 0, head_ends)
            self._body_at = head_ends + 4
            self._ends = self._body_at + (int(length[1]) if length else 0)
        if len(self._received) >= self._ends:
            self._take()

    def _take(self) -> None:
        path = bytes(self._received[:200]).split(b" ", 2)[1]
        body = bytes(self._received[self._body_at : self._ends])
        self._received.clear()
        self._ends = 0
        if path == b"/tally":
            self._write(200, self._arrivals.tally())
            return
        status, answer = self._arrivals.answer(path, body)
        if self._arrivals.latency:
            asyncio.get_running_loop().call_later(self._arrivals.latency, self._write, status, answer)
        else:
            self._write(status, answer)

    def _write(self, status: int, body: bytes) -> None:
        self._arrivals.last = time.monotonic()
        head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


def _plain(body: bytes) -> bytes:
    return zlib.decompress(body, wbits=31) if body.startswith(_GZIP) else body


async def _serve(arrivals: _Arrivals) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(arrivals), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed; the address is the one line of standard output."""
    parser = argparse.ArgumentParser(prog="bench.sink", description=__doc__)
    parser.add_argument("--protocol", choices=("v0", "v1"), default="v0")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    asked = parser.parse_args()
    asyncio.run(_serve(_Arrivals(asked.protocol.encode(), asked.latency)))


if __name__ == "__main__":
    main()
