"""A request as it came and an answer as it goes, and how a compressed body becomes JSON."""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import parse_qs

compact_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Write a value as the shortest JSON text; half surrogate pairs stay as they are."""

GZIP_MAGIC = b"\x1f\x8b\x08"
_ZLIB_FIRST_BYTE = 0x78
_BASE64_PREFIX = 128
_BASE64_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


class BodyTooLargeError(Exception):
    """The body is larger than the server takes."""


class BodyUnreadableError(Exception):
    """The body cannot be decompressed or decoded."""


class EncodingUnsupportedError(Exception):
    """The body is compressed in a way the server does not know."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: GET or POST.
        path: without the query.
        query: the raw query string.
        headers: by lower-case name.
        body: as sent, still compressed; cut off behind the server's limit when `oversized`.
        received_at: the server's clock when the request arrived, UTC.
        oversized: the body was longer than the route takes.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    oversized: bool = False

    def query_value(self, *names: str) -> str:
        """Return the first of these query parameters that is present, or the empty string."""
        values = parse_qs(self.query, keep_blank_values=True)
        return next((values[name][0] for name in names if name in values), "")

    def query_values(self) -> Mapping[str, str]:
        """Return the query parameters, the first of each name."""
        return {name: values[0] for name, values in parse_qs(self.query, keep_blank_values=True).items()}


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def from_json(cls, status: int, value: object, *, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
        """Build an answer with a JSON body."""
        return cls(status, json.dumps(value, separators=(",", ":")).encode(), "application/json", headers)

    @classmethod
    def from_text(cls, status: int, text: str) -> Reply:
        """Build an answer with a plain-text body."""
        return cls(status, text.encode())


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body behind a Content-Encoding.

    gzip and deflate (with or without zlib's wrapper, told apart by the first byte as PostHog does in
    rust/capture/src/v1/util.rs) are always there; br and zstd only where `brotli` or `zstandard` is installed.

    Raises:
        BodyTooLargeError: the content is larger than `limit`.
        BodyUnreadableError: the body is not what the encoding says.
        EncodingUnsupportedError: an encoding that is unknown or not installed.
    """
    if encoding == "gzip":
        return _inflated(body, 16 + zlib.MAX_WBITS, limit)
    if encoding == "deflate":
        wrapped = body[:1] == bytes([_ZLIB_FIRST_BYTE])
        return _inflated(body, zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS, limit)
    if encoding in ("br", "zstd"):
        return _decompressed_by_extra(body, encoding, limit)
    raise EncodingUnsupportedError(encoding)


def _inflated(body: bytes, window_bits: int, limit: int) -> bytes:
    """Inflate the first member of a zlib family stream; what follows it is ignored."""
    stream = zlib.decompressobj(window_bits)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise BodyUnreadableError(str(error)) from error
    if len(content) > limit:
        raise BodyTooLargeError(f"decompressed payload exceeds {limit} bytes")
    if not stream.eof:
        raise BodyUnreadableError("the compressed stream ends too early")
    return content


def _decompressed_by_extra(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress with a package that may or may not be installed."""
    try:
        library: Any = importlib.import_module("brotli" if encoding == "br" else "zstandard")
    except ImportError as error:
        raise EncodingUnsupportedError(f"{encoding} (its package is not installed beside the stand-in)") from error
    failure: type[Exception] = library.error if encoding == "br" else library.ZstdError
    try:
        content = (
            library.decompress(body)
            if encoding == "br"
            else library.ZstdDecompressor().decompressobj().decompress(body)
        )
    except failure as error:
        raise BodyUnreadableError(str(error)) from error
    if len(content) > limit:
        raise BodyTooLargeError(f"decompressed payload exceeds {limit} bytes")
    return bytes(content)


def read_json(text: str) -> Any:
    """Parse JSON as strictly as the server does: no NaN and no infinities.

    Raises:
        ValueError: it is not such JSON, or nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("recursion limit exceeded") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities."""
    raise ValueError(f"{name} is not JSON")


def refuse_lone_surrogates(text: str, value: object) -> None:
    """Refuse half of a surrogate pair in the parsed value, which only v0's parser reads closely enough to see.

    Raises:
        ValueError: there is one.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("lone surrogate in a string") from error


def looks_like_base64(payload: bytes) -> bool:
    """Guess as PostHog does (rust/capture/src/utils.rs): length and the first 128 bytes decide."""
    return bool(payload) and len(payload) % 4 == 0 and _BASE64_LETTERS.issuperset(payload[:_BASE64_PREFIX])


def decoded_base64(payload: bytes) -> bytes:
    """Decode base64, or return the payload unchanged where it is none."""
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error:
        return payload
