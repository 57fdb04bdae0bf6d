"""The dbt manifest: a lenient reader of `manifest.json`, schema versions 10 to 12 (dbt 1.6 to 2.0).

Every key may be absent, because dbt 2 leaves out what is null. Only nodes that carry an annotation, rightly or wrongly
placed, become `Node` values: a project of 5,000 models costs little more than the parsing of its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from dbt_posthog_sync.dbt_test import DbtTest
from dbt_posthog_sync.errors import ManifestError
from dbt_posthog_sync.exposure_node import ExposureNode, exposures_of
from dbt_posthog_sync.history import history_of
from dbt_posthog_sync.manifest_file import ANNOTATION_KEY, Contents, contents_from, contents_of, moment_of
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.spelling import nearest
from dbt_posthog_sync.sync import ModelColumn, ModelRef

_STAGE_HOOK = "dbt_posthog_sync.stage_changes("
_STORED = frozenset({"table", "incremental", "materialized_view", "seed", "snapshot"})
OLDEST_SCHEMA = 10
NEWEST_SCHEMA = 12

_SCHEMA_VERSION = re.compile(r"/manifest/v(\d+)")
_DBT_VERSION = re.compile(r"(\d+)\.(\d+)")
_CONFIG_SINCE = (1, 10)  # before it, dbt fills no `config` of a column or an exposure
_BUILD_ADVICE = "Run `dbt parse` or `dbt build` first, or name its folder with --target-path."

_Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ColumnAnnotation:
    """What a column's own `config.meta.posthog_sync` holds, as it was written."""

    column: str
    value: object


@dataclass(frozen=True, slots=True)
class Node:
    """A dbt node that carries an annotation, as the manifest tells it.

    Attributes:
        ref: identity, relation and declared columns.
        location: JSON path of the node inside `ref.file`, such as `$.models[orders]`.
        version: version of a versioned model, else empty.
        latest_version: the version that `ref` means without naming one, else empty.
        materialized: such as table or ephemeral; empty when the manifest does not say.
        is_disabled: true when dbt leaves the node out of the project.
        has_contract: true when dbt enforces the declared columns, so that they are all there are.
        primary_key: the one candidate key that dbt knows; a hint, and empty when there are several.
        is_annotated: true when `config.meta.posthog_sync` is present, even if it is empty.
        annotation: its value, as it was written.
        column_annotations: the annotations of single columns.
        misplaced: JSON paths (below the node) where an annotation was found that does not belong there.
        misspelled: keys of `config.meta` that were probably meant to be `posthog_sync`.
    """

    ref: ModelRef
    location: str
    version: str = ""
    latest_version: str = ""
    materialized: str = ""
    is_disabled: bool = False
    has_contract: bool = False
    primary_key: tuple[str, ...] = ()
    is_annotated: bool = False
    annotation: object = None
    column_annotations: tuple[ColumnAnnotation, ...] = ()
    misplaced: tuple[str, ...] = ()
    misspelled: tuple[str, ...] = ()

    @property
    def is_ephemeral(self) -> bool:
        """Tell whether the node has no relation in the warehouse."""
        return self.materialized == "ephemeral" and self.ref.resource_type == "model"

    @property
    def dbt_names(self) -> tuple[str, ...]:
        """What the node may be called: a source `source_name.table_name`, a versioned model also `name.v2`."""
        if self.ref.resource_type == "source":
            return (self.ref.unique_id.split(".", 2)[-1],)
        return (self.ref.name, f"{self.ref.name}.v{self.version}") if self.version else (self.ref.name,)

    @property
    def default_sync_name(self) -> str:
        """Name of a sync that has none of its own: the model's, with the version where that is not the latest."""
        return self.ref.name if self.is_latest else f"{self.ref.name}_v{self.version}"

    @property
    def is_latest(self) -> bool:
        """True for what `ref` means without naming a version."""
        return self.version == self.latest_version


