"""Annotations: from what users wrote in `config.meta.posthog_sync` to syncs, or to every problem at once.

The parts, in the order a fault meets them: `places` (is it where it belongs), `draft` (with the defaults under it),
`shape` (does it follow the schema), `rules` and `person_rules` (what a schema cannot say), `reading` (the `Sync`),
`clashes` (between syncs). `property_file` looks into the YAML itself for what dbt drops without a word, `doubled_key`
for keys that stand there twice. `exposures` and the modules named after it do the same for dbt's exposures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dbt_posthog_sync.annotation.clashes import name_clashes, person_clash_problems, too_many_group_types
from dbt_posthog_sync.annotation.draft import Draft, defaults_problems, drafts_of
from dbt_posthog_sync.annotation.exposures import check_exposures
from dbt_posthog_sync.annotation.person_rules import deletion_problems
from dbt_posthog_sync.annotation.places import column_faults, column_problems, node_problems
from dbt_posthog_sync.annotation.reading import sync_from
from dbt_posthog_sync.annotation.rules import rule_problems
from dbt_posthog_sync.annotation.shape import shape_faults, without
from dbt_posthog_sync.annotation.versions import synced_nodes
from dbt_posthog_sync.errors import AnnotationError
from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.manifest import Manifest, Node
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.sync import Sync

__all__ = ["Annotations", "check_annotations", "syncs_from"]


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the annotations of a project come to.

    Attributes:
        syncs: the syncs of the annotations in which nothing is wrong by itself, in the manifest's order, and behind
            them those of direct exposures.
        problems: everything that is wrong, in the same order; problems between syncs come behind them, and those of
            exposures last.
        exposures: the exposures in which nothing is wrong by itself.
    """

    syncs: tuple[Sync, ...]
    problems: tuple[Problem, ...]
    exposures: tuple[Exposure, ...] = ()


@dataclass(frozen=True, slots=True)
class _Checked:
    """A draft without its faulty places, and its problems; `sync` is there when the shape is right."""

    draft: Draft
    problems: tuple[Problem, ...]
    sync: Sync | None


def syncs_from(
    manifest: Manifest,
    defaults: Mapping[str, Any] | None = None,
    *,
    found: Iterable[Problem] = (),
    may_delete: bool = False,
) -> tuple[Sync, ...]:
    """Return the syncs of all annotated models.

    Args:
        manifest: the dbt manifest.
        defaults: the `defaults` of posthog_sync.yml, which lie under every annotation.
        found: problems found elsewhere, such as those of `property_file`, to be reported with the rest.
        may_delete: true when posthog_sync.yml allows syncs to delete persons.

    Raises:
        AnnotationError: with all problems of all models.
    """
    annotations = check_annotations(manifest, defaults, found=found, may_delete=may_delete)
    if annotations.problems:
        raise AnnotationError(*annotations.problems)
    return annotations.syncs


def check_annotations(
    manifest: Manifest,
    defaults: Mapping[str, Any] | None = None,
    *,
    found: Iterable[Problem] = (),
    may_delete: bool = False,
) -> Annotations:
    """Return the syncs that are right and the problems of those that are not; see `syncs_from`."""
    defaults = defaults or {}
    problems = [*defaults_problems(defaults), *found]
    checked = []
    for node in synced_nodes(manifest.nodes):
        at_node = tuple(_node_problems(node))
        problems += at_node
        for draft in _drafts(node, defaults):
            forbidden = () if may_delete else tuple(deletion_problems(draft))
            one = _check(draft, manifest.project_name)
            one = replace(one, problems=(*one.problems, *forbidden))
            problems += one.problems
            checked.append(replace(one, problems=(*at_node, *one.problems)))
    problems += _between(checked)
    right = tuple(one.sync for one in checked if one.sync is not None and not one.problems)
    exposed = check_exposures(manifest, right)
    direct = tuple(one.sync for one in exposed.exposures if one.sync is not None)
    return Annotations((*right, *direct), tuple(dict.fromkeys((*problems, *exposed.problems))), exposed.exposures)


def _node_problems(node: Node) -> Iterator[Problem]:
    yield from node_problems(node)
    for annotation in node.column_annotations:
        yield from column_problems(node, annotation)


def _drafts(node: Node, defaults: Mapping[str, Any]) -> Iterator[Draft]:
    if node.is_annotated:
        sound = tuple(one for one in node.column_annotations if not column_faults(one))
        yield from drafts_of(replace(node, column_annotations=sound), defaults)


def _check(draft: Draft, project: str) -> _Checked:
    faults = shape_faults(draft)
    sound = replace(draft, value=without(draft.value, (fault.steps for fault in faults)))
    problems = tuple(draft.problem(fault.steps, fault.message, fault.advice) for fault in faults)
    broken = tuple(rule_problems(sound))
    return _Checked(sound, (*problems, *broken), None if faults else sync_from(draft, project))


def _between(checked: Sequence[_Checked]) -> Iterator[Problem]:
    drafts = [one.draft for one in checked if isinstance(one.draft.own, Mapping)]
    yield from name_clashes(drafts)
    yield from person_clash_problems([(one.draft, one.sync) for one in checked if one.sync is not None])
    yield from too_many_group_types(drafts)
