"""Property files: the project's YAML itself, searched for annotations that dbt drops without a word.

dbt 1 ignores `posthog_sync` beside a model's name and copies a top-level `meta` to where it belongs; dbt 2 drops both.
The manifest shows neither, so the files are read, and of them only those that mention `posthog_sync` are parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dbt_posthog_sync.annotation.doubled_key import doubled_keys_in
from dbt_posthog_sync.annotation.places import misplaced
from dbt_posthog_sync.manifest import Manifest
from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem

_SECTIONS = ("models", "seeds", "snapshots")


def property_file_problems(project_dir: Path, manifest: Manifest) -> tuple[Problem, ...]:
    """Return the problems of annotations in the YAML files that describe the project's nodes, as far as dbt hides them.

    Files that are gone or cannot be read are passed over: dbt itself reports them.
    """
    texts = ((file, _text(project_dir / file)) for file in manifest.property_files)
    has_config = manifest.has_exposure_config
    return tuple(one for file, text in texts for one in hidden_in(text, file, has_exposure_config=has_config))


def hidden_in(text: str, file: str, *, has_exposure_config: bool = True) -> Iterator[Problem]:
    """Yield what dbt hides of the annotations in the text of one YAML file: those it drops, and doubled keys.

    Args:
        text: what the file holds.
        file: its path, for the problems.
        has_exposure_config: false for a dbt in which an exposure's `meta` stands at its top level.
    """
    yield from misplaced_in(text, file, has_exposure_config=has_exposure_config)
    yield from doubled_keys_in(text, file)


def misplaced_in(text: str, file: str, *, has_exposure_config: bool = True) -> Iterator[Problem]:
    """Yield a problem for each misplaced annotation in the text of one YAML file; see `hidden_in`."""
    if ANNOTATION_KEY not in text:
        return
    document = _parsed(text)
    for section in _SECTIONS:
        for entry in _mappings(document.get(section)):
            yield from _entry_problems(entry, f"$.{section}[{entry.get('name')}]", file)
    for source in _mappings(document.get("sources")):
        for table in _mappings(source.get("tables")):
            yield from _entry_problems(table, f"$.sources[{source.get('name')}].tables[{table.get('name')}]", file)
    # dbt itself refuses other wrong places of an exposure, or the manifest shows them.
    for exposure in _mappings(document.get("exposures")) if has_exposure_config else ():
        name = str(exposure.get("name", ""))
        if ANNOTATION_KEY in _mapping(exposure.get("meta")):
            yield misplaced(name, file, f"$.exposures[{name}].meta.{ANNOTATION_KEY}")


def _entry_problems(entry: Mapping[str, Any], path: str, file: str) -> Iterator[Problem]:
    model = str(entry.get("name", ""))
    for place in _wrong_places(entry):
        yield misplaced(model, file, f"{path}{place}.{ANNOTATION_KEY}")
    if ANNOTATION_KEY in _mapping(entry.get("meta")):
        yield misplaced(model, file, f"{path}.meta.{ANNOTATION_KEY}")
    for column in _mappings(entry.get("columns")):
        for place in _wrong_places(column):
            yield misplaced(model, file, f"{path}.columns[{column.get('name')}]{place}.{ANNOTATION_KEY}")


def _wrong_places(entry: Mapping[str, Any]) -> Iterator[str]:
    config = _mapping(entry.get("config"))
    if ANNOTATION_KEY in entry:
        yield ""
    if ANNOTATION_KEY in config:
        yield ".config"
    if ANNOTATION_KEY in _mapping(config.get("+meta")):
        yield ".config.+meta"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parsed(text: str) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415  imported late: only a file that mentions an annotation needs it

    try:
        return _mapping(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  both are safe
    except yaml.YAMLError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