@dataclass(frozen=True, slots=True)
class Manifest:
    """What dbt knows of a project.

    Attributes:
        project_name: name of the root project.
        adapter_type: such as duckdb or postgres.
        invocation_id: id of the dbt run that wrote the manifest.
        generated_at: when it was written, or None.
        dbt_version: as the manifest says; not proof of the engine.
        schema_version: version of the manifest's schema, such as 12.
        nodes: annotated nodes (those asked for by name, and those of exposures too), in the manifest's order.
        names: names of all queryable nodes, for hints.
        sources: the sources among them as dbt calls them, `source_name.table_name`.
        property_files: YAML files of the root project that describe nodes and exposures.
        exposures: annotated exposures.
        has_exposure_config: true when this dbt keeps the `meta` of an exposure under its `config`.
        warnings: what is odd about the manifest without being wrong.
    """

    project_name: str
    adapter_type: str
    invocation_id: str
    generated_at: datetime | None
    dbt_version: str
    schema_version: int
    nodes: tuple[Node, ...] = ()
    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    property_files: tuple[str, ...] = ()
    exposures: tuple[ExposureNode, ...] = ()
    has_exposure_config: bool = True
    warnings: tuple[str, ...] = ()


def read_manifest(path: Path, *, keep: Collection[str] = ()) -> Manifest:
    """Read a manifest.json.

    Args:
        path: the file.
        keep: names of nodes to return although they carry no annotation.

    Raises:
        ManifestError: the file is missing, is not a dbt manifest, or is older than dbt 1.6.
    """
    return _manifest(_read_contents(path, keep), str(path), keep)


def manifest_from(document: object, *, file: str = "manifest.json", keep: Collection[str] = ()) -> Manifest:
    """Build a `Manifest` from the parsed JSON; see `read_manifest`."""
    return _manifest(contents_from(document), file, keep)


def read_tests(path: Path, tests: Collection[str]) -> dict[str, DbtTest]:
    """Return these tests by their ids; one that the manifest does not know is attached to nothing.

    Raises:
        ManifestError: the manifest cannot be read.
    """
    document = _mapping(_read_contents(path, tests).document)
    known = {**_mapping(document.get("nodes")), **_mapping(document.get("unit_tests"))}
    return {test: DbtTest.from_node(test, _mapping(known.get(test))) for test in tests}


def _manifest(contents: Contents, file: str, keep: Collection[str]) -> Manifest:
    document = contents.document
    metadata = _mapping(document).get("metadata")
    if not isinstance(document, Mapping) or not isinstance(metadata, Mapping) or "nodes" not in document:
        raise _unreadable(file, "this JSON file is not a dbt manifest.", "Name the manifest.json of dbt's target.")
    schema_version, warnings = _schema_version(metadata, file)
    project = _text(metadata, "project_name")
    exposures = tuple(exposures_of(document, project))
    kept = frozenset((*keep, *(unique_id for one in exposures for unique_id in one.depends_on)))
    reader = _NodeReader(project, _is_before_config(metadata), kept)
    return Manifest(
        project_name=project,
        adapter_type=_text(metadata, "adapter_type"),
        invocation_id=_text(metadata, "invocation_id"),
        generated_at=moment_of(_text(metadata, "generated_at")),
        dbt_version=_text(metadata, "dbt_version"),
        schema_version=schema_version,
        nodes=tuple(reader.nodes(document)),
        names=contents.names,
        sources=contents.sources,
        property_files=_property_files(contents, project),
        exposures=exposures,
        has_exposure_config=not _is_before_config(metadata),
        warnings=warnings,
    )


