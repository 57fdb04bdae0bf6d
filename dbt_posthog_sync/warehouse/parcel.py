"""Parcels as they leave Postgres: rows of one text each, in COPY's binary format (PostgreSQL documentation: COPY)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_FILE_HEAD_BYTES = 19
_ROW_HEAD = struct.Struct("!hi")  # how many fields, and the bytes of the first


class ParcelCutter:
    """Takes the bytes of a COPY in any pieces, and gives the texts that are complete."""

    def __init__(self) -> None:
        self._begun = b""
        self._to_skip = _FILE_HEAD_BYTES

    def add(self, data: bytes) -> Iterator[bytes]:
        """Give the texts that these bytes complete. A piece is nearly always one row, which is then copied once."""
        rest = self._begun + data
        if self._to_skip:
            skipped = min(self._to_skip, len(rest))
            rest, self._to_skip = rest[skipped:], self._to_skip - skipped
        while len(rest) >= _ROW_HEAD.size:
            end = _ROW_HEAD.size + _ROW_HEAD.unpack_from(rest)[1]
            if len(rest) < end:
                break
            yield rest[_ROW_HEAD.size : end]
            rest = rest[end:]
        self._begun = rest
