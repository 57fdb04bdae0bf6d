"""HogQL as the stand-in reads it: a query becomes SQLite's SQL word by word, or is refused.

What is played is what the words below say, with ClickHouse's meaning where SQLite's differs: comparisons know nulls,
nulls come last, `count(distinct x)` is exact. Everything else is refused with 400, so that no answer is silently
wrong. Rules: PostHog/posthog: posthog/hogql/printer.py, posthog/hogql/constants.py and posthog/hogql/functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_ROWS = 100
MOST_ROWS = 50_000

TABLES: Mapping[str, tuple[str, frozenset[str]]] = {
    "persons": ("persons", frozenset({"id", "properties", "created_at", "is_identified"})),
    "person_distinct_ids": ("person_distinct_ids", frozenset({"distinct_id", "person_id"})),
    "events": (
        "events",
        frozenset({"uuid", "event", "distinct_id", "timestamp", "created_at", "properties", "person_id"}),
    ),
    "system.ingestion_warnings": ("ingestion_warnings", frozenset({"source", "type", "details", "timestamp"})),
}
"""PostHog's name of a table, its name in SQLite, and its columns."""

UUID_COLUMNS = frozenset({"id", "person_id", "uuid"})
MOMENT_COLUMNS = frozenset({"timestamp", "created_at"})

FUNCTIONS = {
    "count": "count",
    "min": "min",
    "max": "max",
    "sum": "sum",
    "any": "min",
    "argMin": "hogql_arg_min",
    "argMax": "hogql_arg_max",
    "lower": "lower",
    "upper": "upper",
    "lowerUTF8": "hogql_lower_utf8",
    "trim": "trim",
    "length": "hogql_length",
    "coalesce": "coalesce",
    "ifNull": "ifnull",
    "if": "iif",
    "startsWith": "hogql_starts_with",
    "toUUID": "",
    "toDateTime": "hogql_moment",
    "now": "hogql_now",
    "JSONExtractString": "hogql_json_string",
}
"""Functions by ClickHouse's spelling, which is exact about capitals."""

AGGREGATES = frozenset({"count", "min", "max", "sum", "any", "argMin", "argMax"})
# fmt: off
_KEYWORDS = frozenset([
    "select", "distinct", "from", "where", "and", "or", "not", "in", "is", "null", "as", "inner", "left", "join",
    "on", "group", "by", "having", "order", "asc", "desc", "limit", "offset", "between", "true", "false",
])
# fmt: on
_ENDS_ORDER = frozenset({"limit", "offset"})
_COMPARISONS = {"=": "is", "==": "is", "!=": "is not", "<>": "is not", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_PART = r"(?:[A-Za-z_$][\w$]*|`[^`]+`|\"[^\"]+\")"
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*')|(?P<number>\d+(?:\.\d+)?)|(?P<value>\{\w+\})"
    rf"|(?P<name>{_PART}(?:\.{_PART})*)|(?P<sign><=|>=|!=|<>|==|[=<>(),*;]))"
)


