"""The editor schema: what editors complete and check in dbt's own YAML files, made from the schema of annotations.

Editors read draft 7 of JSON Schema best, in which nothing counts beside a `$ref`; the schema of annotations is in
a later draft. Whatever else stands in the files is dbt's business and passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, load_schema

_Json: TypeAlias = dict[str, Any]

_KEY = "posthog_sync"
_OBJECTS = ("event", "person", "page", "group")
_MOVE = f"Move it to `config: {{meta: {{{_KEY}: ...}}}}`: "
_BESIDE = "here dbt ignores it."
_CONFIG = "directly under `config` it is no annotation."
_PLUS = "dbt reads `+meta` in dbt_project.yml only."
_TOP = "dbt 2 refuses a top-level `meta`."
_SPELLING = f"The key is `{_KEY}`."
_MISSPELLED = f"^(?!{_KEY}$)[Pp]ost[Hh]og[-_ ]?[Ss]yncs?$"
_ROWLESS = "Only models, snapshots, seeds and tables of sources have rows that can be sent."


def editor_schema(defaults: Collection[str] = ()) -> _Json:
    """Return the JSON Schema of a dbt YAML file, as far as annotations go.

    Args:
        defaults: keys that posthog_sync.yml gives to every annotation, so that none has to write them.
    """
    source = load_schema(ANNOTATION_SCHEMA)
    definitions = {name: _converted(inner) for name, inner in source["$defs"].items()}
    for name in _OBJECTS:
        _relax(definitions[name], frozenset(defaults))
    annotation = {key: source[key] for key in ("title", "description", "anyOf")}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "posthog_sync in dbt's YAML files",
        "type": "object",
        "properties": dict(_sections()),
        "definitions": {**definitions, "annotation": _converted(annotation), **_places()},
    }


def _sections() -> Iterator[tuple[str, _Json]]:
    for name in ("models", "snapshots", "seeds"):
        yield name, _list("dbt_node")
    yield "sources", {"type": "array", "items": {"type": "object", "properties": {"tables": _list("dbt_node")}}}
    yield "exposures", _list("dbt_exposure")
    for name in ("analyses", "macros"):
        yield name, _list("dbt_rowless")


def _places() -> _Json:
    """Where an annotation may stand in the entry of a node or a column, and where it is often put by mistake."""
    return {
        "dbt_node": _entry(
            "annotation",
            columns=_list("dbt_column"),
            versions=_list("dbt_version"),
            meta=_keys({_KEY: _never(_MOVE + _TOP)}),
        ),
        "dbt_version": _entry("annotation", columns=_list("dbt_column")),
        # dbt before 1.10 keeps the annotation of a column in its `meta` only.
        "dbt_column": _entry("column_annotation", meta=_keys({_KEY: _reference("column_annotation")})),
        # dbt before 1.10 keeps what an exposure says in its `meta` only.
        "dbt_exposure": _entry("exposure", meta=_keys({_KEY: _reference("exposure")})),
        "dbt_rowless": _keys(
            {
                "meta": _keys({_KEY: _never(_ROWLESS)}),
                "config": _keys({"meta": _keys({_KEY: _never(_ROWLESS)})}),
            }
        ),
    }


def _entry(annotation: str, **more: _Json) -> _Json:
    config = {
        "meta": {**_keys({_KEY: _reference(annotation)}), "patternProperties": {_MISSPELLED: _never(_SPELLING)}},
        "+meta": _keys({_KEY: _never(_MOVE + _PLUS)}),
        _KEY: _never(_MOVE + _CONFIG),
    }
    return _keys({"config": _keys(config), _KEY: _never(_MOVE + _BESIDE), **more})


def _keys(properties: _Json) -> _Json:
    return {"type": "object", "properties": properties}


def _list(name: str) -> _Json:
    return {"type": "array", "items": _reference(name)}


def _reference(name: str) -> _Json:
    return {"$ref": f"#/definitions/{name}"}


def _never(why: str) -> _Json:
    """What must not be there: every editor tells an `enum` by its values, so the advice is the only value allowed."""
    return {"enum": [why], "description": why, "errorMessage": why, "doNotSuggest": True}


def _converted(schema: Any) -> Any:
    """Return a subschema in draft 7."""
    if isinstance(schema, list):
        return [_converted(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: _converted(value) for key, value in schema.items()}
    reference = inner.pop("$ref", None)
    if reference is None:
        return inner
    target = {"$ref": str(reference).replace("#/$defs/", "#/definitions/")}
    return {**inner, "allOf": [target]} if inner else target


def _relax(schema: _Json, given: Collection[str]) -> None:
    """Take what is given already out of the keys that must be written, conditions left alone."""
    if "required" in schema:
        schema["required"] = [key for key in schema["required"] if key not in given]
    for branch in ("then", "else"):
        if branch in schema:
            _relax(schema[branch], given)
