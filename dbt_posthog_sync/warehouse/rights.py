"""Rights: whether this target's role may keep the state schema. Tried in a transaction that is rolled back."""

from __future__ import annotations

import uuid

from dbt_posthog_sync.warehouse import Warehouse

_STATEMENTS = ("probe_create_table", "probe_insert", "probe_read", "probe_drop_table")


class _RolledBackError(Exception):
    """Ends the transaction of a probe that has succeeded."""


def probe_rights(warehouse: Warehouse, schema: str) -> bool:
    """Create, write, read and drop a table in the state schema, and the schema where it is missing; leave nothing.

    Returns:
        True when the state schema exists already.

    Raises:
        WarehouseUnavailable: a right is missing; the message says which.
    """
    exists = bool(warehouse.evaluate("schema_exists", schema=schema))
    commits_alone = not warehouse.evaluate("transaction_statements")
    table = f"rights_probe_{uuid.uuid4().hex[:12]}"
    try:
        with warehouse.transaction():
            if not exists:
                warehouse.run("probe_create_schema", schema=schema)
            for macro in _STATEMENTS:
                warehouse.run(macro, schema=schema, table=table)
            if commits_alone and not exists:
                warehouse.run("probe_drop_schema", schema=schema)
            raise _RolledBackError
    except _RolledBackError:
        return exists
