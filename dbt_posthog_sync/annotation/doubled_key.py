"""Doubled keys: YAML that says a key of an annotation twice, of which dbt keeps the last without a word.

`properties: {plan: a, plan: b}` would send `b`, and the manifest shows no trace of `a`; so the file itself is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import json_path
from dbt_posthog_sync.secret import shown

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

_MERGE = "<<"
_PARTS_OF_A_MODEL = ("columns", "versions", "data_tests", "tests", "constraints")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the reader is: the path, the model it belongs to, and whether an annotation has begun."""

    file: str
    path: str = "$"
    model: str = ""
    key: str = ""
    is_annotation: bool = False


def doubled_keys_in(text: str, file: str) -> Iterator[Problem]:
    """Yield a problem for each key that an annotation in the text of one YAML file says again."""
    import yaml  # noqa: PLC0415  imported late: only a file that mentions an annotation needs it

    if ANNOTATION_KEY not in text:
        return
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return
    if root is not None:
        yield from _within(root, _Place(file), frozenset())


def _within(node: Node, place: _Place, outer: frozenset[int]) -> Iterator[Problem]:
    from yaml.nodes import MappingNode, SequenceNode  # noqa: PLC0415  see doubled_keys_in

    if id(node) in outer:  # an anchor that contains itself
        return
    outer |= {id(node)}
    if isinstance(node, MappingNode):
        seen = set()
        for key_node, value in node.value:
            key = str(key_node.value)
            path = json_path(place.path, (key,))
            if place.is_annotation and key in seen and key != _MERGE:
                message = f"{shown(key)} is written twice, and dbt keeps the last one only."
                yield Problem(message, "Keep one of the two.", place.model, place.file, path)
            seen.add(key)
            begun = place.is_annotation or key == ANNOTATION_KEY
            yield from _within(value, replace(place, path=path, key=key, is_annotation=begun), outer)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            name = _name(item) if isinstance(item, MappingNode) else None
            yield from _within(item, _item(place, index, name), outer)


def _item(place: _Place, index: int, name: str | None) -> _Place:
    """The place of an entry of a list: models and columns go by their names, syncs by their number."""
    if name is None or place.is_annotation:
        return replace(place, path=f"{place.path}[{index}]")
    model = place.model if place.key in _PARTS_OF_A_MODEL else name
    return replace(place, path=f"{place.path}[{name}]", model=model)


def _name(item: MappingNode) -> str | None:
    return next((str(value.value) for key, value in item.value if key.value == "name"), None)
