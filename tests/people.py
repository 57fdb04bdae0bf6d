"""Persons for tests: made in the stand-in, and exported into a warehouse as PostHog's batch export does it."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from lab import Lab, fresh_name

from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.sync import ModelRef
from dbt_posthog_sync.testing import CapturedEvent, StandIn
from dbt_posthog_sync.warehouse.identities import IdentitySettings

LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
_moments = (LONG_AGO + timedelta(minutes=n) for n in itertools.count())


def make_person(posthog: StandIn, distinct_id: str, **properties: Any) -> None:
    """A person that PostHog has; those that are made later are newer."""
    event = CapturedEvent("$set", distinct_id, str(uuid.uuid4()), next(_moments), {"$set": properties}, "v1")
    posthog.project.take([event])


def people(posthog: StandIn) -> dict[str, Mapping[str, Any]]:
    """Properties of the persons that PostHog shows, by each of their distinct_ids."""
    shown = [person for person in posthog.project.persons if not person.is_ghost]
    return {distinct_id: person.properties for person in shown for distinct_id in person.distinct_ids}


def noted(posthog: StandIn) -> dict[str, str]:
    """What the tests' syncs wrote: the property `note`, by distinct_id."""
    return {name: str(found["note"]) for name, found in people(posthog).items() if "note" in found}


def finding_persons_in(lab: Lab, source: IdentitySource) -> Lab:
    """The lab with this source of identities; an export holds the persons of this moment."""
    model = export_of_persons(lab) if source is IdentitySource.MODEL else None
    return replace(lab, identities=IdentitySettings(source, model=model))


def export_of_persons(lab: Lab) -> ModelRef:
    """A table as PostHog's batch export of the persons model writes it into a warehouse."""
    table = fresh_name("ph_persons")
    lab.server.sql(
        f"create table {table} (team_id bigint, distinct_id varchar, person_id varchar, properties json, "
        "person_version bigint, person_distinct_id_version bigint, created_at timestamp)"
    )
    for person in lab.posthog.project.persons:
        for distinct_id in person.distinct_ids:
            values = f"1, {quoted(distinct_id)}, '{person.uuid}', {quoted(json.dumps(dict(person.properties)))}, 1, 1"
            lab.server.sql(f"insert into {table} values ({values}, '{person.created_at:%Y-%m-%d %H:%M:%S}')")
    return export_ref(lab, table)


def export_ref(lab: Lab, table: str) -> ModelRef:
    """The node of an export."""
    server = lab.server
    return ModelRef(f"model.lab.{table}", table, server.relation(table), server.database, server.schema, table)


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
