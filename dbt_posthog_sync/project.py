"""The user's dbt project as the command line finds it: folders, settings, manifest, syncs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dbt_posthog_sync.annotation import Annotations, check_annotations
from dbt_posthog_sync.annotation.property_file import property_file_problems
from dbt_posthog_sync.comparison import Comparison, Side, compared
from dbt_posthog_sync.errors import AnnotationError, SettingsError, UserError
from dbt_posthog_sync.exposure import Exposure, Via
from dbt_posthog_sync.gate import Gate, read_gate
from dbt_posthog_sync.identity_model import identity_model, kept_names
from dbt_posthog_sync.manifest import Manifest, read_manifest
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.selection import AskDbt, Selection, select
from dbt_posthog_sync.settings import SETTINGS_FILE, Identities, Settings, read_settings
from dbt_posthog_sync.sync import ModelRef, Sync

_PROJECT_FILE = "dbt_project.yml"


@dataclass(frozen=True, slots=True)
class Project:
    """A dbt project and what it says about syncing.

    Attributes:
        folder: where dbt_project.yml is.
        target_path: where dbt wrote its manifest.
        settings: posthog_sync.yml and the environment.
        manifest: the manifest.
        syncs: every sync of the project, validated.
        exposures: every exposure with an annotation, validated.
        identity_model: the model that `identities.model` names; None where it names none.
    """

    folder: Path
    target_path: Path
    settings: Settings
    manifest: Manifest
    syncs: tuple[Sync, ...]
    identity_model: ModelRef | None = None
    exposures: tuple[Exposure, ...] = ()

    @classmethod
    def load(cls, project_dir: Path | None, target_path: Path | None, environ: Mapping[str, str]) -> Project:
        """Read and validate everything that needs no warehouse.

        Raises:
            UserError: with every problem of the settings and the annotations.
        """
        folder = project_folder(project_dir)
        target = folder / (target_path or Path("target"))
        problems = [*_misnamed_settings(folder)]
        settings: Settings | None = None
        try:
            settings = read_settings(folder / SETTINGS_FILE, environ)
        except SettingsError as error:
            problems += error.problems
        identities = settings.identities if settings else Identities()
        manifest = read_manifest(target / "manifest.json", keep=kept_names(identities))
        model, model_problems = identity_model(manifest, identities)
        problems += model_problems
        annotations = annotations_of(folder, manifest, settings)
        if problems and annotations.problems:
            raise UserError(*problems, *annotations.problems)
        if problems or settings is None:
            raise SettingsError(*problems)
        if annotations.problems:
            raise AnnotationError(*annotations.problems)
        return cls(folder, target, settings, manifest, annotations.syncs, model, annotations.exposures)

    @property
    def forwarded(self) -> tuple[Exposure, ...]:
        """The exposures that PostHog sends on."""
        return tuple(one for one in self.exposures if one.route.via is Via.POSTHOG)

    def selected(self, selection: Selection, ask: AskDbt) -> tuple[Sync, ...]:
        """The syncs that the selection means; dbt is asked where the manifest does not say.

        Raises:
            UserError: a selector is not understood or matches nothing, nothing is annotated, or dbt does not answer.
        """
        if not self.syncs:
            raise AnnotationError(
                Problem(
                    "no model has a posthog_sync annotation.",
                    "Write one under config.meta.posthog_sync of a model (`dbt-posthog-sync init MODEL` prints a first "
                    "one), and run dbt parse or dbt build again.",
                    file=str(self.target_path / "manifest.json"),
                )
            )
        return select(self.syncs, selection, ask)

    def compared_with(self, folder: Path, environ: Mapping[str, str]) -> Comparison:
        """What changed since the manifest in a folder, and the posthog_sync.yml beside it if there is one.

        Raises:
            UserError: there is no manifest, it is of another project, or the settings beside it cannot be read.
        """
        path = folder / "manifest.json"
        if not path.exists():
            advice = "Name with --state the folder of an earlier one: a copy of target/, or `dbt parse --target-path`."
            raise UserError(Problem("there is no dbt manifest here.", advice, file=str(path)))
        manifest = read_manifest(path)
        if manifest.project_name != self.manifest.project_name:
            message = f"this is the manifest of `{manifest.project_name}`, and the project is "
            advice = "Name the folder with an earlier manifest of this project. Another project has a state of its own."
            raise UserError(Problem(f"{message}`{self.manifest.project_name}`.", advice, file=str(path)))
        settings = folder / SETTINGS_FILE
        defaults = read_settings(settings, environ).defaults if settings.exists() else self.settings.defaults
        before = check_annotations(manifest, defaults, may_delete=True)
        found = compared(Side.from_manifest(manifest, before.syncs), Side.from_manifest(self.manifest, self.syncs))
        limit = self.settings.limits.max_changed_percent
        return replace(found, max_changed_percent=limit, unread=len(before.problems))

    def of_nodes(self, unique_ids: Collection[str]) -> tuple[Sync, ...]:
        """The syncs of these nodes, by dbt's ids."""
        return tuple(sync for sync in self.syncs if sync.model.unique_id in unique_ids)

    def gate(self, run_results: Sequence[Path] = ()) -> Gate:
        """What may pass after what dbt just did, by these files or by the one beside the manifest.

        Raises:
            RunResultsError: a file cannot be read.
            UnsafePlan: the tables were built without their rows.
        """
        return read_gate(self.manifest, self.target_path, run_results)


def annotations_of(folder: Path, manifest: Manifest, settings: Settings | None) -> Annotations:
    """Check the annotations of a project; what needs settings passes while these cannot be read (None)."""
    found = property_file_problems(folder, manifest)
    if settings is None:
        return check_annotations(manifest, found=found, may_delete=True)
    return check_annotations(manifest, settings.defaults, found=found, may_delete=settings.deletion.enabled)


def defaults_of(folder: Path, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The defaults of the dbt project around a folder; none where there is no project.

    Raises:
        SettingsError: posthog_sync.yml is wrong.
    """
    for around in (folder, *folder.parents):
        if (around / _PROJECT_FILE).is_file():
            return read_settings(around / SETTINGS_FILE, environ).defaults
    return {}


def _misnamed_settings(folder: Path) -> Iterator[Problem]:
    misnamed = (folder / SETTINGS_FILE).with_suffix(".yaml")
    if misnamed.exists() and not (folder / SETTINGS_FILE).exists():
        yield Problem("the file is not read under this name.", f"Rename it to {SETTINGS_FILE}.", file=str(misnamed))


def target_folder(project_dir: Path | None, target_path: Path | None) -> Path:
    """The folder into which dbt writes its artifacts.

    Raises:
        SettingsError: there is no dbt project.
    """
    return project_folder(project_dir) / (target_path or Path("target"))


def project_folder(project_dir: Path | None) -> Path:
    """The folder of dbt_project.yml: the one given, or the current one or a parent, as dbt looks for it.

    Raises:
        SettingsError: there is none.
    """
    start = (project_dir or Path.cwd()).resolve()
    candidates = (start,) if project_dir else (start, *start.parents)
    for folder in candidates:
        if (folder / _PROJECT_FILE).is_file():
            return folder
    raise SettingsError(
        Problem(f"no {_PROJECT_FILE} in {start}.", "Run the command in a dbt project, or name it with --project-dir.")
    )