@dataclass(frozen=True, slots=True)
class _NodeReader:
    """Turns raw nodes into values, by the rules of one manifest."""

    project: str
    has_old_column_meta: bool
    keep: frozenset[str]

    def nodes(self, document: _Json) -> Iterator[Node]:
        enabled = {raw.get("unique_id") for raw in _enabled(document)}
        for raw in _enabled(document):
            if self._is_wanted(raw):
                yield self._node(raw, is_disabled=False)
        for raw in _disabled(document):
            if raw.get("unique_id") not in enabled and self._is_wanted(raw):
                yield self._node(raw, is_disabled=True)

    def _is_wanted(self, raw: _Json) -> bool:
        config = _mapping(raw.get("config"))
        meta = config.get("meta")
        if meta and any("posthog" in str(key).lower() for key in meta):
            return True
        if ANNOTATION_KEY in config or ANNOTATION_KEY in _mapping(raw.get("meta")):
            return True
        if raw.get("name") in self.keep or raw.get("unique_id") in self.keep:
            return True
        return any(self._column_meta(column) for column in _mapping(raw.get("columns")).values())

    def _column_meta(self, column: _Json) -> _Json:
        """Return the column's own meta if it holds an annotation, else an empty mapping.

        Since dbt 1.10 only `config.meta` counts: dbt 2 copies the model's whole meta into the `meta` of its columns.
        """
        config = column.get("config")
        meta = config.get("meta") if config else None
        if not meta and self.has_old_column_meta:
            meta = column.get("meta")
        return meta if meta and ANNOTATION_KEY in meta else {}

    def _node(self, raw: _Json, *, is_disabled: bool) -> Node:
        config = _mapping(raw.get("config"))
        meta = _mapping(config.get("meta"))
        version = raw.get("version")
        is_enforced = _mapping(raw.get("contract")).get("enforced") or _mapping(config.get("contract")).get("enforced")
        return Node(
            ref=_model_ref(raw, self.project),
            location=_location(raw),
            version="" if version is None else str(version),
            latest_version=_text(raw, "latest_version"),
            materialized=_text(config, "materialized"),
            is_disabled=is_disabled,
            has_contract=bool(is_enforced),
            primary_key=_primary_key(raw),
            is_annotated=ANNOTATION_KEY in meta,
            annotation=meta.get(ANNOTATION_KEY),
            column_annotations=tuple(self._column_annotations(raw)),
            misplaced=tuple(_misplaced(raw)),
            misspelled=tuple(str(key) for key in meta if key != ANNOTATION_KEY and nearest(str(key), [ANNOTATION_KEY])),
        )

    def _column_annotations(self, raw: _Json) -> Iterator[ColumnAnnotation]:
        for key, column in _mapping(raw.get("columns")).items():
            meta = self._column_meta(column)
            if meta:
                yield ColumnAnnotation(_text(column, "name") or key, meta[ANNOTATION_KEY])


def _model_ref(raw: _Json, project: str) -> ModelRef:
    name, package = _text(raw, "name"), _text(raw, "package_name")
    columns = _mapping(raw.get("columns"))
    database = raw.get("database")
    return ModelRef(
        unique_id=_text(raw, "unique_id"),
        name=name,
        relation_name=_text(raw, "relation_name"),
        database=None if database is None else str(database),
        schema=_text(raw, "schema"),
        identifier=_text(raw, "alias") or _text(raw, "identifier") or name,
        file=_file(raw, project),
        resource_type=_text(raw, "resource_type"),
        tags=tuple(str(tag) for tag in raw.get("tags") or ()),
        path=_text(raw, "original_file_path"),
        package=package,
        fqn=tuple(map(str, raw.get("fqn") or ())),
        columns=tuple(
            ModelColumn(_text(column, "name") or key, data_type=_text(column, "data_type"))
            for key, column in columns.items()
        ),
        history=history_of(raw),
        stages_at_build=_has_stage_hook(_mapping(raw.get("config"))),
        # dbt 2 does not say it of seeds, because nothing else is possible
        is_stored=(_text(_mapping(raw.get("config")), "materialized") or _text(raw, "resource_type")) in _STORED,
    )


def _has_stage_hook(config: _Json) -> bool:
    """True when a post-hook calls our macro by its name; a hook is a mapping in dbt 1, and may be a text in dbt 2."""
    hooks = config.get("post-hook") or config.get("post_hook") or ()
    return any(_STAGE_HOOK in str(hook) for hook in ((hooks,) if isinstance(hooks, str) else hooks))


def _is_written_in_code(raw: _Json) -> bool:
    return ANNOTATION_KEY in _text(raw, "raw_code")


