"""The scene of a case: one fresh table, one fresh state schema, one stand-in, one project folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lab import fresh_name, manifest_for, write_project

from dbt_posthog_sync.testing import FaultPlan, StandIn, StandInConfig
from faults.doom import Doom
from faults.model import Message, Model
from faults.postgres import Postgres, SmallDisk
from faults.program import Ended, Program, environment
from faults.traffic import Slowed, Traffic

IN_FLIGHT = 8
BATCH_MESSAGES = 500
"""The program's defaults, from which is reckoned how long a slowed delivery lasts."""

_LONGEST_REQUEST_SECONDS = 2.0
_ROOM, _ROOM_A_ROW = 16 * 1024 * 1024, 600
_RUN = ("run", "--output", "json")


@dataclass(frozen=True, slots=True)
class Setup:
    """How a scene differs from the plainest one.

    Attributes:
        model: what kind of table.
        protocol: the protocol that the stand-in speaks; a stand-in of v0 has no v1.
        delivery: settings that differ from the program's defaults.
        broken: numbers of rows that nobody could send.
    """

    model: Model
    protocol: str = "v1"
    delivery: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Everything a case may touch."""

    setup: Setup
    rows: int
    postgres: Postgres
    posthog: StandIn
    traffic: Traffic
    folder: Path
    table: str
    state: str
    programs: list[Program]
    stack: ExitStack

    @classmethod
    @contextmanager
    def opened(cls, setup: Setup, rows: int, postgres: Postgres, folder: Path) -> Iterator[Scene]:
        """A scene with its table built and its project written; no process of it survives."""
        traffic = Traffic()
        config = StandInConfig(v1_routed=setup.protocol == "v1")
        with StandIn(config, traffic) as posthog, ExitStack() as stack:
            names = fresh_name("rows"), fresh_name("state")
            scene = cls(setup, rows, postgres, posthog, traffic, folder / names[0], *names, [], stack)
            scene._write()
            try:
                yield scene
            finally:
                for program in scene.programs:
                    if program.is_running:
                        program.kill()
                scene.sql("drop table if exists {table}; drop schema if exists {state} cascade")

    def _write(self) -> None:
        server, setup = self.postgres.server, self.setup
        server.sql(f"create table {self.table} as {setup.model.select(self.rows, setup.broken)}")
        server.sql(f"analyze {self.table}")
        write_project(self.folder, server.output)
        (self.folder / "target").mkdir()
        manifest = manifest_for(server, {self.table: setup.model.annotation})
        (self.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
        settings = {"posthog": {"host": self.posthog.url}, "state_schema": self.state}
        delivery = {"delivery": dict(setup.delivery)} if setup.delivery else {}
        (self.folder / "posthog_sync.yml").write_text(yaml.safe_dump({**settings, **delivery}))

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL; `{table}` is the table, `{state}` the state schema."""
        return self.postgres.server.sql(statement.format(table=self.table, state=self.state))

    # Processes.

    def start(self, doom: Doom | None = None, words: Sequence[str] = ()) -> Program:
        """Start a run."""
        program = Program(self.folder, (*_RUN, *words), environment(self.folder, self.posthog.token), doom)
        self.programs.append(program)
        return program

    def run(self, doom: Doom | None = None) -> Ended:
        """Run to the end."""
        return self.start(doom).wait()

    def small_disk(self) -> SmallDisk:
        """Put what is created from now on, until the scene closes, on a small disk with room for the whole state.

        Raises:
            NoSmallDisk: see `Postgres.small_disk`.
        """
        return self.stack.enter_context(self.postgres.small_disk(_ROOM + _ROOM_A_ROW * self.rows))

    # Time.

    @property
    def batches(self) -> int:
        """About how many requests a delivery needs."""
        return max(self.rows // BATCH_MESSAGES, IN_FLIGHT)

    def slow(self, seconds: float, then: FaultPlan | None = None) -> None:
        """Let every request take so long that a delivery lasts about so many seconds; less where there are few rows."""
        self.traffic.meet(Slowed(min(seconds * IN_FLIGHT / self.batches, _LONGEST_REQUEST_SECONDS), then))

    def wait_for_share(self, share: float, program: Program) -> None:
        """Wait until a share of the delivery's requests has arrived, the first one at least."""
        self.traffic.wait_for(max(1, round(self.batches * share)), lambda: program.is_running)

    def expire_lease(self) -> None:
        """Let a lease that is held be forgotten now instead of in 90 seconds."""
        if self._has_table("leases"):
            self.sql("update {state}.leases set heartbeat_at = heartbeat_at - interval '1 hour' where is_held")

    # What there is in the end.

    def expected(self, but: frozenset[int]) -> dict[str, Message]:
        """The message of every row by its key, without the rows that are broken or of these numbers."""
        model = self.setup.model
        rows = self.sql(f"select {model.columns()} from {{table}}")
        all_messages = dict(model.message(row) for row in rows if row[0] is not None and row[1] is not None)
        gone = {str(number) for number in but}
        return {key: message for key, message in all_messages.items() if key not in gone and key.strip()}

    def open_rejects(self) -> int:
        """Rows that the warehouse says are rejected."""
        if not self._has_table("rejected_rows"):
            return 0
        found = self.sql("select coalesce(sum(row_count), 0) from {state}.rejected_rows where resolved_at is null")
        return int(found[0][0])

    def _has_table(self, name: str) -> bool:
        return bool(self.sql(f"select 1 from pg_tables where schemaname = '{{state}}' and tablename = '{name}'"))
