"""The directory: which persons PostHog has, read page by page or asked for by key, and deleted where that is asked for.

Facts: `persons` and `person_distinct_ids` of HogQL and the 50,000 rows of one answer (PostHog/posthog:
posthog/hogql/database, posthog/hogql/constants.py); pages go on after the last key, because PostHog advises against
OFFSET (posthog.com/docs/api/queries).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dbt_posthog_sync.errors import AnswerCut
from dbt_posthog_sync.private_api import QUERY_ROWS, PrivateApi
from dbt_posthog_sync.sync import KeyKind

EMAILS_AT_ONCE = 2_000
"""E-mail addresses in one query; an answer has room for 25 persons each."""

_PERSONS_WITH_EMAIL = """
select toString(p.id), p.properties.email, p.created_at, min(d.distinct_id)
from persons as p join person_distinct_ids as d on d.person_id = p.id
where {condition}
group by p.id, p.properties.email, p.created_at order by toString(p.id) limit {limit}
"""
_PAGE_OF_EMAILS = "p.properties.email is not null and p.properties.email != '' and toString(p.id) > {after}"
_THESE_EMAILS = "lowerUTF8(trim(p.properties.email)) in {emails}"
_PAGE_OF_DISTINCT_IDS = """
select distinct_id, toString(person_id) from person_distinct_ids
where distinct_id > {after} order by distinct_id limit {limit}
"""


_DISTINCT_IDS_OF = """
select distinct_id from person_distinct_ids where toString(person_id) in {ids} limit {limit}
"""


class FoundPerson(NamedTuple):
    """A person of PostHog and what it was found by.

    Attributes:
        key: its e-mail address as PostHog has it, or its distinct_id.
        distinct_id: one of its distinct_ids, the same one in every answer as long as it has it.
        person_id: UUID text.
        created_at: when PostHog first saw the person, as RFC 3339 text; None where it was not asked.
    """

    key: str
    distinct_id: str
    person_id: str
    created_at: str | None = None


class Directory:
    """Asks PostHog's private API for persons. Raises as `PrivateApi.query` does."""

    def __init__(self, api: PrivateApi) -> None:
        self._api = api

    @property
    def calls(self) -> int:
        """Requests made so far."""
        return self._api.calls

    def everyone(self, kind: KeyKind, *, needed_by: str) -> Iterator[Sequence[FoundPerson]]:
        """Every person that has a key of this kind, in pages. Needs the scope query:read."""
        after = ""
        while True:
            rows = self._page(kind, after, needed_by)
            is_email = kind is KeyKind.EMAIL
            yield [_by_email(row) if is_email else FoundPerson(row[0], row[0], row[1]) for row in rows]
            if len(rows) < QUERY_ROWS:
                return
            after = str(rows[-1][0])

    def those(self, kind: KeyKind, keys: Sequence[str], *, needed_by: str) -> Iterator[FoundPerson]:
        """The persons that have these keys; e-mail addresses are compared in small letters, without blanks around them.

        Needs the scope query:read for e-mail addresses, person:read for distinct_ids.
        """
        if kind is KeyKind.EMAIL:
            for start in range(0, len(keys), EMAILS_AT_ONCE):
                yield from self._these_emails(keys[start : start + EMAILS_AT_ONCE], needed_by)
            return
        for distinct_id, person in self._api.persons_by_distinct_ids(keys, needed_by=needed_by).items():
            yield FoundPerson(distinct_id, distinct_id, person.id)

    def distinct_ids_of(self, person_ids: Sequence[str], *, needed_by: str) -> list[str]:
        """Every distinct_id of these persons. Needs the scope query:read."""
        try:
            rows = self._api.query(
                _limited(_DISTINCT_IDS_OF),
                {"ids": list(person_ids)},
                name="dbt-posthog-sync distinct_ids of persons to delete",
                needed_by=needed_by,
            )
        except AnswerCut:
            if len(person_ids) == 1:
                raise
            middle = len(person_ids) // 2
            halves = person_ids[:middle], person_ids[middle:]
            return [found for half in halves for found in self.distinct_ids_of(half, needed_by=needed_by)]
        return [str(distinct_id) for (distinct_id,) in rows]

    def delete(self, person_ids: Sequence[str], *, delete_events: bool, needed_by: str) -> frozenset[str]:
        """Have persons deleted, and return the ids of those that PostHog failed to delete. Needs person:write."""
        deletion = self._api.delete_persons(ids=person_ids, delete_events=delete_events, needed_by=needed_by)
        return frozenset(deletion.failed)

    def _page(self, kind: KeyKind, after: str, needed_by: str) -> list[tuple[Any, ...]]:
        if kind is KeyKind.EMAIL:
            query, name = _persons_where(_PAGE_OF_EMAILS), "dbt-posthog-sync mirror of e-mail addresses"
        else:
            query, name = (
                _PAGE_OF_DISTINCT_IDS.replace("{limit}", str(QUERY_ROWS)),
                "dbt-posthog-sync mirror of distinct_ids",
            )
        return self._api.query(query, {"after": after}, name=name, needed_by=needed_by, may_fill=True)

    def _these_emails(self, emails: Sequence[str], needed_by: str) -> Iterator[FoundPerson]:
        """Ask for some addresses; where too many persons have them, for half of them at a time."""
        try:
            rows = self._api.query(
                _persons_where(_THESE_EMAILS),
                {"emails": list(emails)},
                name="dbt-posthog-sync look-up of e-mail addresses",
                needed_by=needed_by,
            )
        except AnswerCut:
            if len(emails) == 1:
                raise
            middle = len(emails) // 2
            yield from self._these_emails(emails[:middle], needed_by)
            yield from self._these_emails(emails[middle:], needed_by)
        else:
            yield from (_by_email(row) for row in rows)


def _persons_where(condition: str) -> str:
    return _limited(_PERSONS_WITH_EMAIL.replace("{condition}", condition))


def _limited(query: str) -> str:
    return query.replace("{limit}", str(QUERY_ROWS))


def _by_email(row: tuple[Any, ...]) -> FoundPerson:
    person_id, email, created_at, distinct_id = row
    return FoundPerson(str(email), str(distinct_id), str(person_id), None if created_at is None else str(created_at))
