"""`make bench`: build the table, run the cases, print figures beside their targets."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from faults.postgres import Postgres

from bench import table
from bench.budget import Cost, apart, budget
from bench.case import CASES, MILLION, Bench
from bench.facts import machine_facts
from bench.model import Place
from bench.program import BrokenRun
from bench.sink import Sink

_SMALL_ROWS = 2_000
_ALL = (*CASES, "budget")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("--rows", type=int, default=MILLION, help="rows of the table; default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="runs of each case; default: %(default)s")
    parser.add_argument("--cases", default=",".join(_ALL), help="some of %(default)s")
    parser.add_argument("--warehouse", choices=("postgres", "duckdb"), default="postgres")
    parser.add_argument("--dsn", help="a Postgres to use; default: one that is started for this, with its defaults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/performance.md")
    parser.add_argument("--small", action="store_true", help=f"{_SMALL_ROWS} rows, once: only to see that it works")
    asked = parser.parse_args(words)
    if asked.small:
        asked.rows, asked.runs = _SMALL_ROWS, 1
    asked.cases = asked.cases.split(",")
    if unknown := sorted({*asked.cases} - {*_ALL}):
        parser.error(f"no such case: {', '.join(unknown)}")
    return asked


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a run failed or did not do what it is measured for."""
    asked = _options(words)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        is_duckdb = asked.warehouse == "duckdb"
        address = str(folder) if is_duckdb else asked.dsn or stack.enter_context(Postgres()).dsn
        place = Place(asked.warehouse, address)
        facts = {**machine_facts(place), "size": f"{asked.rows:,} rows, median of {asked.runs} runs"}
        print("\n".join(f"{name + ':':<13}{value}" for name, value in facts.items()), flush=True)
        place.build(asked.rows)
        bench = Bench(place, asked.rows, asked.runs, folder, stack.enter_context(Sink()), stack)
        try:
            figures, costs = _measured(bench, asked.cases)
        except BrokenRun as error:
            print(f"The benchmark ends: {error}", file=sys.stderr)
            return 1
    if asked.json:
        asked.json.write_text(table.document(facts, figures, costs) + "\n")
    if asked.docs:
        table.write_page(f"{asked.warehouse} {asked.rows}", facts, figures, costs)
    return 0


def _measured(bench: Bench, names: Sequence[str]) -> tuple[list[table.Figure], list[Cost]]:
    """Run the cases in their order, and print each as it ends."""
    figures: list[table.Figure] = []
    costs: list[Cost] = []
    for name in _ALL:
        if name not in names:
            continue
        begun = time.monotonic()
        if name == "budget":
            folder = bench.project(name, bench.sink).folder
            costs = apart(budget, bench.place, folder, bench.sink.url, bench.rows)
            lines = table.budget_text(costs)
        else:
            found = CASES[name](bench)
            figures += found
            lines = table.text(found)
        print(f"\n{lines}\n{name} took {time.monotonic() - begun:.0f} s", flush=True)
    return figures, costs


if __name__ == "__main__":
    sys.exit(main())
