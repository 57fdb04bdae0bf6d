"""A secret: a value that is never shown, and the shapes by which one is recognised in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_MASK = "****"
_SHOWN_CHARACTERS = 60

# Shapes of well-known tokens. PostHog's own come first: project, personal, project secret, OAuth.
_TOKEN = re.compile(
    r"ph[a-z]_[A-Za-z0-9_-]{8,}"
    r"|sk_(?:live|test)_[A-Za-z0-9]{8,}|AKIA[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abp]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_SECRET_NAME = re.compile(r"api_?-?key|token|secret|passw(?:or)?d|private_?-?key|credential|bearer", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_+/=.-]{24,}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value. It shows only its kind when printed; `reveal` is the one way to the text."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the secret itself. Call it only where the value leaves for the service it belongs to."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret('{masked(self._text)}')"

    def __str__(self) -> str:
        return masked(self._text)


def masked(text: str) -> str:
    """Return a stand-in for a secret: the kind it starts with (such as `phc_`) and nothing of the rest."""
    kind = re.match(r"(?:ph[a-z]|sk|gh[pousr])_", text)
    return f"{kind.group() if kind else ''}{_MASK}"


def looks_secret(text: str, name: str = "") -> bool:
    """Tell whether a text is shaped like a key or token, or is random text under a name such as `api_key`."""
    if _TOKEN.search(text):
        return True
    return bool(is_secret_name(name) and _RANDOM.fullmatch(text.strip()))


def is_secret_name(name: str) -> bool:
    """Tell whether a name such as `api_key` promises a secret."""
    return bool(_SECRET_NAME.search(name))


def shown(value: object) -> str:
    """Return a value from the user's file as a message may show it: cut, and masked when it may be a secret."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if not text.strip():
        return "an empty text"
    if _TOKEN.search(text) or _RANDOM.fullmatch(text.strip()):
        return f"`{masked(text)}`"
    return f"`{text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + '...'}`"


def secrets_in(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every text inside a YAML value, keys included, that looks like a secret."""
    match value:
        case str():
            if looks_secret(value, ".".join(str(step) for step in path)):
                yield path
        case Mapping():
            for key, inner in value.items():
                if looks_secret(str(key)):
                    yield (*path, masked(str(key)))
                else:
                    yield from secrets_in(inner, (*path, str(key)))
        case Sequence():
            for position, inner in enumerate(value):
                yield from secrets_in(inner, (*path, position))
