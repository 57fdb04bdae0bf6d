"""A mocked run: the exact requests that would be sent, and nothing sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from dbt_posthog_sync.batch import BatchCutter, LaneBatch
from dbt_posthog_sync.carrier import new_identity
from dbt_posthog_sync.courier import rows_of
from dbt_posthog_sync.delivery import DeliverySettings
from dbt_posthog_sync.destinations import Refusal, RenderedRequest, RunDestination
from dbt_posthog_sync.planner import Prepared
from dbt_posthog_sync.sync import ObjectType
from dbt_posthog_sync.warehouse import Columns, Warehouse


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows that no request would have.

    Attributes:
        rows: how many.
        reason: why they would be rejected.
    """

    rows: int
    reason: str


def mocked_requests(
    warehouse: Warehouse, destination: RunDestination, prepared: Prepared, settings: DeliverySettings
) -> Iterator[RenderedRequest | LeftOut]:
    """The requests of a run, cut into batches as a run cuts them; a run sends those of several lanes side by side.

    Yields:
        What is rejected, and requests with the key masked.
    """
    for reason, rows in prepared.plan.staged.rejected:
        yield LeftOut(rows, reason)
    if prepared.plan.estimated_events == 0:
        return
    cutter = BatchCutter(
        settings.limits,
        lanes=settings.in_flight,
        max_message_bytes=destination.max_message_bytes,
        needs_person=prepared.arguments.resolved.sync.object in (ObjectType.PERSON, ObjectType.GROUP),
    )
    # The staged rows are in a temporary table, which only this connection sees.
    with warehouse.stream("message_stream", own_connection=False, sync=prepared.arguments.for_macro()) as chunks:
        for cut in chain(_cuts(cutter, chunks), cutter.rest()):
            if isinstance(cut, Refusal):
                yield LeftOut(1, cut.reason)
            else:
                yield from destination.rendered(cut.batch, new_identity())


def _cuts(cutter: BatchCutter, chunks: Iterator[Columns]) -> Iterator[LaneBatch | Refusal]:
    for chunk in chunks:
        yield from cutter.add(rows_of(chunk))
