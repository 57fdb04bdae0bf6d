"""What users would run instead, on the same rows and the same sink: posthog-python, and a loop with requests.

Each runs in a process of its own and reads the rows as its user would, through a cursor of the server's. Its seconds go
from the first row that is asked for to the last answer.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bench.model import EVENTS, TABLE, Place
from bench.program import KEY, measured
from bench.sink import ROOT, Sink

_EVENT = EVENTS["event"]["value"]
_REQUESTS_BATCH = 100

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "queue for all rows": {"max_queue_size": 0},  # a number is put in; its own is so small that a loop loses events
    "and 500 a batch": {"max_queue_size": 0, "flush_at": 500},
    "and 4 threads": {"max_queue_size": 0, "flush_at": 500, "thread": 4},
    "and gzip": {"max_queue_size": 0, "flush_at": 500, "gzip": True},
}
"""Settings of posthog-python that are tried."""


@dataclass(frozen=True, slots=True)
class Rivalry:
    """How a rival did: events that arrived a second, share of the rows that did, peak memory."""

    settings: str
    rate: float
    arrived: float
    peak_mb: float


def rivalry(name: str, settings: str, rows: int, place: Place, sink: Sink) -> Rivalry:
    """Let posthog or requests send so many rows."""
    sink.tally()
    command = (sys.executable, "-m", "bench.rivals", name, settings, str(rows), place.kind, place.address, sink.url)
    ended = measured(command, ROOT)
    events = sink.tally().events
    return Rivalry(settings, events / float(ended.out), events / rows, ended.peak_mb)


def _rows(place: Place, most: int) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each row as its properties, its distinct_id and its timestamp."""
    connection = place.server.connect()
    cursor = connection.cursor("rows") if place.is_postgres else connection.cursor()
    cursor.execute(f"select * from {TABLE} where order_id <= {most}")
    while found := cursor.fetchmany(2000):
        names = [column[0] for column in cursor.description]
        for values in found:
            row = dict(zip(names, values, strict=True))
            yield row, str(row.pop("customer_id")), row.pop("ordered_at").isoformat()


def _with_posthog(place: Place, rows: int, host: str, settings: Mapping[str, Any]) -> None:
    from posthog import Posthog  # noqa: PLC0415 - only this comparison needs it

    own = {**settings, "max_queue_size": rows + 1} if "max_queue_size" in settings else settings
    client = Posthog(KEY, host=host, **own)
    for row, person, moment in _rows(place, rows):
        client.capture(_EVENT, distinct_id=person, properties=row, timestamp=moment)
    client.flush(timeout_seconds=None)
    client.shutdown()


def _with_requests(place: Place, rows: int, host: str) -> None:
    import requests  # noqa: PLC0415 - only this comparison needs it

    messages = (
        {"event": _EVENT, "distinct_id": person, "timestamp": moment, "properties": row}
        for row, person, moment in _rows(place, rows)
    )
    with requests.Session() as session:
        session.headers["Content-Type"] = "application/json"
        while batch := list(islice(messages, _REQUESTS_BATCH)):
            text = json.dumps({"api_key": KEY, "historical_migration": True, "batch": batch}, default=str)
            session.post(f"{host}/batch/", data=text, timeout=30).raise_for_status()


def main(name: str, settings: str, rows: str, kind: str, *where: str) -> None:
    """Send the rows and print the seconds."""
    address, host = where
    importlib.import_module(name)  # before the clock runs
    begun = time.monotonic()
    if name == "posthog":
        _with_posthog(Place(kind, address), int(rows), host, SETTINGS[settings])
    else:
        _with_requests(Place(kind, address), int(rows), host)
    print(time.monotonic() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
