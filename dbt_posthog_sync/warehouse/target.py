"""The dbt target: does the manifest belong to the one that is connected?

A manifest names relations and no target. Parsed for `dev` and run with `--target prod`, it would send what is in the
development schema to production; any `dbt parse` between the build and the run is enough for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_posthog_sync.manifest import Manifest
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.sync import Sync

if TYPE_CHECKING:  # it imports this module
    from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse


def target_of_relations(schemas: Iterable[str], connected: str, outputs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name of another target that all relations belong to, when they do not belong to the connected one.

    A relation belongs to a target when its schema is the target's, or begins with it and an underscore: that is how
    dbt names schemas unless a project has a macro of its own for it (docs.getdbt.com: Custom schemas). Where that
    says nothing, nothing is said.

    Args:
        schemas: schemas of the models to sync.
        connected: schema of the connected target.
        outputs: the profile's targets by name, as profiles.yml has them.
    """
    wanted = tuple(schemas)
    if not wanted or any(_belongs(schema, connected) for schema in wanted):
        return None
    for name, output in outputs.items():
        own = output.get("schema") if isinstance(output, Mapping) else None
        if isinstance(own, str) and "{" not in own and all(_belongs(schema, own) for schema in wanted):
            return name
    return None


def profile_outputs(profiles_folder: Path, profile: str) -> Mapping[str, Mapping[str, Any]]:
    """The targets of a profile as they are written, not rendered."""
    from dbt.config.profile import read_profile  # noqa: PLC0415 - dbt is slow to import

    found = read_profile(str(profiles_folder)).get(profile, {})
    outputs = found.get("outputs") if isinstance(found, Mapping) else None
    return outputs if isinstance(outputs, Mapping) else {}


def target_problem(
    manifest: Manifest, target_path: Path, syncs: Iterable[Sync], warehouse: DbtWarehouse
) -> Problem | None:
    """Say what is wrong when the manifest was made for another target than the one that is connected.

    The relations come from the manifest, so one made for `dev` would send development data to production.
    """
    connected = warehouse.target_name
    if manifest.adapter_type and manifest.adapter_type != warehouse.adapter_type:
        return Problem(
            f"the manifest was made for {manifest.adapter_type}, and the target `{connected}` is "
            f"{warehouse.adapter_type}.",
            "Name the target that dbt built with --target.",
        )
    schemas = {sync.model.schema for sync in syncs if sync.model.resource_type != "source"}
    other = warehouse.other_target_of(schemas)
    if other is None:
        return None
    return Problem(
        f"the manifest was made for the target `{other}` (schema {', '.join(sorted(schemas))}), and the target "
        f"`{connected}` is connected.",
        f"Run dbt with --target {connected} first; dbt parse is enough if the tables are there.",
        file=str(target_path / "manifest.json"),
    )


def _belongs(schema: str, own: str) -> bool:
    return schema.lower() == own.lower() or schema.lower().startswith(f"{own.lower()}_")
