"""The options of a command that reaches the warehouse, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.shard import Shard
from dbt_posthog_sync.warehouse.profile import DbtOptions


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The options of a command that reaches the warehouse; each as its option says."""

    project_dir: Path | None = None
    target_path: Path | None = None
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    threads: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    full_scan: bool = False
    full_refresh: bool = False
    rebaseline: bool = False
    only_rejects: bool = False
    adopt: str | None = None
    shard: Shard | None = None
    force: bool = False
    steal: bool = False
    mock: bool = False
    sends: bool = False
    gates: bool = False
    run_results: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_command(cls, values: Mapping[str, Any], environ: Mapping[str, str]) -> SessionOptions:
        """Build from a command's parameters; those that a command has not keep their defaults.

        Raises:
            SettingsError: `--vars` is no YAML mapping.
        """
        known = {name: values[name] for name in cls.__slots__ if name in values}
        made = {"variables": _variables(values.get("variables", "{}")), "gates": not values.get("no_gate", True)}
        return cls(**{**known, **made, "environ": environ})

    def dbt_options(self, folder: Path) -> DbtOptions:
        """Where dbt finds the connection of the project in this folder."""
        return DbtOptions(
            project_dir=folder,
            profiles_dir=self.profiles_dir,
            profile=self.profile,
            target=self.target,
            threads=self.threads,
            variables=self.variables,
        )


def _variables(text: str) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - only commands that reach a warehouse come here

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(Problem("--vars is not valid YAML.", "Write it as dbt does: '{name: value}'.")) from error
    if not isinstance(values, dict):
        raise SettingsError(Problem("--vars is no mapping.", "Write it as dbt does: '{name: value}'."))
    return values
