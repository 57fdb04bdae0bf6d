"""The vocabulary as frozen values: what one validated annotation says.

A `Sync` knows the model it reads, the PostHog object it writes and how columns map onto it. It knows nothing of
the warehouse's column types (that is `resolver`) and nothing of how rows travel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


class ObjectType(str, Enum):
    """The PostHog object that rows of a model become."""

    EVENT = "event"
    PERSON = "person"
    PAGE = "page"
    GROUP = "group"


class LoopsObject(str, Enum):
    """What rows of a model become in Loops: contacts that are updated or created, or events."""

    CONTACTS = "contacts"
    EVENTS = "events"


class KeyKind(str, Enum):
    """What makes a row the same row next time, and which identity of PostHog or Loops it is."""

    EVENT_ID = "event_id"
    DISTINCT_ID = "distinct_id"
    EMAIL = "email"
    GROUP_KEY = "group_key"
    USER_ID = "user_id"
    ADDRESS = "address"


class Behavior(str, Enum):
    """What happens in PostHog with a row."""

    SEND = "send"
    UPDATE_OR_CREATE = "update_or_create"
    UPDATE_ONLY = "update_only"
    DELETE = "delete"


class Keep(str, Enum):
    """What becomes of the states that a row is in between two runs: only the last is sent, or what each build made."""

    LATEST = "latest"
    EVERY = "every"


class OnSeveral(str, Enum):
    """Which persons a row means when several have its e-mail address: none of them, all, or the newest or oldest."""

    SKIP = "skip"
    ALL = "all"
    NEWEST = "newest"
    OLDEST = "oldest"


class Creation(str, Enum):
    """What becomes of a row that no person matches: a person with its e-mail address as distinct_id, or nothing."""

    EMAIL = "email"
    SKIP = "skip"


class Operation(str, Enum):
    """How a person property is written: always, or only while the person has none."""

    SET = "set"
    SET_ONCE = "set_once"


class Nulls(str, Enum):
    """What a null in a mapped column of a person means: remove the property, leave it alone, or write null."""

    UNSET = "unset"
    SKIP = "skip"
    SEND = "send"


class OnChange(str, Enum):
    """What a changed row of an event or page means: nothing (an event is sent once), or send it again."""

    IGNORE = "ignore"
    RESEND = "resend"


class Rows(str, Enum):
    """Which rows of a dbt snapshot are read: those that hold now, or the whole history."""

    CURRENT = "current"
    ALL = "all"


class Holding(str, Enum):
    """What a failed dbt test holds back: all rows of its model, or only those that it stored."""

    MODEL = "model"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Column:
    """A value read from a column; `name` is spelled as the annotation spells it."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value for every row."""

    value: Scalar


Term: TypeAlias = Column | Constant
CreateWith: TypeAlias = Creation | Column
"""How a person that PostHog does not have is made: `Creation`, or the column with its distinct_id."""


@dataclass(frozen=True, slots=True)
class PropertyMapping:
    """One PostHog property and where its value comes from."""

    property: str
    source: Term
    operation: Operation = Operation.SET


