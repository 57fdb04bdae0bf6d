"""Names of the tables that a sync has in the state schema, and in the session."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from dbt_posthog_sync.resolved_sync import ResolvedSync

CHANGES, RETRIED = "__changes_", "__retried_"
"""Parts of the names of staged rows: of a run, and of a retry."""


@dataclass(frozen=True, slots=True)
class SyncTables:
    """Names of a sync's own tables in this run.

    Attributes:
        base: base of the snapshot.
        log: log of the snapshot.
        changes: staged rows of this run.
        diff: result of the diff, which does not outlive its transaction.
        previous: staged rows of an interrupted run, if there are any.
        temporary: true when staged rows live in a temporary table (`plan` and `run --mock`).
        mirror: table of the state schema with the persons of PostHog; None where a temporary one holds those that
            were looked up.
    """

    base: str
    log: str
    changes: str
    diff: str
    previous: str | None = None
    temporary: bool = False
    mirror: str | None = None

    @classmethod
    def named(cls, resolved: ResolvedSync, generation: int = 0) -> SyncTables:
        """Names that a person finds in the warehouse: the sync's name, a piece of its id, the part."""
        prefix = table_prefix(resolved)
        return cls(
            base=f"{prefix}__base_{generation}",
            log=f"{prefix}__log_{generation}",
            changes=f"{prefix}{CHANGES}{generation}",
            diff=f"{prefix}__diff",
        )

    def generation(self, number: int) -> SyncTables:
        """The same sync's tables after its snapshot was rewritten: a new base and a new log."""
        return replace(self, base=_numbered(self.base, number), log=_numbered(self.log, number))

    @property
    def continues_retry(self) -> bool:
        """True when the staged rows of before are those of a retry that did not end."""
        return self.previous is not None and RETRIED in self.previous

    @property
    def previous_epoch(self) -> int | None:
        """Epoch of the run that left the staged rows of before."""
        return int(self.previous.rsplit("_", 1)[1]) if self.previous is not None else None

    @property
    def generation_number(self) -> int:
        """How often the snapshot was rewritten."""
        return int(self.base.rsplit("_", 1)[1])

    def for_macro(self) -> dict[str, Any]:
        """The tables as the macros read them."""
        names = {
            "base": (self.base, False),
            "log": (self.log, False),
            "changes": (self.changes, self.temporary),
            "diff": (self.diff if self.temporary else f"{self.changes}_diff", self.temporary),
            "previous": (self.previous, False),
            "removed": (f"{self.diff}_removed", True),
            "identities": (self.mirror or f"{self.diff}_identities", self.mirror is None),
        }
        return {
            part: {"name": name, "temporary": temporary, "scratch": part == "diff"}
            for part, (name, temporary) in names.items()
        }


def _numbered(name: str, number: int) -> str:
    return f"{name.rsplit('_', 1)[0]}_{number}"


def table_prefix(resolved: ResolvedSync) -> str:
    """Prefix of a sync's tables; short enough for the 63 bytes that Postgres keeps of a name."""
    slug = re.sub(r"[^a-z0-9_]+", "_", resolved.sync.name.lower())[:32].strip("_")
    return f"{slug}_{resolved.id[:8]}"
