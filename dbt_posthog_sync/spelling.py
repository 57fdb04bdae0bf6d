"""Spelling: the known word a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` most resembles, or None when nothing is close.

    Case and the choice between `-`, `_` and a space do not count as differences.
    """
    by_form = {_form(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_form(word), list(by_form), n=1, cutoff=0.7)
    return by_form[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean ...?` for a mistyped word, or an empty text."""
    found = nearest(word, known)
    return f"Did you mean `{found}`?" if found is not None and found != word else ""


def listed(words: Iterable[str], last: str = "and") -> str:
    """Return words in code marks as a sentence lists them: `a`, `b` and `c`."""
    *head, tail = [f"`{word}`" for word in words]
    return f"{', '.join(head)} {last} {tail}" if head else tail


def _form(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")
