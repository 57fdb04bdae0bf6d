"""Receivers: how slowly something is sent that PostHog hands on."""

from __future__ import annotations

import pytest

from dbt_posthog_sync.receivers import Receivers
from dbt_posthog_sync.settings import settings_from


@pytest.mark.parametrize(
    ("delivery", "rates", "messages"),
    [
        ({}, (5.0, 5.0), 5),
        ({"events_per_second": 2, "batch_messages": 3}, (2, 5.0), 3),
        ({"historical_events_per_second": 1, "events_per_second": 100}, (5.0, 1), 5),
    ],
)
def test_pace_lowers_rates_and_batches_and_raises_none(
    delivery: dict[str, float], rates: tuple[float, float], messages: int
) -> None:
    receivers = Receivers(settings_from({"delivery": delivery}, {}), {}, "run", needs_keys=False)
    paced = receivers.posthog().paced(5.0).delivery
    assert (paced.events_per_second, paced.historical_events_per_second) == rates
    assert paced.limits.messages == messages
    assert receivers.posthog().paced(0.5).delivery.limits.messages == 1
    receivers.close()
