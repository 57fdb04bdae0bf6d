"""PostHog's v0 protocol: all or nothing, plain-text errors, and much that is lost behind a 200.

Rules: PostHog/posthog: rust/capture/src/v0_endpoint.rs, v0_request.rs, payload/common.rs, payload/decompression.rs,
events/analytics.rs, utils.rs and api.rs, rust/common/types/src/event.rs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from dbt_posthog_sync.testing.captured import CapturedEvent, Choice, LostEvent, Outcome, no_choice
from dbt_posthog_sync.testing.config import StandInConfig
from dbt_posthog_sync.testing.identity import (
    DISTINCT_ID_CHARS,
    canonical_uuid,
    new_uuid,
    text_of_id,
    token_problem,
)
from dbt_posthog_sync.testing.timestamps import EPOCH, lenient, not_in_future, rfc3339, without_skew
from dbt_posthog_sync.testing.wire import (
    GZIP_MAGIC,
    BodyTooLargeError,
    BodyUnreadableError,
    Reply,
    Request,
    decoded_base64,
    decompressed,
    looks_like_base64,
    read_json,
    refuse_lone_surrogates,
)

PATHS = frozenset(["/batch", "/i/v0/e", "/e", "/capture", "/track", "/engage"])
"""Routes of v0, without the closing slash that each may have. All share one handler and one size limit."""

_LEGACY_PATHS = frozenset(["/e", "/capture", "/track", "/engage"])
_FORM = "application/x-www-form-urlencoded"
_GZIP_HINTS = frozenset(["gzip", "gzip-js"])
_LZ_HINTS = frozenset(["lz64", "lz-string"])
_TOKEN_NAMES = ("token", "$token", "api_key")
_ID_NAMES = ("distinct_id", "$distinct_id")


class _RefusedError(Exception):
    """The whole request is refused."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The events of a request and what holds for all of them."""

    events: tuple[dict[str, Any], ...]
    token: str | None = None
    historical: bool = False
    sent_at: datetime | None = None


def capture(request: Request, config: StandInConfig, choice: Choice = no_choice) -> Outcome:
    """Answer one v0 request.

    v0 has no per-event results, so a chosen `retry` becomes a 503 for the request, and `drop` and `absent` a silent
    loss.
    """
    try:
        return _captured(request, config, choice)
    except _RefusedError as refused:
        return Outcome(Reply.from_text(refused.status, str(refused)))


def raw_events(request: Request, config: StandInConfig) -> tuple[dict[str, Any], ...]:
    """Return the events of a request as they were sent, or nothing where it is refused as a whole."""
    try:
        return _envelope(request, config).events
    except _RefusedError:
        return ()


def _captured(request: Request, config: StandInConfig, choice: Choice) -> Outcome:
    """Go through the checks in the order of the server; the first that fails refuses everything."""
    envelope = _envelope(request, config)
    ok = Reply(204) if request.query_value("beacon") == "1" else Reply.from_json(200, {"status": "Ok"})
    if not envelope.events:
        return Outcome(ok)
    token = _checked_token(envelope)
    if config.enforce_known_tokens and token not in config.tokens:
        raise _RefusedError(401, "api_key does not resolve to a known project")
    events = tuple(_event(raw, envelope, request, config) for raw in envelope.events)
    received = len(events)
    if token in config.billing_limited_tokens:
        return Outcome(ok, token, lost=_all_lost("over the billing limit", events), received=received)
    kept, lost = _sorted_out(events, envelope.events, config, choice)
    if config.sink_failure:
        raise _RefusedError(503, "transient error, please retry")
    if any(event.exceeds(config.event_bytes_limit) for event in kept):
        raise _RefusedError(413, "maximum event size exceeded: the queue behind takes no larger message")
    return Outcome(ok, token, kept, lost, received)


def _all_lost(reason: str, events: tuple[CapturedEvent, ...]) -> tuple[LostEvent, ...]:
    """Give every event the same reason."""
    return tuple(LostEvent.from_captured(reason, event) for event in events)


def _sorted_out(
    events: tuple[CapturedEvent, ...], raws: tuple[dict[str, Any], ...], config: StandInConfig, choice: Choice
) -> tuple[tuple[CapturedEvent, ...], tuple[LostEvent, ...]]:
    """Part the events that are kept from those that are lost without a word."""
    kept, lost = [], []
    for event, raw in zip(events, raws, strict=True):
        verdict = choice(raw)
        if verdict is not None and verdict.result == "retry":
            raise _RefusedError(503, "transient error, please retry")
        if verdict is not None and not verdict.is_kept:
            lost.append(LostEvent.from_captured("dropped by an injected fault", event))
        elif event.event in config.restricted_events:
            lost.append(LostEvent.from_captured("event restriction", event))
        else:
            limited = event.distinct_id in config.rate_limited_distinct_ids
            personless = limited or (verdict is not None and verdict.result == "warning")
            kept.append(replace(event, person_processing=False) if personless else event)
    return tuple(kept), tuple(lost)


