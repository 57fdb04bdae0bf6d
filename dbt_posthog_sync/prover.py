"""The prover: asks PostHog what of a run has landed, and waits for what is still on its way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.destinations.posthog import LIBRARY, RUN_ID_PROPERTY
from dbt_posthog_sync.errors import DestinationRefused
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.proof import Dispatch, Landed, Proof
from dbt_posthog_sync.sync import ObjectType

WAIT_SECONDS = 60
"""So long without anything new ends the wait; PostHog needs seconds as a rule."""

POLL_SECONDS = 5.0
MOST_POLLS = 120
"""However much is still coming, ten minutes are enough."""

_CLOCKS_DIFFER = timedelta(hours=1)
_BEFORE_THE_RUN = timedelta(minutes=1)  # warnings carry no run id: going back further would show those of earlier runs
_NEEDED_BY = "verify"
_NAMES = {ObjectType.PERSON: "$set", ObjectType.GROUP: "$groupidentify", ObjectType.PAGE: "$pageview"}

# Repeats are there until PostHog merges them away, hence the distinct uuids. The time of arrival narrows the search,
# because the events' own times may be of any year.
_LANDED = (
    "select count(distinct uuid), "  # noqa: S608 - constants of ours
    + ", ".join(f"count(distinct if(event = '{name}', uuid, null))" for name in _NAMES.values())
    + f" from events where properties.{RUN_ID_PROPERTY} = {{run_id}} and created_at >= toDateTime({{since}}) limit 2"
)
_WARNINGS = (
    "select type, count() as warnings from system.ingestion_warnings where JSONExtractString(details, 'lib') = {lib} "
    "and timestamp >= toDateTime({since}) group by type order by type limit 1000"
)


class Prover:
    """Proves runs by a personal API key with the scope query:read."""

    def __init__(self, api: PrivateApi, patience: Patience, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._api = api
        self._patience = patience
        self._idle_polls = int(wait_seconds // POLL_SECONDS)

    def prove(self, dispatch: Dispatch) -> Proof:
        """Count what landed until everything has, or nothing new comes.

        Raises:
            DestinationRefused: the key, its scope or the project is wrong.
            DestinationUnavailable: PostHog did not answer.
        """
        began = self._patience.now() - timedelta(seconds=dispatch.age_seconds)
        landed, polls = self._wait(dispatch, _text(began - _CLOCKS_DIFFER)) if dispatch.may_have_sent else (Landed(), 0)
        try:
            values = {"lib": LIBRARY, "since": _text(began - _BEFORE_THE_RUN)}
            found = self._api.query(_WARNINGS, values, name="dbt-posthog-sync warnings", needed_by=_NEEDED_BY)
        except DestinationRefused as error:  # an older PostHog has no such table
            return Proof(dispatch, landed, warnings_problem=str(error), polls=polls)
        return Proof(dispatch, landed, tuple((str(kind), int(count)) for kind, count in found), polls=polls)

    def _wait(self, dispatch: Dispatch, since: str) -> tuple[Landed, int]:
        landed, polls, idle = Landed(), 0, 0
        while True:
            before, landed = landed.total, self._landed({"run_id": dispatch.run_id, "since": since})
            polls += 1
            idle = 0 if landed.total > before else idle + 1
            is_over = idle > self._idle_polls or polls >= MOST_POLLS
            if landed.total >= dispatch.total or is_over:
                return landed, polls
            self._patience.pause(POLL_SECONDS)

    def _landed(self, values: dict[str, Any]) -> Landed:
        rows = self._api.query(_LANDED, values, name="dbt-posthog-sync verify", needed_by=_NEEDED_BY)
        total, *named = (int(count) for count in rows[0]) if rows else (0,)
        by_object = list(zip(_NAMES, named, strict=False))
        return Landed(total, (*by_object, (ObjectType.EVENT, total - sum(named))))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
