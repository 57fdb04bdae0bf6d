"""The Destination protocol and the values that cross it: messages in, outcomes out."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import NamedTuple, Protocol, TypeAlias

SEAM = b"\x1c"
"""Stands in a message where the destination puts what all messages share; JSON text has no control characters."""

_OPENING = b'"uuid":"'
UUID_PLACE = slice(len(_OPENING), len(_OPENING) + 36)
"""Where a message has its uuid."""


class Row(NamedTuple):
    """One PostHog event as the warehouse built it. Python joins these bytes and never parses them.

    Attributes:
        position: number of the staged row, unique in its run.
        lane: any integer that is the same for the same distinct_id; rows of one lane keep their order. It is odd where
            the event is older than 48 hours, and even otherwise: the two are never in one batch.
        message: JSON members of the event without braces, the uuid first and the members of `properties` last, each
            with a leading comma; `SEAM` stands where `properties` begins:
            `"uuid":"..","event":"..","distinct_id":"..","timestamp":".."<SEAM>,"plan":"pro","$set":{..}`.
    """

    position: int
    lane: int
    message: bytes

    @classmethod
    def of(cls, position: int, uuid: str, lane: int, historical: bool, head: bytes, properties: bytes) -> Row:
        """A row from the parts of its message."""
        return cls(position, 2 * lane + historical, _OPENING + uuid.encode() + b'",' + head + SEAM + properties)

    @property
    def uuid(self) -> str:
        """The event's UUID as text."""
        return uuid_of(self.message)

    @property
    def historical(self) -> bool:
        """True when the event is older than 48 hours."""
        return bool(self.lane % 2)

    @property
    def head(self) -> bytes:
        """JSON members of the event beside its uuid and properties."""
        return self.message[len(_OPENING) + len(self.uuid) + 2 : self.message.index(SEAM)]

    @property
    def properties(self) -> bytes:
        """JSON members of the properties, each with a leading comma."""
        return self.message[self.message.index(SEAM) + 1 :]


def uuid_of(message: bytes) -> str:
    """The uuid of a message as text."""
    return message[UUID_PLACE].decode()


@dataclass(frozen=True, slots=True)
class Rows:
    """Many rows, as columns of equal length: millions pass through, and an object for each would cost more than all
    that is done with it. `Row` says what the columns hold.
    """

    positions: Sequence[int]
    lanes: Sequence[int]
    messages: Sequence[bytes]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """The columns of these rows."""
        listed = list(rows)
        return cls([row.position for row in listed], [row.lane for row in listed], [row.message for row in listed])

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Row]:
        return map(Row, self.positions, self.lanes, self.messages)


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one request.

    Attributes:
        positions: the number of each message; at least one.
        messages: as many; see `Row`. No uuid occurs twice; all of them historical or none.
        historical: true when every message is an event older than 48 hours.
        needs_person: true when a message that PostHog stores without person processing did not do its job
            (persons and groups).
    """

    positions: tuple[int, ...]
    messages: tuple[bytes, ...]
    historical: bool = False
    needs_person: bool = False

    @classmethod
    def of(cls, rows: Iterable[Row], *, needs_person: bool = False) -> Batch:
        """A batch of these rows, which are of one age."""
        listed = tuple(rows)
        positions, messages = tuple(row.position for row in listed), tuple(row.message for row in listed)
        return cls(positions, messages, historical=listed[0].historical, needs_person=needs_person)

    def __len__(self) -> int:
        return len(self.positions)

    def rows(self) -> Iterator[Row]:
        """The messages one by one, for a destination that takes single ones."""
        return map(Row, self.positions, repeat(int(self.historical)), self.messages)

    def without(self, settled: Container[int]) -> Batch:
        """The batch without the messages at these positions."""
        kept = [pair for pair in zip(self.positions, self.messages, strict=True) if pair[0] not in settled]
        return replace(self, positions=tuple([p for p, _ in kept]), messages=tuple([m for _, m in kept]))

    def halves(self) -> tuple[Batch, Batch]:
        """The first half of the messages, and the rest."""
        middle = len(self) // 2
        return self.part(slice(middle)), self.part(slice(middle, None))

    def part(self, part: slice) -> Batch:
        """The batch with this part of the messages."""
        return replace(self, positions=self.positions[part], messages=self.messages[part])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the destination does not accept as it is.

    Attributes:
        position: which message.
        reason: one line for people, with the destination's own words.
        heals: true when time can make it acceptable without a change of the row, so that every run tries it again.
    """

    position: int
    reason: str
    heals: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The destination answered for single messages. A message named in no field was not answered for.

    Attributes:
        accepted: positions that the destination confirmed by its own word.
        refused: positions it will never accept, with its words.
        retry: positions to send again, identical, after `retry_after` seconds when given.
        warned: how many of the accepted were stored without person processing.
    """

    accepted: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    retry: tuple[int, ...] = ()
    retry_after: float | None = None
    warned: int = 0


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The whole request failed in a way that may heal: network, timeout, 408, 429, 5xx, an answer nobody vouches for.

    Attributes:
        reason: one line for people, without keys or payload.
        retry_after: seconds the server asked for, if it did.
    """

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request is too large for the destination; a smaller one may pass."""

    reason: str


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Some message of the request makes the destination refuse all of it; which one is not said."""

    reason: str


Outcome: TypeAlias = Answered | TryAgain | TooLarge | Poisoned


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """What stays the same over the attempts of one batch, so that the destination can recognise a repeat.

    Attributes:
        request_id: UUID text.
        created_at: RFC 3339 UTC.
    """

    request_id: str
    created_at: str


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A request as it would be sent, with the key masked and before compression."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str


def identity_of(host: str, key: str) -> str:
    """A stable text that names a receiver without any secret: host and a hash of its key. The state belongs to it."""
    return f"{host.lower()}#{hashlib.sha256(key.encode()).hexdigest()[:16]}"


class Destination(Protocol):
    """What receives messages. Implementations are safe to call from several threads at once."""

    @property
    def identity(self) -> str:
        """The receiver, as `identity_of` names it."""
        ...

    @property
    def max_message_bytes(self) -> int:
        """Largest message that may be sent, in bytes of JSON."""
        ...

    def send(self, batch: Batch, identity: RequestIdentity, attempt: int) -> Outcome:
        """Make one attempt to deliver the batch; attempts count from 1.

        Raises:
            DestinationRefused: the key or the account is refused (401, 402, 403): stop the run.
        """
        ...


class CountingDestination(Destination, Protocol):
    """A destination that knows what it has put on the wire, repeats included."""

    @property
    def requests_sent(self) -> int:
        """Requests made so far."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Bytes of request bodies sent so far, compressed."""
        ...


class RunDestination(CountingDestination, Protocol):
    """What a session sends to."""

    def rendered(self, batch: Batch, identity: RequestIdentity) -> tuple[RenderedRequest, ...]:
        """The requests that `send` would make, with the key masked; nothing is sent and no key is needed."""
        ...

    def close(self) -> None:
        """Close the connections that are kept open."""
        ...
