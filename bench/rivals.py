"""What users would run instead, on the same rows and the same sink: posthog-python, and a loop with requests.

Each runs in a process of its own (`python -m bench.rivals NAME ...`) and reads the rows as its user would, through a
cursor of the server's. Its seconds go from the first row that is asked for to the last answer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bench.model import TABLE, Place
from bench.program import KEY, measured
from bench.sink import ROOT, Sink, Tally

REQUESTS_BATCH = 100
_EVENT = "order completed"

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "queue for all rows": {"max_queue_size": 0},
    "and 500 a batch": {"max_queue_size": 0, "flush_at": 500},
    "and 4 threads": {"max_queue_size": 0, "flush_at": 500, "thread": 4},
    "and gzip": {"max_queue_size": 0, "flush_at": 500, "gzip": True},
}
"""Settings of posthog-python that are tried; `max_queue_size` is put in, because its own loses events in a loop."""


@dataclass(frozen=True, slots=True)
class Rivalry:
    """How a rival did: events that arrived a second, share of the rows that did, peak memory."""

    name: str
    rate: float
    arrived: float
    peak_mb: float
    tally: Tally


def run_rival(name: str, settings: str, rows: int, place: Place, sink: Sink) -> Rivalry:
    """Let a rival send so many rows; `settings` is a name out of `SETTINGS`."""
    sink.tally()
    command = (sys.executable, "-m", "bench.rivals", name, settings, str(rows), place.kind, place.address, sink.url)
    ended = measured(command, ROOT)
    tally = sink.tally()
    return Rivalry(settings, tally.events / float(ended.out), tally.events / rows, ended.peak_mb, tally)


def best_settings(place: Place, rows: int, sink: Sink) -> tuple[str, list[Rivalry]]:
    """The fastest settings of posthog-python that lose no event, and how all of them did."""
    tried = [run_rival("posthog", settings, rows, place, sink) for settings in SETTINGS]
    lossless = [one for one in tried if one.arrived == 1.0]
    return max(lossless, key=lambda one: one.rate).name, tried


def _rows(place: Place, most: int) -> Iterator[dict[str, Any]]:
    connection = place.server.connect()
    cursor = connection.cursor("rows") if place.is_postgres else connection.cursor()
    cursor.execute(f"select * from {TABLE} where order_id <= {most}")
    names: list[str] = []
    while found := cursor.fetchmany(2000):
        names = names or [column[0] for column in cursor.description]
        for row in found:
            yield dict(zip(names, row, strict=True))


def _with_posthog(place: Place, rows: int, host: str, settings: Mapping[str, Any]) -> None:
    from posthog import Posthog  # noqa: PLC0415 - only this comparison needs it

    if "max_queue_size" in settings:
        settings = {**settings, "max_queue_size": rows + 1}
    client = Posthog(KEY, host=host, **settings)
    for row in _rows(place, rows):
        moment = row.pop("ordered_at").isoformat()
        client.capture(_EVENT, distinct_id=str(row["customer_id"]), properties=row, timestamp=moment)
    client.flush(timeout_seconds=None)
    client.shutdown()


def _with_requests(place: Place, rows: int, host: str) -> None:
    import requests  # noqa: PLC0415 - only this comparison needs it

    events = _rows(place, rows)
    with requests.Session() as session:
        while batch := list(islice(events, REQUESTS_BATCH)):
            body = {"api_key": KEY, "historical_migration": True, "batch": [_message(row) for row in batch]}
            text = json.dumps(body, default=str)
            answer = session.post(f"{host}/batch/", data=text, headers={"Content-Type": "application/json"}, timeout=30)
            answer.raise_for_status()


def _message(row: dict[str, Any]) -> dict[str, Any]:
    moment = row.pop("ordered_at").isoformat()
    identity = {"event": _EVENT, "distinct_id": str(row["customer_id"]), "timestamp": moment}
    return {**identity, "properties": {**row, "$lib": "loop", "$geoip_disable": True}}


def main() -> None:
    """Send the rows and print the seconds."""
    parser = argparse.ArgumentParser(prog="bench.rivals", description=__doc__)
    parser.add_argument("name", choices=("posthog", "requests"))
    parser.add_argument("settings")
    parser.add_argument("rows", type=int)
    parser.add_argument("kind")
    parser.add_argument("address")
    parser.add_argument("host")
    asked = parser.parse_args()
    place = Place(asked.kind, asked.address)
    importlib.import_module(asked.name)  # before the clock runs
    begun = time.monotonic()
    if asked.name == "posthog":
        _with_posthog(place, asked.rows, asked.host, SETTINGS[asked.settings])
    else:
        _with_requests(place, asked.rows, asked.host)
    print(time.monotonic() - begun)


if __name__ == "__main__":
    main()
