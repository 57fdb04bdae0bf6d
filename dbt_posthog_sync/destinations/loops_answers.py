"""Answers of Loops' API: what each means for the message that was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from dbt_posthog_sync.contact_property import ContactProperty
from dbt_posthog_sync.destinations import TryAgain
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import one_line, redacted

_HEALING = frozenset({408, 425, 429})
_UNWELCOME = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        host: who answered.
        status: HTTP status.
        body: as received.
        retry_after: seconds the server asked for, if it did.
        secret: the API key, to be masked wherever the server repeats it.
    """

    host: str
    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None
    secret: str = field(default="", repr=False)

    @property
    def is_too_many(self) -> bool:
        """True when the request was one too many for the rate limit."""
        return self.status == 429

    def document(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def words(self) -> str:
        """What Loops says about it, on one line, without keys and e-mail addresses."""
        document = self.document()
        said = document.get("message") if isinstance(document, dict) else None
        return one_line(redacted(said, self.secret)) if isinstance(said, str) and said else f"HTTP {self.status}"

    @property
    def is_success(self) -> bool:
        """True when Loops itself says that it was done."""
        document = self.document()
        return self.status == 200 and isinstance(document, dict) and document.get("success") is True


def delivery_verdict(reply: Reply, *, is_event: bool) -> str | TryAgain | None:
    """Return None when Loops has the message, the reason when it never will, and `TryAgain` when time may help.

    Raises:
        DestinationRefused: the key is refused, or this is no Loops.
    """
    _check_welcome(reply)
    if reply.is_success or (is_event and reply.status == 409):  # the idempotency key came before: Loops has the event
        return None
    if may_heal(reply) or reply.status < 400:
        return TryAgain(f"{reply.host} answered {reply.status}", reply.retry_after)
    return f"Loops refuses it: {reply.words}"


def existing_properties(reply: Reply) -> dict[str, str]:
    """Return the contact properties that Loops has, name to type.

    Raises:
        DestinationRefused: the key is refused, or this is no Loops.
        DestinationUnavailable: there is no such answer now.
    """
    _check_welcome(reply)
    document = reply.document()
    if reply.status != 200 or not isinstance(document, list):
        raise DestinationUnavailable(f"{reply.host} answered {reply.status} when asked for its contact properties")
    return {str(one.get("key")): str(one.get("type")) for one in document if isinstance(one, dict)}


def check_property(wanted: ContactProperty, existing: str) -> None:
    """Make sure that a contact property may hold what a sync writes.

    Raises:
        DestinationRefused: it has another type.
    """
    if not wanted.fits(existing):
        raise DestinationRefused(
            f"Loops has the contact property `{wanted.name}` with the type {existing}, and the model has a "
            f"{wanted.type} for it. Cast the column in the model, or give it another name."
        )


def property_verdict(wanted: ContactProperty, reply: Reply) -> None:
    """Make sure that a contact property was created.

    Raises:
        DestinationRefused: Loops does not take it.
        DestinationUnavailable: there is no answer now.
    """
    _check_welcome(reply)
    if reply.is_success:
        return
    if may_heal(reply) or reply.status < 400:
        raise DestinationUnavailable(f"{reply.host} answered {reply.status} when asked to create a contact property")
    raise DestinationRefused(
        f"Loops does not create the contact property `{wanted.name}` ({wanted.type}): {reply.words}. Create it in "
        "Loops under Settings > API, or map the column to another name; Loops likes camelCase."
    )


def may_heal(reply: Reply) -> bool:
    """Tell whether the same request may pass later."""
    return reply.status in _HEALING or reply.status >= 500


def _check_welcome(reply: Reply) -> None:
    if reply.status in _UNWELCOME:
        raise DestinationRefused(
            f"{reply.host} refuses the Loops API key ({reply.status}). Make one in Loops under Settings > API."
        )
    if reply.status in (404, 405):
        raise DestinationRefused(
            f"{reply.host} answered {reply.status}: there is no Loops API at this address. Check loops.host."
        )
