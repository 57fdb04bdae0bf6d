"""One run of a destination's code: its inputs, its code, its requests, its log.

Rules: PostHog/posthog: plugin-server/src/cdp/cdp-api.ts (the test of a function) and services/hog-executor.service.ts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

from dbt_posthog_sync.testing.hog import program, template
from dbt_posthog_sync.testing.hog_program import HogError
from dbt_posthog_sync.testing.hog_values import ThrownError, text_of

Fetch: TypeAlias = Callable[[str, Mapping[str, Any]], tuple[int, Any]]
"""Makes a request, and returns the status and the body that came back."""


@dataclass(frozen=True, slots=True)
class HogRun:
    """What came of a run.

    Attributes:
        errors: what was thrown; empty for a run that ended well.
        logs: lines as PostHog shows them.
    """

    errors: tuple[str, ...]
    logs: tuple[Mapping[str, str], ...]


def log_line(message: str, level: str = "info") -> Mapping[str, str]:
    """A line of a function's log."""
    return {"level": level, "timestamp": datetime.now(timezone.utc).isoformat(), "message": message}


def run(code: str, inputs: Mapping[str, Any], given: Mapping[str, Any], fetch: Fetch | None) -> HogRun:
    """Run a function's code over an event.

    Args:
        code: Hog.
        inputs: as PostHog keeps them, with secrets in place of their masks.
        given: PostHog's globals.
        fetch: makes requests; None mocks them: they are logged and answered 200.
    """
    logs: list[Mapping[str, str]] = []

    def request(url: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if fetch is not None:
            status, body = fetch(url, options or {})
            return {"status": status, "body": body}
        logs.append(log_line("Async function 'fetch' was mocked with arguments:"))
        logs.append(log_line(f"fetch('{url}', {json.dumps(options, indent=2, ensure_ascii=False)})"))
        return {"status": 200, "body": {}}

    functions = {
        "print": lambda *values: logs.append(log_line(", ".join(map(text_of, values)))),
        "fetch": request,
    }
    errors: tuple[str, ...] = ()
    try:
        filled = {key: _value(one.get("value"), given) for key, one in inputs.items()}
        program(code).run({**given, "inputs": filled, **functions})
    except (ThrownError, HogError) as error:
        errors = (str(error),)
        logs.append(log_line(f"Error executing function: {error}", "error"))
    return HogRun(errors, tuple(logs))


def check_code(code: str) -> None:
    """Refuse code that is not Hog.

    Raises:
        HogError: with the place.
    """
    program(code)


def check_value(value: Any) -> None:
    """Refuse an input that is no template.

    Raises:
        HogError: with what is wrong.
    """
    match value:
        case str():
            template(value)
        case dict():
            for inner in value.values():
                check_value(inner)
        case list():
            for inner in value:
                check_value(inner)


def _value(value: Any, given: Mapping[str, Any]) -> Any:
    """The value of an input: texts are templates, wherever they stand."""
    match value:
        case str():
            return template(value)(dict(given))
        case dict():
            return {key: _value(inner, given) for key, inner in value.items()}
        case list():
            return [_value(inner, given) for inner in value]
        case _:
            return value
