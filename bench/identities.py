"""The case of persons by e-mail address: how they are found, from every source, and what that asks of PostHog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml
from faults.program import environment
from lab import manifest_for, write_project

from bench.model import Place
from bench.program import COMMAND, KEY, BrokenRun, measured
from bench.table import Figure
from dbt_posthog_sync.testing import CapturedEvent, PersonalKey, StandIn, StandInConfig

_READERS, _EXPORT = "bench_readers", "bench_persons"
_PERSONAL_KEY = "phx_bench"
_MADE = datetime(2026, 1, 1, tzinfo=timezone.utc)
_ANNOTATION = {
    "object": "person",
    "sync_key": {"email": "email"},
    "behavior": "update_only",
    "properties": ["note"],
}


@dataclass(frozen=True, slots=True)
class _Known:
    """The stand-in with its persons, in a process of its own."""

    url: str
    pipe: Connection

    def calls(self) -> int:
        """Requests to the private API since it was asked last."""
        self.pipe.send("calls")
        return int(self.pipe.recv())


def found_persons(place: Place, folder: Path, rows: int, most_calls: int | None) -> list[Figure]:
    """Plan a sync of as many readers as PostHog has persons, so that every one of them is looked up.

    Raises:
        BrokenRun: not all of them were found.
    """
    _build(place, rows)
    figures: list[Figure] = []
    with _known_persons(rows) as known:
        for source, most in (("mirror", most_calls), ("identity_model", 0)):
            project = _project(folder / f"found_{source}", place, known.url, source)
            known.calls()
            environ = {**environment(project, KEY), "POSTHOG_PERSONAL_API_KEY": _PERSONAL_KEY}
            ended = measured((COMMAND, "plan", "--output", "json"), project, environ)
            (plan,) = json.loads(ended.out)["plans"]
            if plan["estimated_events"] != rows:
                raise BrokenRun(f"{plan['estimated_events']:,} of {rows:,} persons were found by {source}")
            figures += [
                Figure("persons", f"{source}: keys found", rows),
                Figure("persons", f"{source}: requests to PostHog's private API", known.calls(), "", None, most),
                Figure("persons", f"{source}: whole plan, all of them staged", ended.seconds, "s"),
                Figure("persons", f"{source}: peak memory", ended.peak_mb, "MB"),
            ]
    return figures


def _build(place: Place, rows: int) -> None:
    numbers = f"generate_series(0, {rows - 1}) t(n)" if place.is_postgres else f"range({rows}) t(n)"
    address = "'user' || n || '@example.com'"
    version = "1 as person_version, 1 as person_distinct_id_version, cast('2026-01-01' as timestamp) as created_at"
    person = f"'u' || n as distinct_id, 'p' || n as person_id, {address} as email, {version}"
    for table, columns in ((_READERS, f"{address} as email, 'a' as note"), (_EXPORT, person)):
        place.server.sql(f"drop table if exists {table}")
        place.server.sql(f"create table {table} as select {columns} from {numbers}")
    place.settle()


def _project(folder: Path, place: Place, host: str, source: str) -> Path:
    write_project(folder, place.server.output)
    manifest = manifest_for(place.server, {_READERS: _ANNOTATION, _EXPORT: {}})
    export: dict[str, Any] = manifest["nodes"][f"model.lab.{_EXPORT}"]
    export["config"]["meta"], export["meta"] = {}, {}
    (folder / "target").mkdir()
    (folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    identities = {"source": source, **({"model": _EXPORT} if source == "identity_model" else {})}
    settings = {
        "posthog": {"host": host, "project_id": 1},
        "state_schema": folder.name,
        "limits": {"max_events": None},
        "identities": identities,
    }
    (folder / "posthog_sync.yml").write_text(yaml.safe_dump(settings))
    return folder


@contextmanager
def _known_persons(persons: int) -> Iterator[_Known]:
    ours, theirs = Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs, persons), daemon=True)
    process.start()
    try:
        yield _Known(str(ours.recv()), ours)
    finally:
        ours.send("end")
        process.join()


def _serve(pipe: Connection, persons: int) -> None:
    config = StandInConfig(tokens=(KEY,), personal_keys=(PersonalKey(_PERSONAL_KEY),))
    with StandIn(config) as posthog:
        posthog.project.take(map(_person, range(persons)))
        pipe.send(posthog.url)
        seen = 0
        while pipe.recv() == "calls":
            calls = sum(request.path.startswith("/api/") for request in posthog.requests)
            pipe.send(calls - seen)
            seen = calls


def _person(number: int) -> CapturedEvent:
    address = {"email": f"User{number}@Example.com"}
    return CapturedEvent("$set", f"u{number}", f"018c0000-0000-5000-8000-{number:012d}", _MADE, {"$set": address}, "v1")
