"""The stand-in's private API for hog functions: templates, functions, their test and their counts.

Rules: PostHog/posthog: products/cdp/backend/api/hog_function.py and hog_function_template.py, and
plugin-server/src/cdp/cdp-api.ts for the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dbt_posthog_sync.testing.asked import Asked, RefusedError, error_reply
from dbt_posthog_sync.testing.forwarding import Forwarding
from dbt_posthog_sync.testing.hog_function import HogFunction, InvalidError, StaleError
from dbt_posthog_sync.testing.hog_run import log_line, run
from dbt_posthog_sync.testing.loops_templates import LOOPS_TEMPLATES
from dbt_posthog_sync.testing.wire import Reply, Request

PUBLIC_TEMPLATES = "api/public_hog_function_templates"
"""Path of the list that needs no key."""

READ, WRITE = "hog_function:read", "hog_function:write"
_PAGE = 100
_NEW = "new"

_Answer: TypeAlias = Callable[[Asked], Reply]


def endpoint(name: str, rest: str) -> tuple[str, _Answer] | None:
    """Methods and answer of what follows the project in a path; None for what is no endpoint of these."""
    # An id, whatever it is, stands for the first part.
    parts = [part for part in rest.split("/") if part]
    return _ENDPOINTS.get("/".join([name, *("*" for _ in parts[:1]), *parts[1:]]))


def public_templates(request: Request) -> Reply:
    """Answer for the list of templates that needs no key."""
    if request.method != "GET":
        return error_reply(405, "method_not_allowed", f'Method "{request.method}" not allowed.')
    return _page(list(LOOPS_TEMPLATES), request)


def _page(found: list[Any], request: Request) -> Reply:
    words = request.query_values()
    offset, limit = int(words.get("offset", 0)), int(words.get("limit", _PAGE))
    has_more = offset + limit < len(found)
    following = f"?offset={offset + limit}&limit={limit}" if has_more else None
    page = found[offset : offset + limit]
    return Reply.from_json(200, {"count": len(found), "next": following, "previous": None, "results": page})


def _templates(asked: Asked) -> Reply:
    asked.needs(READ)
    _ = asked.project
    return _page(list(LOOPS_TEMPLATES), asked.request)


def _template(asked: Asked) -> Reply:
    asked.needs(READ)
    _ = asked.project
    found = next((one for one in LOOPS_TEMPLATES if one["id"] == asked.rest), None)
    return error_reply(404, "not_found", "Not found.") if found is None else Reply.from_json(200, found)


def _functions(asked: Asked) -> Reply:
    asked.needs(WRITE if asked.request.method == "POST" else READ)
    functions = _forwarding(asked).functions
    if asked.request.method == "POST":
        return _answered(lambda: functions.create(asked.body()), 201)
    words = asked.request.query_values()
    found = [one for one in functions.all if words.get("type", "destination") == "destination"]
    return _page([one.as_json(full=words.get("full") == "true") for one in found], asked.request)


def _function(asked: Asked) -> Reply:
    is_change = asked.request.method == "PATCH"
    asked.needs(WRITE if is_change else READ)
    function = _found(asked)
    if is_change:

        def changed() -> HogFunction:
            _forwarding(asked).functions.update(function, asked.body())
            return function

        return _answered(changed, 200)
    return Reply.from_json(200, function.as_json())


def _answered(change: Callable[[], HogFunction], status: int) -> Reply:
    try:
        return Reply.from_json(status, change().as_json())
    except InvalidError as error:
        return error_reply(400, "invalid_input", str(error), error.attr)
    except StaleError:
        return error_reply(409, "stale_update", "This function changed since you last read it.")


def _invocation(asked: Asked) -> Reply:
    asked.needs(WRITE)
    forwarding, id = _forwarding(asked), asked.rest.partition("/")[0]
    kept = None if id == _NEW else _found(asked)
    body = asked.body()
    configuration = body.get("configuration")
    if not isinstance(configuration, dict):
        return error_reply(400, "invalid_input", "Required unless use_draft is true.", "configuration")
    given = body.get("globals")
    if not isinstance(given, dict) or not given.get("event"):
        return Reply.from_json(400, {"status": "error", "errors": ["Missing event"]})
    tried = HogFunction(id, None, {}, dict(kept.secrets) if kept else {})
    try:
        forwarding.functions.try_on(tried, configuration)
    except InvalidError as error:
        return error_reply(400, "invalid_input", str(error), f"configuration__{error.attr}")
    return Reply.from_json(200, _tried(forwarding, tried, given, mocked=body.get("mock_async_functions", True)))


def _tried(forwarding: Forwarding, tried: HogFunction, given: Mapping[str, Any], *, mocked: bool) -> dict[str, Any]:
    """A test run; filters decide here as they do for events."""
    if not forwarding.is_wanted(tried.values["filters"], given):
        logs = [log_line("Mapping trigger not matching filters was ignored.")]
        return {"result": None, "status": "skipped", "errors": [], "logs": logs}
    fetch = None if mocked else lambda url, options: forwarding.fetch(tried.id, url, options)
    done = run(tried.values["hog"], tried.inputs, given, fetch)
    status = "error" if done.errors else "success"
    return {"result": None, "status": status, "errors": list(done.errors), "logs": list(done.logs)}


def _totals(asked: Asked) -> Reply:
    asked.needs(READ)
    function = _found(asked)
    return Reply.from_json(200, {"totals": {"succeeded": function.succeeded, "failed": function.failed}})


def _forwarding(asked: Asked) -> Forwarding:
    return asked.account.forwarding(asked.token)


def _found(asked: Asked) -> HogFunction:
    function = _forwarding(asked).functions.get(asked.rest.partition("/")[0])
    if function is None:
        raise RefusedError(error_reply(404, "not_found", "Not found."))
    return function


_ENDPOINTS: Mapping[str, tuple[str, _Answer]] = {
    "hog_function_templates": ("GET", _templates),
    "hog_function_templates/*": ("GET", _template),
    "hog_functions": ("GET POST", _functions),
    "hog_functions/*": ("GET PATCH", _function),
    "hog_functions/*/invocations": ("POST", _invocation),
    "hog_functions/*/metrics/totals": ("GET", _totals),
}
