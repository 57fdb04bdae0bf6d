"""A warehouse that dies at a chosen statement, to see what a killed run leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dbt_posthog_sync.warehouse import RelationParts, ResultRow, Warehouse


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class MortalWarehouse:
    """Passes everything on, until its statements are used up."""

    def __init__(self, warehouse: Warehouse, statements: int) -> None:
        self._warehouse = warehouse
        self._left = statements

    @property
    def adapter_type(self) -> str:
        return self._warehouse.adapter_type

    @property
    def target_name(self) -> str:
        return self._warehouse.target_name

    @property
    def survived(self) -> bool:
        """True when the run needed fewer statements than it had."""
        return self._left > 0

    def evaluate(self, macro: str, **arguments: Any) -> Any:
        return self._warehouse.evaluate(macro, **arguments)

    def has_relation(self, database: str | None, schema: str, identifier: str) -> bool:
        return self._warehouse.has_relation(database, schema, identifier)

    def missing(self, relations: Iterable[RelationParts]) -> frozenset[RelationParts]:
        return self._warehouse.missing(relations)

    def run(self, macro: str, **arguments: Any) -> int:
        self._age()
        return self._warehouse.run(macro, **arguments)

    def run_if_any(self, macro: str, **arguments: Any) -> None:
        self._age()
        self._warehouse.run_if_any(macro, **arguments)

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        self._age()
        return self._warehouse.rows(macro, **arguments)

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        with self._warehouse.transaction(one_view=one_view):
            yield
            self._age()

    def stream(
        self, macro: str, *, own_connection: bool = True, **arguments: Any
    ) -> AbstractContextManager[Iterator[Sequence[ResultRow]]]:
        self._age()
        return self._warehouse.stream(macro, own_connection=own_connection, **arguments)

    def repeated(self, macro: str, *, seconds: float, **arguments: Any) -> AbstractContextManager[None]:
        return self._warehouse.repeated(macro, seconds=seconds, **arguments)

    def _age(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise Killed


class VisitedWarehouse(MortalWarehouse):
    """Lets something else happen before a chosen statement; inside a transaction it waits for the end of it."""

    def __init__(self, warehouse: Warehouse, statements: int, visit: Callable[[], object]) -> None:
        super().__init__(warehouse, statements)
        self._visit = visit
        self._is_in_transaction = False
        self._is_visited = False

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        self._age()
        self._is_in_transaction = True
        try:
            with self._warehouse.transaction(one_view=one_view):
                yield
        finally:
            self._is_in_transaction = False

    def _age(self) -> None:
        self._left -= 1
        if self._left <= 0 and not self._is_visited and not self._is_in_transaction:
            self._is_visited = True
            self._visit()
