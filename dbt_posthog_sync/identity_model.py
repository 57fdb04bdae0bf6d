"""The identity model: the dbt model with PostHog's export of persons, as the settings name and the manifest has it."""

from __future__ import annotations

from dbt_posthog_sync.manifest import Manifest, Node
from dbt_posthog_sync.manifest_file import QUERYABLE
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import shown
from dbt_posthog_sync.settings import SETTINGS_FILE, Identities
from dbt_posthog_sync.spelling import listed, nearest
from dbt_posthog_sync.sync import ModelRef

_PATH = "$.identities.model"


def kept_names(identities: Identities) -> tuple[str, ...]:
    """What `read_manifest` has to keep so that the model can be found: tables of sources go by their own name there."""
    if identities.model is None:
        return ()
    head, _, tail = identities.model.partition(".")
    return (identities.model, head, tail) if tail else (identities.model,)


def identity_model(manifest: Manifest, identities: Identities) -> tuple[ModelRef | None, tuple[Problem, ...]]:
    """Return the model that the settings name, or what is wrong with it; neither where they name none."""
    if identities.model is None:
        return None, ()
    found = _found(manifest, identities.model)
    match found:
        case []:
            return None, (_unknown(manifest, identities.model),)
        case [node]:
            problem = _unsuited(node, identities.model)
            return (None, (problem,)) if problem else (node.ref, ())
        case several:
            names = listed((node.dbt_names[-1] for node in several), "or")
            message = f"several dbt nodes are called {shown(identities.model)}."
            if len({node.dbt_names[-1] for node in several}) < len(several):
                return None, (_problem(message, "Give one of them another name."),)
            return None, (_problem(message, f"Write {names}."),)


def _found(manifest: Manifest, name: str) -> list[Node]:
    """Return the nodes of the name; as dbt does it, one that is enabled and one of the own project comes first."""
    nodes = [node for node in manifest.nodes if node.ref.resource_type in QUERYABLE and name in node.dbt_names]
    nodes = [node for node in nodes if not node.is_disabled] or nodes
    return [node for node in nodes if node.ref.package == manifest.project_name] or nodes


def _unknown(manifest: Manifest, name: str) -> Problem:
    full = {table.partition(".")[2]: table for table in manifest.sources}
    models = [one for one in manifest.names if one not in full]
    near = full.get(name) or nearest(name, [*models, *manifest.sources, *full])
    advice = "Name a model, snapshot or seed, or a source as `source_name.table_name`."
    if near is not None:
        advice = f"Did you mean `{full.get(near, near)}`?"
    return _problem(f"the manifest has no model {shown(name)}.", advice)


def _unsuited(node: Node, name: str) -> Problem | None:
    if node.is_disabled:
        return _problem(f"the model {shown(name)} is disabled in dbt.", "Enable it, or name another one.")
    if node.is_ephemeral:
        message = f"the model {shown(name)} is ephemeral, so there is no relation to read."
        return _problem(message, "Materialize it as a table, view or incremental model.")
    if not node.ref.relation_name:
        message = f"the manifest does not name the relation of {shown(name)}."
        return _problem(message, "Run `dbt parse` again with a dbt version that writes `relation_name`.")
    return None


def _problem(message: str, advice: str) -> Problem:
    return Problem(message, advice, file=SETTINGS_FILE, path=_PATH)
