"""JSON Schema: loads the schemas that ship with the program and says in plain words where a value departs from one.

The schemas carry two words of their own, which other tools ignore: `x-form` says in words what a value must be, and
`examples` give what to write instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dbt_posthog_sync.secret import is_secret_name, looks_secret, masked, shown
from dbt_posthog_sync.spelling import did_you_mean, listed

if TYPE_CHECKING:
    from jsonschema import ValidationError

ANNOTATION_SCHEMA = "annotation.schema.json"
SETTINGS_SCHEMA = "settings.schema.json"

Steps: TypeAlias = tuple[str | int, ...]
Schema: TypeAlias = Mapping[str, Any]

_KINDS = {list: "a list", type(None): "empty"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One departure from a schema.

    Attributes:
        steps: where it is, from the checked value on.
        message: what is wrong.
        advice: what to write instead; may be empty.
        keyword: the schema keyword that found it, such as `required`.
        key: the missing or unknown key, if the fault is about one.
    """

    steps: Steps
    message: str
    advice: str = ""
    keyword: str = ""
    key: str = ""


@cache
def load_schema(name: str) -> Schema:
    """Return a schema that ships with the program; do not change it."""
    schema: Schema = json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return schema


def definition(schema: Schema, name: str) -> Schema:
    """Return the schema of one of `$defs`, able to stand alone."""
    return {"$defs": schema["$defs"], "$ref": f"#/$defs/{name}"}


def properties_of(schema: Schema, name: str) -> Schema:
    """Return the keys that one of `$defs` knows, each with its own schema, references resolved."""
    return {key: resolved(schema, inner) for key, inner in schema["$defs"][name]["properties"].items()}


def resolved(schema: Schema, inner: Schema) -> Schema:
    """Follow the reference of a subschema; words beside the reference win over those behind it."""
    reference = inner.get("$ref")
    if reference is None:
        return inner
    target: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        target = target[step]
    beside = {key: value for key, value in inner.items() if key != "$ref"}
    return {**resolved(schema, target), **beside}


def faults(schema: Schema, value: object) -> tuple[Fault, ...]:
    """Return every departure of a value from a schema, in the order of the value's own keys."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415  imported late: costs a tenth of a second

    found = [fault for error in Draft202012Validator(schema).iter_errors(value) for fault in _told(schema, error)]
    return tuple(sorted(dict.fromkeys(found), key=lambda fault: _place(value, fault.steps)))


def _place(value: Any, steps: Steps) -> tuple[int, ...]:
    """Return the position of a step path in the order in which the value was written."""
    places = []
    for step in steps:
        keys = list(value) if isinstance(value, Mapping) else list(range(len(value)))
        places.append(keys.index(step) if step in keys else len(keys))
        value = value[step] if step in keys else ()
    return tuple(places)


def example_of(key: str, schema: Schema) -> str:
    """Return `key: example` as YAML writes it, or an empty text when the schema has no example."""
    examples = schema.get("examples")
    return f"{key}: {flow(examples[0])}" if examples else ""


def flow(value: object) -> str:
    """Return a value as YAML writes it on one line."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
        case str():
            return value
        case Sequence():
            return "[" + ", ".join(flow(inner) for inner in value) + "]"
        case _:
            return json.dumps(value)


def json_path(base: str, steps: Steps) -> str:
    """Return a JSON path below `base`; keys that are no plain words are quoted, secrets among them masked."""
    return base + "".join(_step(step) for step in steps)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if looks_secret(step):
        step = masked(step)
    return f".{step}" if step.replace("_", "a").isalnum() else f"['{step}']"


def _told(root: Schema, error: ValidationError) -> Iterator[Fault]:
    """Yield the faults of one error; of alternatives, those of the branch that the value was meant to be."""
    if error.validator == "anyOf":
        branch = _meant_branch(error)
        if not branch:
            yield _fault(error, f"{_name(error)} must be {_form(error)}, not {_kind(error)}.", _advice(error))
        for inner in branch:
            yield from _told(root, inner)
    elif error.validator == "additionalProperties":
        yield from _unknown_keys(error)
    else:
        yield _one(root, error)


