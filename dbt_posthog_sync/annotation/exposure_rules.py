"""Rules of exposures: what a schema cannot say about one of them. Each is a function from an asking to problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.annotation.exposure_reading import columns_named, names_and_sources
from dbt_posthog_sync.annotation.reading import truth
from dbt_posthog_sync.annotation.rules import time_zone_advice
from dbt_posthog_sync.exposure import Via
from dbt_posthog_sync.exposure_node import ExposureNode
from dbt_posthog_sync.manifest import Node
from dbt_posthog_sync.manifest_file import QUERYABLE
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import LoopsObject

_OWN_KEYS: Mapping[str, str] = {
    "email": "the address is named by `email`",
    "userId": "the id is named by `user_id`",
    "mailingLists": "mailing lists are named by `mailing_lists`",
    "eventName": "the name of an event is not a contact property",
    "eventProperties": "properties of an event are not contact properties",
}
"""Top-level keys of Loops' requests that no contact property may take (loops.so/docs/api-reference)."""

_DEFAULT_NAMES = ("firstName", "lastName", "userGroup", "source", "subscribed", "notes")
"""Properties that every contact of Loops has (loops.so/docs/contacts/properties); Loops knows them so spelled only."""

_COMPARES_WITH_NOTHING = ("is_set", "is_not_set")


@dataclass(frozen=True, slots=True)
class Asking:
    """One exposure's annotation without its faulty places, and the nodes it may read.

    Attributes:
        node: the exposure.
        value: the annotation.
        models: the nodes it depends on that the manifest has.
    """

    node: ExposureNode
    value: Mapping[str, Any]
    models: Sequence[Node]

    @property
    def is_direct(self) -> bool:
        """True when this program is to send the rows."""
        return self.value.get("via") == Via.DIRECT.value

    @property
    def is_of_contacts(self) -> bool:
        """True when contacts are meant."""
        return self.value.get("object") == LoopsObject.CONTACTS.value

    @property
    def model(self) -> Node | None:
        """The model whose rows are sent; None where it is not clear which."""
        named = self.value.get("model")
        meant = [one for one in self.models if named in (None, one.ref.name)]
        return meant[0] if len(meant) == 1 else None


def exposure_rule_problems(asking: Asking) -> Iterator[Problem]:
    """Yield every problem of an exposure that its schema does not see."""
    for rule in _RULES:
        yield from rule(asking)


def _models(asking: Asking) -> Iterator[Problem]:
    problem = asking.node.problem
    names = [one.ref.name for one in asking.models]
    named = asking.value.get("model")
    if not asking.models:
        message = "the exposure depends on no model, so there are no rows to hand on."
        yield problem((), message, "Write `depends_on: [ref('...')]` beside its name.")
    elif not asking.is_direct:
        return
    elif isinstance(named, str) and named not in names:
        advice = did_you_mean(named, names) or f"It depends on {listed(names)}."
        yield problem(("model",), f"the exposure does not depend on {shown(named)}.", advice)
    elif asking.model is None:
        message = f"the exposure depends on {listed(names)}, and `model` does not say whose rows are sent."
        yield problem((), message, f"Write, for example, `model: {names[0]}`.")
    elif reason := _unsuited(asking.model):
        yield problem(("model",) if named else (), *reason)


def _unsuited(node: Node) -> tuple[str, str] | None:
    name = shown(node.ref.name)
    if node.ref.resource_type not in QUERYABLE:
        return f"{name} is a dbt {node.ref.resource_type}, which has no rows.", f"Name a {listed(QUERYABLE, 'or')}."
    if node.is_disabled:
        return f"the model {name} is disabled in dbt.", "Enable it, or name another one."
    if node.is_ephemeral:
        message = f"the model {name} is ephemeral, so there is no relation to read."
        return message, "Materialize it as a table, view or incremental model."
    if not node.ref.relation_name:
        message = f"the manifest does not name the relation of {name}."
        return message, "Run `dbt parse` again with a dbt version that writes `relation_name`."
    return None


