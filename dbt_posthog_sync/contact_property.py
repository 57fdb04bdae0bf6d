"""Contact properties of Loops that a sync writes, with the type that Loops must have them in.

Loops has a few of its own and takes others only once they were created, each with one of four types
(loops.so/docs/contacts/properties and /api-reference/create-contact-property).
"""

from __future__ import annotations

from dataclasses import dataclass

from dbt_posthog_sync.column_type import ColumnType, Family
from dbt_posthog_sync.resolved_sync import RelationColumn, ResolvedSync
from dbt_posthog_sync.sync import Constant, LoopsObject

OWN_PROPERTIES = frozenset({"firstName", "lastName", "source", "userGroup", "notes", "subscribed"})
"""Properties that every contact has."""

_NUMBERS = frozenset({Family.INTEGER, Family.BIGINT, Family.DECIMAL, Family.FLOAT})
_DATES = frozenset({Family.DATE, Family.TIMESTAMP, Family.TIMESTAMP_TZ})
_UNSURE = frozenset({Family.JSON, Family.JSON_TEXT})


@dataclass(frozen=True, slots=True)
class ContactProperty:
    """One property that must exist before a contact can have it.

    Attributes:
        name: as Loops' API has it.
        type: string, number, boolean or date: the type to create it with.
        is_sure: false where values of another type may come too, as from a JSON column.
    """

    name: str
    type: str
    is_sure: bool = True

    def fits(self, existing: str) -> bool:
        """Tell whether its values may go into a property of this type; a date is also a text."""
        return not self.is_sure or existing in (self.type, "string" if self.type == "date" else self.type)


def contact_properties(resolved: ResolvedSync) -> tuple[ContactProperty, ...]:
    """Return the properties that a sync of contacts needs in Loops; none for any other sync."""
    if resolved.sync.object is not LoopsObject.CONTACTS:
        return ()
    mapped = (one for one in resolved.properties if one.name not in OWN_PROPERTIES)
    return tuple(_property(one.name, one.source) for one in mapped)


def _property(name: str, source: RelationColumn | Constant) -> ContactProperty:
    if isinstance(source, RelationColumn):
        return ContactProperty(name, _type_of_column(source.type), source.type.family not in _UNSURE)
    value = source.value
    if isinstance(value, bool):
        return ContactProperty(name, "boolean")
    return ContactProperty(name, "number" if isinstance(value, (int, float)) else "string", value is not None)


def _type_of_column(column_type: ColumnType) -> str:
    if column_type.family is Family.BOOLEAN:
        return "boolean"
    if column_type.family in _NUMBERS:
        return "number"
    return "date" if column_type.family in _DATES else "string"
