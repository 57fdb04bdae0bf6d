"""Receivers: where each sync of a session sends to, and how messages travel there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.contact_property import contact_properties
from dbt_posthog_sync.delivery import DeliverySettings
from dbt_posthog_sync.destinations import RunDestination
from dbt_posthog_sync.destinations.loops import Loops, LoopsConfig
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig
from dbt_posthog_sync.destinations.request_rate import RequestRate
from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.http import RetryPolicy, Timeout
from dbt_posthog_sync.loops_settings import loops_key
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Settings
from dbt_posthog_sync.sync import LoopsObject, Sync

POSTHOG, LOOPS = "PostHog", "Loops"
_LOOPS_IN_FLIGHT = 4
"""More would wait for the rate that Loops allows."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """What a sync sends to.

    Attributes:
        name: PostHog or Loops.
        destination: the client.
        identity: to whom state belongs; None where no key is at hand.
        delivery: how batches travel.
        oldest_first: true when events must be sent in order of time.
        requests_per_second: at which rate messages go, one by one; None where they go in batches.
    """

    name: str
    destination: RunDestination
    identity: str | None
    delivery: DeliverySettings
    oldest_first: bool = False
    requests_per_second: float | None = None

    def paced(self, events_per_second: float) -> Receiver:
        """The same, sent no faster than this, in batches that are no bursts either."""
        travel = self.delivery
        messages = min(travel.limits.messages, max(1, int(events_per_second)))
        paced = replace(
            travel,
            limits=replace(travel.limits, messages=messages),
            events_per_second=min(events_per_second, travel.events_per_second or events_per_second),
            historical_events_per_second=min(
                events_per_second, travel.historical_events_per_second or events_per_second
            ),
        )
        return replace(self, delivery=paced)


class Receivers:
    """The receivers of one session. Use `close` when it ends."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], run_id: str, *, needs_keys: bool) -> None:
        """Prepare.

        Args:
            settings: of the project.
            environ: where keys are.
            run_id: id of what the session runs.
            needs_keys: false where nothing is sent, so that a missing key does no harm.
        """
        self._settings = settings
        self._environ = environ
        self._run_id = run_id
        self._needs_keys = needs_keys
        self._stack = ExitStack()
        self._rates: dict[Secret, RequestRate] = {}
        self.project_key: str | None = None

    def read_keys(self, syncs: Iterable[Sync], *, mock: bool) -> None:
        """Make sure of the keys before anything is done; a mocked run uses none.

        Raises:
            SettingsError: with every key that is needed and missing or wrong.
        """
        if mock:
            return
        chosen = tuple(syncs)
        problems: list[Problem] = []
        for sync in chosen:
            try:
                self._loops_key(sync)
            except SettingsError as error:
                problems += error.problems
        try:
            self.project_key = self._project_key(chosen)
        except SettingsError as error:
            problems += error.problems
        if problems:
            raise SettingsError(*dict.fromkeys(problems))

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._stack.close()

    def of(self, resolved: ResolvedSync, *, mock: bool = False) -> Receiver:
        """The receiver of a sync; each sync to Loops has one of its own, and those of a team share its rate."""
        kind = resolved.sync.object
        return self._loops(resolved, kind, mock=mock) if isinstance(kind, LoopsObject) else self.posthog()

    def posthog(self) -> Receiver:
        """PostHog, as all syncs to it share it."""
        settings = self._settings
        delivery = settings.delivery
        config = PostHogConfig(
            host=settings.host.ingest,
            project_key=self.project_key or "",
            run_id=self._run_id,
            protocol=settings.protocol,
            timeout=Timeout(read=delivery.timeout_seconds),
            in_flight=delivery.in_flight,
        )
        destination = PostHog(config)
        self._stack.callback(destination.close)
        travel = DeliverySettings(
            limits=BatchLimits(messages=delivery.batch_messages, bytes=delivery.batch_bytes),
            in_flight=delivery.in_flight,
            retry=RetryPolicy(total_seconds=delivery.retry_seconds),
            events_per_second=delivery.events_per_second,
            historical_events_per_second=settings.historical_rate,
        )
        identity = destination.identity if self.project_key else None
        return Receiver(POSTHOG, destination, identity, travel, oldest_first=settings.host.region is not None)

    def _loops(self, resolved: ResolvedSync, kind: LoopsObject, *, mock: bool) -> Receiver:
        settings, delivery = self._settings.loops, self._settings.delivery
        key = None if mock else self._loops_key(resolved.sync)
        in_flight = min(delivery.in_flight, _LOOPS_IN_FLIGHT)
        config = LoopsConfig(
            object=kind,
            api_key=key or Secret(""),
            host=settings.host,
            properties=contact_properties(resolved),
            requests_per_second=settings.requests_per_second,
            timeout=Timeout(read=delivery.timeout_seconds),
            in_flight=in_flight,
        )
        destination = Loops(config, rate=self._rates.get(config.api_key))
        self._rates.setdefault(config.api_key, destination.rate)
        self._stack.callback(destination.close)
        travel = DeliverySettings(  # a request to Loops takes one message
            limits=BatchLimits(messages=1),
            in_flight=in_flight,
            retry=RetryPolicy(total_seconds=delivery.retry_seconds),
        )
        identity = destination.identity if key else None
        return Receiver(LOOPS, destination, identity, travel, requests_per_second=settings.requests_per_second)

    def _loops_key(self, sync: Sync) -> Secret | None:
        """The key where it is needed; a plan uses it when it is there."""
        if sync.loops is None or (not self._needs_keys and not self._environ.get(sync.loops.api_key, "").strip()):
            return None
        path = f"{sync.path}.api_key.env"
        return loops_key(self._environ, sync.loops.api_key, exposure=sync.name, file=sync.file, path=path)

    def _project_key(self, syncs: tuple[Sync, ...]) -> str | None:
        """The key where it is needed; a plan uses it when it is there, to compare what it belongs to."""
        only_others = bool(syncs) and all(sync.loops is not None for sync in syncs)
        is_set = bool(self._environ.get(self._settings.project_key_variable))
        if only_others or (not self._needs_keys and not is_set):
            return None
        return self._settings.project_key(self._environ).reveal()
