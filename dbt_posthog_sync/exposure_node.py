"""The exposures of a manifest, as far as they carry an annotation, rightly or wrongly placed.

dbt 1.10 and later keep an exposure's `meta` under its `config`, and dbt 2 knows no other place; before, the top-level
`meta` is the place dbt documents. Both are read, the one under `config` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import Steps, json_path
from dbt_posthog_sync.spelling import nearest


@dataclass(frozen=True, slots=True)
class ExposureNode:
    """A dbt exposure that carries an annotation, as the manifest tells it.

    Attributes:
        unique_id: dbt's id, such as `exposure.shop.loops_contacts`.
        name: the exposure's name.
        label: its label for people, or empty.
        file: the YAML file that holds it.
        depends_on: ids of the nodes it depends on, in dbt's order.
        place: where its annotation stands below the exposure: `config.meta` or `meta`.
        is_disabled: true when dbt leaves it out of the project.
        is_annotated: true when `posthog_sync` is present, even if it is empty.
        annotation: its value, as it was written.
        is_under_config: true when it was written directly under `config`, where it does not belong.
        misspelled: keys of the meta that were probably meant to be `posthog_sync`.
    """

    unique_id: str
    name: str
    label: str = ""
    file: str = ""
    depends_on: tuple[str, ...] = ()
    place: str = "config.meta"
    is_disabled: bool = False
    is_annotated: bool = False
    annotation: object = None
    is_under_config: bool = False
    misspelled: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """JSON path of the exposure in its file."""
        return f"$.exposures[{self.name}]"

    @property
    def path(self) -> str:
        """JSON path of its annotation in its file."""
        return f"{self.location}.{self.place}.{ANNOTATION_KEY}"

    def problem(self, steps: Steps, message: str, advice: str = "") -> Problem:
        """Return a problem at a place of this annotation."""
        return Problem(message, advice, self.name, self.file, json_path(self.path, steps))


def exposures_of(document: Mapping[str, Any], project: str) -> Iterator[ExposureNode]:
    """Yield the exposures of a manifest that mention an annotation, those that are disabled last."""
    for raw in _values(document.get("exposures")):
        if node := _node(raw, project, is_disabled=False):
            yield node
    for several in _mapping(document.get("disabled")).values():
        for raw in several if isinstance(several, list) else [several]:
            if _mapping(raw).get("resource_type") == "exposure" and (node := _node(raw, project, is_disabled=True)):
                yield node


def _node(raw: Mapping[str, Any], project: str, *, is_disabled: bool) -> ExposureNode | None:
    config = _mapping(raw.get("config"))
    new, old = _mapping(config.get("meta")), _mapping(raw.get("meta"))
    is_old = ANNOTATION_KEY not in new and (ANNOTATION_KEY in old or not new)
    meta = old if is_old else new
    misspelled = tuple(str(key) for key in meta if key != ANNOTATION_KEY and nearest(str(key), [ANNOTATION_KEY]))
    if ANNOTATION_KEY not in meta and ANNOTATION_KEY not in config and not misspelled:
        return None
    package, file = _text(raw, "package_name"), _text(raw, "original_file_path")
    return ExposureNode(
        unique_id=_text(raw, "unique_id"),
        name=_text(raw, "name"),
        label=_text(raw, "label"),
        file=file if package in ("", project) else f"{package}://{file}",
        depends_on=tuple(map(str, _mapping(raw.get("depends_on")).get("nodes") or ())),
        place="meta" if is_old else "config.meta",
        is_disabled=is_disabled,
        is_annotated=ANNOTATION_KEY in meta,
        annotation=meta.get(ANNOTATION_KEY),
        is_under_config=ANNOTATION_KEY in config,
        misspelled=misspelled,
    )


def _values(section: object) -> Iterator[Mapping[str, Any]]:
    yield from (raw for raw in _mapping(section).values() if isinstance(raw, Mapping))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return "" if value is None else str(value)