# From bytes to JSON.


def _envelope(request: Request, config: StandInConfig) -> _Envelope:
    """Read the body into events and drop what is never ingested."""
    if request.oversized:
        raise _RefusedError(413, f"maximum event size exceeded: body limit {config.v0_wire_bytes} exceeded")
    text = _text(request, config)
    try:
        value = read_json(text)
        refuse_lone_surrogates(text, value)
    except ValueError as error:
        raise _RefusedError(400, f"failed to parse request: {error}") from error
    envelope = _shaped(value, request.path.rstrip("/"))
    if not envelope.events:
        raise _RefusedError(400, "request holds no event")
    # Dropped before anything else is looked at, so a request of nothing else is never refused.
    events = tuple(event for event in envelope.events if event["event"] != "$performance_event")
    sent_at = envelope.sent_at or _sent_at_of_query(request)
    return replace(envelope, events=events, sent_at=sent_at)


def _text(request: Request, config: StandInConfig) -> str:
    """Undo base64, form, gzip and character encoding, in the order in which PostHog tries them."""
    payload = request.query_value("data").encode() or request.body
    if not payload:
        raise _RefusedError(400, "request missing data payload")
    if looks_like_base64(payload):
        payload = decoded_base64(payload)
    form: Mapping[str, list[str]] = {}
    if request.headers.get("content-type") == _FORM:
        form = _form(payload)
        payload = form.get("data", [payload.decode("utf-8", "replace")])[0].encode()
        payload = decoded_base64(payload.replace(b" ", b"+")) if looks_like_base64(payload) else payload
    hint = request.query_value("compression") or form.get("compression", [""])[0]
    hint = (hint or request.headers.get("content-encoding", "")).lower()
    content = _uncompressed(payload, hint, config.v0_decompressed_bytes)
    if request.path.rstrip("/") in _LEGACY_PATHS and looks_like_base64(content):
        content = decoded_base64(content)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _RefusedError(400, "failed to decode request: invalid UTF8 in request payload") from error


def _form(payload: bytes) -> Mapping[str, list[str]]:
    """Read an urlencoded body, which must look like one of PostHog's."""
    fields = parse_qs(payload.decode("utf-8", "replace"), keep_blank_values=True)
    if not fields.keys() & {"data", "_", "ip", "compression"}:
        raise _RefusedError(400, "failed to decode request: expected form data in POST request payload")
    return fields


def _uncompressed(payload: bytes, hint: str, limit: int) -> bytes:
    """Decompress gzip, which is recognised by its first bytes too. zstd, br and deflate are unknown to v0."""
    if hint in _GZIP_HINTS or payload.startswith(GZIP_MAGIC):
        try:
            return decompressed(payload, "gzip", limit)
        except BodyTooLargeError as error:
            raise _RefusedError(413, f"maximum event size exceeded: {error}") from error
        except BodyUnreadableError as error:
            raise _RefusedError(400, "failed to decode request: invalid GZIP data") from error
    if hint in _LZ_HINTS:
        raise _RefusedError(400, "failed to decode request: the stand-in does not read lz64")
    if len(payload) > limit:
        raise _RefusedError(413, f"maximum event size exceeded: {limit} bytes")
    return payload


def _sent_at_of_query(request: Request) -> datetime | None:
    """Read `?_=`, milliseconds as posthog-js sends them; older SDKs sent seconds, which PostHog ignores."""
    digits = request.query_value("_")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 13):
        return None
    moment = EPOCH + timedelta(milliseconds=int(digits))
    return moment if moment.year > 2020 else None


# From JSON to one of the four shapes. Which shape it is decides what the refusal says.


def _shaped(value: object, path: str) -> _Envelope:
    """Recognise the first of the four shapes that fits: array, batch, single event, person update."""
    if isinstance(value, list) and all(_is_event(event) for event in value):
        return _Envelope(tuple(value))
    if isinstance(value, dict):
        if _is_batch(value):
            token = value["token"] if "token" in value else value["api_key"]
            sent_at = rfc3339(value.get("sent_at") or "")
            return _Envelope(tuple(value["batch"]), token, bool(value.get("historical_migration")), sent_at)
        if _is_event(value):
            return _Envelope((value,))
        if _is_engage(value):
            if path != "/engage":
                raise _RefusedError(
                    400,
                    "failed to hydrate events from request: non-engage request missing event name attribute",
                )
            return _Envelope(({**value, "event": "$identify"},))
    raise _RefusedError(400, "failed to parse request: data did not match any variant of untagged enum RawRequest")


