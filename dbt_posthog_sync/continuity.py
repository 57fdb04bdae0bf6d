"""Continuity: whether what an earlier run left in the warehouse still speaks of the rows of this one.

Another destination, key, object, behavior or hash function would make every row look new or known, and none is.
"""

from __future__ import annotations

import json

from dbt_posthog_sync.errors import StateError, UnsafePlan
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.resolved_sync import seed_of
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.warehouse.arguments import FormerMapping, SyncArguments
from dbt_posthog_sync.warehouse.state import State, StoredSync


class Continuity:
    """Compares a sync with what is stored of it."""

    def __init__(
        self,
        state: State,
        arguments: SyncArguments,
        stored: StoredSync,
        *,
        destination: str | None,
        full_refresh: bool = False,
    ) -> None:
        """Compare.

        Args:
            state: the state schema.
            arguments: the sync as this run has it.
            stored: what is remembered of it.
            destination: identity of the receiver; None where it is not known.
            full_refresh: true when what was delivered is to be forgotten, so that most differences do no harm.
        """
        self._state = state
        self._arguments = arguments
        self._stored = stored
        self._destination = destination
        self._full_refresh = full_refresh

    def check(self) -> None:
        """Make sure that the state may be used.

        Raises:
            UnsafePlan: it belongs to something else than this sync and destination.
            StateError: a table of it is gone.
        """
        self._check_identity()
        self._check_tables()
        self._check_shards()

    def _check_tables(self) -> None:
        gone = self._state.missing_tables(self._stored.base_table, self._stored.log_table)
        if gone and not self._full_refresh:
            raise StateError(
                Problem(
                    f"the state in `{self._state.schema}` has lost the table {' and '.join(gone)}, which says what "
                    "PostHog has.",
                    "Restore it from a backup, or run with --full-refresh to send every row again.",
                    self._arguments.resolved.sync.name,
                )
            )

    def _check_shards(self) -> None:
        """What a run left behind is for the next one that looks at the same rows. What builds kept goes before it: the
        shard may not overtake that, and so both would wait for each other.
        """
        if self._arguments.delivers_kept:
            return
        name, shard = self._arguments.resolved.sync.name, self._arguments.run.shard
        left = [one for one in self._state.unfinished_shards(self._arguments.resolved.id) if one != shard]
        if shard is not None:
            self._check_shard(shard)
            left = [one for one in left if one.of != shard.of]
        if left:
            raise UnsafePlan(
                f"{name}: the run of the shard {left[0]} did not end, and PostHog may have rows of it that are not "
                f"confirmed. Run it again first: --shard {left[0]}."
            )

    def _check_shard(self, shard: Shard) -> None:
        name, sync = self._arguments.resolved.sync.name, self._arguments.resolved.sync
        if self._arguments.resolved.deletes:
            raise UnsafePlan(f"{name}: a sync that deletes persons is not divided. Run it without --shard.")
        if not sync.backfill and self._stored.baseline_at is None:
            raise UnsafePlan(
                f"{name}: `backfill: false` takes the rows of the first run as known, which no shard sees as a whole. "
                "Run it once without --shard."
            )
        whole = self._state.read(self._arguments.resolved.id)
        if whole is not None and whole.changes_table is not None:
            raise UnsafePlan(
                f"{name}: a run without --shard did not end, and PostHog may have rows of it that are not confirmed. "
                f"Run it again first, without --shard {shard}."
            )

    def hash_changed(self) -> bool:
        """True when the warehouse computes row hashes otherwise than in the last run."""
        functions = self._state.functions(self._arguments)
        return (functions.hash_name, functions.hash_canary) != (self._stored.hash_name, self._stored.hash_canary)

    def has_same_keys(self) -> bool:
        """False when what was staged before speaks of other rows; only `--full-refresh` comes this far then."""
        was, now = json.loads(self._stored.mapping), self._arguments.resolved.mapping()
        is_same = all(was.get(part) == now[part] for part in ("object", "sync_key"))
        return is_same and self._state.functions(self._arguments).key_type == self._stored.key_type

    def _check_identity(self) -> None:
        name, destination = self._arguments.resolved.sync.name, self._destination
        if destination is not None and destination != self._stored.destination:
            is_loops = self._arguments.resolved.sync.loops is not None
            key, receivers = ("API key", "Loops teams") if is_loops else ("project key", "PostHog projects")
            raise UnsafePlan(
                f"{name}: the state in `{self._state.schema}` says what {self._stored.destination.split('#')[0]} has, "
                f"with another {key} or host than the ones of this run. One state must not serve two {receivers}: set "
                "another state_schema for this target, or use the key and host of before."
            )
        if self._full_refresh:
            return
        key_type, was_type = self._state.functions(self._arguments).key_type, self._stored.key_type
        if key_type != was_type:
            raise UnsafePlan(
                f"{name}: the sync key was {was_type} and is now {key_type}, so no row would be recognised. "
                "Cast it back in the model, or run with --full-refresh to send every row again."
            )
        was, now = json.loads(self._stored.mapping), self._arguments.resolved.mapping()
        for part, word in (("object", "object"), ("sync_key", "sync key"), ("behavior", "behavior")):
            if was.get(part) != now.get(part):
                raise UnsafePlan(
                    f"{name}: the {word} was {_shown(was.get(part))} and is now {_shown(now.get(part))}, so what was "
                    "delivered says nothing about these rows. Give the sync a new `name`, or run with --full-refresh "
                    "to send every row again."
                )

    def former(self) -> FormerMapping | None:
        """How to recognise rows that only look changed because the annotation did; None where none does.

        Raises:
            UnsafePlan: the rows as they were delivered cannot be recognised any more.
        """
        resolved, name = self._arguments.resolved, self._arguments.resolved.sync.name
        if self._stored.fingerprint == resolved.fingerprint or resolved.compares_keys_only:
            return None
        if self.hash_changed():
            raise UnsafePlan(
                f"{name}: the warehouse computes row hashes differently than in the last run and the annotation "
                "changed too, so --rebaseline cannot tell which rows are as they were delivered. Restore the former "
                "annotation and run with --rebaseline, then change it and do so again; or send every row with --force."
            )
        columns, gone = resolved.hashed_before(json.loads(self._stored.mapping))
        if gone:
            raise UnsafePlan(
                f"{name}: --rebaseline compares with what was delivered, and the column "
                f"{', '.join(f'`{column}`' for column in gone)} of the former annotation is gone from the model. Keep "
                "it in the model for this one run, or send every row again with --force."
            )
        return FormerMapping(columns, seed_of(self._stored.fingerprint))


def _shown(part: object) -> str:
    if part is None:
        return "another"
    return ": ".join(part) if isinstance(part, list) else str(part)
