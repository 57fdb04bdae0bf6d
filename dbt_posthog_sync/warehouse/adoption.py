"""Adoption: a sync that got another name goes on with the state it had under the old one."""

from __future__ import annotations

import json

from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.lease import Holder
from dbt_posthog_sync.warehouse.state import State

# The lease goes along: its epochs order the log, so they must go on where they stood.
# The sync itself comes last: until then a killed adoption is found by its old name, and done again.
_TABLES = (
    "leases",
    "rejected_rows",
    "sync_runs",
    "moved_rows",
    "doubtful_rows",
    "build_syncs",
    "build_stagings",
    "syncs",
)


class Adoption:
    """Moves the state of a former name. The uuids of the sync's messages keep that name, so that PostHog knows them."""

    def __init__(self, warehouse: Warehouse, state: State, holder: Holder) -> None:
        self._warehouse = warehouse
        self._state = state
        self._holder = holder

    def adopt(self, old_name: str, resolved: ResolvedSync, known_names: frozenset[str], *, steal: bool) -> bool:
        """Give the state of `old_name` to the sync. Nothing happens when it was adopted before.

        Returns:
            Whether the old sync's last run did not release its lease, and so may still be sending.

        Raises:
            UnsafePlan: the old name is still in use, unknown, or another object's; or the sync has state of its own.
        """
        name = resolved.sync.name
        old_id = self._state.id_of(resolved.sync.project, old_name)
        stored = self._state.read(resolved.id)
        if stored is not None and old_id is None:
            return False  # adopted in an earlier run, and the flag is still in the command
        if stored is not None:
            raise UnsafePlan(
                f"{name}: it has state of its own already, so it cannot adopt that of `{old_name}`. Drop --adopt; what "
                f"`{old_name}` delivered stays in PostHog."
            )
        if old_name in known_names:
            raise UnsafePlan(f"{name}: `{old_name}` is still the name of a sync, so nobody else can adopt its state.")
        if old_id is None:
            raise UnsafePlan(f"{name}: no sync of the name `{old_name}` has been run here. Check the spelling.")
        self._check_object(old_name, old_id, resolved)
        left = self._state.unfinished_shards(old_id)
        if left:
            raise UnsafePlan(
                f"{name}: the run of the shard {left[0]} of `{old_name}` did not end. Give the sync its old name, run "
                f"that shard again, and rename it then."
            )
        lease = self._state.lease(old_id)
        run = lease.take(self._holder, steal=steal)
        with self._warehouse.transaction():
            lease.hold(run)
            self._warehouse.run("forget_lease", schema=self._state.schema, sync_id=resolved.id)
            for table in _TABLES:
                self._warehouse.run(
                    "adopt_sync",
                    schema=self._state.schema,
                    table=table,
                    old_id=old_id,
                    sync_id=resolved.id,
                    name=name,
                )
            self._state.lease(resolved.id).release(run)
        return run.took_over

    def _check_object(self, old_name: str, old_id: str, resolved: ResolvedSync) -> None:
        """Refuse before anything is moved: the run would stop at such a state, and its own sync would miss it."""
        sync, former = resolved.sync, self._state.read(old_id)
        was = json.loads(former.mapping)["object"] if former is not None else sync.object.value
        if was != sync.object.value:
            raise UnsafePlan(
                f"{sync.name}: `{old_name}` was a sync of the object {was}, and this one is of {sync.object.value}: "
                "what it delivered says nothing of what this one sends. Drop --adopt."
            )
