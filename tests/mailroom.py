"""Direct exposures in tests: a model of the lab, sent to the stand-in for Loops without waiting."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab import NO_PATIENCE, Lab, manifest_for

from dbt_posthog_sync.annotation import check_annotations
from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.carrier import new_identity
from dbt_posthog_sync.contact_property import contact_properties
from dbt_posthog_sync.courier import rows_of
from dbt_posthog_sync.delivery import DeliverySettings
from dbt_posthog_sync.destinations import Batch
from dbt_posthog_sync.destinations.loops import Loops, LoopsConfig, Surroundings
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.plan import Plan
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.runner import Runner, RunSettings
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import LoopsObject
from dbt_posthog_sync.sync_run import SyncRun
from dbt_posthog_sync.testing import LoopsStandIn
from dbt_posthog_sync.warehouse.arguments import RunIdentity

NAME = "loops"
CONTACTS: dict[str, Any] = {
    "destination": "loops",
    "object": "contacts",
    "via": "direct",
    "api_key": {"env": "LOOPS_API_KEY"},
    "email": "email",
}
EVENTS: dict[str, Any] = {
    **CONTACTS,
    "object": "events",
    "event_id": "id",
    "event": {"value": "order completed"},
    "backfill": True,
}


class Time:
    """A clock that goes on when somebody waits, and with each look at it a little."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self._now += 0.0001
            return self._now

    def pause(self, seconds: float) -> None:
        """Wait: nothing but the clock goes on."""
        with self._lock:
            self._now += seconds


def exposure(name: str, annotation: object, *models: str) -> dict[str, Any]:
    """An exposure as dbt writes it into a manifest."""
    return {
        "unique_id": f"exposure.lab.{name}",
        "name": name,
        "resource_type": "exposure",
        "package_name": "lab",
        "original_file_path": "models/exposures.yml",
        "config": {"enabled": True, "meta": {"posthog_sync": annotation}},
        "depends_on": {"nodes": [f"model.lab.{model}" for model in models]},
    }


@dataclass
class Mailroom:
    """The lab's table, and an exposure of it.

    Attributes:
        lab: the warehouse and its table.
        loops: the stand-in.
        time: the clock of the client; the stand-in's own where the test gave it the same.
        in_flight: batches under way at once.
        resource_type: what the table is to dbt.
    """

    lab: Lab
    loops: LoopsStandIn
    time: Time = field(default_factory=Time)
    in_flight: int = 2
    resource_type: str = "model"

    def manifest(self, annotation: Mapping[str, Any], name: str = NAME) -> dict[str, Any]:
        """A manifest with the table, which no annotation makes a sync of, and the exposure."""
        document = manifest_for(self.lab.server, {self.lab.table: {}})
        for node in document["nodes"].values():
            node["config"]["meta"] = node["meta"] = {}
            node["resource_type"] = self.resource_type
        exposed = exposure(name, annotation, self.lab.table)
        return {**document, "exposures": {exposed["unique_id"]: exposed}}

    def planner(self, destination: Loops | None = None, **settings: Any) -> Planner:
        """A planner with the lab's state schema."""
        identity = destination.identity if destination else None
        return Planner(self.lab.warehouse, PlanSettings(schema=self.lab.schema, destination=identity, **settings))

    def resolve(self, annotation: Mapping[str, Any], name: str = NAME) -> ResolvedSync:
        """The exposure matched to the table."""
        found = check_annotations(manifest_from(self.manifest(annotation, name)))
        assert found.problems == ()
        return self.planner().resolve(found.syncs)[0]

    def problems(self, annotation: Mapping[str, Any]) -> tuple[Problem, ...]:
        """What the manifest shows to be wrong."""
        return check_annotations(manifest_from(self.manifest(annotation))).problems

    def destination(self, resolved: ResolvedSync, api_key: str | None = None) -> Loops:
        """Loops as the program reaches it: the stand-in, with a clock that nobody waits for."""
        kind = resolved.sync.object
        assert isinstance(kind, LoopsObject)
        key = Secret(self.loops.api_key if api_key is None else api_key)
        config = LoopsConfig(kind, key, self.loops.url, contact_properties(resolved))
        return Loops(config, surroundings=Surroundings(self.time, self.time.pause))

    def plan(self, annotation: Mapping[str, Any]) -> Plan:
        """What `plan` finds."""
        planner = self.planner()
        return planner.with_samples(planner.plan(self.resolve(annotation), RunIdentity("plan")))

    def bodies(self, annotation: Mapping[str, Any]) -> list[Any]:
        """The bodies of all requests that a run would send, in the order of the rows' positions."""
        resolved = self.resolve(annotation)
        prepared = self.planner().plan(resolved, RunIdentity("bodies"))
        stream = self.lab.warehouse.stream("message_stream", own_connection=False, sync=prepared.arguments.for_macro())
        with stream as chunks:
            rows = sorted(row for chunk in chunks for row in rows_of(chunk))
        if not rows:
            return []
        requests = self.destination(resolved).rendered(Batch.of(rows), new_identity())
        return [json.loads(request.body) for request in requests]

    def run(self, annotation: Mapping[str, Any], *, name: str = NAME, **changes: Any) -> SyncRun:
        """Run the exposure's sync; `force`, `only_rejects`, `full_refresh` and `steal` as on the command line."""
        resolved = self.resolve(annotation, name)
        destination = self.destination(resolved, changes.pop("api_key", None))
        shared = {name: changes[name] for name in ("full_refresh", "only_rejects") if name in changes}
        settings = RunSettings(
            run_id=str(uuid.uuid4()),
            owner="the mailroom",
            host="here",
            limits=None if changes.pop("force", False) else self.lab.limits,
            courier=self.lab.courier,
            delivery=DeliverySettings(BatchLimits(messages=1), self.in_flight, retry=NO_PATIENCE),
        )
        planner = self.planner(destination, **shared)
        try:
            return Runner(self.lab.warehouse, destination, planner, replace(settings, **changes)).run(resolved)
        finally:
            destination.close()
