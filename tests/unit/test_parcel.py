"""Parcels: texts come out of a binary COPY whole, however its bytes were cut on the way."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dbt_posthog_sync.warehouse.parcel import ParcelCutter

_FILE_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copied(texts: Sequence[bytes]) -> bytes:
    """What Postgres writes for rows of one text each."""
    rows = (struct.pack("!hi", 1, len(text)) + text for text in texts)
    return _FILE_HEAD + b"".join(rows) + struct.pack("!h", -1)


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_texts_come_out_whole(texts: list[bytes], widths: list[int]) -> None:
    data, cutter, at = copied(texts), ParcelCutter(), 0
    found: list[bytes] = []
    while at < len(data):
        width = widths[at % len(widths)]
        found += cutter.add(data[at : at + width])
        at += width
    assert found == texts


def test_a_row_that_comes_as_one_piece_is_given_at_once() -> None:
    cutter, data = ParcelCutter(), copied([b"first", b"second"])
    assert [*cutter.add(data[:30]), *cutter.add(data[30:])] == [b"first", b"second"]
    assert list(ParcelCutter().add(data[: 19 + 6 + 5])) == [b"first"]