class HogQlError(Exception):
    """The query is wrong, or says something that the stand-in does not play."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A query for SQLite.

    Attributes:
        sql: the statement, with a limit.
        parameters: values by name.
        tables: PostHog's names of the tables it reads.
        limit: most rows to give; the statement asks for one more where the query names no limit.
        has_own_limit: the query names its limit.
    """

    sql: str
    parameters: Mapping[str, Any]
    tables: frozenset[str]
    limit: int
    has_own_limit: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The segments of a name, without quotes."""
        return tuple(part.strip('`"') for part in re.findall(_PART, self.text))

    @property
    def word(self) -> str:
        """The keyword, in small letters, or nothing."""
        return self.text.lower() if self.kind == "name" and self.text.lower() in _KEYWORDS else ""


def translated(text: str, values: Mapping[str, Any]) -> Translation:
    """Translate a query.

    Raises:
        HogQlError: with PostHog's words where it would refuse it too.
    """
    tokens = list(_tokens(text))
    if not tokens or tokens[0].word != "select":
        raise HogQlError("mismatched input, expecting SELECT")
    names = _Names.of(tokens)
    _check_grouping(tokens, names)
    writer = _Writer(tokens, names, values)
    sql, limit = writer.written()
    if limit is None:
        return Translation(f"{sql} limit {DEFAULT_ROWS + 1}", writer.parameters, names.tables, DEFAULT_ROWS, False)
    return Translation(sql, writer.parameters, names.tables, limit, True)


def _tokens(text: str) -> Iterator[_Token]:
    text, position = text.rstrip().rstrip(";"), 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            if not text[position:].strip():
                return
            raise HogQlError(f"The stand-in does not play this part of the query: {text[position : position + 20]!r}")
        yield _Token(found.lastgroup, found.group(found.lastgroup))
        position = found.end()


@dataclass(slots=True)
class _Names:
    """What the names of a query stand for.

    Attributes:
        tables: tables that are read.
        sources: table by the name or alias that a column may be prefixed with.
        aliases: names that the query gives by `as`.
        places: positions of tokens that name a table or give an alias.
    """

    tables: frozenset[str] = frozenset()
    sources: dict[str, str] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    places: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: list[_Token]) -> _Names:
        names = cls()
        for place, token in enumerate(tokens):
            after = tokens[place + 1] if place + 1 < len(tokens) else None
            if token.word in ("from", "join") and after is not None and after.text != "(":
                names._source(tokens, place + 1)
            elif token.word == "as" and after is not None and place + 1 not in names.places:
                names.aliases.add(after.parts[0] if after.kind == "name" else "")
                names.places[place + 1] = f"`{after.text}`"
        names.tables = frozenset(names.sources.values())
        return names

    def _source(self, tokens: list[_Token], place: int) -> None:
        table = ".".join(tokens[place].parts)
        if table not in TABLES:
            raise HogQlError(f"Unknown table `{table}`.")
        self.places[place] = TABLES[table][0]
        self.sources[table] = table
        rest = tokens[place + 1 : place + 3]
        if rest and rest[0].word == "as":
            rest, place = rest[1:], place + 1
        if rest and rest[0].kind == "name" and not rest[0].word:
            self.sources[rest[0].text] = table
            self.places[place + 1] = f"`{rest[0].text}`"

    def column(self, parts: tuple[str, ...]) -> tuple[str, str, str]:
        """Prefix, column and property of a name.

        Raises:
            HogQlError: no table of the query has such a column.
        """
        prefix, rest = ("", parts)
        if len(parts) > 1 and parts[0] in self.sources:
            prefix, rest = parts[0], parts[1:]
        sources = [self.sources[prefix]] if prefix else list(self.sources.values())
        known = any(rest[0] in TABLES[table][1] for table in sources) or (not prefix and rest[0] in self.aliases)
        if not known or len(rest) > 2 or (len(rest) == 2 and rest[0] != "properties"):
            raise HogQlError(f"Unable to resolve field: {'.'.join(parts)}")
        return prefix, rest[0], rest[1] if len(rest) == 2 else ""


def _check_grouping(tokens: list[_Token], names: _Names) -> None:
    """ClickHouse refuses a bare column beside an aggregate, where SQLite gives that of some row."""
    begins = next((place for place, token in enumerate(tokens) if token.word == "group"), len(tokens))
    grouped = {token.text for token in tokens[begins:]}
    depths: list[bool] = []
    bare, has_aggregate = "", False
    for place, token in enumerate(tokens[1:], start=1):
        if token.text == "(":
            is_aggregate = tokens[place - 1].text in AGGREGATES | {"uniq", "uniqExact"}
            has_aggregate |= is_aggregate
            depths.append(is_aggregate or (bool(depths) and depths[-1]))
        elif token.text == ")" and depths:
            depths.pop()
        elif token.word == "from" and not depths:
            break
        elif token.kind == "name" and not token.word and place not in names.places:
            after = [later.text for later in tokens[place + 1 : place + 3]]
            is_known = token.text in grouped or (after[:1] == ["as"] and after[-1] in grouped)
            is_covered = after[:1] == ["("] or (bool(depths) and depths[-1]) or is_known
            bare = bare or ("" if is_covered else token.text)
    if bare and (has_aggregate or begins < len(tokens)):
        raise HogQlError(f"Column `{bare}` is not under aggregate function and not in GROUP BY")


class _Writer:
    """Writes the tokens as SQLite's SQL."""

    def __init__(self, tokens: list[_Token], names: _Names, values: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._names = names
        self._values = values
        self._depth = 0
        self._orders: list[int] = []  # depths at which an ORDER BY is open
        self._has_property = False
        self._limit: int | None = None
        self.parameters: dict[str, Any] = {}

    def written(self) -> tuple[str, int | None]:
        """The statement, and the limit that it names itself, cut to PostHog's."""
        parts, place = [], 0
        while place < len(self._tokens):
            text, taken = self._part(place)
            parts.append(text)
            place += taken
        parts.append(self._end_of_order())
        return " ".join(parts), self._limit

    def _part(self, place: int) -> tuple[str, int]:
        """The SQL of the tokens from `place` on, and how many they are."""
        token = self._tokens[place]
        if place in self._names.places:
            return self._names.places[place], 1
        if token.kind == "name":
            if token.word:
                return self._keyword(place)
            return self._function(place) if self._next(place) == "(" else (self._column(place), 1)
        if token.kind == "sign":
            return self._sign(place), 1
        text = token.text
        if token.kind != "number":
            text = self._literal(token) if token.kind == "text" else self._value(place)
        return text, 1

    def _next(self, place: int, by: int = 1) -> str:
        return self._tokens[place + by].text if 0 <= place + by < len(self._tokens) else ""

    def _literal(self, token: _Token) -> str:
        text = token.text[1:-1].replace("''", "'")
        name = f"literal_{len(self.parameters)}"
        self.parameters[name] = re.sub(r"\\(.)", r"\1", text)
        return f":{name}"

    def _value(self, place: int) -> str:
        name = self._tokens[place].text[1:-1]
        if name not in self._values:
            raise HogQlError(f"Placeholder {{{name}}} is not available in this context.")
        value = self._values[name]
        is_list = isinstance(value, list)
        if is_list != (self._next(place, -1).lower() == "in"):
            raise HogQlError(f"The stand-in plays a list in {{{name}}} right after IN, and nothing else there.")
        if isinstance(value, bool | dict):
            raise HogQlError(f"The stand-in plays texts, numbers, nulls and lists in {{{name}}}.")
        self.parameters[name] = json.dumps(value) if is_list else value
        return f"(select value from json_each(:{name}))" if is_list else f":{name}"  # noqa: S608 - a bound name

    def _sign(self, place: int) -> str:
        text = self._tokens[place].text
        if text == "(":
            self._depth += 1
        elif text == ")":
            ending = self._end_of_order() if self._orders and self._orders[-1] == self._depth else ""
            self._depth -= 1
            return f"{ending} )"
        elif text == "," and self._orders and self._orders[-1] == self._depth:
            return self._nulls_last() + ","
        elif text in _COMPARISONS:
            self._check_comparison(place)
            return _COMPARISONS[text]
        return text

    def _keyword(self, place: int) -> tuple[str, int]:
        word = self._tokens[place].word
        if word == "not" and self._next(place).lower() == "in":
            raise HogQlError("The stand-in does not play NOT IN.")
        if word in _ENDS_ORDER:
            ending = self._end_of_order()
            if word == "limit":
                return f"{ending} limit {self._own_limit(place)}", 2
            return f"{ending} {word}", 1
        if word == "order":
            self._orders.append(self._depth)
            self._has_property = False
        return word, 1

    def _own_limit(self, place: int) -> int:
        number = self._next(place)
        if not number.isdigit():
            raise HogQlError("The stand-in plays LIMIT with a number.")
        limit = min(int(number), MOST_ROWS)
        if self._depth == 0:
            self._limit = limit
        return limit

    def _function(self, place: int) -> tuple[str, int]:
        name = self._tokens[place].text
        if name in ("uniq", "uniqExact"):
            self._depth += 1
            return "count(distinct", 2
        if name == "toString":
            self._depth += 1
            inner = self._tokens[place + 2] if place + 2 < len(self._tokens) else _Token("sign", "")
            is_plain = inner.kind == "name" and self._next(place, 3) == ")"
            if is_plain and self._names.column(inner.parts)[1] not in MOMENT_COLUMNS:
                return f"( {self._column(place + 2, as_text=True)}", 3
            raise HogQlError("The stand-in plays toString of a column that is no time.")
        if name == "count" and self._next(place, 2) == ")":
            return "count(*)", 3
        if name not in FUNCTIONS:
            raise HogQlError(f"Unsupported function call '{name}(...)'")
        return FUNCTIONS[name], 1

    def _column(self, place: int, *, as_text: bool = False) -> str:
        prefix, column, inner = self._names.column(self._tokens[place].parts)
        if column in UUID_COLUMNS and not as_text and self._orders and self._orders[-1] == self._depth:
            raise HogQlError(f"The stand-in does not play ClickHouse's order of UUIDs: order by toString({column}).")
        name = f"`{prefix}`.`{column}`" if prefix else f"`{column}`"
        if not inner:
            return name
        if '"' in inner:
            raise HogQlError(f"Unable to resolve field: properties.{inner}")
        self._has_property = True
        # A property is a text, whatever it was in JSON, and null where it is absent or null.
        escaped = inner.replace("'", "''")
        path = f"'$.\"{escaped}\"'"
        return (
            f"(case json_type({name}, {path}) when 'true' then 'true' when 'false' then 'false' when 'null' then null "
            f"else cast(json_extract({name}, {path}) as text) end)"
        )

    def _check_comparison(self, place: int) -> None:
        """Refuse what ClickHouse compares in a way of its own: UUIDs by order, times with texts."""
        left, right = self._tokens[place - 1], self._tokens[place + 1] if place + 1 < len(self._tokens) else None
        if right is None:
            raise HogQlError("mismatched input, expecting an expression")
        for one, other in ((left, right), (right, left)):
            if one.kind != "name" or one.word:
                continue
            column = one.parts[-1]
            if column in UUID_COLUMNS and self._tokens[place].text in ("<", ">", "<=", ">="):
                raise HogQlError(f"The stand-in does not play ClickHouse's order of UUIDs: compare toString({column}).")
            if column in MOMENT_COLUMNS and "properties" not in one.parts and other.kind in ("text", "value"):
                raise HogQlError(f"The stand-in compares `{column}` with toDateTime(...), not with a text.")

    def _nulls_last(self) -> str:
        """ClickHouse puts nulls last, SQLite first. Only properties can be null, and the words cost the index."""
        has_property, self._has_property = self._has_property, False
        return " nulls last" if has_property else ""

    def _end_of_order(self) -> str:
        if not self._orders or self._orders[-1] != self._depth:
            return ""
        self._orders.pop()
        return self._nulls_last()
