"""A problem: one thing that is wrong, where it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what the user wrote. Problems are collected and shown all at once.

    Attributes:
        message: what is wrong, one sentence.
        advice: what to write or do instead; may be empty.
        model: name of the dbt model, empty when the problem belongs to none.
        file: path of the file that holds the fault, as the manifest names it.
        path: JSON path inside that file, such as `$.models[orders].config.meta.posthog_sync.event`.
    """

    message: str
    advice: str = ""
    model: str = ""
    file: str = ""
    path: str = ""

    def __str__(self) -> str:
        where = [part for part in (self.model, self.file, self.path) if part]
        prefix = f"{', '.join(where)}: " if where else ""
        suffix = f" {self.advice}" if self.advice else ""
        return f"{prefix}{self.message}{suffix}"
