"""Which keys, uuids and distinct ids PostHog takes.

Rules: PostHog/posthog: rust/capture/src/token.rs, rust/capture/src/v1/analytics/constants.rs and, for merges,
nodejs person-merge-service.ts.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid

TOKEN_CHARS = 64
DISTINCT_ID_CHARS = 200

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_UUID = re.compile(
    r"(?:urn:uuid:)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}",
    re.IGNORECASE | re.ASCII,
)

# fmt: off
PERSONLESS_IDS = frozenset([
    "0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user", "backend",
    "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null",
    "system", "true", "undefined", "user",
])
"""v1 keeps the event of such an id and switches person processing off; compared without case."""

_UNMERGEABLE_ANY_CASE = frozenset([
    "anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email", "undefined",
    "true", "false",
])
# fmt: on
_UNMERGEABLE = frozenset(["[object Object]", "NaN", "None", "none", "null", "0"])


def token_problem(token: str) -> str | None:
    """Say what is wrong with the shape of a trimmed project key, in PostHog's words, or None."""
    if not token:
        return "empty"
    if len(token.encode("utf-8", "surrogatepass")) > TOKEN_CHARS:
        return "too_long"
    if not token.isascii():
        return "not_ascii"
    if token.startswith("phx_"):
        return "personal_api_key"
    return "null_byte" if "\0" in token else None


def canonical_uuid(text: str) -> str | None:
    """Return the hyphenated lower-case form of a uuid in any of the four spellings PostHog reads, or None."""
    if _CANONICAL_UUID.fullmatch(text):
        return text
    return None if _UUID.fullmatch(text) is None else str(uuid.UUID(text))


def new_uuid() -> str:
    """Make a UUIDv7, as capture does for an event that came without one."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def text_of_id(value: object) -> str:
    """Make text of any JSON value that v0 was given as a distinct id: objects become compact JSON, keys sorted."""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    )
    return text.replace("\0", "\ufffd")


def is_mergeable(distinct_id: str) -> bool:
    """Tell whether a merge may touch this id. Quoted and padded variants count as the bare word."""
    bare = distinct_id.strip().strip("\"'").strip()
    return bool(bare) and bare not in _UNMERGEABLE and bare.lower() not in _UNMERGEABLE_ANY_CASE
