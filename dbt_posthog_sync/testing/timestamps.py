"""How PostHog reads times, strictly on v1 and leniently on v0.

Rules: PostHog/posthog: rust/common/types/src/timestamp.rs and rust/capture/src/v1/analytics/process.rs.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, timezone
from email.utils import parsedate_to_datetime

FUTURE_CUTOFF = timedelta(hours=23)
"""A time further ahead of the server than this becomes the server's time."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_DATE = r"(\d{4})-(\d{2})-(\d{2})"
_TIME = r"(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?"
_RFC3339 = re.compile(rf"{_DATE}[Tt ]{_TIME}(?:[Zz]|([+-])(\d{{2}}):(\d{{2}}))", re.ASCII)
_SHORT_OFFSET = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?[+-]\d{2}", re.ASCII)
_NAIVE = re.compile(rf"{_DATE}[T ](\d{{1,2}}):(\d{{2}})(?::(\d{{2}})(?:\.(\d+))?)?", re.ASCII)
_SPACED_OFFSET = re.compile(
    rf"({_DATE} \d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?) ?(UTC|GMT|Z|[+-]\d{{2}}(?::?\d{{2}})?)", re.ASCII
)
_YEAR_FIRST = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?: (\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?)?", re.ASCII)
_MONTH_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: (\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?)?", re.ASCII)
_EPOCH_DIGITS = {10: 1, 13: 1_000, 19: 1_000_000_000}


def rfc3339(text: str) -> datetime | None:
    """Read a strict RFC 3339 time as UTC, or return None. It must have seconds and a zone."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = found.groups()
    offset = timedelta(0) if sign is None else timedelta(hours=int(off_hours), minutes=int(off_minutes))
    if offset >= timedelta(days=1) or (sign and int(off_minutes) > 59):
        return None
    clock = (int(hour), int(minute), int(second))
    moment = _moment((int(year), int(month), int(day)), clock, fraction)
    return None if moment is None else _shifted(moment, offset if sign == "-" else -offset)


def _moment(date: tuple[int, int, int], clock: tuple[int, int, int], fraction: str | None) -> datetime | None:
    """Put date, clock and fraction together as UTC; None where there is no such moment."""
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    leap = clock[2] == 60
    try:
        moment = datetime(*date, clock[0], clock[1], 59 if leap else clock[2], micros, tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment + timedelta(seconds=1) if leap else moment


def _shifted(moment: datetime, by: timedelta) -> datetime:
    """Move a moment; outside what a datetime can hold it becomes the epoch, as PostHog does beyond year 9999."""
    try:
        return moment + by
    except OverflowError:
        return EPOCH


def lenient(text: str, now: datetime) -> datetime | None:
    """Read a time as v0 does, or return None.

    RFC 3339 first, then what the `dateparser` crate takes: epoch seconds, milliseconds or nanoseconds, RFC 2822,
    and dates with dashes or slashes. A date without a time of day gets the server's time of day, and a time without
    zone is UTC.
    """
    strict = rfc3339(text + ":00" if _SHORT_OFFSET.fullmatch(text) else text)
    if strict is not None:
        return strict
    if text.isascii() and text.isdigit():
        return _from_epoch(text)
    return _from_spaced_offset(text) or _from_parts(text, now) or _from_rfc2822(text)


def _from_epoch(digits: str) -> datetime | None:
    """Read seconds, milliseconds or nanoseconds since 1970, told apart by the number of digits."""
    scale = _EPOCH_DIGITS.get(len(digits))
    return None if scale is None else _shifted(EPOCH, timedelta(microseconds=int(digits) * 1_000_000 // scale))


def _from_spaced_offset(text: str) -> datetime | None:
    """Read `2019-11-29 08:08:05-08`, `... +0800` and `... UTC`."""
    found = _SPACED_OFFSET.fullmatch(text)
    if found is None:
        return None
    head, zone = found.group(1), found.group(5)
    moment = _from_parts(head, EPOCH)
    if moment is None or zone in ("UTC", "GMT", "Z"):
        return moment
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return _shifted(moment, offset if zone[0] == "-" else -offset)


def _from_parts(text: str, now: datetime) -> datetime | None:
    """Read a zoneless date, with or without a time of day."""
    if found := _NAIVE.fullmatch(text) or _YEAR_FIRST.fullmatch(text):
        year, month, day, hour, minute, second, fraction = found.groups()
    elif found := _MONTH_FIRST.fullmatch(text):
        month, day, year, hour, minute, second, fraction = found.groups()
    else:
        return None
    date = (int(year), int(month), int(day))
    if hour is None:
        return _with_time_of_day(date, now.timetz())
    return _moment(date, (int(hour), int(minute), int(second or 0)), fraction)


def _with_time_of_day(date: tuple[int, int, int], clock: time) -> datetime | None:
    """Complete a date by a time of day."""
    return _moment(date, (clock.hour, clock.minute, clock.second), f"{clock.microsecond:06d}")


def _from_rfc2822(text: str) -> datetime | None:
    """Read an e-mail date."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def without_skew(moment: datetime, sent_at: datetime, now: datetime, deadband: timedelta) -> datetime:
    """Correct a client's time by how far its clock is from the server's, less the deadband."""
    skew = sent_at - now
    if abs(skew) <= deadband:
        return moment
    return _shifted(moment, -(skew - deadband if skew > timedelta(0) else skew + deadband))


def not_in_future(moment: datetime, now: datetime) -> datetime:
    """Return the server's time for a moment more than 23 hours ahead of it."""
    return now if moment - now > FUTURE_CUTOFF else moment