@dataclass(frozen=True, slots=True)
class SyncKey:
    """The sync key: its kind and the one column that holds it."""

    kind: KeyKind
    column: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A column that prunes the scan, and how far the window reaches back behind what is confirmed."""

    column: str
    lookback: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class ModelColumn:
    """A column as the manifest declares it, with the mapping that the column's own annotation asks for.

    Attributes:
        name: as the manifest spells it.
        property: PostHog property name from `columns[].config.meta.posthog_sync.property`, or None.
        operation: from the same place, or None.
        exclude: true when the column asks to stay out of `properties: all`.
        data_type: as the project declares it; empty where it does not.
    """

    name: str
    property: str | None = None
    operation: Operation | None = None
    exclude: bool = False
    data_type: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """How a dbt snapshot keeps its history.

    Attributes:
        valid_to: column that says until when a row held; null, or `open_end`, while it does.
        open_end: SQL that dbt writes there instead of null (`dbt_valid_to_current`); None for null.
        is_deleted: column that marks rows of what was deleted; None where dbt adds no such rows.
        bookkeeping: all columns that dbt adds to those of the query.
        unique_key: columns that name the thing whose history it is; empty where an expression does.
    """

    valid_to: str = "dbt_valid_to"
    open_end: str | None = None
    is_deleted: str | None = None
    bookkeeping: tuple[str, ...] = ()
    unique_key: tuple[str, ...] = ()


def is_bookkeeping(history: History, column: ModelColumn) -> bool:
    """True for a column that dbt adds to a snapshot, unless the column's own annotation asks for it."""
    is_asked_for = column.property is not None or column.operation is not None
    return not is_asked_for and column.name.lower() in {name.lower() for name in history.bookkeeping}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The dbt node a sync reads.

    Attributes:
        unique_id: dbt's id, such as `model.shop.orders`.
        name: the model's name.
        relation_name: quoted name of the relation, verbatim from the manifest, ready to be used in SQL.
        database: name parts of the relation as dbt resolved them (unquoted).
        schema: see database.
        identifier: see database.
        file: path of the YAML or SQL file to point the user to.
        resource_type: model, snapshot, seed or source.
        tags: dbt tags.
        path: path of the node's own file inside its project, for `path:` selection.
        package: name of the dbt package.
        fqn: the qualified name by which dbt selects: package, folders, name.
        columns: columns that the manifest declares; often fewer than the relation has.
        history: how a snapshot keeps its history; None for everything else.
        stages_at_build: true when dbt stages its changes by a post-hook when it builds the node.
        is_stored: true when the warehouse keeps its rows, where those of a view are worked out by each reader.
    """

    unique_id: str
    name: str
    relation_name: str
    database: str | None
    schema: str
    identifier: str
    file: str = ""
    resource_type: str = "model"
    tags: tuple[str, ...] = ()
    path: str = ""
    package: str = ""
    fqn: tuple[str, ...] = ()
    columns: tuple[ModelColumn, ...] = ()
    history: History | None = None
    stages_at_build: bool = False
    is_stored: bool = False

    @property
    def parts(self) -> tuple[str | None, str, str]:
        """The name by which the warehouse is asked whether the relation exists."""
        return self.database, self.schema, self.identifier


@dataclass(frozen=True, slots=True)
class LoopsTerms:
    """What a sync to Loops says beside the rest.

    Attributes:
        api_key: name of the environment variable with the Loops API key.
        email: column with the e-mail address; None for events that name their contact by user id alone.
        user_id: column with the user's own id of the contact, or None.
        mailing_lists: (id, subscribed) pairs, the same for every row.
        file: path of the YAML file with the exposure.
    """

    api_key: str
    email: Column | None
    user_id: Column | None
    mailing_lists: tuple[tuple[str, bool], ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Sync:
    """One validated annotation: model -> PostHog object, or one direct exposure: model -> object of Loops.

    Attributes:
        name: identity of the sync in its project; renaming it makes a new sync.
        name_is_explicit: false when the name was taken from the model.
        project: name of the dbt project.
        model: the node it reads.
        object: the object of PostHog or Loops it writes.
        sync_key: what makes a row the same row next time.
        behavior: what happens in PostHog.
        distinct_id: column of the person for events and pages; equals the sync key where that is the distinct_id;
            None for groups.
        event: event name of an event sync (a column or a constant); None for other objects.
        timestamp: column with the time of the event; for persons and groups optional.
        time_zone: IANA zone in which naive timestamps of the model are meant.
        properties: mappings that the annotation lists one by one.
        all_properties: true for `properties: all`; then `properties` is empty and the relation's columns decide. For
            Loops, what `properties` lists goes before the columns.
        exclude: columns left out of `properties: all`.
        groups: (group type, column or constant) pairs sent as `$groups` with events and pages.
        group_type: group type of a group sync.
        nulls: what a null means (persons).
        cursor: prunes the scan when present.
        backfill: false takes the rows present at the first run as known.
        on_change: what a changed row means (events and pages).
        shared: true when another person sync may write the same properties.
        on_several: which persons are meant when several have the row's e-mail address.
        create_with: what becomes of an e-mail address that no person has; None where nothing is ever created for one.
        unset: properties that are removed from every person that is written.
        rows: which rows of a snapshot are read; all of them where it is no snapshot.
        gate: what a failed dbt test holds back.
        keep: which states of a row between two runs are sent.
        loops: what a sync to Loops says beside the rest; None for PostHog.
        path: JSON path of the annotation in its file, to point the user to.
    """

    name: str
    name_is_explicit: bool
    project: str
    model: ModelRef
    object: ObjectType | LoopsObject
    sync_key: SyncKey
    behavior: Behavior
    distinct_id: Column | None = None
    event: Term | None = None
    timestamp: str | None = None
    time_zone: str = "UTC"
    properties: tuple[PropertyMapping, ...] = ()
    all_properties: bool = False
    exclude: tuple[str, ...] = ()
    groups: tuple[tuple[str, Term], ...] = ()
    group_type: str | None = None
    nulls: Nulls = Nulls.UNSET
    cursor: Cursor | None = None
    backfill: bool = True
    on_change: OnChange = OnChange.IGNORE
    shared: bool = False
    on_several: OnSeveral = OnSeveral.SKIP
    create_with: CreateWith | None = None
    unset: tuple[str, ...] = ()
    rows: Rows = Rows.ALL
    gate: Holding = Holding.MODEL
    keep: Keep = Keep.LATEST
    loops: LoopsTerms | None = None
    path: str = "$"

    @property
    def id(self) -> str:
        """Identity of the sync's state: project and name, nothing that a rename of the model changes."""
        return hashlib.sha256(f"{self.project}\x1f{self.name}".encode()).hexdigest()[:16]

    @property
    def file(self) -> str:
        """Path of the file with what the user wrote: an exposure has one of its own."""
        return self.model.file if self.loops is None else self.loops.file

    @property
    def needs_identities(self) -> bool:
        """True when a row can only be sent once it is known which persons PostHog has."""
        return self.sync_key.kind is KeyKind.EMAIL or self.behavior in (Behavior.UPDATE_ONLY, Behavior.DELETE)
