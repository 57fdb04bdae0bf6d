"""Macros as dbt's adapters take them: found in their files, and not parsed.

dbt parses every macro that it loads, to learn what depends on what. That takes a second, and whoever only calls macros
has no use for it: a macro is compiled when it is first called (dbt-common: clients/jinja.py, MacroGenerator).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def macros_of(config: Any) -> Any:
    """The macros of dbt, of its adapter and of our package, as a manifest for an adapter.

    Args:
        config: dbt's configuration of our package.
    """
    from dbt.contracts.graph.manifest import MacroManifest  # noqa: PLC0415 - dbt is slow to import

    found: dict[str, Any] = {}
    for name, project in config.load_dependencies(base_only=True).items():
        for folder in project.macro_paths:
            for path in sorted((Path(project.project_root) / folder).rglob("*.sql")):
                found.update((macro.unique_id, macro) for macro in macros_in(name, path, path.read_text("utf-8")))
    return MacroManifest(found)


def macros_in(package: str, path: Path, text: str) -> Iterator[Any]:
    """The macros in the text of a file, under the name of a package."""
    from dbt.contracts.graph.nodes import Macro  # noqa: PLC0415
    from dbt.node_types import NodeType  # noqa: PLC0415
    from dbt_common.clients import jinja  # noqa: PLC0415

    for block in jinja.extract_toplevel_blocks(text, allowed_blocks={"macro"}, collect_raw_data=False):
        name = block.block_name.removeprefix("dbt_macro__")
        yield Macro(
            path=str(path),
            original_file_path=str(path),
            macro_sql=block.full_block or "",
            package_name=package,
            resource_type=NodeType.Macro,
            name=name,
            unique_id=f"macro.{package}.{name}",
        )
