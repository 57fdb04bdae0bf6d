"""The history of a dbt snapshot, as the manifest tells it: which columns dbt adds, and which rows hold now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbt_posthog_sync.sync import History

# docs.getdbt.com: snapshot_meta_column_names (dbt 1.9 and later; before, the names are fixed).
_ADDED = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")


def history_of(raw: Mapping[str, Any]) -> History | None:
    """Return how the history is kept, of a node of the manifest; None where it is no snapshot."""
    if raw.get("resource_type") != "snapshot":
        return None
    config = _mapping(raw.get("config"))
    named = _mapping(config.get("snapshot_meta_column_names"))
    names = {name: str(named.get(name) or name) for name in _ADDED}
    open_end = config.get("dbt_valid_to_current")
    key = config.get("unique_key")
    return History(
        valid_to=names["dbt_valid_to"],
        open_end=str(open_end).strip() or None if open_end is not None else None,
        is_deleted=names["dbt_is_deleted"] if config.get("hard_deletes") == "new_record" else None,
        bookkeeping=tuple(names.values()),
        unique_key=(key,) if isinstance(key, str) else tuple(map(str, key or ())),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
