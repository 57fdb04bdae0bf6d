"""The line of a problem: where in a project's file a JSON path leads, for tools that point at lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dbt_posthog_sync.manifest_file import ANNOTATION_KEY
from dbt_posthog_sync.problem import Problem

if TYPE_CHECKING:
    from yaml.nodes import Node

_STEP = re.compile(r"\.(\w+)|\['([^']*)'\]|\[([^\]]*)\]")
_YAML = (".yml", ".yaml")


def line_of_problem(problem: Problem, folder: Path) -> int | None:
    """The line of a problem in its file below the project's folder, counted from 1; None where there is no such file.

    A path that leads nowhere, such as that of a key which is missing, leads to the line of what should have it.
    """
    path = folder / problem.file
    try:
        text = path.read_text(encoding="utf-8") if problem.file else None
    except (OSError, UnicodeDecodeError):
        return None
    if text is None:
        return None
    return _line_in_yaml(text, problem.path) if path.suffix in _YAML else _line_in_code(text)


def _line_in_code(text: str) -> int:
    """The line where a model's own code begins its annotation."""
    return text[: max(text.find(ANNOTATION_KEY), 0)].count("\n") + 1


def _line_in_yaml(text: str, path: str) -> int:
    import yaml  # noqa: PLC0415  imported late: only a problem needs it

    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return mark.line + 1 if mark is not None else 1
    line = 1
    for found in _STEP.finditer(path):
        step = next(group for group in found.groups() if group is not None)
        below = _below(node, step) if node is not None else None
        if below is None:
            break
        node, line = below
    return line


def _below(node: Node, step: str) -> tuple[Node, int] | None:
    """The node that a step leads to, and its line: of a mapping's key, or of a list's entry by name or number."""
    from yaml.nodes import MappingNode, SequenceNode  # noqa: PLC0415  see _line_in_yaml

    if isinstance(node, MappingNode):
        pairs = ((key, value) for key, value in node.value if str(key.value) == step)
        return next(((value, key.start_mark.line + 1) for key, value in pairs), None)
    if isinstance(node, SequenceNode):
        for place, item in enumerate(node.value):
            if step in (str(place), _name(item)):
                return item, item.start_mark.line + 1
    return None


def _name(item: Node) -> str | None:
    from yaml.nodes import MappingNode  # noqa: PLC0415  see _line_in_yaml

    pairs = item.value if isinstance(item, MappingNode) else ()
    return next((str(value.value) for key, value in pairs if key.value == "name"), None)
