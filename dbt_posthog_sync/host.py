"""The host: which address messages go to, and which one PostHog's private API has."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

_CLOUD_INGEST = {"us": "https://us.i.posthog.com", "eu": "https://eu.i.posthog.com"}
_CLOUD_API = {"us": "https://us.posthog.com", "eu": "https://eu.posthog.com"}
_REGION_OF = {
    "us.i.posthog.com": "us",
    "us.posthog.com": "us",
    "app.posthog.com": "us",
    "posthog.com": "us",
    "eu.i.posthog.com": "eu",
    "eu.posthog.com": "eu",
}


@dataclass(frozen=True, slots=True)
class Host:
    """Where PostHog is.

    Attributes:
        ingest: address that messages are posted to, without a slash at the end.
        api: address of the private API; a guess (the same one) for a host of your own.
        region: us or eu on PostHog Cloud, None for a host of your own.
    """

    ingest: str
    api: str
    region: str | None

    @property
    def words(self) -> str:
        """What to call it."""
        return f"PostHog Cloud {self.region}" if self.region else self.ingest

    @classmethod
    def from_text(cls, text: str, api: str | None = None) -> Host:
        """Build the host from `us`, `eu` or an address; an app address of PostHog Cloud becomes its ingest one.

        Raises:
            ValueError: the text is no address, or would send keys unencrypted over a public network.
        """
        named = text.strip().rstrip("/")
        region = named.lower() if named.lower() in _CLOUD_INGEST else _REGION_OF.get(_checked(named).netloc.lower())
        own_api = None if api is None else _checked(api.strip().rstrip("/")).geturl()
        if region is not None:
            return cls(_CLOUD_INGEST[region], own_api or _CLOUD_API[region], region)
        return cls(named, own_api or named, None)


def address_from(text: str) -> str:
    """Return an address without a slash at its end.

    Raises:
        ValueError: it is no address, or would send keys unencrypted over a public network.
    """
    return _checked(text.strip().rstrip("/")).geturl()


def _checked(text: str) -> SplitResult:
    """Return the parts of an address that may receive a key."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError("is not an address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an address; write `us`, `eu`, or one that starts with `https://`")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be an address only, without user, password or parameters")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        raise ValueError("would send keys unencrypted; write `https://`")
    return parts


def _is_private(name: str) -> bool:
    """Tell whether a host is this machine or inside its own network, as in tests and containers."""
    if "." not in name and ":" not in name:
        return True
    if name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return False
