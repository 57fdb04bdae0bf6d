"""Hog functions as one project keeps them: what PostHog fills in, refuses and masks.

Rules: PostHog/posthog: products/cdp/backend/api/hog_function.py.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from dbt_posthog_sync.testing.hog_filters import FilterError, check_filters
from dbt_posthog_sync.testing.hog_program import HogError
from dbt_posthog_sync.testing.hog_run import check_code, check_value
from dbt_posthog_sync.testing.loops_templates import LOOPS_TEMPLATES

_LARGEST_CODE = 100 * 1024
_WRITABLE = (
    "name", "description", "enabled", "deleted", "hog", "inputs_schema", "inputs", "filters", "masking", "mappings",
    "icon_url",
)  # fmt: skip
_KINDS: Mapping[str, type] = {"string": str, "boolean": bool, "dictionary": dict}
MASK = {"secret": True}
"""What PostHog shows of a secret, and takes for the one that it has."""


class InvalidError(Exception):
    """PostHog refuses the function (400)."""

    def __init__(self, attr: str, detail: str) -> None:
        super().__init__(detail)
        self.attr = attr


class StaleError(Exception):
    """Somebody has changed the function since (409)."""


@dataclass(slots=True)
class HogFunction:
    """A function as it is kept.

    Attributes:
        id: UUID text.
        template_id: of the template that it was made from; None for none.
        values: what PostHog lets be written, secrets aside.
        secrets: secret inputs by key.
        draft: what waits for somebody's approval; a function with a draft cannot be enabled.
        state: PostHog's own word on its health: 1 healthy, 2 degraded, 3 disabled.
        succeeded: runs that ended well.
        failed: runs that ended in an error.
    """

    id: str
    template_id: str | None
    values: dict[str, Any]
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    updated_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    draft: Mapping[str, Any] | None = None
    state: int = 1
    succeeded: int = 0
    failed: int = 0

    @property
    def is_enabled(self) -> bool:
        """True while it fires."""
        return bool(self.values.get("enabled")) and not self.values.get("deleted")

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Inputs with their secrets."""
        return {**self.values["inputs"], **self.secrets}

    def as_json(self, *, full: bool = True) -> dict[str, Any]:
        """The function as PostHog shows it; a list that is not asked to be full has no inputs."""
        masked = {**self.values["inputs"], **dict.fromkeys(self.secrets, MASK)}
        shown = {
            "id": self.id,
            "type": "destination",
            **{name: self.values.get(name) for name in _WRITABLE if name != "deleted"},
            "inputs": masked,
            "template": next((one for one in LOOPS_TEMPLATES if one["id"] == self.template_id), None),
            "status": {"state": self.state, "tokens": 10_000},
            "draft": self.draft,
            "created_at": _moment(self.created_at),
            "updated_at": _moment(self.updated_at),
        }
        left_out = () if full else ("inputs", "inputs_schema", "mappings", "masking", "draft")
        return deepcopy({name: value for name, value in shown.items() if name not in left_out})


