"""Positions of staged rows that wait to be confirmed, as the statements read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

_NO, _YES = b"0", ord("1")
_DIGITS = 8


class Part(NamedTuple):
    """Positions that one statement has room for.

    Attributes:
        rows: how many they are.
        argument: how the macros read them: `lowest` and `highest`, and `marks` between these (a `1` where there is a
            position, a `0` where there is none), or `listed` where they are few and far apart.
    """

    rows: int
    argument: dict[str, Any]


class Positions:
    """A set of positions that grows by many thousands a second: a byte for each, in stretches of the staged rows.

    A statement is copied many times on its way to the warehouse, so that a long one is what the process's memory is;
    the stretches bound it.
    """

    def __init__(self, positions: Iterable[int] = (), *, bits: int = 18) -> None:
        """Two to the power of `bits` positions make a stretch."""
        self._bits = bits
        self._stretches: defaultdict[int, bytearray] = defaultdict(lambda: bytearray(_NO) * (1 << bits))
        self.add(positions)

    def add(self, positions: Iterable[int]) -> None:
        """Take these positions too."""
        stretches, bits, in_stretch = self._stretches, self._bits, (1 << self._bits) - 1
        for position in positions:  # this loop meets every row
            stretches[position >> bits][position & in_stretch] = _YES

    def parts(self) -> Iterator[Part]:
        """All positions, each once."""
        for number, marks in self._stretches.items():
            yield _part(number << self._bits, marks)


def listed(positions: Sequence[int]) -> dict[str, Any] | None:
    """A few positions, wherever they are, for one statement; None when there are none."""
    if not positions:
        return None
    return {"lowest": min(positions), "highest": max(positions), "listed": ",".join(map(str, positions))}


def _part(begin: int, marks: bytearray) -> Part:
    first, end, count = marks.index(_YES), marks.rindex(_YES) + 1, marks.count(_YES)
    if end - first < _DIGITS * count:
        between = marks[first:end].decode("ascii")
        return Part(count, {"lowest": begin + first, "highest": begin + end - 1, "marks": between})
    return Part(count, listed([begin + place for place in range(first, end) if marks[place] == _YES]) or {})
