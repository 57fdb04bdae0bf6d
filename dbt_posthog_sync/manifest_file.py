"""The manifest's file: finds the few annotated nodes in a large manifest.json without building the rest.

A manifest of 5,000 models has some 60 MB and three million JSON values, of which a handful matter. dbt writes each
node as `"<unique_id>": {..., "unique_id": "<unique_id>", ...}`, so the text is cut at these keys and only the pieces
that mention PostHog are parsed. Whatever does not look like that is parsed as a whole, which takes a second.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

ANNOTATION_KEY = "posthog_sync"
QUERYABLE = ("model", "snapshot", "seed", "source")

_MENTION = b"posthog"
_UNIQUE_ID = b'"unique_id":'
_WIDEST_GAP = 16  # spaces between a key and its value
_FARTHEST_METADATA = 64  # dbt writes the metadata first

_EXPOSURE = "exposure"
_NODE_KINDS = frozenset({*QUERYABLE, "analysis", "test", "operation", "sql_operation", "sql operation", "rpc"})
_OTHER_KINDS = frozenset(
    {"macro", "doc", _EXPOSURE, "metric", "group", "semantic_model", "saved_query", "unit_test", "fixture", "function"}
)
_DECODER = json.JSONDecoder()

_Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What was read of a manifest.

    Attributes:
        document: the parsed JSON; of the nodes at least those that mention PostHog or are asked for.
        names: names of all queryable nodes.
        sources: the sources among them as dbt calls them, `source_name.table_name`.
        property_files: where nodes are described: `shop://models/schema.yml`.
    """

    document: object
    names: tuple[str, ...]
    sources: tuple[str, ...]
    property_files: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Piece:
    """The text from the key of one node to the key of the next."""

    unique_id: str
    text: bytes

    @property
    def kind(self) -> str:
        return self.unique_id.partition(".")[0]

    @property
    def name(self) -> str:
        """The name in the id: `model.shop.orders`, `model.shop.orders.v2`, `source.shop.crm.accounts`."""
        parts = self.unique_id.split(".")
        return parts[min(3 if self.kind == "source" else 2, len(parts) - 1)]

    @property
    def section(self) -> str:
        """The part of the manifest it comes from; `disabled` holds a list under each key."""
        if self.kind == "unit_test":
            return "unit_tests"
        if self.kind not in _NODE_KINDS and self.kind != _EXPOSURE:
            return ""
        value = len(self.unique_id) + len('"":')
        if self.text[value : value + _WIDEST_GAP].lstrip()[:1] == b"[":
            return "disabled"
        return {"source": "sources", _EXPOSURE: "exposures"}.get(self.kind, "nodes")

    @property
    def property_file(self) -> str:
        """Where the node is described, or an empty text."""
        patch_path, own_path = b'"patch_path":', b'"original_file_path":'
        if self.kind not in ("source", _EXPOSURE):
            return next(_texts_after(self.text, patch_path), "")
        package = self.unique_id.split(".")[1]
        return f"{package}://{next(_texts_after(self.text, own_path), '')}"


