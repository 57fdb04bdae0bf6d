"""The sampler: a few rows of a model as the messages that a run would send of them, whatever was sent before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity, SyncArguments
from dbt_posthog_sync.warehouse.identities import IdentityResolver, IdentitySettings
from dbt_posthog_sync.warehouse.staging import Staging
from dbt_posthog_sync.warehouse.state import State
from dbt_posthog_sync.warehouse.tables import SyncTables, table_prefix

_MOST_READ = 100
"""Rows that are read to find some that may be sent."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What samples depend on.

    Attributes:
        schema: the state schema.
        identities: where it is found which persons PostHog has.
    """

    schema: str
    identities: IdentitySettings


class Sampler:
    """Builds messages of a few rows in one warehouse. Nothing that outlives the session is written.

    Args:
        directory: asked for persons where a sync needs to know them.
    """

    def __init__(self, warehouse: Warehouse, settings: SampleSettings, directory: Directory | None = None) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._state = State(warehouse, settings.schema)
        self._identities = IdentityResolver(warehouse, self._state, settings.identities, directory)
        self._found: dict[str, tuple[Mapping[str, Any], ...]] = {}

    def messages(self, resolved: ResolvedSync, most: int) -> tuple[Mapping[str, Any], ...]:
        """At most so many messages, as PostHog gets them; none where no row of the first may be sent.

        Raises:
            WarehouseUnavailable: the warehouse refused a statement.
        """
        if resolved.id not in self._found:
            self._found[resolved.id] = self._read(resolved, most)
        return self._found[resolved.id]

    def _read(self, resolved: ResolvedSync, most: int) -> tuple[Mapping[str, Any], ...]:
        name = f"{table_prefix(resolved)}__rows"
        relation = resolved.sync.model.relation_name
        self._warehouse.run("create_few_rows", relation=relation, name=name, most=max(most, _MOST_READ))
        few = _over(resolved, self._warehouse.evaluate("few_rows_relation", name=name))
        staging = Staging(self._warehouse, self._state)
        staged = staging.stage(self._arguments(few), live_keys=0, knows_rejects=False)
        rows = self._warehouse.rows("samples", sync=staged.arguments.for_macro(), most=most)
        return tuple(_message(Row(position, lane, message.encode())) for position, lane, message in rows)

    def _arguments(self, resolved: ResolvedSync) -> SyncArguments:
        tables = replace(SyncTables.named(resolved), changes=f"{table_prefix(resolved)}__few", temporary=True)
        arguments = SyncArguments.of(resolved, self._settings.schema, "", tables, RunIdentity(""))
        arguments = arguments.but(is_first=True, has_erased=self._state.exists() and self._state.has_erased())
        return self._identities.prepare(arguments) if resolved.sync.needs_identities else arguments


def _over(resolved: ResolvedSync, relation: str) -> ResolvedSync:
    """The same sync over another relation with the same columns."""
    model = replace(resolved.sync.model, relation_name=relation)
    return replace(resolved, sync=replace(resolved.sync, model=model))


def _message(row: Row) -> Mapping[str, Any]:
    members = f'"uuid":{json.dumps(row.uuid)},{row.head.decode()}'
    message: dict[str, Any] = json.loads(f"{{{members}}}")
    message["properties"] = json.loads(f"{{{row.properties.decode().removeprefix(',')}}}")
    return message
