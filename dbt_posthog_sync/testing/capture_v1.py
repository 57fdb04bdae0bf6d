"""PostHog's v1 protocol: strict headers, JSON errors, and a result for each event.

Rules: PostHog/posthog: rust/capture/src/v1/quota_limiter_shim.rs and
analytics/{handler,types,process,response,constants}.rs. How the request is read is in `request_v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dbt_posthog_sync.testing.captured import CapturedEvent, Choice, LostEvent, Outcome, Verdict, no_choice
from dbt_posthog_sync.testing.config import StandInConfig
from dbt_posthog_sync.testing.identity import PERSONLESS_IDS, canonical_uuid
from dbt_posthog_sync.testing.request_v1 import RETRY_AFTER, Context, RefusedError, read_batch, read_context
from dbt_posthog_sync.testing.timestamps import not_in_future, rfc3339, without_skew
from dbt_posthog_sync.testing.wire import Reply, Request

PATH = "/i/v1/analytics/events"
"""The route, which may end in a slash."""

MAX_NAME_BYTES = 200
MAX_DISTINCT_ID_BYTES = 200
_PERSONLESS = "person_processing_disabled"


@dataclass(frozen=True, slots=True)
class _Judged:
    """One event with what is said of it; `captured` is None where it was not even read."""

    raw: Mapping[str, Any]
    uuid: str
    verdict: Verdict
    captured: CapturedEvent | None = None


def capture(request: Request, config: StandInConfig, choice: Choice = no_choice) -> Outcome:
    """Answer one v1 request."""
    try:
        return _captured(request, config, choice)
    except RefusedError as refused:
        return Outcome(refused.reply())


def raw_events(request: Request, config: StandInConfig) -> tuple[dict[str, Any], ...]:
    """Return the events of a request as they were sent, or nothing where it is refused as a whole."""
    try:
        return tuple(read_batch(request, config)["batch"])
    except RefusedError:
        return ()


def _captured(request: Request, config: StandInConfig, choice: Choice) -> Outcome:
    """Go through the checks in the order of the server."""
    context = read_context(request)
    batch = read_batch(request, config)
    if config.enforce_known_tokens and context.token not in config.tokens:
        raise RefusedError(401, "invalid_api_token", "The provided API token is not valid.")
    judged = _judged(batch, context, config)
    if any(one.verdict.is_kept for one in judged):
        if context.token in config.billing_limited_tokens:
            raise RefusedError(402, "billing_limit_exceeded", "Billing quota exceeded. Events are being dropped.")
        judged = [_published(_restricted(one, config), config, choice) for one in judged]
    return _outcome(context, judged)


def _outcome(context: Context, judged: list[_Judged]) -> Outcome:
    """Put the results together, in the order of the batch."""
    results = {one.uuid: one.verdict.as_json() for one in judged if one.verdict.result != "absent"}
    retry = any(one.verdict.result == "retry" for one in judged)
    reply = Reply.from_json(200, {"results": results}, headers=(RETRY_AFTER,) if retry else ())
    kept = tuple(one.captured for one in judged if one.captured is not None and one.verdict.is_kept)
    return Outcome(reply, context.token, kept, tuple(_lost(judged)), len(judged))


def _lost(judged: list[_Judged]) -> list[LostEvent]:
    """Name the events that were refused for good."""
    return [
        LostEvent(one.verdict.details or "drop", one.raw["event"], one.raw["distinct_id"], one.uuid)
        for one in judged
        if one.verdict.result == "drop"
    ]


# Events.


def _judged(batch: Mapping[str, Any], context: Context, config: StandInConfig) -> list[_Judged]:
    """Check the batch as a whole, then each event for itself."""
    if not batch["batch"]:
        raise RefusedError(400, "empty_batch", "request batch is empty")
    if rfc3339(batch["created_at"]) is None:
        raise RefusedError(400, "invalid_batch", "invalid batch: created_at is not valid RFC 3339")
    judged: list[_Judged] = []
    seen: set[str] = set()
    for raw in batch["batch"]:
        uuid = _uuid(raw["uuid"].strip())
        if uuid in seen:
            raise RefusedError(400, "duplicate_event_uuid", f"duplicate event uuid: {uuid}")
        seen.add(uuid)
        judged.append(_judge(raw, uuid, context, config))
    if batch.get("historical_migration"):
        judged = [one if one.captured is None else _as_historical(one, one.captured) for one in judged]
    return judged


def _as_historical(one: _Judged, captured: CapturedEvent) -> _Judged:
    """Mark an event as part of a historical migration."""
    return replace(one, captured=replace(captured, historical=True))


def _uuid(text: str) -> str:
    """Return the canonical uuid; a bad one refuses the whole batch."""
    if not text:
        raise RefusedError(400, "missing_event_uuid", "event submitted without a uuid")
    uuid = canonical_uuid(text)
    if uuid is None:
        raise RefusedError(400, "invalid_event_uuid", f"invalid event uuid: {text}")
    return uuid


def _judge(raw: Mapping[str, Any], uuid: str, context: Context, config: StandInConfig) -> _Judged:
    """Say what becomes of one event, as far as it decides that itself."""
    moment = rfc3339(raw["timestamp"])
    options = _options(raw.get("options"))
    problem = _problem(raw, moment) or ("invalid_options" if options is None else None)
    if problem is not None or moment is None or options is None:
        return _Judged(raw, uuid, Verdict("drop", problem))
    if not options.get("disable_skew_correction"):
        # With the option the clamp is skipped too.
        now = context.received_at
        moment = not_in_future(without_skew(moment, context.client_time, now, config.skew_deadband), now)
    distinct_id = raw["distinct_id"].strip()
    illegal = distinct_id.lower() in PERSONLESS_IDS
    captured = CapturedEvent(
        event=raw["event"],
        distinct_id=distinct_id,
        uuid=uuid,
        timestamp=moment,
        properties={**raw.get("properties", {}), **_injected(raw, options, context)},
        protocol="v1",
        person_processing=not illegal,
    )
    return _Judged(raw, uuid, Verdict("ok", _PERSONLESS if illegal else None), captured)


def _problem(raw: Mapping[str, Any], moment: datetime | None) -> str | None:
    """Name the first thing that makes PostHog drop this event, in its order. Lengths are in bytes here."""
    name = raw["event"]
    distinct_id = raw["distinct_id"].strip()
    checks = (
        ("dropped_performance_event", name == "$performance_event"),
        ("missing_event_name", not name),
        ("event_name_too_long", len(name.encode()) > MAX_NAME_BYTES),
        ("missing_distinct_id", not distinct_id),
        ("distinct_id_too_large", len(distinct_id.encode()) > MAX_DISTINCT_ID_BYTES),
        ("invalid_event_timestamp", moment is None),
        ("malformed_event_properties", not isinstance(raw.get("properties", {}), dict)),
    )
    return next((tag for tag, is_wrong in checks if is_wrong), None)


def _options(value: object) -> dict[str, bool | str] | None:
    """Coerce the options that PostHog knows; None where one cannot be."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return None
    options: dict[str, bool | str] = {}
    for name in ("cookieless_mode", "disable_skew_correction", "process_person_profile", "product_tour_id"):
        given = value.get(name)
        if given is None:
            continue
        coerced = _as_text(given) if name == "product_tour_id" else _as_bool(given)
        if coerced is None:
            return None
        options[name] = coerced
    return options


