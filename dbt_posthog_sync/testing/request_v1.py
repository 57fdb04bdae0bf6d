"""A v1 request as PostHog reads it: headers first, then the body; whatever is wrong refuses all of it.

Rules: PostHog/posthog: rust/capture/src/v1/context.rs, constants.rs, error.rs, util.rs and analytics/types.rs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbt_posthog_sync.testing.config import StandInConfig
from dbt_posthog_sync.testing.identity import canonical_uuid, token_problem
from dbt_posthog_sync.testing.timestamps import rfc3339
from dbt_posthog_sync.testing.wire import (
    BodyTooLargeError,
    BodyUnreadableError,
    EncodingUnsupportedError,
    Reply,
    Request,
    decompressed,
    read_json,
    refuse_lone_surrogates,
)

MAX_SDK_INFO_CHARS = 200
RETRY_AFTER = ("Retry-After", "1")
"""What PostHog sends with per-event retries and with errors that may heal."""

_REQUIRED_HEADERS = (
    "PostHog-Sdk-Info",
    "PostHog-Attempt",
    "PostHog-Request-Id",
    "PostHog-Request-Timestamp",
    "Content-Type",
    "User-Agent",
)
_ENCODINGS = frozenset(["gzip", "deflate", "br", "zstd"])


def error_reply(status: int, tag: str, description: str = "") -> Reply:
    """Build the error answer of v1."""
    uri = "https://posthog.com/docs/billing/limits" if status == 402 else "https://posthog.com/docs/api"
    value = {"error": tag, "error_description": description or tag, "error_uri": uri}
    return Reply.from_json(status, value, headers=(RETRY_AFTER,) if status >= 500 else ())


class RefusedError(Exception):
    """The whole request is refused."""

    def __init__(self, status: int, tag: str, description: str = "") -> None:
        super().__init__(description or tag)
        self.status = status
        self.tag = tag

    def reply(self) -> Reply:
        """Build the error answer."""
        return error_reply(self.status, self.tag, str(self))


@dataclass(frozen=True, slots=True)
class Context:
    """What the headers say."""

    token: str
    client_time: datetime
    received_at: datetime
    library: tuple[str, str] | None


# Headers.


def read_context(request: Request) -> Context:
    """Check the headers in the order in which PostHog does."""
    headers = request.headers
    if "authorization" not in headers:
        raise RefusedError(401, "missing_authorization", "Authorization header is required")
    missing = [name for name in _REQUIRED_HEADERS if name.lower() not in headers]
    if missing:
        raise RefusedError(400, "missing_required_headers", f"request is missing required headers: {missing}")
    token = _bearer(headers["authorization"])
    _check_content_headers(headers)
    if canonical_uuid(headers["posthog-request-id"]) is None:
        raise _invalid_header("PostHog-Request-Id is not a valid UUID")
    attempt = headers["posthog-attempt"].removeprefix("+")
    if not (attempt.isascii() and attempt.isdigit() and 1 <= int(attempt) < 2**32):
        raise _invalid_header("PostHog-Attempt must be a positive integer")
    client_time = rfc3339(headers["posthog-request-timestamp"])
    if client_time is None:
        raise _invalid_header("PostHog-Request-Timestamp is not valid RFC 3339")
    return Context(token, client_time, request.received_at, _library(headers["posthog-sdk-info"]))


def _invalid_header(description: str) -> RefusedError:
    """Build the refusal of a header."""
    return RefusedError(400, "invalid_header_value", f"invalid header value: {description}")


def _bearer(value: str) -> str:
    """Return the key; the scheme's case does not matter (RFC 6750, 1.1)."""
    if len(value) <= 7 or value[:7].lower() != "bearer ":
        raise _invalid_header("Authorization must use Bearer scheme")
    token = value[7:].strip()
    if token_problem(token) is not None:
        raise RefusedError(401, "invalid_api_token", "The provided API token is not valid.")
    return token


def _check_content_headers(headers: Mapping[str, str]) -> None:
    """Refuse a type that is not JSON and an encoding that PostHog does not know."""
    content_type = headers["content-type"]
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "unsupported_content_type", f"unsupported content type: {content_type}")
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise RefusedError(415, "unsupported_encoding", f"unsupported content encoding: {encoding}")


def _library(sdk_info: str) -> tuple[str, str] | None:
    """Split `name/version` at the last slash; what cannot be split adds no properties and is no error."""
    name, _, version = sdk_info.rpartition("/")
    usable = len(sdk_info) <= MAX_SDK_INFO_CHARS and name.strip() and version.strip()
    return (name.strip(), version.strip()) if usable else None


# Body.


def read_batch(request: Request, config: StandInConfig) -> dict[str, Any]:
    """Read the body and check the types of its fields; one wrong type refuses it all."""
    text = _text(request, config)
    try:
        batch = read_json(text)
    except ValueError as error:
        raise _unparsable(str(error)) from error
    if not (isinstance(batch, dict) and _is_batch(batch)):
        raise _unparsable("a field is missing or has the wrong type")
    try:
        refuse_lone_surrogates(text, [(event["event"], event["distinct_id"]) for event in batch["batch"]])
    except ValueError as error:
        raise _unparsable(str(error)) from error
    return batch


def _unparsable(reason: str) -> RefusedError:
    """Build the refusal of a body."""
    return RefusedError(400, "request_parsing_error", f"Failed to parse request body: {reason}")


def _text(request: Request, config: StandInConfig) -> str:
    """Undo the compression and the character encoding."""
    body = request.body
    if request.oversized:
        raise RefusedError(413, "payload_too_large", f"Request body exceeds limit of {config.v1_wire_bytes} bytes")
    if not body:
        raise RefusedError(400, "empty_body", "request body is empty")
    encoding = request.headers.get("content-encoding", "").lower()
    try:
        if encoding:
            # Exactly the limit is already too much (rust/capture/src/v1/util.rs, read_decompressed).
            body = decompressed(body, encoding, config.v1_decompressed_bytes - 1)
        return body.decode()
    except BodyTooLargeError as error:
        raise RefusedError(413, "payload_too_large", str(error)) from error
    except BodyUnreadableError as error:
        raise RefusedError(400, "request_decoding_error", "Failed to decode request body.") from error
    except EncodingUnsupportedError as error:
        raise RefusedError(415, "unsupported_encoding", f"unsupported content encoding: {error}") from error
    except UnicodeDecodeError as error:
        raise _unparsable("not UTF-8") from error


def _is_batch(batch: Mapping[str, Any]) -> bool:
    """Tell whether every field has its type."""
    return (
        isinstance(batch.get("created_at"), str)
        and isinstance(batch.get("batch"), list)
        and isinstance(batch.get("historical_migration", False), bool)
        and isinstance(batch.get("capture_internal"), bool | None)
        and all(_is_event(event) for event in batch["batch"])
    )


def _is_event(event: object) -> bool:
    """Tell whether every field of an event has its type; properties and options are judged later."""
    return (
        isinstance(event, dict)
        and isinstance(event.get("event"), str)
        and isinstance(event.get("uuid"), str)
        and isinstance(event.get("distinct_id"), str)
        and isinstance(event.get("timestamp"), str)
        and isinstance(event.get("session_id"), str | None)
        and isinstance(event.get("window_id"), str | None)
    )
