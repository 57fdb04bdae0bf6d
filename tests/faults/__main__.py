"""`make faults`: try the cases and print what they came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from faults import table
from faults.case import Case, Finding, tried
from faults.catalogue import chosen
from faults.postgres import Postgres

_ROWS = 100_000
_JOBS = 2


def findings(cases: Sequence[Case], rows: int, jobs: int) -> Iterator[Finding]:
    """Try so many cases side by side, each on a Postgres that it has for itself; findings come in their order."""
    idle: SimpleQueue[Postgres] = SimpleQueue()

    def try_one(case: Case) -> Finding:
        postgres = idle.get()
        try:
            return tried(case, rows, postgres, folder)
        finally:
            idle.put(postgres)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults")))
        for _ in range(jobs):
            idle.put(stack.enter_context(Postgres()))
        yield from stack.enter_context(ThreadPoolExecutor(jobs)).map(try_one, cases)


def main(words: Sequence[str] | None = None) -> int:
    """Try the cases that are asked for; 1 when something is wrong, 2 when there is no such case."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names or patterns such as 'killed-*'; default: all")
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"rows of each table; default: {_ROWS}")
    parser.add_argument("--jobs", type=int, default=_JOBS, help=f"cases at once; default: {_JOBS}")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and try none")
    asked = parser.parse_args(words)
    cases = chosen(asked.cases)
    if not cases:
        parser.error("no case has such a name; --list prints the names")
    if asked.list:
        print("\n".join(case.name for case in cases))
        return 0
    return _print(findings(cases, asked.rows, asked.jobs), asked.rows, as_json=asked.output == "json")


def _print(found: Iterator[Finding], rows: int, *, as_json: bool) -> int:
    tried_cases = []
    if not as_json:
        print(f"{rows:,} rows\n{table.heading()}", flush=True)
    for finding in found:
        tried_cases.append(finding)
        if not as_json:
            print("\n".join(table.lines(finding)), flush=True)
    print(table.document(tried_cases, rows) if as_json else table.closing(tried_cases))
    return 0 if all(finding.is_good for finding in tried_cases) else 1


if __name__ == "__main__":
    sys.exit(main())
