"""What dbt and the drivers raise, in our words: one line with what happened and what to do. The cause is kept.

A warehouse's own words are cut to their first line, because the lines below quote the statement or a row, and are
masked where they quote a value: no message of ours carries what a row holds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbt_posthog_sync.errors import UserError, WarehouseUnavailable
from dbt_posthog_sync.problem import Problem

_LONGEST = 300
_E_MAIL = re.compile(r"[^\s\"'`@<>()\[\]=,;:/]+@[^\s\"'`@<>()\[\]=,;:/]+")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_HEADING = re.compile(r"^(?:\s*(?:Runtime|Database) Error\s+)+")  # dbt's, where it translates twice
_SEVERITY = re.compile(r"\b(?:FATAL|ERROR):\s+")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of failure: how to know it, and what helps.

    Attributes:
        signs: words that give it away.
        advice: what to do.
        quotes_rows: true when the message quotes a value of a row.
    """

    signs: re.Pattern[str]
    advice: str
    quotes_rows: bool = False


def _kind(signs: str, advice: str, *, quotes_rows: bool = False) -> _Kind:
    return _Kind(re.compile(signs, re.IGNORECASE), advice, quotes_rows)


_KINDS = (
    _kind(
        r"password|authentication|pg_hba|role \S+ does not exist|certificate",
        "Check the user and the password in profiles.yml.",
    ),
    _kind(r"database \S+ does not exist", "Check the name of the database in profiles.yml."),
    _kind(
        r"closed the connection|terminating connection|connection already closed|has been closed|connection reset",
        "Run again: what PostHog accepted before is confirmed, the rest is pending.",
    ),
    _kind(
        r"connection to server|could not connect|connection refused|translate host name|timed? ?out expired",
        "Check that it is running, and the host and port in profiles.yml.",
    ),
    _kind(
        r"permission denied for (?:database|schema)",
        "The user of this dbt target must be able to create the state schema (`state_schema` in posthog_sync.yml): "
        "grant it create on the database, or create the schema for it once and grant usage and create on it.",
    ),
    _kind(
        r"permission denied|must be owner|read-only|insufficient privilege",
        "Grant what is missing to the user of this dbt target.",
    ),
    _kind(r"cannot open file|not a valid duckdb", "Check the path in profiles.yml."),
    _kind(r"no space left|could not extend file|out of memory|disk full", "Give it more room, and run again."),
    _kind(r"deadlock|could not serialize|canceling statement|lock timeout|conflict on", "Run again."),
    _kind(
        r"invalid input|out of range|conversion error|division by zero|invalid byte|value too long|duplicate key",
        "Select every column of the model in the warehouse to find the row that cannot be read.",
        quotes_rows=True,
    ),
    _kind(
        r"does not exist|catalog error|binder error",
        "Build the model again with dbt build: the warehouse and the manifest do not match.",
    ),
)
_OTHERWISE = _kind("", "If it comes back, look for the statement in the log of the warehouse.", quotes_rows=True)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what dbt or a driver raises into our own error.

    A macro that cannot be rendered is our bug and passes unchanged.

    Raises:
        WarehouseUnavailable: the warehouse cannot be reached or refused a statement.
        UserError: a relation is there under a name that differs in case.
    """
    # dbt is imported only where a warehouse is needed.
    from dbt.adapters.exceptions import ApproximateMatchError  # noqa: PLC0415
    from dbt_common.exceptions import CompilationError, DbtBaseException, DbtInternalError  # noqa: PLC0415

    try:
        yield
    except ApproximateMatchError as error:
        message = f"a relation has nearly the same name as a model: {first_line(str(error.msg))}"
        raise UserError(Problem(message, "Rename one of them, or drop the one that dbt does not build.")) from error
    except (CompilationError, DbtInternalError):
        raise
    except (DbtBaseException, *_driver_errors()) as error:
        raise WarehouseUnavailable(in_our_words(str(getattr(error, "msg", error)))) from error


def _driver_errors() -> tuple[type[Exception], ...]:
    """The base error of each loaded driver: dbt passes some of them on as they are.

    A module that names the version of the Python DB-API it follows is a driver (PEP 249: `apilevel`).
    """
    loaded = [vars(module) for module in tuple(sys.modules.values()) if hasattr(module, "__dict__")]
    return tuple(names["Error"] for names in loaded if "apilevel" in names and isinstance(names.get("Error"), type))


def in_our_words(text: str) -> str:
    """The words of a warehouse as one line that ends with advice."""
    return _file_is_held(text) or _answer(first_line(_HEADING.sub("", text)))


def _answer(line: str) -> str:
    line = _SEVERITY.sub("", line)
    kind = next((kind for kind in _KINDS if kind.signs.search(line)), _OTHERWISE)
    words = without_values(line) if kind.quotes_rows else _E_MAIL.sub("***", line)
    return f"The warehouse answered: {words.rstrip('.')}. {kind.advice}"


def _file_is_held(text: str) -> str | None:
    """DuckDB admits one process to a file."""
    found = re.search(r"set lock on file \"([^\"]+)\"", text)
    if found is None:
        return None
    process = re.search(r"PID (\d+)", text)
    who = f"Another process ({process[1]})" if process else "Another process"
    return f"{who} holds the DuckDB file {found[1]}, which admits one at a time. End that process or wait for it."


def first_line(text: str) -> str:
    """The first line that says something, cut to a length that fits a message."""
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "nothing")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def without_values(text: str) -> str:
    """The text with everything masked that may be a value: what is in quotation marks, and e-mail addresses."""
    return _E_MAIL.sub("***", _QUOTED.sub("***", text))
