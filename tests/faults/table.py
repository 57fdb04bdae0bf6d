"""The table of findings, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from faults.case import Finding

_FORM = "{:<34} {:<100} {:>6} {:>8} {:>5} {:>9} {:>7}"


def heading() -> str:
    """The first line."""
    return _FORM.format("case", "seen", "lost", "repeated", "kept", "exit", "seconds").rstrip()


def lines(finding: Finding) -> Iterable[str]:
    """A finding's line, and one line more for each problem."""
    codes = " ".join(map(str, finding.codes))
    found = finding.verdict
    numbers = (found.lost, found.repeated, found.kept) if found else ("-", "-", "-")
    seen = f"skipped: {finding.skipped}" if finding.skipped else finding.seen
    yield _FORM.format(finding.case, seen[:100], *numbers, codes, f"{finding.seconds:.1f}").rstrip()
    yield from (f"    WRONG: {problem}" for problem in finding.problems)


def closing(findings: Iterable[Finding]) -> str:
    """The last line."""
    everything = tuple(findings)
    wrong = sum(not finding.is_good for finding in everything)
    skipped = sum(bool(finding.skipped) for finding in everything)
    seconds = sum(finding.seconds for finding in everything)
    return f"{len(everything)} cases, {wrong} wrong, {skipped} skipped, {seconds:.0f} s"


def document(findings: Iterable[Finding], rows: int) -> str:
    """Everything as one JSON document."""
    return json.dumps({"version": 1, "kind": "faults", "rows": rows, "cases": [_values(one) for one in findings]})


def _values(finding: Finding) -> dict[str, Any]:
    found = finding.verdict
    return {
        "case": finding.case,
        "seen": finding.seen,
        "rows_lost": found.lost if found else None,
        "rows_repeated": found.repeated if found else None,
        "repeats_kept": found.kept if found else None,
        "exit_codes": list(finding.codes),
        "seconds": round(finding.seconds, 1),
        "problems": list(finding.problems),
        "skipped": finding.skipped or None,
    }
