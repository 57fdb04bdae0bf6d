"""dbt's run results: a lenient reader of `run_results.json`, schema versions 4 to 6 (dbt 1.6 to 2.0).

Every key may be absent: dbt 2 tells of its arguments only which command it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dbt_posthog_sync.errors import RunResultsError
from dbt_posthog_sync.problem import Problem

OLDEST_SCHEMA = 4
NEWEST_SCHEMA = 6

_SCHEMA_VERSION = re.compile(r"/run-results/v(\d+)")

_Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunResults:
    """What one dbt command came to.

    Attributes:
        file: where it was read.
        command: such as build or test; empty when the file does not say.
        invocation_id: id of the dbt invocation, to be compared with the manifest's.
        generated_at: when it was written, ISO 8601 in UTC as dbt writes it, so that texts compare as times do.
        is_partial: true when the tables hold no rows or a sample (`--empty`, `--sample`); dbt 2 does not tell.
        statuses: (unique_id, status) of every node that was run.
        stored: (unique_id, relation, failures) of every test that stored the rows it failed for.
        warnings: what is odd about the file without being wrong.
    """

    file: str
    command: str
    invocation_id: str
    generated_at: str
    is_partial: bool = False
    statuses: tuple[tuple[str, str], ...] = ()
    stored: tuple[tuple[str, str, int], ...] = ()
    warnings: tuple[str, ...] = ()


def read_run_results(path: Path) -> RunResults:
    """Read a run_results.json.

    Raises:
        RunResultsError: the file is missing, is not dbt's, or is older than dbt 1.6.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _unreadable(str(path), "there is no such file.", "Check --run-results.") from error
    except OSError as error:
        raise _unreadable(str(path), f"the file cannot be read ({error.strerror}).", "Check --run-results.") from error
    except ValueError as error:
        advice = "dbt may still be writing it, or was stopped: run dbt again, or go on without it with --no-gate."
        raise _unreadable(str(path), f"the file is not valid JSON ({error}).", advice) from error
    return run_results_from(document, file=str(path))


def run_results_from(document: object, *, file: str = "run_results.json") -> RunResults:
    """Build `RunResults` from the parsed JSON; see `read_run_results`."""
    whole = _mapping(document)
    metadata, args, results = _mapping(whole.get("metadata")), _mapping(whole.get("args")), whole.get("results")
    found = _SCHEMA_VERSION.search(_text(metadata, "dbt_schema_version"))
    if found is None or not isinstance(results, list):
        raise _unreadable(file, "this JSON file is no run_results.json of dbt.", "Name one with --run-results.")
    version = int(found.group(1))
    if version < OLDEST_SCHEMA:
        message = f"the file has schema version {version}, which dbt {_text(metadata, 'dbt_version')} wrote."
        advice = f"Versions {OLDEST_SCHEMA} and later can be read: use dbt 1.6 or later, or --no-gate."
        raise _unreadable(file, message, advice)
    newer = f"{file} has schema version {version}, newer than {NEWEST_SCHEMA}, the newest this program knows."
    return RunResults(
        file=file,
        command=_text(args, "which"),
        invocation_id=_text(metadata, "invocation_id"),
        generated_at=_text(metadata, "generated_at"),
        is_partial=bool(args.get("empty") or args.get("sample")),
        statuses=tuple((_text(raw, "unique_id"), _text(raw, "status")) for raw in map(_mapping, results)),
        stored=tuple(
            (_text(raw, "unique_id"), _text(raw, "relation_name"), int(raw.get("failures") or 0))
            for raw in map(_mapping, results)
            if _text(raw, "status").lower() == "fail" and raw.get("relation_name")
        ),
        warnings=(f"{newer} Reading it anyway.",) if version > NEWEST_SCHEMA else (),
    )


def _unreadable(file: str, message: str, advice: str) -> RunResultsError:
    return RunResultsError(Problem(message, advice, file=file))


def _mapping(value: object) -> _Json:
    return value if isinstance(value, Mapping) else {}


def _text(raw: _Json, key: str) -> str:
    value = raw.get(key)
    return "" if value is None else str(value)
