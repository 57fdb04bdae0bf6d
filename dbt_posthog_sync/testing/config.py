"""How the stand-in is set up: one frozen value, with PostHog's own limits as defaults.

The limits are those of PostHog's capture service (PostHog/posthog: rust/capture/src/config.rs and router.rs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dbt_posthog_sync.testing.personal_key import ApiLimits, PersonalKey

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StandInConfig:
    """The account and the deployment that the stand-in plays.

    Attributes:
        tokens: project API keys that exist; each is a project of its own, the first is the main one. The private
            API numbers them from 1.
        enforce_known_tokens: refuse unknown keys with 401. False as on most deployments: an unknown key is answered
            200 and its events are lost (rust/capture/docs/token-validation.md).
        v1_routed: whether `/i/v1/analytics/events` exists; where it does not, PostHog answers 404.
        billing_limited_tokens: keys over their quota; v1 answers 402, v0 answers 200 and loses the events.
        event_bytes_limit: largest event the queue behind takes, in bytes with PostHog's envelope; None for no limit.
        sink_failure: the queue behind is down: v0 answers 503, v1 says `retry` for each event.
        person_processing: false plays a project that opted out of persons: person-only events are lost.
        rate_limited_distinct_ids: ids over the per-id limit; their events are kept without person processing, which
            v1 tells by `warning` and v0 does not tell.
        restricted_events: event names that the project's admins drop; v1 tells, v0 does not.
        skew_deadband: clock difference that is not corrected. Newest servers use 150 s, older ones none.
        latency_seconds: time every ingestion request takes on top.
        personal_keys: personal API keys that exist, for the private API.
        private_api: false plays a proxy that carries only ingestion.
        api_limits: how much of the private API is answered; by default nothing but the number of running queries.
        query_seconds: time every HogQL query takes on top.
        blind_queries: how many queries over events come before anything is ingested and see none.
        quota_limited: what `/flags/` says is over its quota, such as `feature_flags`.
        loops_url: where destinations find Loops, such as `LoopsStandIn.url`; without it their requests are kept and
            answered 200.
        test_account_filters: the project's own filter, which every event of no test account matches.
        v0_wire_bytes: largest v0 body as sent.
        v0_decompressed_bytes: largest v0 body after decompression.
        v1_wire_bytes: largest v1 body as sent.
        v1_decompressed_bytes: largest v1 body after decompression.
    """

    tokens: tuple[str, ...] = ("phc_sandbox",)
    enforce_known_tokens: bool = False
    v1_routed: bool = True
    billing_limited_tokens: frozenset[str] = frozenset()
    event_bytes_limit: int | None = 1_000_000
    sink_failure: bool = False
    person_processing: bool = True
    rate_limited_distinct_ids: frozenset[str] = frozenset()
    restricted_events: frozenset[str] = frozenset()
    skew_deadband: timedelta = timedelta(0)
    latency_seconds: float = 0.0
    personal_keys: tuple[PersonalKey, ...] = (PersonalKey("phx_sandbox"),)
    private_api: bool = True
    api_limits: ApiLimits = ApiLimits()  # noqa: RUF009 (a frozen value)
    query_seconds: float = 0.0
    blind_queries: int = 0
    quota_limited: tuple[str, ...] = ()
    loops_url: str | None = None
    test_account_filters: tuple[Mapping[str, Any], ...] = ()
    v0_wire_bytes: int = 20 * MEBIBYTE
    v0_decompressed_bytes: int = 100 * MEBIBYTE
    v1_wire_bytes: int = 10 * MEBIBYTE
    v1_decompressed_bytes: int = 50 * MEBIBYTE

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("the stand-in needs at least one project API key in tokens")