def _file(raw: _Json, project: str) -> str:
    """Return the file that holds the annotation: the node's own code, its YAML, or dbt_project.yml for what is left."""
    own, patch = _text(raw, "original_file_path"), _text(raw, "patch_path")
    package = _text(raw, "package_name")
    if _is_written_in_code(raw) or raw.get("resource_type") == "source":
        return own if package in ("", project) else f"{package}://{own}"
    if patch:
        return patch.partition("://")[2] if patch.startswith(f"{project}://") else patch
    return "dbt_project.yml"


def _location(raw: _Json) -> str:
    name = _text(raw, "name")
    if raw.get("resource_type") == "source":
        return f"$.sources[{_text(raw, 'source_name')}].tables[{name}]"
    if _is_written_in_code(raw):
        return "$"
    resource_type = _text(raw, "resource_type")
    return f"$.{'analyses' if resource_type == 'analysis' else f'{resource_type}s'}[{name}]"


def _misplaced(raw: _Json) -> Iterator[str]:
    """Yield where else an annotation was left. dbt 1 copies `config.meta` to `meta`, so `meta` alone counts."""
    config = _mapping(raw.get("config"))
    if ANNOTATION_KEY in config:
        yield "config"
    if ANNOTATION_KEY in _mapping(raw.get("meta")) and ANNOTATION_KEY not in _mapping(config.get("meta")):
        yield "meta"


def _primary_key(raw: _Json) -> tuple[str, ...]:
    """Return dbt's candidate key when there is just one: with several, dbt lists the union of their columns."""
    columns = tuple(str(column) for column in raw.get("primary_key") or ())
    return columns if len(columns) == 1 else ()


def _enabled(document: _Json) -> Iterator[_Json]:
    yield from _mapping(document.get("nodes")).values()
    yield from _mapping(document.get("sources")).values()


def _disabled(document: _Json) -> Iterator[_Json]:
    for nodes in _mapping(document.get("disabled")).values():
        yield from nodes if isinstance(nodes, list) else [nodes]


def _property_files(contents: Contents, project: str) -> tuple[str, ...]:
    prefix = f"{project}://"
    files = (file.removeprefix(prefix) for file in contents.property_files if file.startswith(prefix))
    return tuple(sorted(files))


def _schema_version(metadata: _Json, file: str) -> tuple[int, tuple[str, ...]]:
    found = _SCHEMA_VERSION.search(_text(metadata, "dbt_schema_version"))
    if not found:
        raise _unreadable(file, "this JSON file is not a dbt manifest.", "Name the manifest.json of dbt's target.")
    version = int(found.group(1))
    if version < OLDEST_SCHEMA:
        raise _unreadable(
            file,
            f"the manifest has schema version {version}, which dbt {_text(metadata, 'dbt_version')} wrote.",
            f"Versions {OLDEST_SCHEMA} and later can be read: use dbt 1.6 or later and parse the project again.",
        )
    if version > NEWEST_SCHEMA:
        warning = f"{file} has schema version {version}, newer than {NEWEST_SCHEMA}, the newest this program knows."
        return version, (f"{warning} Reading it anyway.",)
    return version, ()


def _is_before_config(metadata: _Json) -> bool:
    found = _DBT_VERSION.match(_text(metadata, "dbt_version"))
    return found is not None and (int(found.group(1)), int(found.group(2))) < _CONFIG_SINCE


def _read_contents(path: Path, keep: Collection[str]) -> Contents:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _unreadable(str(path), "there is no dbt manifest here.", _BUILD_ADVICE) from error
    except OSError as error:
        raise _unreadable(str(path), f"the file cannot be read ({error.strerror}).", _BUILD_ADVICE) from error
    try:
        return contents_of(content, keep)
    except ValueError as error:
        advice = "dbt may still be writing it, or was stopped: run `dbt parse` and try again."
        raise _unreadable(str(path), f"the file is not valid JSON ({error}).", advice) from error


def _unreadable(file: str, message: str, advice: str) -> ManifestError:
    return ManifestError(Problem(message, advice, file=file))


def _mapping(value: object) -> _Json:
    return value if isinstance(value, Mapping) else {}


def _text(raw: _Json, key: str) -> str:
    value = raw.get(key)
    return "" if value is None else str(value)
