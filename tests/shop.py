"""A dbt project with an orders table, and the command run on it as a user runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Server, fresh_name, manifest_for, write_project

from dbt_posthog_sync.cli import main
from dbt_posthog_sync.testing import StandIn

KEY = "phc_sandbox"
PASSWORD = "pw-that-nobody-may-see"
E_MAIL = "anna@example.com"
ORDERS: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer",
    "event": {"value": "order completed"},
    "timestamp": "ordered_at",
    "properties": "all",
}


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document of standard output."""
        return json.loads(self.out)


@dataclass
class Shop:
    """A project folder with profile, manifest and settings; one table of orders that is not built yet.

    Attributes:
        folder: the project's folder.
        server: the warehouse.
        posthog: the stand-in.
        table: name of the table.
        state: name of the state schema.
    """

    folder: Path
    server: Server
    posthog: StandIn
    table: str
    state: str
    _capture: pytest.CaptureFixture[str]
    _patch: pytest.MonkeyPatch

    @classmethod
    def opened(
        cls,
        folder: Path,
        server: Server,
        posthog: StandIn,
        capture: pytest.CaptureFixture[str],
        patch: pytest.MonkeyPatch,
    ) -> Shop:
        """A shop with its files written, in the project's folder, with a key in the environment."""
        shop = cls(folder, server, posthog, fresh_name("orders"), fresh_name("state"), capture, patch)
        write_project(folder, server.output)
        shop.annotate(ORDERS)
        shop.settings()
        patch.chdir(folder)
        patch.setenv("POSTHOG_PROJECT_API_KEY", KEY)
        patch.setenv("HOME", str(folder / "home"))
        return shop

    def annotate(self, annotation: Mapping[str, Any] | list[Mapping[str, Any]], **others: Mapping[str, Any]) -> None:
        """Write the manifest: the orders, and other tables by name."""
        manifest = manifest_for(self.server, {self.table: annotation, **others})
        (self.folder / "target").mkdir(exist_ok=True)
        (self.folder / "target" / "manifest.json").write_text(json.dumps(manifest))

    def settings(self, **changes: Any) -> None:
        """Write posthog_sync.yml; requests are tried once."""
        settings = {
            "posthog": {"host": self.posthog.url},
            "state_schema": self.state,
            "delivery": {"retry_seconds": 0, "in_flight": 1},
            **changes,
        }
        (self.folder / "posthog_sync.yml").write_text(yaml.safe_dump(settings))

    def profile(self, **changes: Any) -> None:
        """Write profiles.yml with changes to its one output."""
        write_project(self.folder, {**self.server.output, **changes})

    def build(self, *rows: tuple[int, str | None, float]) -> None:
        """Build the orders: number, customer, amount."""
        selects = (
            f"select {number} as order_id, cast({'null' if customer is None else repr(customer)} as varchar(50)) as "
            f"customer, cast({amount} as numeric(10, 2)) as amount, timestamp '2026-01-02 03:04:05' as ordered_at"
            for number, customer, amount in rows
        )
        self.server.sql(f"drop table if exists {self.table}")
        self.server.sql(f"create table {self.table} as {' union all '.join(selects)}")

    def __call__(self, *words: str) -> Answer:
        """Run the command in this process, with everything that reaches the file descriptors."""
        self._capture.readouterr()
        self._patch.setattr(sys, "argv", ["dbt-posthog-sync", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        for secret in (KEY, PASSWORD, "Traceback"):
            assert secret not in out + err, out + err
        return Answer(code, out, err)

    def complaint(self, *words: str, code: int) -> str:
        """The one line on standard error of a command that fails and sends nothing."""
        answer = self(*words)
        assert (code, "") == (answer.code, answer.out), answer
        assert E_MAIL not in answer.err
        assert self.posthog.requests == ()
        assert answer.err.startswith("Error: "), answer.err
        assert answer.err.count("\n") == 1, answer.err
        return answer.err.removeprefix("Error: ").rstrip("\n")
