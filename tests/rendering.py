"""Renders our macros for an adapter that is not installed here, as dbt does: its dispatch, its names, its quotes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2.sandbox

MACROS = Path(__file__).parent.parent / "macros"
_PACKAGE = "dbt_posthog_sync"


@dataclass(frozen=True)
class Dialect:
    """An adapter as dbt knows it.

    Attributes:
        name: dbt's name of the adapter.
        parents: adapters whose macros it takes where it has none of its own.
        mark: quotation mark of a name.
        database: false where a name has a schema alone.
        types: name of a type by the family that it stands for.
    """

    name: str
    types: dict[str, str]
    parents: tuple[str, ...] = ()
    mark: str = '"'
    database: bool = True

    def relation(self, *parts: str) -> str:
        """The name of a relation, or of a schema, as dbt writes it."""
        return ".".join(f"{self.mark}{part}{self.mark}" for part in (parts if self.database else parts[1:]))


class _ReturnedError(Exception):
    """Carries what a macro returns, as dbt's own `return` does."""

    def __init__(self, value: Any) -> None:
        super().__init__("a macro returned")
        self.value = value


class _Relation:
    """What the macros use of dbt's relations."""

    def __init__(self, dialect: Dialect, parts: tuple[str | None, ...]) -> None:
        self._dialect = dialect
        self._parts = parts

    def without_identifier(self) -> _Relation:
        return _Relation(self._dialect, self._parts[:2])

    def include(self, *, database: bool) -> _Relation:
        return _Relation(self._dialect, (self._parts if database else (None, *self._parts[1:])))

    def __str__(self) -> str:
        parts = self._parts if self._dialect.database else self._parts[1:]
        return ".".join(f"{self._dialect.mark}{part}{self._dialect.mark}" for part in parts if part)


class Rendering:
    """All macros, ready to be called for one adapter."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.dispatched: set[tuple[str, str]] = set()
        """Every macro that was dispatched, and the adapter whose macro it came to."""
        self._macros: dict[str, Callable[..., Any]] = {}
        environment = jinja2.sandbox.SandboxedEnvironment(extensions=["jinja2.ext.do"])
        for file in sorted(MACROS.rglob("*.sql")):
            template = environment.from_string(file.read_text(), globals=self._context())
            for name, macro in vars(template.module).items():
                if callable(macro) and not name.startswith("__"):
                    self._macros[name] = _called(macro)

    def __call__(self, macro: str, **arguments: Any) -> Any:
        """What a macro returns, or its text."""
        return self._macros[macro](**arguments)

    def has(self, macro: str) -> bool:
        """True where there is such a macro."""
        return macro in self._macros

    def _context(self) -> dict[str, Any]:
        def create(identifier: str | None = None, schema: str | None = None, database: str | None = None) -> _Relation:
            return _Relation(self.dialect, (database, schema, identifier))

        def give(value: Any) -> None:
            raise _ReturnedError(value)

        mark = self.dialect.mark
        return {
            _PACKAGE: _Lookup(self._macros.__getitem__),
            "adapter": {"dispatch": self._dispatch, "quote": lambda name: f"{mark}{name}{mark}"},
            "api": {"Relation": {"create": create}},
            "target": {"database": "lab", "schema": "shop"},
            "invocation_id": "01234567-89ab-cdef-0123-456789abcdef",
            "var": lambda _, default: default,
            "return": give,
        }

    def _dispatch(self, name: str, _package: str) -> Callable[..., Any]:
        for adapter in (self.dialect.name, *self.dialect.parents, "default"):
            if f"{adapter}__{name}" in self._macros:
                self.dispatched.add((name, adapter))
                return self._macros[f"{adapter}__{name}"]
        raise LookupError(f"no macro {name} for {self.dialect.name}")


class _Lookup:
    """Our package as a name: `dbt_posthog_sync.literal`."""

    def __init__(self, find: Callable[[str], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return self._find(name)


def _called(macro: Callable[..., Any]) -> Callable[..., Any]:
    def call(*positional: Any, **named: Any) -> Any:
        try:
            return str(macro(*positional, **named))
        except _ReturnedError as returned:
            return returned.value

    return call
