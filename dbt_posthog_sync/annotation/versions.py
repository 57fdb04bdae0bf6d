"""Versions of a model: an annotation that several inherit from their model means the latest of them.

dbt gives what stands at a versioned model to each of its versions. Taken at its word, every version would send the same
rows again under another name; `ref` without a version means the latest, and so does such an annotation.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbt_posthog_sync.manifest import Node


def synced_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes without the versions of a model that say nothing else than its latest version does."""
    nodes = tuple(nodes)
    latest = {_model(node): node for node in nodes if node.version and node.is_latest}
    return tuple(node for node in nodes if not _is_inherited(node, latest.get(_model(node))))


def _model(node: Node) -> tuple[str, str]:
    return node.ref.package, node.ref.name


def _is_inherited(node: Node, latest: Node | None) -> bool:
    if latest is None or not node.version or node.is_latest or node.misplaced:
        return False
    return (node.is_annotated, node.annotation) == (latest.is_annotated, latest.annotation)
