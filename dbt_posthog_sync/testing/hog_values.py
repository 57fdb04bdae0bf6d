"""Values of Hog: what is true, what is empty, how two of them compare, and the functions that destinations call.

Rules: PostHog/posthog: common/hogvm/typescript/src (stl, operators).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Scope = dict[str, Any]
"""Variables, globals and functions by name."""


class ThrownError(Exception):
    """A program threw an error."""


def is_true(value: Any) -> bool:
    """Tell whether a condition holds."""
    return bool(value)


def is_empty(value: Any = None) -> bool:
    """Tell whether Hog's `empty` is true: null, '', [] and {} are empty; numbers and booleans never are."""
    if isinstance(value, bool | int | float):
        return False
    return not value


def member(value: Any, key: Any) -> Any:
    """A member of a value; null where there is none, as PostHog reads its globals. Lists count from 1."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and 0 < abs(key) <= len(value):
        return value[key - 1 if key > 0 else key]
    return None


def text_of(value: Any) -> str:
    """A value as text inside another one."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def concatenated(values: Iterable[Any]) -> str:
    """The texts of values, one behind the other."""
    return "".join(map(text_of, values))


def compared(operator: str, left: Any, right: Any) -> Any:
    """The result of an operator between two values."""
    denied = operator.startswith("not ")
    result = _OPERATORS[operator.removeprefix("not ")](left, right)
    return not result if denied else result


def _is_like(value: Any, pattern: Any, *, any_case: bool = False) -> bool:
    signs = {"%": ".*", "_": "."}
    wanted = "".join(signs.get(sign) or re.escape(sign) for sign in str(pattern))
    flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
    return isinstance(value, str) and re.fullmatch(wanted, value, flags) is not None


def _added(left: Any, right: Any) -> Any:
    return (
        left + right
        if isinstance(left, int | float) and isinstance(right, int | float)
        else concatenated((left, right))
    )


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "like": _is_like,
    "ilike": lambda left, right: _is_like(left, right, any_case=True),
    "in": lambda left, right: left in (right or ()),
    "+": _added,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "%": lambda left, right: left % right,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "empty": is_empty,
    "notEmpty": lambda value=None: not is_empty(value),
    "concat": lambda *values: concatenated(values),
    "toString": text_of,
    "lower": lambda text: text_of(text).lower(),
    "upper": lambda text: text_of(text).upper(),
    "length": lambda value: len(value or ()),
    "ifNull": lambda value, other: other if value is None else value,
    "jsonStringify": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "Error": lambda message="": {"message": message},
}
"""What a program may call beside `print` and `fetch`, which its runner gives it."""
