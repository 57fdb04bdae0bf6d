"""The stand-in answers as the capture service does, case by case, over real HTTP."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dbt_posthog_sync.testing import StandIn, StandInConfig

TOKEN = "phc_verify_token"
VECTORS = json.loads((Path(__file__).parent / "capture_vectors.json").read_text(encoding="utf-8"))["vectors"]
ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def config_for(needs: list[str]) -> StandInConfig:
    known = {"kafka_sink", "sink_failure", "billing_limited_token"}
    assert set(needs) <= known, f"teach this test what {set(needs) - known} means"
    return StandInConfig(
        tokens=(TOKEN,),
        event_bytes_limit=1_000_000 if "kafka_sink" in needs else None,
        sink_failure="sink_failure" in needs,
        billing_limited_tokens=frozenset([TOKEN] if "billing_limited_token" in needs else []),
    )


def padded(body: dict[str, Any], pad: dict[str, int]) -> dict[str, Any]:
    model = body["batch"][0]
    more = [
        {**model, "properties": {"pad": "x" * pad["bytes_each"]}, **numbered(model, number)}
        for number in range(pad["count"])
    ]
    return {**body, "batch": [*body["batch"], *more]}


def numbered(model: dict[str, Any], number: int) -> dict[str, str]:
    return {"uuid": f"018c0000-0000-7000-9000-{number:012x}"} if "uuid" in model else {}


def body_of(vector: dict[str, Any]) -> bytes:
    if "raw_b64" in vector:
        return base64.b64decode(vector["raw_b64"])
    if "raw" in vector:
        return str(vector["raw"]).encode()
    body = padded(vector["body"], vector["pad"]) if "pad" in vector else vector["body"]
    data = json.dumps(body, ensure_ascii=False).encode()
    return ENCODERS[vector["encode"]](data) if "encode" in vector else data


def send(posthog: StandIn, vector: dict[str, Any]) -> tuple[int, bytes]:
    now = datetime.now(timezone.utc).isoformat()
    connection = http.client.HTTPConnection(urlsplit(posthog.url).netloc, timeout=10)
    try:
        headers = {name: now if value == "now" else value for name, value in vector["headers"].items()}
        connection.request(vector["method"], vector["path"], body_of(vector), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def assert_stored(posthog: StandIn, expected: list[dict[str, Any]]) -> None:
    stored = [event.as_json() for event in posthog.project.received]
    assert len(expected) == len(stored)
    for wanted, found in zip(expected, stored, strict=True):
        for name, value in wanted.items():
            if (name, value) == ("timestamp", "now"):
                moment = datetime.fromisoformat(found[name].replace("Z", "+00:00"))
                assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)
            else:
                assert value == found[name]


@pytest.fixture(scope="module")
def standins() -> Iterator[Callable[[list[str]], StandIn]]:
    """Hand out one running stand-in for each set of needs."""
    running: dict[frozenset[str], StandIn] = {}

    def standin_for(needs: list[str]) -> StandIn:
        if frozenset(needs) not in running:
            running[frozenset(needs)] = StandIn(config_for(needs))
            running[frozenset(needs)].start()
        running[frozenset(needs)].reset()
        return running[frozenset(needs)]

    yield standin_for
    for posthog in running.values():
        posthog.stop()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_answers_as_the_capture_service_does(vector: dict[str, Any], standins: Callable[[list[str]], StandIn]) -> None:
    posthog = standins(vector.get("needs", []))
    status, body = send(posthog, vector)
    expected = vector["expect"]
    assert expected["status"] == status, body
    assert expected.get("text_contains", "") in body.decode()
    if "error" in expected:
        assert expected["error"] == json.loads(body)["error"]
    if "results" in expected:
        assert expected["results"] == json.loads(body)["results"]
    if "stored" in expected:
        assert_stored(posthog, expected["stored"])