def _own_keys(asking: Asking) -> Iterator[Problem]:
    """Properties of a contact stand at the top level of a request, beside Loops' own keys."""
    if not asking.is_of_contacts:
        return
    forms = {name.lower(): name for name in (*_OWN_KEYS, *_DEFAULT_NAMES)}
    for steps, name, _ in names_and_sources(asking.value.get("properties")):
        meant = forms.get(name.replace("_", "").lower())
        if meant is None:
            continue
        if meant in _OWN_KEYS:
            message = f"the contact property {shown(name)} is Loops' own: {_OWN_KEYS[meant]}."
            yield asking.node.problem(steps, message, "Leave it out of `properties`.")
        elif meant != name:
            message = f"Loops has no contact property {shown(name)} of its own; it calls it `{meant}`."
            yield asking.node.problem(steps, message, f"Write `{meant}: {name}`, or choose another name.")


def _constants(asking: Asking) -> Iterator[Problem]:
    for steps, _, source in names_and_sources(asking.value.get("properties")):
        value = source.get("value") if isinstance(source, Mapping) else None
        if isinstance(value, float) and not math.isfinite(value):
            message = "JSON has no infinity and no not-a-number."
            yield asking.node.problem((*steps, "value"), message, "Write a number.")


def _contact_of_event(asking: Asking) -> Iterator[Problem]:
    if asking.is_direct and not asking.is_of_contacts and not {"email", "user_id"} & set(asking.value):
        message = "an event needs `email` or `user_id`: whom it happened to."
        yield asking.node.problem((), message, "Write, for example, `email: email`.")


def _exclude_without_all(asking: Asking) -> Iterator[Problem]:
    if "exclude" in asking.value and not truth(asking.value.get("include_all_properties", False)):
        message = "`exclude` goes with `include_all_properties: true` only."
        yield asking.node.problem(("exclude",), message, "Remove it; only what `properties` says is sent.")


def _filters(asking: Asking) -> Iterator[Problem]:
    filters = asking.value.get("filters")
    if not isinstance(filters, Mapping):
        return
    yield from _conditions(asking, ("filters",), filters)
    events = filters.get("events")
    for place, event in enumerate(events if isinstance(events, list) else ()):
        if isinstance(event, Mapping):
            yield from _conditions(asking, ("filters", "events", place), event)


def _conditions(asking: Asking, base: tuple[str | int, ...], holder: Mapping[str, Any]) -> Iterator[Problem]:
    conditions = holder.get("properties")
    for place, one in enumerate(conditions if isinstance(conditions, list) else ()):
        if not isinstance(one, Mapping):
            continue
        needs_none = one.get("operator") in _COMPARES_WITH_NOTHING
        steps = (*base, "properties", place)
        if needs_none and one.get("value") is not None:
            message = f"`operator: {one['operator']}` compares with nothing."
            yield asking.node.problem((*steps, "value"), message, "Remove the value.")
        elif not needs_none and one.get("value") is None:
            message = f"the filter by {shown(one.get('key', ''))} has no `value` to compare with."
            yield asking.node.problem(steps, message, "Write `value`, or `operator: is_set`.")


def _time_zone(asking: Asking) -> Iterator[Problem]:
    name = asking.value.get("time_zone")
    advice = time_zone_advice(name) if isinstance(name, str) else None
    if advice is not None:
        yield asking.node.problem(("time_zone",), f"there is no time zone {shown(name)}.", advice)


def _undeclared_columns(asking: Asking) -> Iterator[Problem]:
    """An enforced contract lists every column; without one the warehouse is asked later."""
    node = asking.model if asking.is_direct else None
    if node is None or not node.has_contract:
        return
    declared = [column.name for column in node.ref.columns]
    lowered = {name.lower() for name in declared}
    for steps, column in columns_named(asking.value):
        if column.lower() not in lowered:
            advice = did_you_mean(column, declared) or f"Its columns are {listed(declared)}."
            message = f"the model {shown(node.ref.name)} has no column {shown(column)} in its contract."
            yield asking.node.problem(steps, message, advice)


_RULES: tuple[Callable[[Asking], Iterator[Problem]], ...] = (
    _models,
    _own_keys,
    _constants,
    _contact_of_event,
    _exclude_without_all,
    _filters,
    _time_zone,
    _undeclared_columns,
)
