"""Resolving: an annotation is matched to the columns that its relation really has.

It finds every problem that the manifest alone cannot show: a missing column, a type that cannot be sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from dbt_posthog_sync.annotation.clashes import person_clashes, person_fights
from dbt_posthog_sync.column_type import Family
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.reserved_name import reserved_property
from dbt_posthog_sync.resolved_sync import RelationColumn, ResolvedProperty, ResolvedSync
from dbt_posthog_sync.sync import (
    Column,
    Constant,
    KeyKind,
    LoopsObject,
    ModelColumn,
    ObjectType,
    Operation,
    PropertyMapping,
    Rows,
    Sync,
    Term,
    is_bookkeeping,
)

_URL_PROPERTY = "$current_url"
_SUBSCRIBED = "subscribed"
_TAKEN = frozenset({"email", "userId", "mailingLists", _SUBSCRIBED})
"""What `include_all_properties` never sends: Loops' own keys, and a subscription nobody decided about."""

_NESTED_ADVICE = "Make it a text or several columns in the model, or leave it out with `exclude`."
_NESTED = frozenset({Family.ARRAY, Family.STRUCT, Family.MAP})
_UNORDERED = frozenset(
    {Family.BOOLEAN, Family.JSON, Family.JSON_TEXT, Family.ARRAY, Family.STRUCT, Family.MAP, Family.UNSUPPORTED}
)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The relation's columns, found as DESIGN 8.26 says: without regard to case when that is unique."""

    model: str
    file: str
    by_name: dict[str, RelationColumn]

    def find(self, name: str) -> RelationColumn | None:
        if name in self.by_name:
            return self.by_name[name]
        matches = self._without_case(name)
        return matches[0] if len(matches) == 1 else None

    def _without_case(self, name: str) -> list[RelationColumn]:
        return [column for key, column in self.by_name.items() if key.lower() == name.lower()]

    def missing(self, name: str, path: str) -> Problem:
        candidates = [f"`{column.name}`" for column in self._without_case(name)]
        if candidates:
            message = f"`{name}` could be {' or '.join(candidates)}."
            return Problem(message, "Write it as the warehouse does.", self.model, self.file, path)
        near = get_close_matches(name.lower(), [key.lower() for key in self.by_name], n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"It has: {', '.join(sorted(self.by_name))}."
        return Problem(f"the relation has no column `{name}`.", hint, self.model, self.file, path)


def resolve(sync: Sync, columns: Sequence[RelationColumn]) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
    """Match a sync to the columns of its relation; returns the resolved sync or every problem found."""
    return _Resolver(sync, columns).resolve()


class _Resolver:
    """Collects problems while it looks up each column once."""

    def __init__(self, sync: Sync, columns: Sequence[RelationColumn]) -> None:
        self._sync = sync
        self._columns = _Columns(sync.model.name, sync.file, {c.name: c for c in columns})
        self._problems: list[Problem] = []

    def resolve(self) -> tuple[ResolvedSync | None, tuple[Problem, ...]]:
        sync = self._sync
        key = self._key()
        distinct_id = self._identity(sync.distinct_id.name, "distinct_id") if sync.distinct_id else None
        event = self._event(sync.event) if sync.event else None
        timestamp = self._time(sync.timestamp, "timestamp") if sync.timestamp else None
        cursor = self._cursor(sync.cursor.column) if sync.cursor else None
        create_with = self._identity(term.name, "create_with") if isinstance(term := sync.create_with, Column) else None
        groups = tuple((kind, self._group(kind, term)) for kind, term in sync.groups)
        valid_to, is_deleted = self._ends()
        email, user_id = self._contact()
        properties = self._properties()
        self._check_excluded()
        self._check_annotated_columns()
        url = next((p.source for p in properties if p.name == _URL_PROPERTY), None)
        if self._problems or key is None:
            return None, tuple(self._problems)
        resolved = ResolvedSync(
            sync=sync,
            key=key,
            distinct_id=distinct_id,
            event=event,
            timestamp=timestamp,
            url=url if isinstance(url, RelationColumn) else None,
            properties=properties,
            groups=tuple((kind, source) for kind, source in groups if source is not None),
            cursor=cursor,
            create_with=create_with,
            email=email,
            user_id=user_id,
            columns=tuple(self._columns.by_name.values()),
            valid_to=valid_to,
            is_deleted=is_deleted,
        )
        return resolved, ()

    def _problem(self, message: str, advice: str, path: str) -> None:
        self._problems.append(Problem(message, advice, self._sync.model.name, self._sync.file, self._path(path)))

    def _path(self, inside: str) -> str:
        return f"{self._sync.path}.{inside}"

    def _find(self, name: str, path: str) -> RelationColumn | None:
        column = self._columns.find(name)
        if column is None:
            self._problems.append(self._columns.missing(name, self._path(path)))
        return column

    def _unfit(self, column: RelationColumn, what_is_wrong: str, advice: str, path: str) -> None:
        self._problem(f"column `{column.name}` has type {column.type.text}, which {what_is_wrong}.", advice, path)

    def _sendable(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and self._sync.loops is not None and column.type.family in _NESTED:
            self._unfit(column, "is a list or an object, and Loops takes single values only", _NESTED_ADVICE, path)
            return None
        if column is None or column.type.is_supported:
            return column
        self._unfit(column, "has no JSON form", "Cast it in the model, or leave it out with `exclude`.", path)
        return None

    def _key(self) -> RelationColumn | None:
        sync_key = self._sync.sync_key
        column = self._identity(sync_key.column, path := f"sync_key.{sync_key.kind.value}")
        is_text = column is None or column.type.family is Family.TEXT
        if sync_key.kind is KeyKind.EMAIL and column is not None and column.type.can_be_identity and not is_text:
            self._unfit(column, "holds no e-mail address", "Use a text column.", path)
        return column

    def _identity(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and not column.type.can_be_identity:
            advice = "Use a text, integer or uuid column, or cast it to text in the model."
            self._unfit(column, "cannot name one row or person", advice, path)
        return column

    def _time(self, name: str, path: str) -> RelationColumn | None:
        column = self._find(name, path)
        if column is not None and not column.type.can_be_time:
            self._unfit(column, "is no point in time", "Cast it to a timestamp in the model.", path)
        return column

    def _cursor(self, name: str) -> RelationColumn | None:
        column = self._find(name, path := "cursor.column")
        if column is not None and column.type.family in _UNORDERED:
            advice = "Use a timestamp, a date or a number that only grows."
            self._unfit(column, "does not say which row is newer", advice, path)
        return column

    def _ends(self) -> tuple[RelationColumn | None, RelationColumn | None]:
        """The columns that tell a snapshot's current rows from its history."""
        history = self._sync.model.history
        if history is None or self._sync.rows is Rows.ALL:
            return None, None
        is_deleted = self._find(history.is_deleted, "rows") if history.is_deleted else None
        return self._find(history.valid_to, "rows"), is_deleted

    def _event(self, term: Term) -> RelationColumn | Constant | None:
        if isinstance(term, Constant):
            return term
        column = self._find(term.name, path := "event")
        if column is not None and not column.type.can_be_identity:
            advice = "Use a text column, or write `{value: ...}` for the same name in every row."
            self._unfit(column, "is no event name", advice, path)
        return column

    def _term(self, term: Term, path: str) -> RelationColumn | Constant | None:
        return term if isinstance(term, Constant) else self._sendable(term.name, path)

    def _group(self, kind: str, term: Term) -> RelationColumn | Constant | None:
        path = f"groups.{kind}"
        return term if isinstance(term, Constant) else self._identity(term.name, path)

    def _contact(self) -> tuple[RelationColumn | None, RelationColumn | None]:
        """The columns by which Loops knows a contact: e-mail address and user id."""
        loops = self._sync.loops
        if loops is None:
            return None, None
        email = self._identity(loops.email.name, "email") if loops.email else None
        if email is not None and email.type.family is not Family.TEXT:
            self._unfit(email, "holds no e-mail address", "Use a text column.", "email")
        return email, self._identity(loops.user_id.name, "user_id") if loops.user_id else None

    def _properties(self) -> tuple[ResolvedProperty, ...]:
        if self._sync.loops is None:
            return self._all_properties() if self._sync.all_properties else self._listed_properties()
        listed = self._listed_properties()
        self._check_subscribed(listed)
        if not self._sync.all_properties:
            return listed
        names = {mapping.name for mapping in listed}
        others = [one for one in self._all_properties() if one.name not in names]
        return tuple(sorted((*others, *listed), key=lambda mapping: mapping.name))

    def _check_subscribed(self, listed: Iterable[ResolvedProperty]) -> None:
        """Loops ends or renews a subscription by it, so nothing but a yes or no may stand there."""
        source = next((one.source for one in listed if one.name == _SUBSCRIBED), None)
        if isinstance(source, RelationColumn) and source.type.family is not Family.BOOLEAN:
            path = f"properties.{_SUBSCRIBED}"
            self._unfit(source, "is no yes or no", "Cast it to boolean in the model.", path)

    def _listed_properties(self) -> tuple[ResolvedProperty, ...]:
        resolved = [self._property(mapping) for mapping in self._sync.properties]
        return tuple(p for p in resolved if p is not None)

    def _property(self, mapping: PropertyMapping) -> ResolvedProperty | None:
        source = self._term(mapping.source, f"properties.{mapping.property}")
        return None if source is None else ResolvedProperty(mapping.property, source, mapping.operation)

    def _all_properties(self) -> tuple[ResolvedProperty, ...]:
        declared = self._declared()
        left_out = self._left_out()
        resolved = []
        for column in self._columns.by_name.values():
            asked = declared.get(column.name, ModelColumn(column.name))
            if column.name in left_out or asked.exclude or self._is_not_for_all(asked):
                continue
            if self._sendable(column.name, "properties") is None:
                continue
            operation = asked.operation or Operation.SET
            resolved.append(ResolvedProperty(asked.property or asked.name, column, operation))
        self._check_names(resolved)
        return tuple(resolved)

    def _left_out(self) -> set[str]:
        sync = self._sync
        structural = [
            Column(sync.sync_key.column) if sync.sync_key.kind is KeyKind.EMAIL else None,
            sync.distinct_id,
            sync.event,
            Column(sync.timestamp) if sync.timestamp else None,
            sync.create_with,
            *self._contact_terms(),
        ]
        names = {term.name for term in structural if isinstance(term, Column)}
        found = [self._columns.find(name) for name in (*names, *sync.exclude)]
        return {column.name for column in found if column is not None}

    def _is_not_for_all(self, column: ModelColumn) -> bool:
        """True for what dbt adds to a snapshot, unless the column asks for it, and for names that Loops lacks."""
        history = self._sync.model.history
        is_dollar = self._sync.loops is not None and column.name.startswith("$")
        return is_dollar or (history is not None and is_bookkeeping(history, column))

    def _contact_terms(self) -> tuple[Column | None, ...]:
        """Columns that travel to Loops beside the properties."""
        loops = self._sync.loops
        return (Column(self._sync.sync_key.column), loops.email, loops.user_id) if loops is not None else ()

    def _declared(self) -> dict[str, ModelColumn]:
        """What the manifest says of a column, by the name that the warehouse has for it."""
        found = ((self._columns.find(column.name), column) for column in self._sync.model.columns)
        return {column.name: declared for column, declared in found if column is not None}

    def _check_names(self, resolved: Iterable[ResolvedProperty]) -> None:
        seen: set[str] = set()
        for mapping in resolved:
            if mapping.name in seen:
                self._problem(
                    f"two columns become the property `{mapping.name}`.", "Rename or exclude one of them.", "properties"
                )
            reason = self._reserved(mapping.name)
            if reason:
                self._problem(
                    f"a column becomes the property `{mapping.name}`, which is reserved: {reason}.",
                    "Leave it out with `exclude`, or list the properties and rename it.",
                    "properties",
                )
            if mapping.name in self._sync.unset:
                self._problem(
                    f"a column becomes the property `{mapping.name}`, which `unset` removes.",
                    "Take it out of `unset`, or leave the column out with `exclude`.",
                    "unset",
                )
            seen.add(mapping.name)

    def _reserved(self, name: str) -> str | None:
        kind = self._sync.object
        if isinstance(kind, ObjectType):
            return reserved_property(name, kind)
        taken = kind is LoopsObject.CONTACTS and name in _TAKEN
        return "Loops reads it as something else than a contact property" if taken else None

    def _check_annotated_columns(self) -> None:
        """A misspelled column would otherwise be sent although its annotation asks to leave it out."""
        for column in self._sync.model.columns:
            is_annotated = column.exclude or column.property is not None or column.operation is not None
            if is_annotated and self._columns.find(column.name) is None:
                node = self._sync.path.partition(".config.meta.")[0]
                self._problems.append(self._columns.missing(column.name, f"{node}.columns[{column.name}]"))

    def _check_excluded(self) -> None:
        for name in self._sync.exclude:
            self._find(name, "exclude")


def clashes(resolved: Iterable[ResolvedSync]) -> Iterator[Problem]:
    """Persons' properties that two syncs write; `properties: all` shows them only once the columns are known."""
    written = [(one.sync, [p.name for p in one.properties]) for one in resolved if one.sync.object is ObjectType.PERSON]
    for sync, message in person_clashes(written):
        advice = "Let one sync write it, or write `shared: true` in both if they never fight over a person."
        yield Problem(message, advice, sync.model.name, sync.model.file)
    for sync, _, message in person_fights(written):
        yield Problem(message, "Let one sync decide over it.", sync.model.name, sync.model.file)
