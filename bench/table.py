"""The table: figures beside their targets, as text, as JSON, and as Markdown in docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.budget import Cost
from bench.sink import ROOT

PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of a case, in the median of its runs, and between which bounds it is good."""

    case: str
    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target in words; empty where there is none."""
        if self.at_least is not None:
            return f">= {_number(self.at_least)}"
        return "" if self.at_most is None else f"<= {_number(self.at_most)}"

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty where there is none."""
        if self.at_least is not None:
            return "met" if self.value >= self.at_least else "missed"
        return "" if self.at_most is None else ("met" if self.value <= self.at_most else "missed")


def text(figures: Iterable[Figure]) -> str:
    """Lines of the table."""
    return "\n".join(
        f"{f.case:<10}{f.name:<42}{_number(f.value):>12} {f.unit:<6}{f.target:>11}  {f.verdict}".rstrip()
        for f in figures
    )


def budget_text(costs: Iterable[Cost]) -> str:
    """Lines of the budget."""
    return "\n".join(f"{'budget':<10}{f'{c.where}: {c.step}':<42}{c.microseconds:>12.2f} us a row" for c in costs)


def document(facts: Mapping[str, str], figures: Iterable[Figure], costs: Iterable[Cost]) -> str:
    """Everything as one JSON document."""
    listed = [{**asdict(figure), "verdict": figure.verdict or None} for figure in figures]
    return json.dumps(
        {"version": 1, "facts": dict(facts), "figures": listed, "budget": [*map(asdict, costs)]}, indent=1
    )


def write_page(name: str, facts: Mapping[str, str], figures: Sequence[Figure], costs: Sequence[Cost]) -> None:
    """Put figures into docs/performance.md, in place of the former ones of that name."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = PAGE.read_text().partition(opening)
    head = "; ".join(f"{fact}: {value}" for fact, value in facts.items())
    lines = [
        f"{head}.\n\n| case | what | measured | target | |\n|---|---|---:|---:|---|",
        *(f"| {f.case} | {f.name} | {_number(f.value)} {f.unit} | {f.target} | {f.verdict} |" for f in figures),
        "\n| where | step | microseconds a row |\n|---|---|---:|",
        *(f"| {c.where} | {c.step} | {c.microseconds:.2f} |" for c in costs),
    ]
    PAGE.write_text(f"{before}{opening}" + "\n".join(lines) + f"\n{closing}{rest.partition(closing)[2]}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"
