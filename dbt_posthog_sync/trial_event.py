"""The trial event: one event that is sent as all others are, and read back by its uuid."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.destinations import Answered, Batch, RequestIdentity, Row
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig
from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.errors import SyncError
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Settings

NAME = "test event"
EVENT = "dbt-posthog-sync test event"
DISTINCT_ID = "dbt-posthog-sync:debug"
POLLS = 20
POLL_SECONDS = 3.0
"""PostHog ingests within seconds as a rule; a minute is given."""

# The time narrows the search to the partition of today; the uuid alone would read every event.
_FIND = "select count() from events where uuid = {uuid} and timestamp >= toDateTime({since}) limit 2"


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """Sends an event without a person, and looks for it.

    Attributes:
        settings: where PostHog is.
        project_key: the key to send with.
        patience: how it is waited for.
        new_uuid: makes the event's uuid.
    """

    settings: Settings
    project_key: Secret = field(repr=False)
    patience: Patience
    new_uuid: Callable[[], str] = lambda: str(uuid.uuid4())

    def check(self, api: PrivateApi | None) -> Check:
        """Send it, and find it again where there is somebody to ask."""
        identity, now = self.new_uuid(), self.patience.now()
        try:
            refusal = self._send(identity, now)
            if refusal:
                return Check.failed(NAME, f"PostHog did not take it: {refusal}.")
            if api is None:
                return Check.warning(
                    NAME,
                    "PostHog took it, which it also says for a key it does not know. To read it back, set a personal "
                    f"API key with the scope query:read; or look for `{EVENT}` in PostHog > Activity.",
                )
            return self._found(api, identity, now)
        except SyncError as error:
            return Check.of_error(NAME, error)

    def _send(self, identity: str, now: datetime) -> str:
        """Send the event; return why it was not taken, or nothing."""
        moment = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"event": EVENT, "distinct_id": DISTINCT_ID, "timestamp": moment}
        row = Row.of(1, identity, 0, False, json.dumps(head)[1:-1].encode(), b',"$process_person_profile":false')
        config = PostHogConfig(
            host=self.settings.host.ingest,
            project_key=self.project_key.reveal(),
            run_id=identity,
            protocol=self.settings.protocol,
            in_flight=1,
        )
        destination = PostHog(config, now=self.patience.now)
        try:
            outcome = destination.send(Batch.of([row]), RequestIdentity(identity, moment), 1)
        finally:
            destination.close()
        match outcome:
            case Answered(accepted=(1,)):
                return ""
            case Answered(refused=(refusal, *_)):
                return refusal.reason
            case Answered():
                return "it wants it again later"
            case _:
                return outcome.reason

    def _found(self, api: PrivateApi, identity: str, now: datetime) -> Check:
        since = (now - timedelta(days=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
        for _ in range(POLLS):
            rows = api.query(
                _FIND, {"uuid": identity, "since": since}, name="dbt-posthog-sync debug", needed_by="the test event"
            )
            if rows and rows[0][0]:
                return Check.ok(NAME, "It was sent, and PostHog has it.")
            self.patience.pause(POLL_SECONDS)
        return Check.failed(
            NAME,
            f"PostHog took it and does not have it after {POLLS * POLL_SECONDS:.0f} s. PostHog may be slow today "
            f"(status.posthog.com); else the project is over its quota, or posthog.project_id is another project.",
        )
