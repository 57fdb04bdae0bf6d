"""A column type: what the warehouse calls it, and the family that decides how its values become JSON.

One reader serves every adapter, because most type names mean the same everywhere; an adapter's macro `type_names` says
what its others mean. Nested types (`INTEGER[]`, `STRUCT(a DATE)`, `map<string,bigint>`) become a tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Family(str, Enum):
    """How values of a type become JSON."""

    BOOLEAN = "boolean"
    INTEGER = "integer"  # a double holds every value exactly
    BIGINT = "bigint"  # a double may not hold a value exactly
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    UUID = "uuid"
    ENUM = "enum"
    DATE = "date"
    TIME = "time"
    INTERVAL = "interval"
    TIMESTAMP = "timestamp"  # without time zone
    TIMESTAMP_TZ = "timestamp_tz"
    JSON_TEXT = "json_text"  # JSON kept as the text that was written
    JSON = "json"  # JSON kept parsed
    ARRAY = "array"
    STRUCT = "struct"
    MAP = "map"
    UNSUPPORTED = "unsupported"


_FAMILY_BY_NAME = {
    name: family
    for family, names in {
        Family.BOOLEAN: "boolean bool",
        Family.INTEGER: "tinyint smallint int2 integer int int4 utinyint usmallint uinteger mediumint byte short oid",
        Family.BIGINT: "bigint int8 int64 long hugeint ubigint uhugeint",
        Family.DECIMAL: "decimal numeric number bignumeric dec",
        Family.FLOAT: "float float4 float8 float64 real double double_precision",
        Family.TEXT: 'text varchar character_varying char character bpchar string citext name "char" inet cidr macaddr '
        "macaddr8",
        Family.UUID: "uuid",
        Family.ENUM: "enum",
        Family.DATE: "date",
        Family.TIME: "time time_without_time_zone time_with_time_zone timetz time_ns",
        Family.INTERVAL: "interval",
        Family.TIMESTAMP: "timestamp timestamp_without_time_zone datetime timestamp_s timestamp_ms timestamp_ns "
        "timestamp_ntz timestampntz",
        Family.TIMESTAMP_TZ: "timestamptz timestamp_with_time_zone timestamp_tz timestamp_ltz timestampltz",
        Family.JSON_TEXT: "json",
        Family.JSON: "jsonb",
        Family.STRUCT: "struct row",
        Family.MAP: "map",
    }.items()
    for name in names.split()
}

_NO_NAMES: Mapping[str, str] = {}
_IDENTITY_FAMILIES = frozenset({Family.INTEGER, Family.BIGINT, Family.DECIMAL, Family.TEXT, Family.UUID, Family.ENUM})
_TIME_FAMILIES = frozenset({Family.TIMESTAMP, Family.TIMESTAMP_TZ, Family.DATE})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type as the warehouse names it, read into a tree.

    Attributes:
        text: the warehouse's own name, such as `numeric(10,2)` or `STRUCT(a DATE)`.
        family: how its values become JSON.
        element: type of the elements of an array, of the values of a map.
        fields: names and types of a struct.
        digits: precision of a decimal where the type says so.
    """

    text: str
    family: Family
    element: ColumnType | None = None
    fields: tuple[tuple[str, ColumnType], ...] = ()
    digits: int | None = None

    @classmethod
    def parse(cls, text: str, names: Mapping[str, str] = _NO_NAMES) -> ColumnType:
        """Read a type's name; what is not known has the family `unsupported`.

        Args:
            text: the name, as the warehouse writes it.
            names: names of this warehouse that mean something else than elsewhere, each with a name known here.
        """
        stripped = text.strip()
        if stripped.endswith("]"):
            return cls._array(text, cls.parse(stripped[: stripped.rindex("[")], names))
        name, arguments, suffix = _split(stripped)
        if name.lower() == "array" and len(arguments) == 1:
            return cls._array(text, cls.parse(arguments[0], names))
        family = _family(f"{name} {suffix}", names)
        match family:
            case Family.STRUCT:
                return cls._struct(text, arguments, names)
            case Family.MAP if len(arguments) == 2:
                value = cls.parse(arguments[1], names)
                supported = value.is_supported and cls.parse(arguments[0], names).can_be_identity
                return cls(text, Family.MAP if supported else Family.UNSUPPORTED, value)
            case Family.DECIMAL if arguments and arguments[0].isdigit():
                return cls(text, family, digits=int(arguments[0]))
        return cls(text, family)

    @classmethod
    def _array(cls, text: str, element: ColumnType) -> ColumnType:
        return cls(text, Family.ARRAY if element.is_supported else Family.UNSUPPORTED, element)

    @classmethod
    def _struct(cls, text: str, arguments: tuple[str, ...], names: Mapping[str, str]) -> ColumnType:
        fields = tuple(_field(argument, names) for argument in arguments)
        supported = bool(fields) and all(field.is_supported for _, field in fields)
        return cls(text, Family.STRUCT if supported else Family.UNSUPPORTED, fields=fields)

    @property
    def is_supported(self) -> bool:
        """True when values of the type can be sent."""
        return self.family is not Family.UNSUPPORTED

    @property
    def can_be_identity(self) -> bool:
        """True when a value has one canonical text, so that it can name a person, a group or a row."""
        return self.family in _IDENTITY_FAMILIES

    @property
    def can_be_time(self) -> bool:
        """True when a value is a moment or a day."""
        return self.family in _TIME_FAMILIES

    @property
    def kind(self) -> str:
        """What decides the JSON of a value: the family, and those inside it; `varchar(20)` and `text` are one kind."""
        inner = [self.element.kind] if self.element else [f"{name} {field.kind}" for name, field in self.fields]
        return f"{self.family.value}<{', '.join(inner)}>" if inner else self.family.value

    def for_macro(self) -> dict[str, Any]:
        """The tree as the macros read it."""
        return {
            "text": self.text,
            "family": self.family.value,
            "digits": self.digits,
            "element": self.element.for_macro() if self.element else None,
            "fields": [{"name": name, "type": field.for_macro()} for name, field in self.fields],
        }


