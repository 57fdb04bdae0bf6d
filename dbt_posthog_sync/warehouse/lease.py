"""The lease of a sync: one run at a time, and an epoch that every write of that run must still hold."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from dbt_posthog_sync.errors import LeaseLost, UnsafePlan, WarehouseUnavailable
from dbt_posthog_sync.shard import Shard, shard_of_lease
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity

LEASE_SECONDS = 90
HEARTBEAT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who takes a lease.

    Attributes:
        run_id: id of the sync run.
        owner: user and process.
        host: name of the machine.
    """

    run_id: str
    owner: str
    host: str


@dataclass(frozen=True, slots=True)
class _Lease:
    """A row of the table `leases`; fields as in the macro `read_lease`. Ages are seconds by the warehouse's clock."""

    epoch: int
    run_id: str | None
    owner: str | None
    host: str | None
    is_held: bool
    is_alive: bool | None
    age: int | None
    silence: int | None

    @property
    def refusal(self) -> UnsafePlan:
        """What a second run is told."""
        return UnsafePlan(
            f"Another run of this sync is under way: {self.owner} on {self.host}, for {_lasting(self.age)}, last heard "
            f"of {_lasting(self.silence)} ago. Wait for it to end; a dead one is forgotten after {LEASE_SECONDS} "
            "seconds without a sign of life. If you know that it is dead, take over with --steal."
        )


class Lease:
    """Takes, keeps and releases the lease of one sync, or of one shard of it.

    Runs of different shards hold their leases beside each other; a run of the whole sync, or of shards that divide it
    otherwise, keeps all of them out.
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str, shard: Shard | None = None) -> None:
        self._warehouse = warehouse
        self._whole = {"schema": schema, "sync_id": sync_id}
        self._names = {"schema": schema, "sync_id": shard.lease_id(sync_id) if shard is not None else sync_id}
        self._shard = shard

    def take(self, holder: Holder, *, steal: bool = False) -> RunIdentity:
        """Become the one run of the sync or the shard.

        Raises:
            UnsafePlan: another run holds the lease; the message says who.
        """
        if self._shard is not None:
            return self._take_shard(self._shard, holder, steal=steal)
        run = self._take_whole(holder, steal=steal)
        others = self._shards_alive()
        if others:
            self.release(run)
            raise _shards_at_work(others)
        return run

    def _take_shard(self, shard: Shard, holder: Holder, *, steal: bool) -> RunIdentity:
        if not self._warehouse.evaluate("transaction_statements"):
            raise UnsafePlan(
                "Shards need a warehouse with transactions of several statements, and this one has none. Run without "
                "--shard."
            )
        whole = Lease(self._warehouse, self._whole["schema"], self._whole["sync_id"])
        whole._insert()
        self._insert()
        found = self._read()
        if found is not None and found.is_alive and not steal:
            raise found.refusal
        with self._warehouse.transaction():
            if self._warehouse.run("count_epoch", **self._whole, seconds=LEASE_SECONDS) == 0:
                held = whole._read()
                raise held.refusal if held is not None else WarehouseUnavailable("The lease of this sync vanished.")
            others = [other for other in self._shards_alive() if other.of != shard.of]
            if others:
                raise _shards_at_work(others)
            self._warehouse.run(
                "take_shard",
                **self._whole,
                lease_id=self._names["sync_id"],
                run_id=holder.run_id,
                owner=holder.owner,
                host=holder.host,
                seconds=LEASE_SECONDS,
                steal=steal,
            )
        taken = self._taken(holder)
        return RunIdentity(holder.run_id, taken.epoch, took_over=found is not None and found.is_held, shard=shard)

    def _shards_alive(self) -> list[Shard]:
        rows = self._warehouse.rows("read_shards", **self._whole, seconds=LEASE_SECONDS)
        return [shard_of_lease(str(lease_id)) for lease_id, is_alive, _ in rows if is_alive]

    def _insert(self) -> None:
        if self._read() is None:
            with contextlib.suppress(WarehouseUnavailable):
                # Another first run may be faster; what is really wrong fails below.
                self._warehouse.run("insert_lease", **self._names)

    def _take_whole(self, holder: Holder, *, steal: bool) -> RunIdentity:
        found = self._read()
        if found is None:
            self._insert()
        elif found.is_alive and not steal:
            # Asked before the update, which would wait for a transaction of the holder, such as a long fold.
            raise found.refusal
        self._warehouse.run(
            "take_lease",
            **self._names,
            run_id=holder.run_id,
            owner=holder.owner,
            host=holder.host,
            seconds=LEASE_SECONDS,
            steal=steal,
        )
        taken = self._taken(holder)
        return RunIdentity(holder.run_id, taken.epoch, took_over=found is not None and found.is_held)

    def _taken(self, holder: Holder) -> _Lease:
        taken = self._read_all()
        if not taken:
            raise WarehouseUnavailable("The lease of this sync vanished while it was taken. Run again.")
        # Several rows are what two first runs at once leave where the warehouse keeps no key unique.
        for row in taken:
            if row.run_id != holder.run_id:
                raise row.refusal
        return taken[0]

    def hold(self, run: RunIdentity) -> None:
        """Say that this run is alive. Inside a transaction it also keeps others from taking over until the commit.

        Raises:
            LeaseLost: another run took over.
        """
        written = self._warehouse.run("beat_lease", **self._names, run_id=run.run_id, epoch=run.epoch)
        if written == 0 or (written < 0 and not self._is_held_by(run)):
            raise LeaseLost("Another run took over this sync; this one stops and confirms nothing more.")

    def _is_held_by(self, run: RunIdentity) -> bool:
        """Ask, where the warehouse does not say whether it wrote."""
        found = self._read()
        return found is not None and found.is_held and (found.run_id, found.epoch) == (run.run_id, run.epoch)

    def release(self, run: RunIdentity) -> None:
        """Let the next run begin at once."""
        self._warehouse.run("release_lease", **self._names, run_id=run.run_id, epoch=run.epoch)

    def _read(self) -> _Lease | None:
        return next(iter(self._read_all()), None)

    def _read_all(self) -> list[_Lease]:
        rows = self._warehouse.rows("read_lease", **self._names, seconds=LEASE_SECONDS)
        return [_Lease(*row) for row in rows]


def _shards_at_work(shards: list[Shard]) -> UnsafePlan:
    listed = ", ".join(map(str, shards))
    return UnsafePlan(
        f"Runs of shards of this sync are under way: {listed}. Wait for them to end; a dead one is forgotten after "
        f"{LEASE_SECONDS} seconds without a sign of life."
    )


def _lasting(seconds: int | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
