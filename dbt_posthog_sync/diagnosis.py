"""The diagnosis: what was checked, each check with its verdict and with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from dbt_posthog_sync.errors import DestinationRefused, SyncError, UserError


class Verdict(str, Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # works, or could not be checked; worth a look
    FAILED = "failed"  # a run would not work, or would send to the wrong place


@dataclass(frozen=True, slots=True)
class Check:
    """One part that was looked at.

    Attributes:
        name: the part.
        verdict: how it is.
        findings: what was seen and what to do, a line each.
        exit_code: what the program ends with because of this check; 0 unless it failed.
    """

    name: str
    verdict: Verdict
    findings: tuple[str, ...]
    exit_code: int = 0

    @classmethod
    def ok(cls, name: str, *findings: str) -> Check:
        """All is well."""
        return cls(name, Verdict.OK, findings)

    @classmethod
    def warning(cls, name: str, *findings: str) -> Check:
        """Something to look at."""
        return cls(name, Verdict.WARNING, findings)

    @classmethod
    def failed(cls, name: str, *findings: str, exit_code: int = DestinationRefused.exit_code) -> Check:
        """Something does not work."""
        return cls(name, Verdict.FAILED, findings, exit_code)

    @classmethod
    def of_error(cls, name: str, error: SyncError) -> Check:
        """What an error says, every problem of it."""
        findings = tuple(map(str, error.problems)) if isinstance(error, UserError) else (str(error),)
        return cls.failed(name, *findings, exit_code=error.exit_code)

    @classmethod
    def not_checked(cls, name: str, because: str) -> Check:
        """A check that needs what another one found wanting."""
        return cls.warning(name, f"Not checked, because {because}.")


def exit_code_of(checks: Iterable[Check]) -> int:
    """Exit code of all checks together: the highest, because what cannot be reached hides the rest."""
    return max((check.exit_code for check in checks), default=0)
