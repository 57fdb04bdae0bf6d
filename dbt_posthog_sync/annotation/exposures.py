"""Exposures: from what users wrote in a dbt exposure's `posthog_sync` to `Exposure` values, or to every problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dbt_posthog_sync.annotation.exposure_reading import exposure_from
from dbt_posthog_sync.annotation.exposure_rules import Asking, exposure_rule_problems
from dbt_posthog_sync.annotation.exposure_shape import exposure_faults
from dbt_posthog_sync.annotation.places import REMOVE_ADVICE, column_faults
from dbt_posthog_sync.annotation.reading import annotated_model
from dbt_posthog_sync.annotation.shape import without
from dbt_posthog_sync.exposure import DirectSending, Exposure, ForwardedUserId, Forwarding
from dbt_posthog_sync.exposure_node import ExposureNode
from dbt_posthog_sync.manifest import Manifest, Node
from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import Fault, json_path
from dbt_posthog_sync.secret import secrets_in, shown
from dbt_posthog_sync.sync import ModelRef, Sync


@dataclass(frozen=True, slots=True)
class Exposures:
    """What the annotated exposures of a project come to.

    Attributes:
        exposures: those in which nothing is wrong by itself, in the manifest's order.
        problems: everything that is wrong; problems between exposures come last.
    """

    exposures: tuple[Exposure, ...] = ()
    problems: tuple[Problem, ...] = ()


def check_exposures(manifest: Manifest, syncs: Sequence[Sync] = ()) -> Exposures:
    """Return the exposures that are right and the problems of those that are not.

    Args:
        manifest: the dbt manifest.
        syncs: the syncs of its models, whose names an exposure may not take.
    """
    nodes = {node.ref.unique_id: node for node in manifest.nodes}
    problems: list[Problem] = []
    right: list[Exposure] = []
    for node in manifest.exposures:
        models = tuple(nodes[unique_id] for unique_id in node.depends_on if unique_id in nodes)
        found = tuple(_problems(node, models))
        problems += found
        if node.is_annotated and not found:
            right.append(exposure_from(node, [_annotated(model) for model in models], manifest.project_name))
    problems += _name_clashes(right, syncs)
    problems += _user_id_fights(right)
    return Exposures(tuple(right), tuple(dict.fromkeys(problems)))


def _annotated(model: Node) -> ModelRef:
    """The model with what its columns say of themselves, as far as that is right: faults are told where they stand."""
    sound = tuple(one for one in model.column_annotations if not column_faults(one))
    return annotated_model(replace(model, column_annotations=sound))


def _problems(node: ExposureNode, models: Sequence[Node]) -> Iterator[Problem]:
    yield from _place_problems(node)
    if not node.is_annotated:
        return
    faults = exposure_faults(node.annotation)
    yield from (node.problem(fault.steps, fault.message, fault.advice) for fault in faults)
    for steps in secrets_in(node.annotation):
        if steps == ("api_key", "env") and _names_a_variable(node.annotation):
            continue
        yield node.problem(steps, "this looks like a secret.", REMOVE_ADVICE)
    if node.is_disabled:
        yield node.problem((), "the annotated exposure is disabled in dbt.", "Enable it, or remove its annotation.")
    elif isinstance(node.annotation, Mapping) and not _is_undecided(faults):
        sound = without(node.annotation, (fault.steps for fault in faults))
        yield from exposure_rule_problems(Asking(node, sound, models))


def _names_a_variable(annotation: Any) -> bool:
    """A long name with a number in it looks like random text; keys are not written in capitals with underscores."""
    name = annotation["api_key"]["env"]
    return name.isupper() and "_" in name


def _is_undecided(faults: Iterable[Fault]) -> bool:
    """True while it is not clear what the exposure asks for, so that no rule can say what is missing."""
    deciding = {"destination", "object", "via"}
    return any(fault.key in deciding or fault.steps[:1] in {(key,) for key in deciding} for fault in faults)


def _place_problems(node: ExposureNode) -> Iterator[Problem]:
    if node.is_under_config:
        path = f"{node.location}.config.{ANNOTATION_KEY}"
        advice = f"Move it to `config: {{meta: {{{ANNOTATION_KEY}: ...}}}}` of the same exposure."
        message = f"`{ANNOTATION_KEY}` stands directly under `config`."
        yield Problem(message, advice, node.name, node.file, path)
    for key in node.misspelled:
        path = json_path(f"{node.location}.{node.place}", (key,))
        yield Problem(f"unknown key `{key}`.", f"Did you mean `{ANNOTATION_KEY}`?", node.name, node.file, path)


def _name_clashes(exposures: Sequence[Exposure], syncs: Sequence[Sync]) -> Iterator[Problem]:
    """Yield a problem for each direct exposure with the name of a sync: names are identities in the state."""
    owners = {sync.name.lower(): sync for sync in syncs}
    for exposure in exposures:
        owner = owners.get(exposure.name.lower())
        if owner is not None and isinstance(exposure.route, DirectSending):
            message = f"a sync of the model {shown(owner.model.name)} is called {shown(owner.name)} too."
            yield _problem(exposure, message, "Give the exposure another name, or the sync another `name`.")


def _user_id_fights(exposures: Sequence[Exposure]) -> Iterator[Problem]:
    """Yield a problem where PostHog sends the UUIDs of its persons as `userId` and a direct exposure sends other ids.

    Loops finds a contact by e-mail address or user id and overwrites the other one, so each would undo the other.
    """
    forwarding = [
        one for one in exposures if isinstance(one.route, Forwarding) and one.route.user_id is ForwardedUserId.PERSON_ID
    ]
    for exposure in exposures:
        route = exposure.route
        if isinstance(route, DirectSending) and route.user_id is not None and forwarding:
            message = (
                f"`user_id` sends {shown(route.user_id.name)} as Loops' userId, and the exposure "
                f"`{forwarding[0].name}` sends the UUID of the PostHog person: each overwrites the other's."
            )
            advice = "Write `user_id: distinct_id` or `user_id: none` there, or leave `user_id` out here."
            yield _problem(exposure, message, advice, "user_id")


def _problem(exposure: Exposure, message: str, advice: str, *steps: str) -> Problem:
    return Problem(message, advice, exposure.name, exposure.file, json_path(exposure.path, steps))
