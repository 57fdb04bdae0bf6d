"""Trials with real rows: what the destination of an exposure would send to Loops for rows of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.access import Access
from dbt_posthog_sync.errors import ScopeMissing
from dbt_posthog_sync.exposure import Exposure, Forwarding
from dbt_posthog_sync.forwarding.feed import feeding
from dbt_posthog_sync.forwarding.trial import UNKNOWN_PERSON, Trial, globals_of, without_texts
from dbt_posthog_sync.forwarding.wanted import WantedFunction
from dbt_posthog_sync.hog_function_api import HogFunctionApi
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.project import Project
from dbt_posthog_sync.provisioner import MOCKED_KEY
from dbt_posthog_sync.sampler import Sampler, SampleSettings
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import Behavior, ObjectType, Sync
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse
from dbt_posthog_sync.warehouse.identities import IdentitySettings
from dbt_posthog_sync.warehouse.profile import DbtOptions

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A row as the message that a run would send of it.

    Attributes:
        sync_name: the sync that would send it.
        message: uuid, event, distinct_id, timestamp and properties.
    """

    sync_name: str
    message: Message

    @property
    def name(self) -> str:
        """As a report calls it."""
        return f"{self.message['event']} of {self.message['distinct_id']} (sync {self.sync_name})"


def sampled_rows(
    project: Project, options: DbtOptions, exposures: Sequence[Exposure], access: Access, most: int
) -> Mapping[str, tuple[SampledRow, ...]]:
    """A few rows for each exposure, by its name, from the syncs whose events its destination hands on.

    Where no sync of its models sends such events, somebody else does, over the same persons: then rows of persons are
    taken under the first name in the filters.

    Opens the warehouse and closes it again, so that an open DuckDB file keeps nobody waiting.

    Raises:
        SyncError: the warehouse or PostHog cannot be reached, or an annotation does not fit its relation.
    """
    wanted = {exposure.name: _sampled(exposure, project.syncs) for exposure in exposures}
    syncs = list({sync.name: sync for found, _ in wanted.values() for sync in found}.values())
    if not syncs:
        return {}
    settings = project.settings
    identities = IdentitySettings(
        settings.identities.source, settings.identities.max_age, project.identity_model, settings.project_id
    )
    with DbtWarehouse(options) as warehouse:
        planner = Planner(warehouse, PlanSettings(schema=settings.state_schema, destination=None))
        sampler = Sampler(
            warehouse, SampleSettings(settings.state_schema, identities), access.directory(syncs, project_key=None)
        )
        messages = {one.sync.name: sampler.messages(one, most) for one in planner.resolve(syncs)}
    return {
        name: tuple(SampledRow(sync.name, _named(message, event)) for sync in found for message in messages[sync.name])[
            :most
        ]
        for name, (found, event) in wanted.items()
    }


def _sampled(exposure: Exposure, syncs: Sequence[Sync]) -> tuple[tuple[Sync, ...], str | None]:
    """The syncs whose rows are tried, and the name of the event where theirs is another one."""
    found = feeding(exposure, syncs)
    if found or not isinstance(exposure.route, Forwarding):
        return found, None
    ids = {model.unique_id for model in exposure.models}
    of_persons = tuple(one for one in syncs if one.object is ObjectType.PERSON and one.model.unique_id in ids)
    kept = tuple(one for one in of_persons if one.behavior is not Behavior.DELETE)
    return kept, exposure.route.filters.events[0].name


def _named(message: Message, event: str | None) -> Message:
    return message if event is None else {**message, "event": event}


class RowTrials:
    """Lets PostHog run a function over rows, with their persons as PostHog has them."""

    def __init__(self, api: PrivateApi, needed_by: str) -> None:
        self._api = api
        self._functions = HogFunctionApi(api, needed_by)
        self._needed_by = needed_by
        self.without_persons = False

    def trials(self, wanted: WantedFunction, rows: Sequence[SampledRow]) -> Iterator[tuple[SampledRow, Trial]]:
        """Try every row, with its requests mocked."""
        persons = self._persons(rows)
        for row in rows:
            yield row, self._functions.tried(wanted.configuration(MOCKED_KEY), _given(row, persons))

    def live(self, wanted: WantedFunction, row: SampledRow, key: Secret) -> Trial:
        """Send what comes of one row to Loops, once."""
        given = _given(row, self._persons([row]))
        configuration = wanted.configuration({"value": key.reveal()})
        return without_texts(self._functions.tried(configuration, given, live_key=key), key.reveal())

    def _persons(self, rows: Sequence[SampledRow]) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Id and properties of the persons that PostHog has; without the scope for that, of nobody."""
        ids = [str(row.message["distinct_id"]) for row in rows]
        try:
            found = self._api.persons_by_distinct_ids(ids, needed_by=self._needed_by)
        except ScopeMissing:
            self.without_persons = True
            return {}
        return {distinct_id: (person.id, person.properties) for distinct_id, person in found.items()}


def _given(row: SampledRow, persons: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    person_id, properties = persons.get(str(row.message["distinct_id"]), (UNKNOWN_PERSON, {}))
    return globals_of(row.message, person_id, properties)
