"""Places: annotations that are not where dbt keeps them, or that belong to a model which cannot be synced."""

from __future__ import annotations

from collections.abc import Iterator

from dbt_posthog_sync.annotation.draft import annotation_path
from dbt_posthog_sync.manifest import ColumnAnnotation, Node
from dbt_posthog_sync.manifest_file import ANNOTATION_KEY, QUERYABLE
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, Fault, definition, faults, json_path, load_schema
from dbt_posthog_sync.secret import secrets_in
from dbt_posthog_sync.spelling import listed

REMOVE_ADVICE = (
    "Remove it: dbt copies annotations in clear into target/manifest.json. Keys are read from environment variables,"
    " and this one should be replaced in the service it belongs to."
)


def misplaced(model: str, file: str, path: str) -> Problem:
    """Return the problem of an annotation in the wrong place; the path tells which place it is."""
    owner = "column" if ".columns[" in path else "exposure" if path.startswith("$.exposures[") else "model"
    place = f"beside the {owner}'s name, where dbt ignores it"
    if path.endswith(f".config.{ANNOTATION_KEY}"):
        place = "directly under `config`"
    elif path.endswith(f".+meta.{ANNOTATION_KEY}"):
        place = "under `+meta`, which dbt reads in dbt_project.yml only"
    elif path.endswith(f".meta.{ANNOTATION_KEY}"):
        place = "in the top-level `meta`, which dbt 2 refuses"
    advice = f"Move it to `config: {{meta: {{{ANNOTATION_KEY}: ...}}}}` of the same {owner}."
    return Problem(f"`{ANNOTATION_KEY}` stands {place}.", advice, model, file, path)


def node_problems(node: Node) -> Iterator[Problem]:
    """Yield what is wrong with a node or with the place of its annotation."""
    ref = node.ref
    for place in node.misplaced:
        yield misplaced(ref.name, ref.file, f"{node.location}.{place}.{ANNOTATION_KEY}")
    for key in node.misspelled:
        path = json_path(f"{node.location}.config.meta", (key,))
        yield Problem(f"unknown key `{key}`.", f"Did you mean `{ANNOTATION_KEY}`?", ref.name, ref.file, path)
    if node.is_annotated:
        yield from _unsuited(node)
        yield from _secrets(node, node.annotation, annotation_path(node))
    elif node.column_annotations and not node.misplaced and not node.misspelled:
        message = "columns are annotated, but the model is not."
        advice = f"Give the model `config: {{meta: {{{ANNOTATION_KEY}: ...}}}}` too, with `properties: all`."
        yield Problem(message, advice, ref.name, ref.file, annotation_path(node))


def _unsuited(node: Node) -> Iterator[Problem]:
    ref, path = node.ref, annotation_path(node)
    if ref.resource_type not in QUERYABLE:
        message = f"this is a dbt {ref.resource_type}, which has no rows to sync."
        yield Problem(message, f"Annotate a {listed(QUERYABLE, 'or')}.", ref.name, ref.file, path)
    elif node.is_disabled:
        advice = "Enable the model, or remove its annotation."
        yield Problem("the annotated model is disabled in dbt.", advice, ref.name, ref.file, path)
    elif node.is_ephemeral:
        advice = "Materialize it as a table, view or incremental model."
        message = "the annotated model is ephemeral, so there is no relation to read."
        yield Problem(message, advice, ref.name, ref.file, path)
    elif not ref.relation_name:
        advice = "Run `dbt parse` again with a dbt version that writes `relation_name`."
        yield Problem("the manifest does not name the model's relation.", advice, ref.name, ref.file, path)


def column_faults(annotation: ColumnAnnotation) -> tuple[Fault, ...]:
    """Return every departure of a column's annotation from its schema."""
    return faults(definition(load_schema(ANNOTATION_SCHEMA), "column_annotation"), annotation.value)


def column_problems(node: Node, annotation: ColumnAnnotation) -> Iterator[Problem]:
    """Yield what is wrong with the annotation of one column."""
    base = f"{node.location}.columns[{annotation.column}].config.meta.{ANNOTATION_KEY}"
    for fault in column_faults(annotation):
        yield Problem(fault.message, fault.advice, node.ref.name, node.ref.file, json_path(base, fault.steps))
    yield from _secrets(node, annotation.value, base)


def _secrets(node: Node, value: object, base: str) -> Iterator[Problem]:
    for steps in secrets_in(value):
        message = "this looks like a secret."
        yield Problem(message, REMOVE_ADVICE, node.ref.name, node.ref.file, json_path(base, steps))
