"""The reference: docs/annotation.md, written from the schema so that the two never differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dbt_posthog_sync.annotation.exposure_shape import definition_names
from dbt_posthog_sync.reserved_name import reserved_names
from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, flow, load_schema, properties_of
from dbt_posthog_sync.sync import ObjectType

_INTRODUCTION = """# The annotation

<!-- Written by `annotation_reference()` from dbt_posthog_sync/annotation.schema.json; change that file instead. -->

An annotation is the `posthog_sync` block in the `config.meta` of a dbt model, snapshot, seed or source. It says which
PostHog object a row becomes and how its columns are mapped.

```yaml
models:
  - name: orders
    config:
      meta:
        posthog_sync:
          object: event
          sync_key: {event_id: order_id}
          distinct_id: customer_id
          event: {value: order completed}
          timestamp: ordered_at
          properties: all
          exclude: [card_number]
```

A plain text is the name of a column. A constant is written `{value: ...}`. `posthog_sync` may be a list of such
blocks; each then needs a `name`. What stands under `defaults` in posthog_sync.yml lies under every annotation: each
object takes the keys it knows, as far as they make sense beside what the annotation says (`create_with` reaches persons
by e-mail only), the entries of `properties`, `groups` and `cursor` are merged one by one, and anything else that the
annotation says replaces the default. `object`, `name` and `behavior` are written in each annotation.

`properties: all` sends every column but those that travel beside the properties: the distinct id, the event's name, the
`timestamp`, the e-mail address that is the sync key, and the column of `create_with`. Of a snapshot it leaves out the
columns that dbt adds; which rows of a snapshot are read, and which version of a model, is in [dbt.md](dbt.md).

What goes on to Loops is written in a `posthog_sync` block of a dbt exposure instead; see [loops.md](loops.md).

Write it under `config: {meta: ...}`: dbt 2 refuses a top-level `meta`, and dbt ignores `posthog_sync` beside the
model's name. Never write a key or token into an annotation; dbt copies it into target/manifest.json.
"""

_COLUMNS = """## One column: `columns[].config.meta.posthog_sync`

With `properties: all`, a column may say how it takes part (dbt 1.10 and later; before, write it in the column's
`meta`). Where the model lists its properties, a column annotation may only say the same.
"""


_PERSONS = """How a person is found by e-mail address, and what `update_only` and `create_with` promise, is in
[identities.md](identities.md).

`behavior: delete` deletes the persons of all rows and needs `deletion: {enabled: true}` in posthog_sync.yml. Such a
sync has no `properties`, `exclude`, `nulls`, `unset`, `shared`, `backfill`, `keep` or `create_with`; see
[deletion.md](deletion.md).

A property that leaves the annotation stays in PostHog, and `plan` says so. `unset: [its_name]` removes it from every
person that is written, which is all of them once, because the annotation changed.

Two syncs that write the same property both need `shared: true`. Nothing allows that one of them writes with `set` and
another with `set_once`, or that one removes with `unset` what another one writes: each run would undo the other's.
Names that differ by case only are different properties.
"""


def annotation_reference() -> str:
    """Return the text of docs/annotation.md."""
    columns = _section(_COLUMNS, "column_annotation")
    return "\n".join([_INTRODUCTION, *_objects(), *columns, *_reserved()])


def exposure_reference() -> str:
    """Return the tables of docs/loops.md: what the `posthog_sync` block of an exposure may say."""
    return "\n".join(line for name in definition_names() for line in _exposure(name))


def _exposure(name: str) -> Iterator[str]:
    _, kind, _, via = name.split("_")
    description = load_schema(ANNOTATION_SCHEMA)["$defs"][name]["description"]
    head = f"### `object: {kind}`, `via: {via}`\n\n{description[:1].upper()}{description[1:]}\n"
    yield from _section(head, name)


def _objects() -> Iterator[str]:
    for kind in ObjectType:
        description = load_schema(ANNOTATION_SCHEMA)["$defs"][kind.value]["description"]
        yield from _section(f"## `object: {kind.value}`\n\n{description[:1].upper()}{description[1:]}\n", kind.value)
        if kind is ObjectType.PERSON:
            yield _PERSONS


def _section(head: str, name: str) -> Iterator[str]:
    required = load_schema(ANNOTATION_SCHEMA)["$defs"][name].get("required", ())
    yield head
    yield "| key | | meaning | example |"
    yield "|---|---|---|---|"
    for key, schema in properties_of(load_schema(ANNOTATION_SCHEMA), name).items():
        need = "required" if key in required else _default(schema)
        yield f"| `{key}` | {need} | {_meaning(schema)} | {_example(key, schema)} |"
    yield ""


def _default(schema: Mapping[str, Any]) -> str:
    return f"default `{flow(schema['default'])}`" if "default" in schema else ""


def _meaning(schema: Mapping[str, Any]) -> str:
    choices = schema.get("enum", ())
    allowed = f" One of {', '.join(f'`{flow(choice)}`' for choice in choices)}." if len(choices) > 1 else ""
    return f"{schema.get('description', '')}{allowed}".replace("|", "\\|")


def _example(key: str, schema: Mapping[str, Any]) -> str:
    return "<br>".join(f"`{key}: {flow(example)}`" for example in schema.get("examples", ())).replace("|", "\\|")


def _reserved() -> Iterator[str]:
    yield "## Reserved names"
    yield ""
    yield "PostHog reads these as commands, so no column and no constant may be mapped onto them."
    for where, names in reserved_names().items():
        yield f"\n{where}:\n"
        yield from (f"- `{name}`: {reason}." for name, reason in names.items())
    yield ""