def _family(name: str, names: Mapping[str, str]) -> Family:
    words = name.lower().split()
    if words[:1] == ["interval"]:  # `interval day to second`
        words = ["interval"]
    known = "_".join(words)
    return _FAMILY_BY_NAME.get(names.get(known, known), Family.UNSUPPORTED)


def _field(argument: str, names: Mapping[str, str]) -> tuple[str, ColumnType]:
    quoted = re.match(r'"((?:[^"]|"")*)"\s+(.*)', argument, re.DOTALL)
    if quoted:
        return quoted[1].replace('""', '"'), ColumnType.parse(quoted[2], names)
    name, colon, type_text = argument.partition(":")  # `a:bigint`, where a name may have spaces
    if not colon or re.search(r"[<(]", name):
        name, _, type_text = argument.partition(" ")  # `a INT64`
    return name.strip().strip("`"), ColumnType.parse(type_text, names)


def _split(text: str) -> tuple[str, tuple[str, ...], str]:
    """Split `name(argument, argument) suffix` or `name<argument>`; commas in brackets and quotes do not separate."""
    found = re.search(r"[(<]", text)
    if found is None:
        return text, (), ""
    start, end = found.start(), text.rindex(")" if found[0] == "(" else ">")
    return text[:start].strip(), _arguments(text[start + 1 : end]), text[end + 1 :].strip()


def _arguments(text: str) -> tuple[str, ...]:
    parts, depth, quote, current = [], 0, "", ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([<":
            depth += 1
        elif char in ")]>":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(current.strip())
            current = ""
            continue
        current += char
    return tuple(part for part in (*parts, current.strip()) if part)
