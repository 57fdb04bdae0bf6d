"""Exposures: what a dbt exposure says about handing data on to Loops, as frozen values.

An exposure is dbt's word for something downstream that uses its models. Here it is Loops, reached either through a
destination of the PostHog project (`Forwarding`) or by this program itself (`DirectSending`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dbt_posthog_sync.sync import (
    Behavior,
    Column,
    Constant,
    Cursor,
    KeyKind,
    LoopsObject,
    LoopsTerms,
    ModelRef,
    Nulls,
    PropertyMapping,
    Rows,
    Scalar,
    Sync,
    SyncKey,
    Term,
)


class Via(str, Enum):
    """Who sends it: a destination of the PostHog project, or this program."""

    POSTHOG = "posthog"
    DIRECT = "direct"


class ForwardedUserId(str, Enum):
    """What Loops gets as `userId` from PostHog: the UUID of the person, the event's distinct_id, or nothing."""

    PERSON_ID = "person_id"
    DISTINCT_ID = "distinct_id"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PostHogProperty:
    """A value read from a property in PostHog: of the person for contacts and e-mail addresses, else of the event."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template as PostHog's destinations read it, such as `{person.properties.email}`."""

    text: str


ForwardedTerm: TypeAlias = PostHogProperty | Template | Constant


@dataclass(frozen=True, slots=True)
class ForwardedProperty:
    """One name in Loops and where PostHog takes its value from."""

    name: str
    source: ForwardedTerm


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """One condition on a property, in PostHog's words.

    Attributes:
        key: name of the property.
        value: what it is compared with; several mean any of them; None where the operator compares with nothing.
        operator: such as exact, icontains or is_set.
        type: event or person, whose property it is.
    """

    key: str
    value: Scalar | tuple[Scalar, ...] = None
    operator: str = "exact"
    type: str = "event"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Events of one name, as far as they pass the conditions."""

    name: str
    properties: tuple[PropertyFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events PostHog hands on.

    Attributes:
        events: at least one; an event that fits any of them is handed on.
        properties: conditions that every event must pass.
        filter_test_accounts: true leaves out internal and test accounts, as the project defines them.
    """

    events: tuple[EventFilter, ...]
    properties: tuple[PropertyFilter, ...] = ()
    filter_test_accounts: bool = True


@dataclass(frozen=True, slots=True)
class Forwarding:
    """`via: posthog`: a destination of the PostHog project sends to Loops.

    Attributes:
        filters: which events are handed on; never empty.
        email: where the address comes from.
        user_id: what is sent as `userId`.
        properties: what is sent, by name; empty where the annotation says so.
    """

    filters: Filters
    email: PostHogProperty | Template
    user_id: ForwardedUserId
    properties: tuple[ForwardedProperty, ...] = ()

    @property
    def via(self) -> Via:
        """Who sends it."""
        return Via.POSTHOG


@dataclass(frozen=True, slots=True)
class DirectSending:
    """`via: direct`: this program sends the changed rows of a model.

    Attributes:
        model: the model whose rows are sent.
        email: column with the e-mail address; None for events that name their contact by `user_id` alone.
        user_id: column with the user's own id of the contact, or None.
        event_id: column that identifies an event; None for contacts.
        event: name of the event, a column or a constant; None for contacts.
        properties: the mappings that the annotation lists, by property name.
        exclude: columns left out of `include_all_properties`.
        nulls: what a null means for a contact: unset or skip. Events leave nulls out.
        cursor: prunes the scan when present.
        backfill: false takes the rows present at the first run as known.
        time_zone: IANA zone in which naive timestamps of the model are meant.
    """

    model: ModelRef
    email: Column | None
    user_id: Column | None
    event_id: str | None = None
    event: Term | None = None
    properties: tuple[PropertyMapping, ...] = ()
    exclude: tuple[str, ...] = ()
    nulls: Nulls = Nulls.UNSET
    cursor: Cursor | None = None
    backfill: bool = True
    time_zone: str = "UTC"

    @property
    def via(self) -> Via:
        """Who sends it."""
        return Via.DIRECT


Route: TypeAlias = Forwarding | DirectSending


@dataclass(frozen=True, slots=True)
class Exposure:
    """One validated exposure with `destination: loops`.

    Attributes:
        name: the exposure's name; identity of what is made of it.
        unique_id: dbt's id, such as `exposure.shop.loops_contacts`.
        project: name of the dbt project.
        object: what Loops gets.
        api_key: name of the environment variable with the Loops API key.
        models: the nodes it depends on, in dbt's order.
        route: who sends, and from what.
        include_all_properties: true sends every property, or every column, beside those that are mapped.
        mailing_lists: (id, subscribed) pairs by id.
        label: the exposure's own label for people; empty when it has none.
        file: path of the YAML file to point the user to.
        path: JSON path of the annotation in its file.
    """

    name: str
    unique_id: str
    project: str
    object: LoopsObject
    api_key: str
    models: tuple[ModelRef, ...]
    route: Route
    include_all_properties: bool = False
    mailing_lists: tuple[tuple[str, bool], ...] = ()
    label: str = ""
    file: str = ""
    path: str = "$"

    @property
    def sync(self) -> Sync | None:
        """The sync that sends it; None where PostHog sends.

        A contact is the same row by its user id, or by its e-mail address where there is none; an event by its own id.
        """
        route = self.route
        if not isinstance(route, DirectSending):
            return None
        return Sync(
            name=self.name,
            name_is_explicit=True,
            project=self.project,
            model=route.model,
            object=self.object,
            sync_key=_sync_key(route),
            behavior=Behavior.UPDATE_OR_CREATE if self.object is LoopsObject.CONTACTS else Behavior.SEND,
            distinct_id=route.user_id or route.email,
            event=route.event,
            time_zone=route.time_zone,
            properties=route.properties,
            all_properties=self.include_all_properties,
            exclude=route.exclude,
            nulls=route.nulls,
            cursor=route.cursor,
            backfill=route.backfill,
            rows=_rows(route.model, self.object),
            loops=LoopsTerms(self.api_key, route.email, route.user_id, self.mailing_lists, self.file),
            path=self.path,
        )


def _rows(model: ModelRef, kind: LoopsObject) -> Rows:
    """A contact is what it is now, so that of a snapshot only the rows that hold are read; events are its history."""
    is_of_now = model.history is not None and kind is LoopsObject.CONTACTS
    return Rows.CURRENT if is_of_now else Rows.ALL


def _sync_key(route: DirectSending) -> SyncKey:
    if route.event_id is not None:
        return SyncKey(KeyKind.EVENT_ID, route.event_id)
    if route.user_id is not None:
        return SyncKey(KeyKind.USER_ID, route.user_id.name)
    return SyncKey(KeyKind.ADDRESS, route.email.name if route.email else "")