def _meant_branch(error: ValidationError) -> list[ValidationError]:
    """Return the errors of the one alternative whose kind fits the value; empty when none or several do.

    An alternative is ruled out by an error about the whole value (its type, a constant, a missing key that decides).
    """
    branches: dict[object, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    open_branches = [errors for errors in branches.values() if not any(_rules_out(inner) for inner in errors)]
    return open_branches[0] if len(open_branches) == 1 else []


def _rules_out(error: ValidationError) -> bool:
    if error.relative_path and error.parent is not None:
        return False
    if error.validator == "required":
        return isinstance(error.instance, Mapping) and _deciding_key(error) not in error.instance
    return error.validator in ("type", "const", "enum")


def _deciding_key(error: ValidationError) -> object:
    return _limit(error)[0]


def _unknown_keys(error: ValidationError) -> Iterator[Fault]:
    known = list(_schema(error).get("properties", {}))
    for key in _value(error):
        if key in known:
            continue
        shown_key = shown(str(key))
        advice = did_you_mean(str(key), known) or f"Known here: {listed(known)}."
        yield _fault(error, f"unknown key {shown_key}.", advice, step=str(key), key=str(key))


def _one(root: Schema, error: ValidationError) -> Fault:
    name, value, limit = _name(error), _value(error), _limit(error)
    match error.validator:
        case "required":
            return _missing(root, error)
        case "enum" | "const":
            allowed = [flow(choice) for choice in (limit if error.validator == "enum" else [limit])]
            hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
            return _fault(error, f"{name} must be {listed(allowed, 'or')}, not {shown(value)}.", hint)
        case "type":
            return _fault(error, f"{name} must be {_form(error)}, not {_kind(error)}.", _advice(error))
        case "pattern":
            if not str(value).strip():
                return _fault(error, f"{name} is empty.", _advice(error))
            return _fault(error, f"{name} must be {_form(error)}, not {shown(value)}.", _advice(error))
        case _:
            return _fault(error, _limit_message(error, name), _advice(error))


def _limit_message(error: ValidationError, name: str) -> str:
    value, limit = _value(error), _limit(error)
    if error.validator == "uniqueItems":
        twice = [item for place, item in enumerate(value) if item in value[:place]]
        return f"{name} lists {shown(twice[0])} more than once."
    if error.validator in ("minItems", "minProperties"):
        return f"{name} is empty."
    if error.validator in ("maxItems", "maxProperties"):
        return f"{name} has {len(value)} entries; at most {limit} are allowed."
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
    if error.validator in words:
        return f"{name} must be {words[str(error.validator)]} {limit}, not {value}."
    if error.validator == "maxLength":
        return f"{name} is longer than {limit} characters."
    return f"{name} is not valid ({error.validator})."


def _missing(root: Schema, error: ValidationError) -> Fault:
    key = next(key for key in _limit(error) if key not in _value(error) and repr(key) in error.message)
    known = _schema(error).get("properties", {})
    inner = resolved(root, known[key]) if key in known else {}
    example = example_of(key, inner)
    return _fault(error, f"`{key}` is missing.", f"Write, for example, `{example}`." if example else "", key=key)


def _advice(error: ValidationError) -> str:
    key = _last_key(error)
    example = example_of(key, _schema(error)) if key else ""
    return f"Write, for example, `{example}`." if example else ""


def _fault(error: ValidationError, message: str, advice: str = "", *, step: str | None = None, key: str = "") -> Fault:
    steps = (*error.absolute_path, *(() if step is None else (step,)))
    return Fault(tuple(steps), message, advice, str(error.validator), key)


def _last_key(error: ValidationError) -> str:
    return next((step for step in reversed(error.absolute_path) if isinstance(step, str)), "")


def _name(error: ValidationError) -> str:
    key = _last_key(error)
    if "propertyNames" in error.schema_path:
        return f"a name in {shown(key)}"
    is_item = bool(error.absolute_path) and isinstance(error.absolute_path[-1], int)
    named = shown(key) if key else "the value"
    return f"an entry of {named}" if is_item else named


def _form(error: ValidationError) -> str:
    form = _schema(error).get("x-form")
    if form:
        return str(form)
    types = _schema(error).get("type", "valid")
    words = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number"}
    return " or ".join(words.get(kind, kind) for kind in ([types] if isinstance(types, str) else types))


def _kind(error: ValidationError) -> str:
    """Return what a value is, for `must be ..., not ...`; a value under a name such as `api_key` is never shown."""
    value = _value(error)
    if isinstance(value, str) and is_secret_name(_last_key(error)):
        return f"`{masked(value)}`"
    if isinstance(value, Mapping):
        return f"a mapping with {listed(shown(str(key)).strip('`') for key in value)}" if value else "an empty mapping"
    return _KINDS.get(type(value)) or shown(value)


def _value(error: ValidationError) -> Any:
    return error.instance


def _limit(error: ValidationError) -> Any:
    return error.validator_value


def _schema(error: ValidationError) -> Schema:
    return error.schema if isinstance(error.schema, Mapping) else {}
