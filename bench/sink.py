"""The sink: a server that takes what PostHog would take, at as little cost as Python allows, in its own process.

It keeps the bodies as they come and counts them when the tally is asked for, after its CPU time was read, so counting
costs the measured run nothing. Results per message (v1) cannot be had that way: for these it decompresses each body at
once and looks for the uuids, and its CPU time says what that costs.
"""

from __future__ import annotations

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

ROOT = Path(__file__).resolve().parent.parent

_V1_PATH = b"/i/v1/analytics/events"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_UUID = re.compile(rb'\{"uuid":"([0-9a-f-]{36})"')


@dataclass(frozen=True, slots=True)
class Tally:
    """What arrived since the last tally.

    Attributes:
        requests: requests of any kind, refused ones included.
        events: messages in the requests that were accepted.
        wire_bytes: bytes of the accepted bodies as they came.
        json_bytes: bytes of the accepted bodies, decompressed.
        cpu_seconds: CPU time of the sink, without that of counting.
        seconds: from the end of the first request to the last answer.
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
        self._words = (protocol, str(latency))

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
    speaks_v1: bool
    latency: float
    requests: int = 0
    bodies: list[bytes] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    cpu: float = 0.0

    def answer(self, path: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to messages."""
        self.requests += 1
        self.first = self.first or time.monotonic()
        if (path == _V1_PATH) != self.speaks_v1:
            return 404, b"{}"
        self.bodies.append(body)
        if not self.speaks_v1:
            return 200, b'{"status":"Ok"}'
        results = [b'"%b":{"result":"ok"}' % uuid for uuid in _UUID.findall(_plain(body))]
        return 200, b'{"results":{%b}}' % b",".join(results)

    def tally(self) -> bytes:
        """What arrived since the last time, as JSON."""
        cpu, seconds, events, size = time.process_time() - self.cpu, self.last - self.first, 0, 0
        for body in self.bodies:
            plain = _plain(body)
            events += plain.count(b'"event":')
            size += len(plain)
        tally = Tally(self.requests, events, sum(map(len, self.bodies)), size, cpu, seconds)
        self.bodies, self.requests, self.first, self.last = [], 0, 0.0, 0.0
        self.cpu = time.process_time()
        return json.dumps({name: getattr(tally, name) for name in Tally.__slots__}).encode()


class _Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, one after the other; nothing else is sent here."""

    def __init__(self, arrivals: _Arrivals) -> None:
        self._arrivals = arrivals
        self._received = bytearray()
        self._body_at = 0
        self._ends = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._ends and (head_ends := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, head_ends)
            self._body_at = head_ends + 4
            self._ends = self._body_at + (int(length[1]) if length else 0)
        if self._ends and len(self._received) >= self._ends:
            path = bytes(self._received[:200]).split(b" ", 2)[1]
            body = bytes(self._received[self._body_at : self._ends])
            self._received.clear()
            self._ends = 0
            self._take(path, body)

    def _take(self, path: bytes, body: bytes) -> None:
        if path == b"/tally":
            self._write(200, self._arrivals.tally())
            return
        answer = self._arrivals.answer(path, body)
        if self._arrivals.latency:
            asyncio.get_running_loop().call_later(self._arrivals.latency, self._write, *answer)
        else:
            self._write(*answer)

    def _write(self, status: int, body: bytes) -> None:
        self._arrivals.last = time.monotonic()
        self._transport.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


def _plain(body: bytes) -> bytes:
    return zlib.decompress(body, wbits=31) if body.startswith(b"\x1f\x8b") else body


async def _serve(protocol: str, latency: str) -> None:
    arrivals = _Arrivals(protocol == "v1", float(latency))
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(arrivals), "127.0.0.1", 0)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
