"""A mocked run: the exact requests that would be sent, and nothing sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from dbt_posthog_sync.batch import BatchCutter, BatchLimits, LaneBatch
from dbt_posthog_sync.carrier import new_identity
from dbt_posthog_sync.courier import rows_of
from dbt_posthog_sync.destinations import Refusal, RenderedRequest, RunDestination
from dbt_posthog_sync.planner import Prepared
from dbt_posthog_sync.sync import ObjectType
from dbt_posthog_sync.warehouse import Columns, Warehouse


def mocked_requests(
    warehouse: Warehouse, destination: RunDestination, prepared: Prepared, limits: BatchLimits
) -> Iterator[RenderedRequest | Refusal]:
    """The requests of a run, cut into batches as a run cuts them, in the order of one lane.

    Yields:
        Requests with the key masked, and refusals of messages that are too large for any request.
    """
    if prepared.plan.estimated_events == 0:
        return
    needs_person = prepared.arguments.resolved.sync.object in (ObjectType.PERSON, ObjectType.GROUP)
    cutter = BatchCutter(limits, lanes=1, max_message_bytes=destination.max_message_bytes, needs_person=needs_person)
    # The staged rows are in a temporary table, which only this connection sees.
    with warehouse.stream("message_stream", own_connection=False, sync=prepared.arguments.for_macro()) as chunks:
        for cut in chain(_cuts(cutter, chunks), cutter.rest()):
            if isinstance(cut, Refusal):
                yield cut
            else:
                yield from destination.rendered(cut.batch, new_identity())


def _cuts(cutter: BatchCutter, chunks: Iterator[Columns]) -> Iterator[LaneBatch | Refusal]:
    for chunk in chunks:
        yield from cutter.add(rows_of(chunk))
