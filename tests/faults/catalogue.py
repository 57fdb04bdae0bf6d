"""The catalogue of all cases."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from faults import answers, deaths, outages, rivals
from faults.case import Case


def all_cases() -> tuple[Case, ...]:
    """Every case, in the order in which they are tried."""
    return (*answers.cases(), *deaths.cases(), *rivals.cases(), *outages.cases())


def chosen(patterns: Sequence[str]) -> tuple[Case, ...]:
    """The cases whose name matches one of the patterns, such as `killed-*`; all where there is no pattern."""
    cases = all_cases()
    if not patterns:
        return cases
    return tuple(case for case in cases if any(fnmatchcase(case.name, pattern) for pattern in patterns))
