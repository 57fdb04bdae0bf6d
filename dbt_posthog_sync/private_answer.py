"""Private answers: what PostHog's private API says, read into values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from dbt_posthog_sync.secret import Secret


@dataclass(frozen=True, slots=True)
class ApiPerson:
    """A person as PostHog has it now.

    Attributes:
        id: UUID text.
        distinct_ids: at most ten of them; PostHog cuts the list without a word.
        properties: current properties.
        created_at: when PostHog first saw the person; None where it does not say.
    """

    id: str
    distinct_ids: tuple[str, ...]
    properties: Mapping[str, Any] = field(repr=False)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiProject:
    """A project.

    Attributes:
        id: its number.
        name: as people call it.
        project_key: the project API key that its events are sent with.
    """

    id: int
    name: str
    project_key: Secret


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of persons that were to be deleted.

    Attributes:
        found: persons that PostHog knew.
        deleted: of these, how many it deleted or took up for deletion.
        failed: ids of persons that it could not delete.
    """

    found: int = 0
    deleted: int = 0
    failed: tuple[str, ...] = ()

    def __add__(self, other: Deletion) -> Deletion:
        return Deletion(self.found + other.found, self.deleted + other.deleted, self.failed + other.failed)


class KeyStanding(Enum):
    """What PostHog says of a personal API key."""

    VALID = "valid"
    VALID_WITHOUT_USER = "valid, without the scope user:read"
    INVALID = "not valid"


def read_rows(payload: Any) -> tuple[list[tuple[Any, ...]], bool] | None:
    """The rows of a query, and whether PostHog says that there are more; None for an answer that is none."""
    rows = payload.get("results") if isinstance(payload, dict) else None
    if not isinstance(rows, list) or payload.get("error") or not all(isinstance(row, list) for row in rows):
        return None
    return [tuple(row) for row in rows], bool(payload.get("hasMore"))


def read_persons(payload: Any) -> dict[str, ApiPerson] | None:
    """Persons by the distinct id that was asked for; None for an answer that is none."""
    found = payload.get("results") if isinstance(payload, dict) else None
    if not isinstance(found, dict):
        return None
    return {str(distinct_id): _person(person) for distinct_id, person in found.items() if isinstance(person, dict)}


def _person(value: Mapping[str, Any]) -> ApiPerson:
    created_at = value.get("created_at")
    return ApiPerson(
        id=str(value.get("uuid") or value.get("id")),
        distinct_ids=tuple(map(str, value.get("distinct_ids") or ())),
        properties=value.get("properties") or {},
        created_at=_moment(created_at) if isinstance(created_at, str) else None,
    )


def _moment(text: str) -> datetime | None:
    try:
        # Python 3.10 reads no "Z".
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def read_deletion(payload: Any) -> Deletion | None:
    """What became of the persons; None for an answer that is none."""
    if not isinstance(payload, dict) or not isinstance(payload.get("persons_found"), int):
        return None
    failed = tuple(str(error.get("person_uuid")) for error in payload.get("deletion_errors") or ())
    deleted = int(payload.get("persons_deleted") or 0) + int(payload.get("persons_queued_for_deletion") or 0)
    return Deletion(payload["persons_found"], deleted, failed)


def read_project(payload: Any) -> ApiProject | None:
    """The project; None for an answer that is none."""
    if not isinstance(payload, dict) or not isinstance(payload.get("api_token"), str):
        return None
    return ApiProject(int(payload["id"]), str(payload.get("name") or ""), Secret(payload["api_token"]))
