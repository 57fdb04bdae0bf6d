"""Template texts: what stands in an input of a hog function, with `{expressions}` over the event and its person."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbt_posthog_sync.exposure import ForwardedTerm, PostHogProperty, Template
from dbt_posthog_sync.sync import Constant, Scalar

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_PROPERTY = re.compile(r"\b(person|event)\.properties\.(?:([A-Za-z_$][A-Za-z0-9_$]*)|`([^`]+)`)")


def template_text(term: ForwardedTerm, holder: str) -> Scalar:
    """What an input holds for a term.

    Args:
        term: where the value comes from.
        holder: `person` or `event`, whose property a name means.
    """
    match term:
        case PostHogProperty(name):
            return f"{{{holder}.properties{_member(name)}}}"
        case Template(text):
            return text
        case Constant(value):
            return _constant(value)


def _constant(value: Scalar) -> Scalar:
    """A text that the template language would read otherwise becomes a literal of Hog."""
    if isinstance(value, str) and ("{" in value or "\\" in value):
        return f"{{{hog_text(value)}}}"
    return value


def _member(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return f".{name}"
    return f"[{hog_text(name)}]" if "`" in name or "\\" in name else f".`{name}`"


def hog_text(text: str) -> str:
    """A text as a literal of Hog."""
    escaped = (
        text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f"'{escaped}'"


def hog_flags(flags: tuple[tuple[str, bool], ...]) -> str:
    """Names with true or false as a dictionary of Hog."""
    pairs = (f"{hog_text(name)}: {'true' if flag else 'false'}" for name, flag in flags)
    return f"{{{', '.join(pairs)}}}"


def properties_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the properties that a template reads: `person` or `event`, and the name."""
    for found in _PROPERTY.finditer(text):
        yield found[1], found[2] or found[3]
