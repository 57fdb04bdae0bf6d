"""A shard: one of several equal parts of a sync's rows, so that several machines can share a first load."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(\d{1,4})/(\d{1,4})")
_SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows whose sync key falls into one of `of` buckets.

    Attributes:
        number: which of them, from 1 to `of`.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def from_text(cls, text: str) -> Shard:
        """Read `2/4`.

        Raises:
            ValueError: it says something else.
        """
        found = _FORM.fullmatch(text.strip())
        shard = cls(*map(int, found.groups())) if found else None
        if shard is None or not 1 <= shard.number <= shard.of or shard.of < 2:
            raise ValueError("a shard is written like 2/4: the second of four, from 1/2 on")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def lease_id(self, sync_id: str) -> str:
        """Under which name its run holds its part of the sync."""
        return f"{sync_id}{_SEPARATOR}{self}"


def shard_of_lease(lease_id: str) -> Shard:
    """The shard whose run holds a lease of this name."""
    return Shard.from_text(lease_id.partition(_SEPARATOR)[2])
