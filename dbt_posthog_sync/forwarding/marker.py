"""The marker: by which a hog function is found again, and by which it is known whether its key is still the same.

It stands at the end of the function's description, because PostHog keeps nothing else of ours. PostHog never tells a
secret again, so the marker holds a salted, slow hash of it; everybody in the PostHog project may read that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import LoopsObject

_MARKER = re.compile(
    r"\[dbt-posthog-sync (?P<project>[^\s.\]]+)\.(?P<exposure>[^\s\]]+) (?P<object>contacts|events)"
    r"(?: key=(?P<salt>[0-9a-f]{32}):(?P<digest>[0-9a-f]{32}))?\]"
)
_COST = {"n": 2**14, "r": 8, "p": 1, "dklen": 16}  # RFC 7914; some 50 ms, once an exposure


@dataclass(frozen=True, slots=True)
class KeyMark:
    """A salted hash of a key, in hexadecimal."""

    salt: str
    digest: str

    @classmethod
    def of(cls, key: Secret, salt: str | None = None) -> KeyMark:
        """Hash a key, with a new salt unless one is given."""
        salt = salt or secrets.token_hex(16)
        digest = hashlib.scrypt(key.reveal().encode(), salt=bytes.fromhex(salt), **_COST)
        return cls(salt, digest.hex())

    def fits(self, key: Secret) -> bool:
        """Tell whether it is the hash of this key."""
        return hmac.compare_digest(self.digest, KeyMark.of(key, self.salt).digest)


@dataclass(frozen=True, slots=True)
class Marker:
    """What our function says of itself.

    Attributes:
        project: name of the dbt project.
        exposure: name of the exposure.
        object: what Loops gets; a function cannot change its template.
        key: of the key that PostHog was given; None where that is not known.
    """

    project: str
    exposure: str
    object: LoopsObject
    key: KeyMark | None = None

    @classmethod
    def of(cls, exposure: Exposure, key: KeyMark | None = None) -> Marker:
        """The marker of an exposure's function."""
        return cls(exposure.project, exposure.name, exposure.object, key)

    @classmethod
    def in_text(cls, description: str) -> Marker | None:
        """The marker in a description; None where there is none."""
        found = _MARKER.search(description)
        if found is None:
            return None
        key = KeyMark(found["salt"], found["digest"]) if found["salt"] else None
        return cls(found["project"], found["exposure"], LoopsObject(found["object"]), key)

    def names(self, exposure: Exposure) -> bool:
        """Tell whether it stands for this exposure."""
        return (self.project, self.exposure, self.object) == (exposure.project, exposure.name, exposure.object)

    def __str__(self) -> str:
        key = f" key={self.key.salt}:{self.key.digest}" if self.key else ""
        return f"[dbt-posthog-sync {self.project}.{self.exposure} {self.object.value}{key}]"