class HogFunctions:
    """The functions of one project. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._functions: dict[str, HogFunction] = {}

    @property
    def all(self) -> tuple[HogFunction, ...]:
        """Every function that is not deleted, the oldest first."""
        with self._lock:
            return tuple(one for one in self._functions.values() if not one.values.get("deleted"))

    def get(self, id: str) -> HogFunction | None:
        """One function."""
        return next((one for one in self.all if one.id == id), None)

    def create(self, body: Mapping[str, Any]) -> HogFunction:
        """Make a function. Code, inputs' schema, name and description come from its template, and nothing else.

        Raises:
            InvalidError: PostHog refuses it.
        """
        template_id = body.get("template_id")
        template = next((one for one in LOOPS_TEMPLATES if one["id"] == template_id), None)
        if template_id and template is None:
            raise InvalidError("template_id", f"No template found for id '{template_id}'")
        given = {name: body[name] for name in _WRITABLE if body.get(name) is not None}
        filled = {"enabled": False, "filters": {}, "inputs": {}, "inputs_schema": [], "mappings": None, "masking": None}
        if template is not None:
            for name, source in _FROM_TEMPLATE.items():
                given[name] = given.get(name) or template[source]
        function = HogFunction(str(uuid.uuid4()), template_id, {})
        self._write(function, {**filled, **given})
        with self._lock:
            self._functions[function.id] = function
        return function

    def update(self, function: HogFunction, body: Mapping[str, Any]) -> None:
        """Change a function.

        Raises:
            InvalidError: PostHog refuses it.
            StaleError: it was changed after `base_updated_at`.
        """
        with self._lock:
            if body.get("type", "destination") != "destination":
                raise InvalidError("type", "Cannot modify the type of an existing function")
            base = body.get("base_updated_at")
            if base and function.updated_at > datetime.fromisoformat(base.replace("Z", "+00:00")):
                raise StaleError
            if body.get("enabled") and function.draft and not function.is_enabled:
                raise InvalidError("enabled", "This function has config staged for review.")
            self._write(function, {name: body[name] for name in _WRITABLE if name in body})
            if function.is_enabled and function.state == 3:
                function.state = 2
            # A clock may stand still between two writes; PostHog's has microseconds too.
            function.updated_at = max(datetime.now(timezone.utc), function.updated_at + timedelta(microseconds=1))

    def try_on(self, function: HogFunction, given: Mapping[str, Any]) -> None:
        """Let a function that is not kept have these values, as its test does.

        Raises:
            InvalidError: PostHog refuses them.
        """
        filled: dict[str, Any] = {"inputs": {}, "inputs_schema": [], "filters": {}}
        self._write(function, {**filled, **{name: given[name] for name in _WRITABLE if name in given}})

    def _write(self, function: HogFunction, given: Mapping[str, Any]) -> None:
        values = {**function.values, **deepcopy(dict(given))}
        values["filters"] = dict(values.get("filters") or {})
        if values.get("mappings") is not None:
            values["filters"] = {k: v for k, v in values["filters"].items() if k not in ("events", "actions")}
        secrets = function.secrets
        if "inputs" in given:
            values["inputs"], secrets = split_inputs(values["inputs_schema"], values["inputs"] or {}, secrets)
        _check(values)
        function.values, function.secrets = values, secrets


_FROM_TEMPLATE: Mapping[str, str] = {
    "hog": "code",
    "inputs_schema": "inputs_schema",
    "icon_url": "icon_url",
    "description": "description",
    "name": "name",
}
"""What a new function takes from its template: neither filters nor masking nor the defaults of inputs."""


def split_inputs(
    schema: list[Mapping[str, Any]], inputs: Mapping[str, Any], kept: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs, and apart from them the secret ones; the mask stands for the secret that is kept.

    Raises:
        InvalidError: one is missing or of another type.
    """
    plain: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for item in schema:
        key = item["key"]
        given = inputs.get(key) or {}
        if item.get("secret") and given.get("secret"):
            given = kept.get(key) or {}
        value = given.get("value")
        if item.get("required") and value in (None, "", {}):
            raise InvalidError(f"inputs__{key}", "This field is required.")
        kind = _KINDS.get(item["type"])
        if value is not None and kind is not None and not isinstance(value, kind):
            raise InvalidError(f"inputs__{key}", f"Value must be a {item['type']}.")
        if given:
            (secrets if item.get("secret") else plain)[key] = given
    return plain, secrets


def _check(values: Mapping[str, Any]) -> None:
    code = values.get("hog") or ""
    if not code:
        raise InvalidError("hog", "Required.")
    if len(code.encode()) > _LARGEST_CODE:
        raise InvalidError("hog", "HOG code exceeds maximum size of 100KB.")
    try:
        check_code(code)
        for one in values["inputs"].values():
            check_value(one.get("value"))
        check_filters(values["filters"])
    except HogError as error:
        raise InvalidError("hog", f"Invalid Hog: {error}") from error
    except FilterError as error:
        raise InvalidError("filters", str(error)) from error


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
