"""The command line in a process that is struck by a signal at a chosen statement.

`python -m faults.doom run` is `python -m dbt_posthog_sync run`, except that the process sends itself the signal when
the macro that the environment variable names is about to run, has run, or was committed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from dbt_posthog_sync import session
from dbt_posthog_sync.cli import main
from dbt_posthog_sync.warehouse import ResultRow
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

VARIABLE = "FAULTS_DOOM"
Moment: TypeAlias = Literal["before", "after", "committed"]


@dataclass(frozen=True, slots=True)
class Doom:
    """When a process is struck.

    Attributes:
        macro: name of the macro.
        moment: before it runs, after it has run, or once its transaction was committed.
        nth: at which of its runs, counted from 1.
        signal: what strikes.
    """

    macro: str
    moment: Moment = "before"
    nth: int = 1
    signal: signal.Signals = signal.SIGKILL

    @classmethod
    def from_text(cls, text: str) -> Doom:
        """Read what `as_text` wrote."""
        macro, moment, nth, name = text.split(":")
        return cls(macro, cast("Moment", moment), int(nth), signal.Signals[name])

    def as_text(self) -> str:
        """The doom as an environment variable carries it."""
        return f"{self.macro}:{self.moment}:{self.nth}:{self.signal.name}"


class DoomedWarehouse(DbtWarehouse):
    """The program's warehouse, watched for the fatal statement."""

    doom = Doom("")
    _seen = 0
    _is_due = False

    def evaluate(self, macro: str, **arguments: Any) -> Any:
        with self._around(macro):
            return super().evaluate(macro, **arguments)

    def run(self, macro: str, **arguments: Any) -> int:
        with self._around(macro):
            return super().run(macro, **arguments)

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        with self._around(macro):
            return super().rows(macro, **arguments)

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        with super().transaction(one_view=one_view):
            yield
        if self._is_due:
            self._strike()

    @contextmanager
    def _around(self, macro: str) -> Iterator[None]:
        self._seen += macro == self.doom.macro
        is_it = macro == self.doom.macro and self._seen == self.doom.nth
        if is_it and self.doom.moment == "before":
            self._strike()
        yield
        if is_it and self.doom.moment == "after":
            self._strike()
        self._is_due = self._is_due or (is_it and self.doom.moment == "committed")

    def _strike(self) -> None:
        self._is_due = False
        os.kill(os.getpid(), self.doom.signal)


if __name__ == "__main__":
    DoomedWarehouse.doom = Doom.from_text(os.environ[VARIABLE])
    vars(session)["DbtWarehouse"] = DoomedWarehouse
    main()
