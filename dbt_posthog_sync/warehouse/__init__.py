"""The Warehouse protocol: run one of our macros, and what comes back.

SQL lives in `macros/` alone. Python names a macro and hands it values; the warehouse's dialect, its connection and
its secrets are dbt's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

ResultRow: TypeAlias = Sequence[Any]
Columns: TypeAlias = Sequence[Sequence[Any]]
RelationParts: TypeAlias = tuple[str | None, str, str]
"""Database, schema and identifier of a table or view."""


class Warehouse(Protocol):
    """A warehouse that renders and runs our macros. Opened once a run; used from one thread, except `stream`."""

    @property
    def adapter_type(self) -> str:
        """dbt's name of the adapter, such as `postgres`."""
        ...

    @property
    def target_name(self) -> str:
        """Name of the dbt target that is connected."""
        ...

    def evaluate(self, macro: str, **arguments: Any) -> Any:
        """Render a macro and return what it returns, without running a statement of ours."""
        ...

    def has_relation(self, database: str | None, schema: str, identifier: str) -> bool:
        """True when a table or view of this name exists now, whatever dbt remembers."""
        ...

    def missing(self, relations: Iterable[RelationParts]) -> frozenset[RelationParts]:
        """Those of the relations that do not exist now; dbt lists each schema once for all of them."""
        ...

    def run(self, macro: str, **arguments: Any) -> int:
        """Run the statement that a macro returns; commits unless a transaction is open.

        Returns:
            The number of rows it wrote, or -1 where the adapter does not say.

        Raises:
            WarehouseUnavailable: the warehouse refused the statement or is gone.
        """
        ...

    def run_if_any(self, macro: str, **arguments: Any) -> None:
        """Run the statement that a macro returns, where this warehouse has one. Raises as `run` does."""
        ...

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        """Run the query that a macro returns and fetch its few rows. Raises as `run` does."""
        ...

    def transaction(self, *, one_view: bool = False) -> AbstractContextManager[None]:
        """Commit what happens inside together, or nothing of it.

        Args:
            one_view: all statements inside see one state of the warehouse.
        """
        ...

    def stream(
        self, macro: str, *, own_connection: bool = True, readers: int = 0, **arguments: Any
    ) -> AbstractContextManager[Iterator[Columns]]:
        """Run a query and hand out its rows in chunks, as they come. Leaving the context stops the query.

        A chunk is its columns, one after the other and of equal length, with at least one row. Values are integers,
        texts or bytes as the adapter delivers them.

        Args:
            macro: the macro that returns the select.
            own_connection: false reads on the caller's connection, which sees its temporary tables; the caller then
                runs nothing else until the stream has ended.
            readers: with any, the macro gives parcels (macros/messages/parcels.sql) and is told which of so many
                `readers` is asking by `reader`; each has a connection of its own.
            arguments: values for the macro.
        """
        ...

    def repeated(self, macro: str, *, seconds: float, **arguments: Any) -> AbstractContextManager[None]:
        """Run a statement every so many seconds in the background, on a connection of its own, while inside.

        A warehouse that only one process can open has nobody to tell, and runs nothing.
        """
        ...
