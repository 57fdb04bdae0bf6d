"""A local stand-in for PostHog, for demos, for tests and for your own CI.

It speaks PostHog's ingestion protocols v0 and v1 over HTTP, keeps what PostHog would keep, loses what PostHog would
lose, and fails on demand. It needs nothing but the standard library and shares no code with the client, so that the
two cannot share a misreading.

    with StandIn() as posthog:
        ...  # send to posthog.url with the key posthog.token
        posthog.project.events, posthog.project.persons, posthog.project.groups

`LoopsStandIn` is the same for Loops.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt_posthog_sync.testing.account import Account, RequestRecord, Summary, summary
    from dbt_posthog_sync.testing.captured import CapturedEvent, LostEvent, Verdict
    from dbt_posthog_sync.testing.config import StandInConfig
    from dbt_posthog_sync.testing.faults import (
        Arrival,
        CloseConnection,
        CutAnswer,
        CutRequest,
        Delay,
        EventResults,
        ExpiredKey,
        Fault,
        FaultPlan,
        FirstOf,
        LoseAnswer,
        Script,
        Status,
        When,
        always,
    )
    from dbt_posthog_sync.testing.groups import Group
    from dbt_posthog_sync.testing.loops import LoopsRequest, LoopsStandIn
    from dbt_posthog_sync.testing.loops_team import LoopsContact, LoopsEvent, LoopsStandInConfig, LoopsTeam
    from dbt_posthog_sync.testing.people import Person
    from dbt_posthog_sync.testing.personal_key import ApiLimits, PersonalKey
    from dbt_posthog_sync.testing.project import Counts, IngestionWarning, Project, StoredEvent
    from dbt_posthog_sync.testing.server import StandIn, serve

__all__ = [
    "Account",
    "ApiLimits",
    "Arrival",
    "CapturedEvent",
    "CloseConnection",
    "Counts",
    "CutAnswer",
    "CutRequest",
    "Delay",
    "EventResults",
    "ExpiredKey",
    "Fault",
    "FaultPlan",
    "FirstOf",
    "Group",
    "IngestionWarning",
    "LoopsContact",
    "LoopsEvent",
    "LoopsRequest",
    "LoopsStandIn",
    "LoopsStandInConfig",
    "LoopsTeam",
    "LoseAnswer",
    "LostEvent",
    "Person",
    "PersonalKey",
    "Project",
    "RequestRecord",
    "Script",
    "StandIn",
    "StandInConfig",
    "Status",
    "StoredEvent",
    "Summary",
    "Verdict",
    "When",
    "always",
    "serve",
    "summary",
]

_MODULES = (
    "personal_key",
    "config",
    "captured",
    "faults",
    "groups",
    "people",
    "project",
    "account",
    "server",
    "loops_team",
    "loops",
)


def __getattr__(name: str) -> object:
    """Import on first use: the pytest plugin loads this package in every pytest run, also where nobody needs it."""
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
