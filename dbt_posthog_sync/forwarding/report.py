"""Reports on destinations: changes, drift and trials as text or as JSON values."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dbt_posthog_sync.forwarding.change import Change, Create, Disable, Keep, Update
from dbt_posthog_sync.forwarding.drift import CODE, MISSING, Difference
from dbt_posthog_sync.forwarding.function import HogFunction
from dbt_posthog_sync.forwarding.trial import Request, Trial
from dbt_posthog_sync.forwarding.wanted import Blocked, WantedFunction
from dbt_posthog_sync.spelling import listed

_CONTEXT_LINES = 2


def change_text(change: Change) -> str:
    """What `apply` would do with one function, line by line."""
    match change:
        case Create(wanted):
            return "\n".join([f"+ {_title(wanted)}: would be created", *_created(wanted)])
        case Update(_, wanted, differences, _):
            lines = [line for one in differences for line in _difference_lines(one)]
            return "\n".join([f"~ {_title(wanted)}: would be changed", *lines])
        case Keep(_, wanted):
            return f"= {_title(wanted)}: as it should be"
        case Disable(function, marker):
            return f"- {function.name}: would be disabled, because the exposure {marker.exposure} is no more"
        case Blocked():
            return f"! {change}"


def change_values(change: Change) -> dict[str, Any]:
    """What `apply` would do with one function, as JSON values."""
    match change:
        case Create(wanted):
            return {**_about("create", wanted), "inputs": wanted.inputs, "filters": wanted.filters}
        case Update(function, wanted, differences, sends_key):
            drift = [_difference_values(one) for one in differences]
            return {**_about("update", wanted), "id": function.id, "drift": drift, "sends_key": sends_key}
        case Keep(function, wanted):
            return {**_about("keep", wanted), "id": function.id}
        case Disable(function, marker):
            return {"change": "disable", "exposure": marker.exposure, "object": marker.object.value, "id": function.id}
        case Blocked(exposure, reason, advice):
            return {"change": "blocked", "exposure": exposure.name, "reason": reason, "advice": advice}


def _title(wanted: WantedFunction) -> str:
    return f"{wanted.exposure.name} ({wanted.exposure.object.value}, {wanted.template.id})"


def _about(change: str, wanted: WantedFunction) -> dict[str, Any]:
    return {
        "change": change,
        "exposure": wanted.exposure.name,
        "object": wanted.exposure.object.value,
        "template": wanted.template.id,
        "own_code": wanted.has_own_code,
    }


def _created(wanted: WantedFunction) -> Iterator[str]:
    yield f"    events: {', '.join(one['id'] for one in wanted.filters['events'])}"
    for name, given in wanted.inputs.items():
        yield f"    {name}: {_shown(given['value'])}"
    yield f"    api key: from {wanted.exposure.api_key}"
    if wanted.has_own_code:
        yield f"    code: {wanted.code.partition(chr(10))[0].removeprefix('// ')}"


def _difference_lines(one: Difference) -> Iterator[str]:
    if one.place != CODE:
        yield f"    {one.place}: {_shown(one.found)} -> {_shown(one.wanted)}"
        return
    yield "    code:"
    yield from (f"      {line}" for line in _code_lines(one))


def _code_lines(one: Difference) -> Iterator[str]:
    before, after = str(one.found).strip().splitlines(), str(one.wanted).strip().splitlines()
    diff = difflib.unified_diff(before, after, "PostHog", "wanted", n=_CONTEXT_LINES, lineterm="")
    yield from (line.rstrip() for line in diff)


def _difference_values(one: Difference) -> dict[str, Any]:
    if one.place == CODE:
        return {"place": one.place, "diff": list(_code_lines(one))}
    found = {} if one.found is MISSING else {"found": one.found}
    return {"place": one.place, **found, **({} if one.wanted is MISSING else {"wanted": one.wanted})}


def _shown(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def status_text(change: Change, totals: Mapping[str, int]) -> str:
    """How the function of one exposure is."""
    match change:
        case Update(function, wanted, differences, _):
            places = listed(one.place for one in differences)
            return f"{_title(wanted)}: differs in {places}\n    {_health(function, totals)}"
        case Keep(function, wanted):
            return f"{_title(wanted)}: as it should be\n    {_health(function, totals)}"
        case Create(wanted):
            return f"{_title(wanted)}: not there yet; `destinations apply` creates it"
        case Disable(function, marker):
            return f"{function.name}: enabled, and the exposure {marker.exposure} is no more"
        case Blocked():
            return str(change)


def status_values(change: Change, totals: Mapping[str, int]) -> dict[str, Any]:
    """How the function of one exposure is, as JSON values."""
    if isinstance(change, Update | Keep):
        function = change.function
        return {**change_values(change), "enabled": function.is_enabled, "state": function.state, "runs": dict(totals)}
    return change_values(change)


def _health(function: HogFunction, totals: Mapping[str, int]) -> str:
    runs = ", ".join(f"{count:,} {name}" for name, count in totals.items() if count) or "no runs counted"
    state = f", {function.state}" if function.state else ""
    draft = "; somebody's change waits to be published" if function.has_draft else ""
    return f"{'enabled' if function.is_enabled else 'disabled'}{state}; {runs}{draft}"


def trial_text(name: str, trial: Trial, *, is_live: bool = False) -> str:
    """What came of one row, with the exact requests; a request that was really made is not in PostHog's log."""
    lines = [f"  {name}: {trial.status if is_live else _outcome(trial)}"]
    for request in trial.requests:
        lines += [f"    {request.method} {request.url}"]
        lines += [f"    {header}: {value}" for header, value in request.headers.items()]
        lines += [f"    {json.dumps(request.body, ensure_ascii=False)}"]
    lines += [f"    error: {error}" for error in trial.errors]
    lines += [f"    log: {line}" for line in trial.lines]
    return "\n".join(lines)


def _outcome(trial: Trial) -> str:
    if trial.status == "skipped":
        return "the filters leave its event out"
    if trial.status == "success" and not trial.requests:
        return "no request"
    return trial.status


def trial_values(name: str, trial: Trial) -> dict[str, Any]:
    """What came of one row, as JSON values."""
    return {
        "row": name,
        "status": trial.status,
        "errors": list(trial.errors),
        "requests": [_request_values(one) for one in trial.requests],
        "log": list(trial.lines),
    }


def _request_values(request: Request) -> dict[str, Any]:
    return {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": request.body}
