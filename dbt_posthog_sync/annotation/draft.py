"""A draft: one annotation as it was written, with the defaults under it, before it is known to be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dbt_posthog_sync.manifest import Node
from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, Steps, json_path, load_schema, properties_of
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import Behavior, ObjectType

SETTINGS_FILE = "posthog_sync.yml"

NEVER_CREATES = (Behavior.UPDATE_ONLY.value, Behavior.DELETE.value)
NOT_OF_DELETE: Mapping[str, str] = {
    "properties": "a deleted person has no properties",
    "exclude": "a deleted person has no properties, so there is none to leave out",
    "nulls": "a deleted person has no properties that a null could mean something for",
    "unset": "a deleted person has no properties left to remove",
    "shared": "a deleted person has no properties to share",
    "backfill": "every row of the model is a person to delete, also those of the first run",
    "keep": "whom to delete is decided by a run, and by no build",
}
"""Keys that say nothing where persons are deleted, with the reason."""

# Keys whose entries are merged one by one. Every other key of an annotation replaces the default as a whole, because
# half of one choice and half of another (`{event_id: a}` under `{distinct_id: b}`) is neither.
_MERGED_BY_ENTRY = ("properties", "groups", "cursor")
# What decides about rows, one sync at a time; no behavior belongs to every object, and `rows` to snapshots only.
_NEVER_A_DEFAULT = ("object", "name", "behavior", "rows")


@dataclass(frozen=True, slots=True)
class Draft:
    """One annotation of one node.

    Attributes:
        node: where it was found.
        own: the annotation as it was written.
        value: the annotation with the defaults under it; empty when `own` is no mapping.
        steps: the place in a list of syncs, or nothing.
        defaults: the defaults, to tell whose fault a value is.
    """

    node: Node
    own: object
    value: Mapping[str, Any]
    steps: Steps = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def object(self) -> ObjectType | None:
        """The object it names, or None when it names none we know."""
        named = self.value.get("object")
        return ObjectType(named) if isinstance(named, str) and named in object_names() else None

    @property
    def name(self) -> str:
        """Name of the sync: its own, else the model's."""
        named = self.value.get("name")
        return named if isinstance(named, str) and named else self.node.default_sync_name

    def problem(self, steps: Steps, message: str, advice: str = "") -> Problem:
        """Return a problem at a place of this annotation, or of the defaults if the value came from there."""
        if steps and not _exists(self.own, steps) and _exists(self.defaults, steps):
            return Problem(message, advice, file=SETTINGS_FILE, path=json_path("$.defaults", steps))
        return Problem(
            message, advice, model=self.node.ref.name, file=self.node.ref.file, path=json_path(self.path, steps)
        )

    @property
    def path(self) -> str:
        """JSON path of the annotation in its file."""
        return json_path(annotation_path(self.node), self.steps)


def annotation_path(node: Node) -> str:
    """Return the JSON path of a node's annotation."""
    return f"{node.location}.config.meta.{ANNOTATION_KEY}"


def object_names() -> tuple[str, ...]:
    """Return the objects an annotation may name."""
    return tuple(kind.value for kind in ObjectType)


def keys_of(kind: ObjectType) -> Mapping[str, Any]:
    """Return the keys that an annotation of this object knows, with the schema of each."""
    return properties_of(load_schema(ANNOTATION_SCHEMA), kind.value)


def drafts_of(node: Node, defaults: Mapping[str, Any]) -> Iterator[Draft]:
    """Yield a draft for each sync of an annotated node."""
    if isinstance(node.annotation, list) and node.annotation:
        for place, own in enumerate(node.annotation):
            yield Draft(node, own, with_defaults(own, defaults), (place,), defaults)
    else:
        yield Draft(node, node.annotation, with_defaults(node.annotation, defaults), (), defaults)


def with_defaults(own: object, defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an annotation with the defaults under it, of which only those count that its object knows."""
    if not isinstance(own, Mapping):
        return {}
    merged = {str(key): value for key, value in own.items()}
    kind = merged.get("object")
    if not isinstance(kind, str) or kind not in object_names():
        return merged
    known = keys_of(ObjectType(kind))
    for key, default in defaults.items():
        if key in known and key not in _NEVER_A_DEFAULT:
            merged[key] = _merged(key, merged[key], default) if key in merged else default
    for key in _unfitting(merged):
        if key not in own:
            merged.pop(key, None)
    return merged


def _unfitting(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that make no sense beside the others: as a default, such a key is meant for other annotations."""
    if value.get("properties") != "all":
        yield "exclude"
    key = value.get("sync_key")
    if not isinstance(key, Mapping) or "email" not in key:
        yield from ("on_several", "create_with")
    if value.get("behavior") in NEVER_CREATES:
        yield "create_with"
    if value.get("behavior") == Behavior.DELETE.value:
        yield from NOT_OF_DELETE


def defaults_problems(defaults: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each default that no object knows."""
    known = {key for kind in ObjectType for key in keys_of(kind)} - set(_NEVER_A_DEFAULT)
    for key in defaults:
        if key not in known:
            yield unknown_default(str(key), sorted(known))


def unknown_default(key: str, known: list[str]) -> Problem:
    """Return the problem of a key that cannot be a default."""
    advice = did_you_mean(key, known) or f"Defaults may be given for {listed(known)}."
    if key in _NEVER_A_DEFAULT:
        advice = "Write it in each annotation."
    return Problem(
        f"{shown(key)} cannot be a default.", advice, file=SETTINGS_FILE, path=json_path("$.defaults", (key,))
    )


def _merged(key: str, own: object, default: object) -> object:
    if key in _MERGED_BY_ENTRY and isinstance(own, Mapping) and isinstance(default, Mapping):
        return {**default, **own}
    return own


def _exists(value: object, steps: Steps) -> bool:
    for step in steps:
        is_key = isinstance(value, Mapping) and step in value
        is_place = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if not (is_key or is_place):
            return False
        value = value[step]  # type: ignore[index]
    return True