def _is_batch(value: Mapping[str, Any]) -> bool:
    """Tell whether this is a batch: one key under one of its two names, and nothing but well-typed events."""
    keys = [value[name] for name in ("token", "api_key") if name in value]
    return (
        len(keys) == 1
        and isinstance(keys[0], str)
        and isinstance(value.get("batch"), list)
        and isinstance(value.get("historical_migration"), bool | None)
        and isinstance(value.get("sent_at"), str | None)
        and all(_is_event(event) for event in value["batch"])
    )


def _is_event(value: object) -> bool:
    """Tell whether this is a well-typed event with a name."""
    return isinstance(value, dict) and isinstance(value.get("event"), str) and _is_engage(value)


def _is_engage(value: Mapping[str, Any]) -> bool:
    """Tell whether the fields that an event may have are of the right types; a name is not asked for."""
    offset = value.get("offset")
    return (
        isinstance(value.get("properties", {}), dict)
        and _is_uuid_or_none(value.get("uuid"))
        and isinstance(value.get("timestamp"), str | None)
        and isinstance(value.get("$set"), dict | None)
        and isinstance(value.get("$set_once"), dict | None)
        and isinstance(offset, int | None)
        and not isinstance(offset, bool)
        and sum(name in value for name in _TOKEN_NAMES) <= 1
        and isinstance(_first(value, _TOKEN_NAMES), str | None)
        and sum(name in value for name in _ID_NAMES) <= 1
    )


def _is_uuid_or_none(value: object) -> bool:
    """Tell whether this is a uuid or stands for none; the empty text does."""
    return value is None or (isinstance(value, str) and (not value or canonical_uuid(value) is not None))


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value under the first of these names that is present."""
    return next((value[name] for name in names if name in value), None)


# From a shape to events.


def _checked_token(envelope: _Envelope) -> str:
    """Return the one key of the request, trimmed."""
    token = envelope.token
    if token is None:
        tokens = {found for event in envelope.events if (found := _token_of(event)) is not None}
        if len(tokens) > 1:
            raise _RefusedError(401, "batch submitted with inconsistent api_key values")
        if not tokens:
            raise _RefusedError(401, "event submitted without an api_key")
        token = tokens.pop()
    token = token.strip()
    problem = token_problem(token)
    if problem is not None:
        raise _RefusedError(401, f"API key is not valid: {problem}")
    return token


def _token_of(event: Mapping[str, Any]) -> str | None:
    """Return the key of one event, which may sit in its properties."""
    token = _first(event, _TOKEN_NAMES)
    if token is None:
        token = event.get("properties", {}).get("token")
    return token if isinstance(token, str) else None


def _event(raw: dict[str, Any], envelope: _Envelope, request: Request, config: StandInConfig) -> CapturedEvent:
    """Make the event that capture hands on."""
    if not raw["event"]:
        raise _RefusedError(400, "event submitted with an empty event name")
    properties = _properties(raw)
    distinct_id = _distinct_id(raw, properties)
    if not isinstance(properties.get("$cookieless_mode", False), bool):
        raise _RefusedError(400, "event submitted with invalid cookieless mode")
    ignore = properties.get("$ignore_sent_at") is True
    sent_at = None if ignore else envelope.sent_at
    return CapturedEvent(
        event=raw["event"],
        distinct_id=distinct_id,
        uuid=canonical_uuid(raw.get("uuid") or "") or new_uuid(),
        timestamp=_timestamp(raw, sent_at, request.received_at, config.skew_deadband),
        properties=properties,
        protocol="v0",
        historical=envelope.historical,
    )


def _properties(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties, with `$set` and `$set_once` from beside them moved in (nodejs normalizeEvent)."""
    properties: dict[str, Any] = raw.get("properties", {})
    for name in ("$set", "$set_once"):
        if raw.get(name):
            inner = properties.get(name)
            properties = {**properties, name: {**(inner if isinstance(inner, dict) else {}), **raw[name]}}
    return properties


def _distinct_id(raw: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Return the id as text, cut to 200 characters; blanks around it stay."""
    value = _first(raw, _ID_NAMES)
    if value is None:
        value = properties.get("distinct_id")
    text = "" if value is None else text_of_id(value)
    if not text.strip():
        raise _RefusedError(400, "event submitted without a distinct_id")
    return text[:DISTINCT_ID_CHARS]


def _timestamp(raw: Mapping[str, Any], sent_at: datetime | None, now: datetime, deadband: timedelta) -> datetime:
    """Return the time of an event: `offset` wins, an unreadable time becomes the time of arrival."""
    offset = raw.get("offset")
    if offset is not None:
        try:
            return not_in_future(now - timedelta(milliseconds=offset), now)
        except OverflowError:
            return EPOCH
    moment = lenient(raw.get("timestamp") or "", now)
    if moment is None:
        return now
    return not_in_future(moment if sent_at is None else without_skew(moment, sent_at, now, deadband), now)
