"""Programs of Hog as they run: statements and expressions as functions of their variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from dbt_posthog_sync.testing.hog_values import FUNCTIONS, Scope, ThrownError, compared, is_true, member

Expression: TypeAlias = Callable[[Scope], Any]
"""Yields the value of an expression."""


class HogError(Exception):
    """The code is not Hog, or more of it than the stand-in plays."""


class _ReturnedError(Exception):
    """The program ends here."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program, ready to run."""

    statements: tuple[Expression, ...]

    def run(self, given: Mapping[str, Any]) -> None:
        """Run it over these globals; functions among them are called.

        Raises:
            ThrownError: the program threw an error.
            HogError: it names something that there is not.
        """
        scope = Scope(given)
        try:
            for statement in self.statements:
                statement(scope)
        except _ReturnedError:
            return


def constant(value: Any) -> Expression:
    """Always the same value."""
    return lambda _scope: value


def variable(name: str) -> Expression:
    """The value of a name, or the function; null where there is neither."""
    return lambda scope: scope.get(name, FUNCTIONS.get(name))


def assigned_name(name: str, value: Expression) -> Expression:
    """Give a name a value."""
    return lambda scope: scope.__setitem__(name, value(scope))


def member_of(value: Expression, key: Expression) -> Expression:
    """A member of a value."""
    return lambda scope: member(value(scope), key(scope))


def member_place(value: Expression, key: Expression) -> Callable[[Expression], Expression]:
    """How to assign to a member."""
    return lambda new: lambda scope: value(scope).__setitem__(key(scope), new(scope))


def called(function: Expression, arguments: list[Expression]) -> Expression:
    """Call a function."""

    def call(scope: Scope) -> Any:
        found = function(scope)
        if not callable(found):
            raise HogError("a function is called that the stand-in does not play")
        return found(*(argument(scope) for argument in arguments))

    return call


def operation(operator: str, left: Expression, right: Expression) -> Expression:
    """An operator between two values; the second one is looked at only where it matters."""
    match operator:
        case "??":
            return lambda scope: right(scope) if left(scope) is None else left(scope)
        case "or":
            return lambda scope: is_true(left(scope)) or is_true(right(scope))
        case "and":
            return lambda scope: is_true(left(scope)) and is_true(right(scope))
        case _:
            return lambda scope: compared(operator, left(scope), right(scope))


def returned(value: Expression) -> Expression:
    """End the program."""

    def run(scope: Scope) -> NoReturn:
        value(scope)
        raise _ReturnedError

    return run


def thrown(value: Expression) -> Expression:
    """Throw an error."""

    def run(scope: Scope) -> NoReturn:
        error = value(scope)
        raise ThrownError(str(error.get("message")) if isinstance(error, dict) else str(error))

    return run