def _as_bool(value: object) -> bool | None:
    """Coerce to a boolean: booleans, numbers and four words can be."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) else None


def _as_text(value: object) -> str | None:
    """Coerce to text: text and whole numbers can be."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _injected(raw: Mapping[str, Any], options: Mapping[str, bool | str], context: Context) -> dict[str, Any]:
    """Return the properties that stand for envelope fields; they win over properties of the same name."""
    names = {
        "cookieless_mode": "$cookieless_mode",
        "disable_skew_correction": "$ignore_sent_at",
        "product_tour_id": "$product_tour_id",
        "process_person_profile": "$process_person_profile",
    }
    injected: dict[str, Any] = {names[name]: value for name, value in options.items()}
    injected.update({f"${name}": raw[name] for name in ("session_id", "window_id") if raw.get(name) is not None})
    if context.library is not None:
        injected["$lib"], injected["$lib_version"] = context.library
    return injected


# What may still happen to an event that is well formed.


def _restricted(one: _Judged, config: StandInConfig) -> _Judged:
    """Apply what the project's admins and the rate limiter have against an event."""
    if one.captured is None:
        return one
    if one.captured.event in config.restricted_events:
        return replace(one, verdict=Verdict("drop", "event_restriction_drop"))
    if one.captured.person_processing and one.captured.distinct_id in config.rate_limited_distinct_ids:
        return _without_person(one, Verdict("warning", _PERSONLESS))
    return one


def _without_person(one: _Judged, verdict: Verdict) -> _Judged:
    """Give the event this verdict and switch person processing off."""
    captured = None if one.captured is None else replace(one.captured, person_processing=False)
    return replace(one, verdict=verdict, captured=captured)


def _published(one: _Judged, config: StandInConfig, choice: Choice) -> _Judged:
    """Hand the event to the queue behind, which may refuse it; an injected result goes first."""
    if one.captured is None or not one.verdict.is_kept:
        return one
    chosen = choice(one.raw)
    if chosen is not None:
        return _without_person(one, chosen) if chosen.result == "warning" else replace(one, verdict=chosen)
    if one.captured.exceeds(config.event_bytes_limit):
        return replace(one, verdict=Verdict("drop", "event_too_big"))
    return replace(one, verdict=Verdict("retry", "not_persisted")) if config.sink_failure else one
