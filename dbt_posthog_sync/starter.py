"""First texts for a project: posthog_sync.yml, and an annotation to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from dbt_posthog_sync.errors import SettingsError, UserError
from dbt_posthog_sync.manifest import Node, read_manifest
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.spelling import nearest
from dbt_posthog_sync.sync import ObjectType

_SETTINGS = """\
# Settings of dbt-posthog-sync; every key is described in docs/settings.md.
posthog:
  host: us                 # us | eu | https://your.domain
  project_api_key: {env: POSTHOG_PROJECT_API_KEY}
targets: [prod]            # the dbt targets that may send; every other one can plan, validate and mock
state_schema: posthog_sync # where the warehouse keeps what PostHog has accepted
limits:
  max_changed_percent: 50  # a run stops before sending when more of the rows changed, or
  max_removed_percent: 30  # vanished, or
  max_events: 1000000      # when it would send more events than this
"""

_KEY_NAMES = ("id", "key", "uuid")
_PERSON_NAMES = ("distinct_id", "customer_id", "user_id", "person_id", "account_id", "visitor_id")
_TIME_NAMES = ("occurred_at", "ordered_at", "created_at", "timestamp", "viewed_at", "event_at", "date")
_URL_NAMES = ("current_url", "url", "page_url")


def write_settings(path: Path) -> bool:
    """Write a first posthog_sync.yml; false when there is one, which is left as it is.

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_SETTINGS)
    except FileExistsError:
        return False
    except OSError as error:
        raise SettingsError(Problem(f"the file cannot be written: {error.strerror}.", file=str(path))) from error
    return True


def first_annotation(target_path: Path, model: str, object_name: str) -> str:
    """A first annotation for a model of the manifest; see `starter_annotation`.

    Raises:
        UserError: the manifest has no such model.
    """
    manifest = read_manifest(target_path / "manifest.json", keep=(model,))
    for node in manifest.nodes:
        if node.ref.name == model:
            return starter_annotation(node, ObjectType(object_name))
    near = nearest(model, manifest.names)
    advice = f"Did you mean `{near}`?" if near else "Name a model, snapshot or seed of the project."
    raise UserError(Problem(f"the manifest has no model `{model}`.", advice))


def starter_annotation(node: Node, object_type: ObjectType) -> str:
    """A first annotation for a model, with columns guessed from their names; to be read and mended by a person."""
    columns = [column.name for column in node.ref.columns]
    key = node.primary_key[0] if len(node.primary_key) == 1 else _guess(columns, _own_keys(node.ref.name))
    lines = [
        "models:",
        f"  - name: {node.ref.name}",
        "    config:",
        "      meta:",
        "        posthog_sync:",
        *(f"          {line}" for line in _lines(object_type, columns, key)),
    ]
    return "\n".join(lines) + "\n"


def _lines(object_type: ObjectType, columns: Sequence[str], key: str) -> list[str]:
    person = _guess(columns, _PERSON_NAMES)
    moment = _guess(columns, _TIME_NAMES)
    match object_type:
        case ObjectType.EVENT:
            return [
                "object: event",
                f"sync_key: {{event_id: {key}}}",
                f"distinct_id: {person}",
                "event: {value: something happened}",
                f"timestamp: {moment}",
                "properties: all",
            ]
        case ObjectType.PAGE:
            return [
                "object: page",
                f"sync_key: {{event_id: {key}}}",
                f"distinct_id: {person}",
                f"timestamp: {moment}",
                "properties:",
                f"  $current_url: {_guess(columns, _URL_NAMES)}",
            ]
        case ObjectType.GROUP:
            return [
                "object: group",
                "group_type: company",
                f"sync_key: {{group_key: {key}}}",
                "behavior: update_or_create",
                "properties: all",
            ]
        case ObjectType.PERSON:
            return [
                "object: person",
                f"sync_key: {{distinct_id: {key}}}",
                "behavior: update_or_create",
                "properties: all",
                "nulls: unset",
            ]


def _own_keys(model: str) -> tuple[str, ...]:
    singular = model.removesuffix("s")
    return tuple(f"{name}_{ending}" for name in (singular, model) for ending in _KEY_NAMES) + _KEY_NAMES


def _guess(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """The column whose name fits best; a name to be replaced when none does."""
    lowered = {column.lower(): column for column in columns}
    for name in wanted:
        if name in lowered:
            return lowered[name]
    near = get_close_matches(wanted[0], list(lowered), n=1)
    return lowered[near[0]] if near else wanted[0]
