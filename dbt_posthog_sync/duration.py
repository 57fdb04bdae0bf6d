"""Durations, as annotations and settings write them: `3 days`, `1 hour`."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"\s*(\d+)\s*([a-z]+?)s?\s*")


def duration(text: str) -> timedelta:
    """Return `3 days` as a duration."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"not a duration: {text}")
    return timedelta(**{f"{found.group(2)}s": int(found.group(1))})