def contents_of(content: bytes, keep: Collection[str] = ()) -> Contents:
    """Return what matters of the text of a manifest.

    Args:
        content: the text, UTF-8.
        keep: names or ids of nodes to return although nothing in them mentions PostHog.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        found = _scanned(content, frozenset(keep))
    except ValueError:  # not cut as expected; the full reading knows better
        found = None
    if found is not None:
        return found
    with _paused_collector():
        return contents_from(json.loads(content))


def contents_from(document: object) -> Contents:
    """Return the contents of a manifest that is parsed already."""
    nodes, sources = _values(document, "nodes"), _values(document, "sources")
    named = [node for node in (*nodes, *sources) if node.get("resource_type") in QUERYABLE]
    files = {str(node["patch_path"]) for node in nodes if node.get("patch_path")}
    described = (*sources, *_values(document, "exposures"))
    files |= {f"{one.get('package_name')}://{one.get('original_file_path')}" for one in described}
    tables = tuple(f"{source.get('source_name')}.{source.get('name')}" for source in sources)
    return Contents(document, tuple(str(node.get("name", "")) for node in named), tables, frozenset(files))


def _scanned(content: bytes, keep: Collection[str]) -> Contents | None:
    """Return the contents without parsing all of it, or None when there is nothing to cut at.

    Raises:
        ValueError: the text is not cut as dbt cuts it.
    """
    pieces = list(_pieces(content))
    start = content.find(b'"metadata":', 0, _FARTHEST_METADATA)
    if start < 0 or not pieces:
        return None
    _check_end(pieces[-1])
    document: dict[str, Any] = {"nodes": {}, "sources": {}, "unit_tests": {}, "exposures": {}, "disabled": {}}
    document["metadata"] = _first_value(content[start : content.index(pieces[0].text)])
    exposed: set[str] = set()
    # Exposures first: dbt writes them behind the nodes, and the nodes they depend on matter too.
    for piece in sorted(pieces, key=lambda one: one.kind != _EXPOSURE):
        is_named = piece.name in keep or piece.unique_id in keep or piece.unique_id in exposed
        if piece.section and (is_named or _MENTION in piece.text.lower()):
            value = document[piece.section][piece.unique_id] = _first_value(piece.text)
            exposed |= _depended_on(value) if piece.section == "exposures" else set()
    enabled = [piece for piece in pieces if piece.section in ("nodes", "sources") and piece.kind in QUERYABLE]
    described = (*enabled, *(piece for piece in pieces if piece.section == "exposures"))
    files = frozenset(piece.property_file for piece in described) - {""}
    sources = tuple(piece.unique_id.split(".", 2)[-1] for piece in enabled if piece.kind == "source")
    return Contents(document, tuple(piece.name for piece in enabled), sources, files)


def _depended_on(exposure: _Json) -> set[str]:
    return {str(unique_id) for unique_id in (exposure.get("depends_on") or {}).get("nodes") or ()}


def _check_end(last: _Piece) -> None:
    """Check that the text closes what it opened: dbt may still be writing it.

    Raises:
        ValueError: the text behind the last node is not the end of a manifest.
    """
    decoded = last.text.decode()
    _, end = _DECODER.raw_decode(decoded, _value_start(decoded))
    json.loads('{"section": {"node": 0' + decoded[end:])


def _pieces(content: bytes) -> Iterator[_Piece]:
    """Yield the pieces of the text, one for each node.

    Raises:
        ValueError: a `unique_id` does not stand under its own key.
    """
    key, unique_id = -1, b""
    for found, place in _places(content, _UNIQUE_ID):
        start = content.rfind(b'"%s":' % found, max(key, 0), place)
        if start < 0 or found == unique_id or found.decode().partition(".")[0] not in _NODE_KINDS | _OTHER_KINDS:
            raise ValueError("a node without a key of its own")
        if key >= 0:
            yield _Piece(unique_id.decode(), content[key:start])
        key, unique_id = start, found
    if key >= 0:
        yield _Piece(unique_id.decode(), content[key:])


def _places(content: bytes, key: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each text that stands after a key, with the place of the key; nulls are passed over."""
    place = content.find(key)
    while place >= 0:
        start = place + len(key)
        if content[start : start + 1] == b" ":
            start += 1
        if content[start : start + 1] == b'"':
            yield content[start + 1 : content.index(b'"', start + 1)], place
        place = content.find(key, start)


def _texts_after(content: bytes, key: bytes) -> Iterator[str]:
    for text, _ in _places(content, key):
        yield str(json.loads(b'"%s"' % text))


def _first_value(text: bytes) -> Any:
    """Return the value of the key that a piece of text starts with."""
    decoded = text.decode()
    return _DECODER.raw_decode(decoded, _value_start(decoded))[0]


def _value_start(decoded: str) -> int:
    start = decoded.index(":", decoded.index('"', 1)) + 1
    while decoded[start].isspace():
        start += 1
    return start


def _values(document: object, section: str) -> list[_Json]:
    nodes = document.get(section) if isinstance(document, Mapping) else None
    return [node for node in nodes.values() if isinstance(node, Mapping)] if isinstance(nodes, Mapping) else []


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Pause garbage collection: parsing makes millions of objects and no garbage, and takes twice as long with it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def moment_of(text: str) -> datetime | None:
    """Return an ISO time as an aware datetime; Python 3.10 knows neither `Z` nor any number of decimals."""
    found = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", text)
    if not found:
        return None
    return datetime.fromisoformat(f"{found.group(1)}T{found.group(2)}").replace(tzinfo=timezone.utc)
