"""Hog functions and their templates as PostHog's API tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_STATES = {1: "healthy", 2: "degraded", 3: "stopped by PostHog", 11: "degraded by hand", 12: "stopped by hand"}
"""PostHog/posthog: products/cdp/backend/models/hog_functions/hog_function.py, HogFunctionState."""


@dataclass(frozen=True, slots=True)
class HogTemplate:
    """A template of PostHog.

    Attributes:
        id: such as `template-loops`.
        code: its Hog.
        inputs_schema: what may be filled in.
    """

    id: str
    code: str
    inputs_schema: tuple[Mapping[str, Any], ...]

    @property
    def keys(self) -> frozenset[str]:
        """Names of its inputs."""
        return frozenset(str(item.get("key")) for item in self.inputs_schema)

    @property
    def required_keys(self) -> frozenset[str]:
        """Names of those that must be filled in."""
        return frozenset(str(item.get("key")) for item in self.inputs_schema if item.get("required"))


@dataclass(frozen=True, slots=True)
class HogFunction:
    """A hog function.

    Attributes:
        id: UUID text.
        name: as people call it.
        description: for people; ours holds a marker.
        is_enabled: true while it fires.
        code: its Hog.
        inputs: by key; a secret one is `{"secret": true}`.
        filters: which events it fires on.
        template_id: of the template that it was made from; empty for none.
        updated_at: PostHog's text of the time, which says whether somebody has changed it since.
        masking: a limit on how often it fires; None for none.
        mappings: several triggers in one function; None for none.
        state: PostHog's word on its health.
        has_draft: true while somebody's change waits to be published.
    """

    id: str
    name: str
    description: str
    is_enabled: bool
    code: str
    inputs: Mapping[str, Any] = field(repr=False)
    filters: Mapping[str, Any]
    template_id: str = ""
    updated_at: str = ""
    masking: Mapping[str, Any] | None = None
    mappings: tuple[Any, ...] | None = None
    state: str = ""
    has_draft: bool = False

    @property
    def has_key(self) -> bool:
        """True where PostHog has a secret for it."""
        return any(isinstance(one, Mapping) and bool(one.get("secret")) for one in self.inputs.values())


def read_template(payload: Any) -> HogTemplate | None:
    """A template; None for an answer that is none."""
    if not isinstance(payload, dict) or not isinstance(payload.get("code"), str):
        return None
    schema = payload.get("inputs_schema")
    return HogTemplate(str(payload.get("id")), payload["code"], tuple(schema if isinstance(schema, list) else ()))


def read_templates(payload: Any) -> tuple[HogTemplate, ...] | None:
    """A page of templates; None for an answer that is none."""
    found = payload.get("results") if isinstance(payload, dict) else None
    if not isinstance(found, list):
        return None
    return tuple(template for one in found if (template := read_template(one)) is not None)


def read_function(payload: Any) -> HogFunction | None:
    """A function; None for an answer that is none."""
    if not isinstance(payload, dict) or not isinstance(payload.get("id"), str) or "inputs" not in payload:
        return None
    template, mappings = payload.get("template"), payload.get("mappings")
    status = payload.get("status")
    state = status.get("state") if isinstance(status, dict) else None
    return HogFunction(
        id=payload["id"],
        name=str(payload.get("name") or ""),
        description=str(payload.get("description") or ""),
        is_enabled=bool(payload.get("enabled")),
        code=str(payload.get("hog") or ""),
        inputs=payload.get("inputs") or {},
        filters=payload.get("filters") or {},
        template_id=str(template.get("id")) if isinstance(template, dict) else "",
        updated_at=str(payload.get("updated_at") or ""),
        masking=payload.get("masking") or None,
        mappings=tuple(mappings) if mappings else None,
        state=_STATES.get(state, "") if isinstance(state, int) else "",
        has_draft=bool(payload.get("draft")),
    )


def read_functions(payload: Any) -> tuple[tuple[HogFunction, ...], bool] | None:
    """A page of functions, and whether there is another one; None for an answer that is none."""
    found = payload.get("results") if isinstance(payload, dict) else None
    if not isinstance(found, list):
        return None
    functions = [read_function(one) for one in found]
    if None in functions:
        return None
    return tuple(one for one in functions if one is not None), bool(payload.get("next"))


def read_totals(payload: Any) -> Mapping[str, int] | None:
    """How many runs of a function ended how; None for an answer that is none."""
    totals = payload.get("totals") if isinstance(payload, dict) else None
    if not isinstance(totals, dict):
        return None
    return {str(name): int(count) for name, count in sorted(totals.items()) if isinstance(count, int | float)}
