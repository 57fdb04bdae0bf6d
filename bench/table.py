"""The table: figures beside their targets, as text, as JSON, and as Markdown for docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.budget import Cost
from bench.sink import ROOT

PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        case: what was run.
        name: what was measured.
        value: the median of the runs.
        unit: of value and target.
        at_least: smallest value that is good, or None.
        at_most: largest value that is good, or None.
    """

    case: str
    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f">= {_number(self.at_least)}"
        return f"<= {_number(self.at_most)}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty where there is none."""
        if not self.target:
            return ""
        is_met = (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )
        return "met" if is_met else "missed"


def heading(facts: Mapping[str, str]) -> str:
    """Facts of the machine, a line each."""
    return "\n".join(f"{name + ':':<13}{value}" for name, value in facts.items())


def text(figures: Iterable[Figure]) -> str:
    """Lines of the table."""
    return "\n".join(
        f"{one.case:<12}{one.name:<52}{_number(one.value):>12} {one.unit:<10}{one.target:>12}  {one.verdict}".rstrip()
        for one in figures
    )


def budget_text(costs: Sequence[Cost]) -> str:
    """Lines of the budget."""
    return "\n".join(
        f"{'budget':<12}{f'{one.where}: {one.step}':<52}{one.microseconds:>12.2f} us a row" for one in costs
    )


def document(facts: Mapping[str, str], figures: Sequence[Figure], costs: Sequence[Cost], rows: int) -> str:
    """Everything as one JSON document."""
    listed = [{**asdict(one), "verdict": one.verdict or None} for one in figures]
    content = {"version": 1, "rows": rows, "facts": dict(facts), "figures": listed, "budget": list(map(asdict, costs))}
    return json.dumps(content, indent=1)


def write_page(warehouse: str, facts: Mapping[str, str], figures: Sequence[Figure], costs: Sequence[Cost]) -> None:
    """Put the figures of a warehouse into docs/performance.md, in place of its former ones."""
    opening, closing = f"<!-- {warehouse} -->", f"<!-- end of {warehouse} -->"
    before, _, rest = PAGE.read_text().partition(opening)
    _, _, after = rest.partition(closing)
    lines = [
        opening,
        "; ".join(f"{name}: {value}" for name, value in facts.items()) + ".",
        "",
        "| case | what | measured | target | |",
        "|---|---|---:|---:|---|",
        *(f"| {f.case} | {f.name} | {_number(f.value)} {f.unit} | {f.target} | {f.verdict} |" for f in figures),
        "",
        "| where | step | microseconds a row |",
        "|---|---|---:|",
        *(f"| {cost.where} | {cost.step} | {cost.microseconds:.2f} |" for cost in costs),
        closing,
    ]
    PAGE.write_text(before + "\n".join(lines) + after)


def save(file: Path, content: str) -> None:
    """Write the JSON document."""
    file.write_text(content + "\n")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"
