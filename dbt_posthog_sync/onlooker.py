"""The onlooker: who is told how a run is getting on while it is."""

from __future__ import annotations

from dataclasses import dataclass


class Onlooker:
    """Watches a run; this one makes nothing of it."""

    def looks_up(self, sync: str, keys: int) -> None:
        """So many keys of a sync were looked up in PostHog."""

    def settles(self, sync: str, rows: int, total: int) -> None:
        """So many rows of a sync have their outcome, of all that are to be sent."""

    def repeats(self, sync: str, reason: str) -> None:
        """A request failed as a whole, and is sent again after a while; the reason is one line for people."""


@dataclass(frozen=True, slots=True)
class Watch:
    """An onlooker of one sync.

    Attributes:
        onlooker: who is told.
        sync: name of the sync.
        rows: rows that are to be sent.
    """

    onlooker: Onlooker
    sync: str
    rows: int

    def settles(self, rows: int) -> None:
        """So many rows have their outcome."""
        self.onlooker.settles(self.sync, rows, self.rows)

    def repeats(self, reason: str) -> None:
        """A request is sent again."""
        self.onlooker.repeats(self.sync, reason)
