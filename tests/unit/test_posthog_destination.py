"""The requests that the PostHog destination makes."""

from __future__ import annotations

import json

import pytest
from posthog_requests import IDENTITY, KEY, RUN_ID, all_ok, batch_of, destination, row, uuid_of

from dbt_posthog_sync.batch import ENVELOPE_BYTES
from dbt_posthog_sync.destinations import (
    Answered,
    Batch,
    CountingDestination,
)
from dbt_posthog_sync.destinations.posthog import PostHogConfig, Protocol
from dbt_posthog_sync.errors import DestinationRefused, SettingsError


def test_it_is_a_destination() -> None:
    posthog: CountingDestination = destination(all_ok)[0]
    assert posthog.max_message_bytes == 921_600


def test_identity_names_host_and_project_but_no_key() -> None:
    mine, other = destination(all_ok)[0].identity, destination(all_ok, key="phc_other")[0].identity
    assert mine.startswith("https://eu.i.posthog.com#")
    assert mine != other
    assert KEY not in mine


def test_no_repr_shows_the_key() -> None:
    posthog, _ = destination(all_ok)
    assert KEY not in repr(posthog)
    assert KEY not in repr(PostHogConfig("https://h", KEY, RUN_ID))


def test_v1_request_has_the_documented_shape() -> None:
    posthog, server = destination(all_ok)
    posthog.send(batch_of(2), IDENTITY, 3)
    seen = server.seen[0]
    assert seen.url == "https://eu.i.posthog.com/i/v1/analytics/events"
    headers = {name: seen.headers[name] for name in seen.headers if name not in ("Accept", "Content-Length")}
    assert headers == {
        "User-Agent": "dbt-posthog-sync/1.2.3",
        "Accept-Encoding": headers["Accept-Encoding"],
        "Connection": "keep-alive",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "Authorization": f"Bearer {KEY}",
        "PostHog-Sdk-Info": "dbt-posthog-sync/1.2.3",
        "PostHog-Attempt": "3",
        "PostHog-Request-Id": IDENTITY.request_id,
        "PostHog-Request-Timestamp": "2026-01-02T03:04:06.500Z",
    }
    assert seen.body == {
        "created_at": "2026-01-02T03:04:05.000Z",
        "historical_migration": False,
        "batch": [
            {
                "uuid": uuid_of(n),
                "event": "e",
                "distinct_id": f"u{n}",
                "timestamp": "2026-01-02T03:04:05Z",
                "options": {"disable_skew_correction": True},
                "properties": {"$geoip_disable": True, "dbt_posthog_sync_run_id": RUN_ID, "plan": "pro"},
            }
            for n in range(2)
        ],
    }


def test_v0_request_has_the_documented_shape() -> None:
    posthog, server = destination(all_ok, protocol="v0")
    posthog.send(batch_of(), IDENTITY, 1)
    seen = server.seen[0]
    assert seen.url == "https://eu.i.posthog.com/batch/"
    assert "Authorization" not in seen.headers
    assert seen.body == {
        "api_key": KEY,
        "historical_migration": False,
        "batch": [
            {
                "uuid": uuid_of(0),
                "event": "e",
                "distinct_id": "u0",
                "timestamp": "2026-01-02T03:04:05Z",
                "properties": {
                    "$ignore_sent_at": True,
                    "$lib": "dbt-posthog-sync",
                    "$lib_version": "1.2.3",
                    "$geoip_disable": True,
                    "dbt_posthog_sync_run_id": RUN_ID,
                    "plan": "pro",
                },
            }
        ],
    }


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_historical_batches_say_so(protocol: Protocol) -> None:
    posthog, server = destination(all_ok, protocol=protocol)
    posthog.send(batch_of(historical=True), IDENTITY, 1)
    assert server.seen[0].body["historical_migration"] is True


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_every_message_is_in_the_body_once_and_in_order(count: int) -> None:
    posthog, server = destination(all_ok)
    outcome = posthog.send(batch_of(count), IDENTITY, 1)
    assert [event["uuid"] for event in server.seen[0].body["batch"]] == [uuid_of(n) for n in range(count)]
    assert outcome == Answered(accepted=tuple(range(count)))


def test_a_message_without_properties_is_valid_json() -> None:
    posthog, server = destination(all_ok)
    posthog.send(Batch.of([row(0, b"")]), IDENTITY, 1)
    assert set(server.seen[0].body["batch"][0]["properties"]) == {"$geoip_disable", "dbt_posthog_sync_run_id"}


def test_the_run_wins_no_property_that_the_row_sets() -> None:
    posthog, server = destination(all_ok)
    posthog.send(Batch.of([row(0, b',"$geoip_disable":false')]), IDENTITY, 1)
    assert server.seen[0].body["batch"][0]["properties"]["$geoip_disable"] is False


@pytest.mark.parametrize("protocol", ["v0", "v1"])
def test_the_envelope_is_smaller_than_the_batcher_reckons(protocol: Protocol) -> None:
    posthog, _ = destination(all_ok, protocol=protocol)
    one, two = (len(posthog.render(batch_of(n), IDENTITY).body) for n in (1, 2))
    assert two - one - len(row(1).head) - len(row(1).properties) < ENVELOPE_BYTES


def test_requests_and_bytes_are_counted() -> None:
    posthog, server = destination(all_ok)
    posthog.send(batch_of(), IDENTITY, 1)
    posthog.send(batch_of(), IDENTITY, 1)
    assert posthog.requests_sent == 2
    assert posthog.bytes_sent == sum(int(seen.headers["Content-Length"]) for seen in server.seen)


def test_closing_is_possible() -> None:
    destination(all_ok)[0].close()


# --- render ---------------------------------------------------------------------------------------------------------


def test_a_rendered_request_shows_what_would_be_sent_without_the_key() -> None:
    posthog, server = destination(all_ok)
    rendered = posthog.render(batch_of(2), IDENTITY, 1)
    assert server.seen == []
    assert (rendered.method, rendered.url) == ("POST", "https://eu.i.posthog.com/i/v1/analytics/events")
    assert ("Authorization", "Bearer ***") in rendered.headers
    assert KEY not in rendered.body
    posthog.send(batch_of(2), IDENTITY, 1)
    assert json.loads(rendered.body) == server.seen[0].body


def test_rendering_needs_no_key_and_masks_that_of_v0() -> None:
    posthog, _ = destination(all_ok, protocol="v0", key="")
    assert json.loads(posthog.render(batch_of(), IDENTITY).body)["api_key"] == "***"


# --- keys -----------------------------------------------------------------------------------------------------------


def test_blanks_around_a_key_are_trimmed() -> None:
    assert PostHogConfig("https://h", f" {KEY}\n", RUN_ID).project_key == KEY


@pytest.mark.parametrize("key", ["phx_personal", "phs_secret", "phc_ž", "phc_a\nb", "p" * 65])
def test_what_cannot_be_a_project_key_is_named_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        PostHogConfig("https://h", key, RUN_ID)
    assert key not in str(caught.value)


def test_nothing_is_sent_without_a_key() -> None:
    posthog, server = destination(all_ok, key="")
    with pytest.raises(DestinationRefused, match="No project API key"):
        posthog.send(batch_of(), IDENTITY, 1)
    assert server.seen == []
