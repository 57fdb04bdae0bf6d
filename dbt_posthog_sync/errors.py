"""Every error of the program, as one tree.

```
SyncError
|-- UserError                 exit 2   the user wrote something wrong; carries all problems
|   |-- ManifestError         exit 2   no manifest, or one that cannot be read
|   |-- RunResultsError       exit 2   a run_results.json that cannot be read
|   |-- DbtProgramError       exit 2   the user's dbt program is missing, or refuses
|   |-- AnnotationError       exit 2   one or more annotations are wrong
|   |-- SettingsError         exit 2   posthog_sync.yml, a key or an option is wrong
|   `-- StateError            exit 2   the state schema is not one this program can use
|-- UnsafePlan                exit 1   a guard stopped the run before anything was sent
|-- Unreconciled              exit 3   the counts of a run do not add up
|-- Retriable                 exit 4   the same thing may work a moment later
|   |-- WarehouseUnavailable  exit 4   the warehouse cannot be reached or refused a statement
|   |-- DestinationUnavailable exit 4  the destination cannot be reached
|   `-- LeaseLost             exit 4   another run took over this sync
`-- Fatal                     exit 4   trying again cannot help
    |-- DestinationRefused    exit 4   the destination refuses this key or this account
    |   |-- ScopeMissing      exit 4   the personal API key may not do what is needed
    |   `-- ChangedMeanwhile  exit 4   somebody has changed the same thing in the destination
    `-- AnswerCut             exit 4   PostHog holds back rows of an answer
```

A row that cannot be sent is not an error: it is a rejected row, a value with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbt_posthog_sync.problem import Problem


class SyncError(Exception):
    """Something went wrong in dbt-posthog-sync."""

    exit_code = 3

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class UserError(SyncError):
    """Something in the project, its settings or the command is wrong."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def from_problems(cls, problems: Iterable[Problem]) -> UserError:
        """Build the error from any number of problems."""
        return cls(*problems)


class ManifestError(UserError):
    """The dbt manifest is missing or cannot be read."""


class RunResultsError(UserError):
    """dbt's run_results.json cannot be read."""


class DbtProgramError(UserError):
    """The user's dbt program is missing, or refuses what it is asked."""


class AnnotationError(UserError):
    """One or more posthog_sync annotations are wrong."""


class SettingsError(UserError):
    """posthog_sync.yml, an environment variable or an option is wrong."""


class StateError(UserError):
    """The state schema in the warehouse cannot be used by this version of the program."""


class UnsafePlan(SyncError):
    """A guard stopped the run before anything was sent."""

    exit_code = 1


class Unreconciled(SyncError):
    """The counts of a run do not add up."""

    exit_code = 3


class Retriable(SyncError):
    """It failed now, and the same thing may work a moment later."""

    exit_code = 4


class WarehouseUnavailable(Retriable):
    """The warehouse cannot be reached or refused a statement."""


class DestinationUnavailable(Retriable):
    """The destination cannot be reached."""


class LeaseLost(Retriable):
    """Another run took over this sync."""


class Fatal(SyncError):
    """Trying again cannot help until somebody changes something."""

    exit_code = 4


class DestinationRefused(Fatal):
    """The destination refuses this key or this account."""


class ScopeMissing(DestinationRefused):
    """The personal API key lacks a scope.

    Attributes:
        scope: PostHog's name of it, such as `person:read`.
    """

    def __init__(self, message: str, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class ChangedMeanwhile(DestinationRefused):
    """Somebody has changed the same thing in the destination since it was read; nothing was overwritten."""


class AnswerCut(Fatal):
    """PostHog answered with as many rows as it gives at once, so that there may be more."""
