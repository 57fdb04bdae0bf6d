"""Fixtures for your own pytest: `posthog_standin`, and `posthog_standin_config` to override."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dbt_posthog_sync.testing import StandIn, StandInConfig


@pytest.fixture
def posthog_standin_config() -> StandInConfig:
    """Say what the stand-in plays; define a fixture of this name to change it."""
    from dbt_posthog_sync.testing import StandInConfig  # noqa: PLC0415 - loaded only where it is used

    return StandInConfig()


@pytest.fixture
def posthog_standin(posthog_standin_config: StandInConfig) -> Iterator[StandIn]:
    """Run a fresh local PostHog for one test, on a free port."""
    from dbt_posthog_sync.testing import StandIn  # noqa: PLC0415 - loaded only where it is used

    with StandIn(posthog_standin_config) as posthog:
        yield posthog
