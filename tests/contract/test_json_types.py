"""The same row gives the same JSON in every warehouse: one table of types and edge values, one truth for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, Server, fresh_name, prepared_warehouse

from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

EVENT: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": {"value": "seen"},
    "timestamp": "seen_at",
}
BOTH = ("duckdb", "postgres")
WAREHOUSES = (*BOTH, "spark")
LONG = 'é\\"' * 20_000
BEYOND = 2**53 + 1


class Case(NamedTuple):
    """One value as each warehouse writes it, None where it has no such value, and its JSON."""

    kind: str
    duckdb: str | None
    postgres: str | None
    expected: Any

    def literal(self, warehouse: str) -> str | None:
        if warehouse == "spark":
            # Java writes the smallest double as 4.9E-324, which is read as the same; Spark reads no further than (BC).
            is_its_own = self.duckdb is not None and ("5e-324" in self.duckdb or "(BC)" in self.duckdb)
            return self.duckdb if self.kind in ON_SPARK and not is_its_own else None
        return self.duckdb if warehouse == "duckdb" else self.postgres


# Name of a column -> its type in DuckDB and in Postgres, None where there is none.
TYPES: dict[str, tuple[str | None, str | None]] = {
    "boolean": ("boolean", "boolean"),
    "smallint": ("smallint", "smallint"),
    "integer": ("integer", "integer"),
    "bigint": ("bigint", "bigint"),
    "hugeint": ("hugeint", None),
    "uhugeint": ("uhugeint", None),
    "oid": (None, "oid"),
    "decimal_small": ("decimal(10, 2)", "numeric(10, 2)"),
    "decimal_wide": ("decimal(38, 20)", "numeric(38, 20)"),
    "decimal_whole": ("decimal(38, 0)", "numeric(38, 0)"),
    "numeric": (None, "numeric"),
    "double": ("double", "float8"),
    "real": ("float", "float4"),
    "text": ("varchar", "text"),
    "varchar": ("varchar(20)", "varchar(20)"),
    "char": ("char(5)", "char(5)"),
    "uuid": ("uuid", "uuid"),
    "enum": ("enum('a', 'it''s \"b\"', 'c,d')", "lab_enum"),
    "date": ("date", "date"),
    "time": ("time", "time"),
    "timetz": ("timetz", "timetz"),
    "interval": ("interval", "interval"),
    "interval_part": (None, "interval day to second(3)"),
    "timestamp": ("timestamp", "timestamp"),
    "timestamp_s": ("timestamp_s", "timestamp(0)"),
    "timestamp_ns": ("timestamp_ns", None),
    "timestamptz": ("timestamptz", "timestamptz"),
    "json": ("json", "json"),
    "jsonb": (None, "jsonb"),
    "bigints": ("bigint[]", "bigint[]"),
    "texts": ("varchar[]", "text[]"),
    "doubles": ("double[]", "float8[]"),
    "timestamps": ("timestamp[]", "timestamp[]"),
    "jsons": ("json[]", "json[]"),
    "square": ("integer[][]", "integer[][]"),
    "timestamp_square": ("timestamp[][]", "timestamp[][]"),
    "triple": ("double[2]", None),
    "struct": ('struct(a date, "b ""c"", d" double, e struct(f bigint[]))', None),
    "structs": ("struct(a bigint)[]", None),
    "map": ("map(varchar, bigint)", None),
    "map_of_maps": ("map(integer, map(varchar, timestamp))", None),
    "domain": (None, "lab_domain"),
    "domain_of_domain": (None, "lab_domain_of_domain"),
    "domains": (None, "lab_domain[]"),
    "inet": (None, "inet"),
    "name": (None, "name"),
    "single_char": (None, '"char"'),
}


# Spark is given what DuckDB is, translated, of the types that it has.
ON_SPARK = frozenset(
    (
        *("boolean", "smallint", "integer", "bigint", "decimal_small", "decimal_wide", "decimal_whole", "double"),
        *("real", "text", "date", "timestamp", "timestamptz", "bigints", "texts", "doubles", "timestamps", "square"),
        *("timestamp_square", "structs"),
    )
)


def everywhere(kind: str, *values: tuple[str, Any]) -> Iterator[Case]:
    for literal, expected in values:
        duckdb, postgres = (literal if name else None for name in TYPES[kind])
        yield Case(kind, duckdb, postgres, expected)


def each(kind: str, *values: tuple[str | None, str | None, Any]) -> Iterator[Case]:
    for duckdb, postgres, expected in values:
        yield Case(kind, duckdb, postgres, expected)


def numbers() -> Iterator[Case]:
    yield from everywhere("boolean", ("true", True), ("false", False), ("null", None))
    yield from everywhere("smallint", ("-32768", -32768), ("0", 0), ("null", None))
    yield from everywhere("integer", ("2147483647", 2147483647), ("-2147483648", -2147483648))
    yield from everywhere(
        "bigint",
        ("9007199254740992", 2**53),
        ("9007199254740993", "9007199254740993"),
        ("-9007199254740992", -(2**53)),
        ("-9007199254740993", "-9007199254740993"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("null", None),
    )
    yield from everywhere("hugeint", ("7", 7), (str(-(2**120)), str(-(2**120))))
    yield from everywhere("uhugeint", ("7", 7), (str(2**128 - 1), str(2**128 - 1)))
    yield from everywhere("oid", ("4294967295", 4294967295))
    yield from everywhere("decimal_small", ("1.50", 1.5), ("-0.01", -0.01), ("99999999.99", 99999999.99), ("0", 0))
    yield from each("decimal_small", (None, "'NaN'", None))
    yield from everywhere(
        "decimal_wide",
        ("0.1", 0.1),
        ("123456789.012345", 123456789.012345),
        ("0.30000000000000004", "0.30000000000000004000"),
        ("9007199254740991.5", "9007199254740991.50000000000000000000"),
        ("0.00000000000000000001", 1e-20),
        ("-100", -100),
        ("null", None),
    )
    yield from everywhere(
        "decimal_whole",
        ("9007199254740992", 2**53),
        ("9007199254740993", "9007199254740993"),
        ("12300000000000000000", 1.23e19),
        ("9" * 38, "9" * 38),
    )
    yield from everywhere(
        "numeric",
        ("1e308", 1e308),
        ("1e400", "1" + "0" * 400),
        ("1e-7", 1e-7),
        ("1e-20", 1e-20),
        ("'NaN'", None),
        ("'Infinity'", None),
        ("'-Infinity'", None),
    )
    floats = [
        *(("1e308", 1e308), ("-1e308", -1e308), ("5e-324", 5e-324), ("1e-7", 1e-7), ("0.1", 0.1), ("0", 0)),
        *(("0.30000000000000004", 0.1 + 0.2), ("1e16", 1e16), ("100000", 100000), ("-0.0", -0.0)),
        *(("NaN", None), ("Infinity", None), ("-Infinity", None)),
    ]
    yield from everywhere("double", ("null", None), *((f"'{text}'", value) for text, value in floats))
    yield from everywhere(
        "real",
        ("'0.1'", 0.1),
        ("'1e38'", 1e38),
        ("'1e-7'", 1e-7),
        ("'NaN'", None),
        ("'-Infinity'", None),
        ("'-0.0'", -0.0),
    )


def texts() -> Iterator[Case]:
    yield from everywhere(
        "text",
        ("''", ""),
        ("null", None),
        ("' a '", " a "),
        ("'it''s \"quoted\" \\ \\\\ \\n /'", 'it\'s "quoted" \\ \\\\ \\n /'),
        (" || ".join(f"chr({code})" for code in range(1, 32)), "".join(map(chr, range(1, 32)))),
        ("chr(127) || chr(128) || chr(133) || chr(159)", "\x7f\x80\x85\x9f"),
        ("chr(8232) || chr(8233) || chr(65279) || chr(65535)", "\u2028\u2029\ufeff\uffff"),
        ("'😀👩‍👩‍👧 é ß 漢字'", "😀👩‍👩‍👧 é ß 漢字"),
        ("'\\u0000 \\ud800'", "\\u0000 \\ud800"),
        ("'%s %(x)s {{ y }} {% z %} $1 ?'", "%s %(x)s {{ y }} {% z %} $1 ?"),
        ("repeat('é\\\"', 20000)", LONG),
    )
    yield from each("text", ("'a' || chr(0) || 'b' || chr(0)", None, "a\ufffdb\ufffd"))
    yield from everywhere("varchar", ("'abc'", "abc"))
    yield from everywhere("char", ("'ab'", "ab"), ("''", ""))
    yield from everywhere("uuid", ("'550E8400-E29B-41D4-A716-446655440000'", "550e8400-e29b-41d4-a716-446655440000"))
    yield from everywhere("enum", ("'it''s \"b\"'", 'it\'s "b"'), ("'c,d'", "c,d"), ("null", None))
    yield from everywhere("domain", ("'x\"'", 'x"'))
    yield from everywhere("domain_of_domain", ("'y'", "y"), ("null", None))
    yield from everywhere("domains", ("'{x,NULL}'", ["x", None]))
    yield from everywhere("inet", ("'10.0.0.1'", "10.0.0.1"), ("'10.0.0.0/8'", "10.0.0.0/8"), ("'::1'", "::1"))
    yield from everywhere("name", ("'n'", "n"))
    yield from everywhere("single_char", ("'c'", "c"))


def times() -> Iterator[Case]:
    yield from everywhere(
        "date",
        ("'2026-02-28'", "2026-02-28"),
        ("'0001-01-01'", "0001-01-01"),
        ("'9999-12-31'", "9999-12-31"),
        ("'10000-01-01'", None),
        ("'300000-01-01'", None),
        ("'infinity'", None),
        ("'-infinity'", None),
        ("null", None),
    )
    yield from each("date", ("'0044-03-15 (BC)'", "'0044-03-15 BC'", None))
    yield from everywhere(
        "time", ("'12:34:56'", "12:34:56"), ("'00:00:00.5'", "00:00:00.5"), ("'23:59:59.999999'", "23:59:59.999999")
    )
    yield from everywhere("timetz", ("'12:34:56+02'", "12:34:56+02"), ("'12:34:56.5-03:30'", "12:34:56.5-03:30"))
    yield from everywhere(
        "interval",
        ("interval '14 months 40 days 30:05:06.5'", "P1Y2M40DT30H5M6.5S"),
        ("interval '-1 year 2 days -3 hours 4 seconds'", "P-1Y2DT-2H-59M-56S"),
        ("interval '-0.5 seconds'", "PT-0.5S"),
        ("interval '1 microsecond'", "PT0.000001S"),
        ("interval '0 seconds'", "PT0S"),
        ("interval '1 day'", "P1D"),
        ("interval '24 hours'", "PT24H"),
        ("null", None),
    )
    yield from everywhere("interval_part", ("interval '1.5 seconds'", "PT1.5S"))
    moments = (
        *(("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"), ("2026-01-02 03:04:05.1000", "2026-01-02T03:04:05.1Z")),
        *(("0001-01-01 00:00:00", "0001-01-01T00:00:00Z"), ("10000-01-01 00:00:00", None)),
        *(("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"), ("290000-01-01 00:00:00", None)),
        *(("infinity", None), ("-infinity", None)),
    )
    yield from everywhere("timestamp", ("null", None), *((f"'{text}'", expected) for text, expected in moments))
    yield from each("timestamp", ("'0044-03-15 (BC) 01:00:00'", "'0044-03-15 01:00:00 BC'", None))
    with_zone = ((text if "inf" in text else f"{text}+00", expected) for text, expected in moments)
    yield from everywhere("timestamptz", ("null", None), *((f"'{text}'", expected) for text, expected in with_zone))
    yield from everywhere(
        "timestamptz",
        ("'2026-01-02 03:04:05+05:30'", "2026-01-01T21:34:05Z"),
        ("'0001-01-01 00:30:00+01'", None),
        ("'9999-12-31 23:30:00-01'", None),
    )
    yield from everywhere(
        "timestamp_s", ("'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"), ("'10000-01-01 00:00:00'", None)
    )
    yield from everywhere("timestamp_ns", ("'2026-01-02 03:04:05.123456'", "2026-01-02T03:04:05.123456Z"))


def documents() -> Iterator[Case]:
    shared: list[tuple[str, Any]] = [
        ('{"a": {"b": [1, {"c": null}]}, "d": true}', {"a": {"b": [1, {"c": None}]}, "d": True}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("[1,\n\t2,\r\n3]", [1, 2, 3]),
        ('"\\ud83d\\ude00 \\u00e9 \\u001f \\/ \\n \\t"', "😀 é \x1f / \n \t"),
        ('"\\\\u0000 \\\\ud800 \\\\\\\\u0000"', "\\u0000 \\ud800 \\\\u0000"),
        ("[9007199254740992, 9007199254740993, -9007199254740993]", [2**53, str(BEYOND), str(-BEYOND)]),
        ('{"9007199254740993": "9007199254740993 1e400"}', {"9007199254740993": "9007199254740993 1e400"}),
        ('["a\\"9007199254740993", 9007199254740993]', ['a"9007199254740993', str(BEYOND)]),
        ("[0.12345678901234567890, 0.30000000000000004]", ["0.12345678901234567890", 0.1 + 0.2]),
        ("[12300000000000000000, 1.0, 1.50, 0.00, 52.520008123456789]", [1.23e19, 1, 1.5, 0, "52.520008123456789"]),
        ("[1e5, 1E-7, 1.5e300]", [1e5, 1e-7, 1.5e300]),
        ("null", None),
        (" null ", None),
        ("[null]", [None]),
        ('""', ""),
        ("{}", {}),
        ('["NaN", " nan ,", ",]", "[1,]"]', ["NaN", " nan ,", ",]", "[1,]"]),
    ]
    for kind in ("json", "jsonb"):
        yield from everywhere(kind, ("null", None), *((f"'{text}'", expected) for text, expected in shared))
    yield from everywhere(
        "json",
        ("'[1e400, -1e400, 1e-400, 1E99999]'", ["1e400", "-1e400", "1e-400", "1E99999"]),
        ('\'["\\u0000", {"\\u0000k": "x\\u0000\\u0000"}]\'', ["\ufffd", {"\ufffdk": "x\ufffd\ufffd"}]),
        ("'[1" + "0" * 400 + "]'", ["1" + "0" * 400]),
    )
    yield from each(
        "json", (None, "'\"\\ud800 \\udc00 \\ud83d\\ud83d\\ude00 \\\\\\ud800\"'", "\ufffd \ufffd \ufffd😀 \\\ufffd")
    )
    yield from everywhere("jsonb", ("'[1e400]'", ["1" + "0" * 400]))
    # DuckDB takes these for JSON; PostHog's parser would refuse the whole request.
    yield from each(
        "json",
        ("'[NaN, nan, -Infinity, Inf, 1]'", None, [None, None, None, None, 1]),
        ("'NaN'", None, None),
        ('\'{"a": NaN, "b": [1, 2 , ], }\'', None, {"a": None, "b": [1, 2]}),
    )


def nested() -> Iterator[Case]:
    yield from each(
        "bigints",
        ("[1, 9007199254740993, null]", "array[1, 9007199254740993, null]", [1, str(BEYOND), None]),
        ("[]", "'{}'", []),
        ("null", "null", None),
        (None, "'[0:1]={1,2}'", [1, 2]),
    )
    yield from each(
        "texts",
        ("['a\"b,', null, '', '{}']", "array['a\"b,', null, '', '{}']", ['a"b,', None, "", "{}"]),
        ("[chr(10) || '\\']", "array[chr(10) || '\\']", ["\n\\"]),
        (None, "'{{a,b},{NULL,\"1234567890123456789\"}}'", [["a", "b"], [None, "1234567890123456789"]]),
    )
    yield from each(
        "doubles",
        ("['NaN'::double, 1.5, 'Infinity'::double, null]", "'{NaN,1.5,Infinity,NULL}'", [None, 1.5, None, None]),
        (None, "'{{NaN,1},{2,-Infinity}}'", [[None, 1], [2, None]]),
    )
    yield from each(
        "timestamps",
        ("['2026-01-02 03:04:05', 'infinity']", "'{2026-01-02 03:04:05,infinity}'", ["2026-01-02T03:04:05Z", None]),
    )
    yield from each("jsons", ("['[1]', '{\"a\":\n2}']", "array['[1]'::json, '{\"a\":\n2}']", [[1], {"a": 2}]))
    yield from each(
        "square",
        ("[[1, 2], [3, null]]", "'{{1,2},{3,NULL}}'", [[1, 2], [3, None]]),
        ("[[1], [2]]", "'{{1},{2}}'", [[1], [2]]),
        ("[]", "'{}'", []),
        (None, "'{{{1,2},{3,4}},{{5,6},{7,8}},{{9,10},{11,12}}}'", THREE_DIMENSIONS),
        (None, "'{{{{1}}}}'", [[[[1]]]]),
    )
    yield from each(
        "timestamp_square",
        (
            "[['2026-01-02 03:04:05'], ['infinity']]",
            "'{{2026-01-02 03:04:05},{infinity}}'",
            [["2026-01-02T03:04:05Z"], [None]],
        ),
    )
    yield from everywhere("triple", ("[1, 'NaN'::double]", [1, None]))
    yield from everywhere(
        "struct",
        (
            "row('2026-01-02', 1.5, row([9007199254740993]))",
            {"a": "2026-01-02", 'b "c", d': 1.5, "e": {"f": [str(BEYOND)]}},
        ),
        ("row(null, 'NaN', null)", {"a": None, 'b "c", d': None, "e": None}),
        ("null", None),
    )
    yield from everywhere("structs", ("[{'a': 1}, null, {'a': null}]", [{"a": 1}, None, {"a": None}]), ("[]", []))
    yield from everywhere(
        "map", ("map {'a\"': 9007199254740993, chr(0): null}", {'a"': str(BEYOND), "\ufffd": None}), ("map {}", {})
    )
    yield from everywhere(
        "map_of_maps", ("map {1: map {'x': 'infinity'::timestamp}, 2: null}", {"1": {"x": None}, "2": None})
    )


THREE_DIMENSIONS = [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]]
CASES = [*numbers(), *texts(), *times(), *documents(), *nested()]
TYPES_OF_POSTGRES = (
    "drop domain if exists lab_domain_of_domain, lab_domain cascade",
    "drop type if exists lab_enum cascade",
    "create type lab_enum as enum ('a', 'it''s \"b\"', 'c,d')",
    "create domain lab_domain as varchar(9)",
    "create domain lab_domain_of_domain as lab_domain check (value <> '')",
)

Built = dict[int, Any]


def strict(row: Row) -> dict[str, Any]:
    """Parse a message as PostHog does: strict UTF-8, strict JSON, no raw control characters, no lost digits."""
    assert not [byte for byte in row.head + row.properties if byte < 0x20]
    head = json.loads(f"{{{row.head.decode()}}}")
    assert set(head) == {"event", "distinct_id", "timestamp"}
    text = row.properties.decode("utf-8", errors="strict")
    parsed: dict[str, Any] = json.loads(
        f"{{{text[1:]}}}", parse_float=as_double, parse_int=as_double, parse_constant=pytest.fail
    )
    json.dumps(parsed, ensure_ascii=False).encode("utf-8")  # fails on half of a surrogate pair
    return parsed


def as_double(text: str) -> float:
    value = float(text)
    assert Decimal(repr(value)) == Decimal(text), f"a double reads {text} as {value!r}"
    return value


def comparable(value: Any) -> Any:
    """A value whose repr is the same for the same JSON: numbers as doubles, members in order of name."""
    if isinstance(value, dict):
        return {key: comparable(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Labs = Callable[[str], AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def labs(
    request: pytest.FixtureRequest, warehouses: dict[str, DbtWarehouse], tmp_path_factory: pytest.TempPathFactory
) -> Labs:
    """A lab of each warehouse; nothing is sent from it."""

    @contextmanager
    def lab_of(kind: str) -> Iterator[Lab]:
        server: Server = request.getfixturevalue({"duckdb": "duckdb_file"}.get(kind, kind))
        if kind not in warehouses:
            warehouses[kind] = prepared_warehouse(server, tmp_path_factory.mktemp(kind))
        with warehouses[kind] as warehouse:
            yield Lab(server, StandIn(), warehouse, fresh_name("types"), fresh_name("state"))

    return lab_of


@pytest.fixture(scope="module")
def built(labs: Labs) -> Callable[[str], Built]:
    """What a warehouse makes of every case, by the case's number; one table and one stream for all."""
    known: dict[str, Built] = {}

    def of(warehouse: str) -> Built:
        if warehouse not in known:
            with labs(warehouse) as lab:  # skips where the warehouse cannot be had
                known[warehouse] = {}  # a table that cannot be read fails every case, but is tried once
                known[warehouse] = build(lab)
        return known[warehouse]

    return of


def build(lab: Lab) -> Built:
    place = 1 if lab.server.kind == "postgres" else 0
    types = {name: both[place] for name, both in TYPES.items() if both[place]}
    if lab.server.kind == "spark":
        types = {name: written for name, written in types.items() if name in ON_SPARK}
    statements = [*TYPES_OF_POSTGRES] if lab.server.kind == "postgres" else []
    columns = "".join(f', "{name}" {written}' for name, written in types.items())
    statements.append(f"create table {lab.table} (id integer, person varchar, seen_at timestamp{columns})")
    for kind, written in types.items():
        literals = [(n, case.literal(lab.server.kind)) for n, case in enumerate(CASES) if case.kind == kind]
        rows = ", ".join(
            f"({number}, 'u', timestamp '2026-01-02 03:04:05', cast({literal} as {written}))"
            for number, literal in literals
            if literal is not None
        )
        statements.append(f'insert into {lab.table} (id, person, seen_at, "{kind}") values {rows}')
    run_all(lab.server, statements)
    parsed = [strict(row) for row in lab.messages({**EVENT, "properties": "all"})]
    return {int(message["id"]): message[CASES[int(message["id"])].kind] for message in parsed}


def run_all(server: Server, statements: list[str]) -> None:
    connection = server.connect()
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
    finally:
        connection.close()


def case_ids() -> list[Any]:
    return [
        pytest.param(warehouse, number, id=f"{warehouse}-{case.kind}-{number}")
        for number, case in enumerate(CASES)
        for warehouse in WAREHOUSES
        if case.literal(warehouse) is not None
    ]


@pytest.mark.parametrize(("warehouse", "number"), case_ids())
def test_a_value_becomes_the_same_json_everywhere(warehouse: str, number: int, built: Callable[[str], Built]) -> None:
    case = CASES[number]
    assert repr(comparable(case.expected)) == repr(comparable(built(warehouse)[number])), case.literal(warehouse)


ZONED = (
    # local time, UTC by Berlin, UTC by New York
    ("2026-01-02 12:00:00", "2026-01-02T11:00:00Z", "2026-01-02T17:00:00Z"),
    ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z", "2026-03-29T06:30:00Z"),  # does not exist in Berlin
    ("2026-10-25 02:30:00", "2026-10-25T01:30:00Z", "2026-10-25T06:30:00Z"),  # is there twice in Berlin
    ("2026-03-08 02:30:00", "2026-03-08T01:30:00Z", "2026-03-08T07:30:00Z"),  # does not exist in New York
    ("1880-01-01 00:00:00", "1879-12-31T23:06:32Z", "1880-01-01T04:56:02Z"),
    ("0001-01-01 00:00:00", None, "0001-01-01T04:56:02Z"),
    ("9999-12-31 23:30:00", "9999-12-31T22:30:00Z", None),
    ("290000-01-01 00:00:00", None, None),
    ("infinity", None, None),
    ("-infinity", None, None),
)


@pytest.mark.parametrize("warehouse", WAREHOUSES)
@pytest.mark.parametrize(("zone", "place"), [("Europe/Berlin", 1), ("America/New_York", 2)])
def test_naive_timestamps_are_meant_in_the_declared_zone(warehouse: str, zone: str, place: int, labs: Labs) -> None:
    with labs(warehouse) as lab:
        rows = " union all ".join(
            f"select {number} as id, timestamp '{local[0]}' as local_time" for number, local in enumerate(ZONED)
        )
        lab.build(f"select id, 'u' as person, timestamp '2026-01-02 03:04:05' as seen_at, local_time from ({rows}) t")
        found = [strict(row) for row in lab.messages({**EVENT, "properties": "all", "time_zone": zone})]
        assert [row[place] for row in ZONED] == [m["local_time"] for m in sorted(found, key=lambda m: float(m["id"]))]


@pytest.mark.parametrize("warehouse", WAREHOUSES)
def test_a_day_is_the_midnight_of_its_zone_when_it_is_the_time_of_an_event(warehouse: str, labs: Labs) -> None:
    with labs(warehouse) as lab:
        lab.build("select 1 as id, 'u' as person, date '2026-01-02' as seen_at")
        heads = [lab.messages({**EVENT, "time_zone": zone, "properties": {}})[0].head for zone in ("UTC", "Asia/Tokyo")]
        times = [json.loads(b"{" + head + b"}")["timestamp"] for head in heads]
        assert times == ["2026-01-02T00:00:00Z", "2026-01-01T15:00:00Z"]


def test_citext_keeps_its_case_wherever_it_is_installed(labs: Labs) -> None:
    with labs("postgres") as lab:
        try:
            run_all(lab.server, ["create schema if not exists lab_extensions"])
            run_all(lab.server, ["create extension if not exists citext schema lab_extensions"])
        except psycopg2.Error as error:
            pytest.skip(f"this server has no citext: {error}")
        installed = lab.server.sql("select extnamespace::regnamespace::text from pg_extension where extname = 'citext'")
        value = f"'Ab'::{installed[0][0]}.citext as v"
        lab.build(f"select 1 as id, 'u' as person, timestamp '2026-01-02 03:04:05' as seen_at, {value}")
        annotation = {**EVENT, "properties": ["v"]}
        assert strict(lab.messages(annotation)[0]) == {"v": "Ab"}
        assert [column.name for column in lab.resolve(annotation).hashed_columns if column.hash_as_text] == ["v"]


@pytest.mark.parametrize("warehouse", BOTH)
def test_a_table_may_be_wider_than_an_expression_is_deep(warehouse: str, labs: Labs) -> None:
    with labs(warehouse) as lab:
        columns = ", ".join(f"{number} as c{number}" for number in range(520))
        lab.build(f"select 1 as id, 'u' as person, timestamp '2026-01-02 03:04:05' as seen_at, {columns}")
        assert len(strict(lab.messages({**EVENT, "properties": "all"})[0])) == 521


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@pytest.mark.parametrize("warehouse", BOTH)
@settings(max_examples=3, deadline=None)
@given(texts=st.lists(ANY_TEXT, min_size=50, max_size=200))
def test_any_text_arrives_as_it_was(warehouse: str, labs: Labs, texts: list[str]) -> None:
    """One table for many texts: each is a text, a JSON string, a part of an array, and a distinct id."""
    with labs(warehouse) as lab:
        as_array = "array[{}]" if warehouse == "postgres" else "[{}]"
        rows = ", ".join(
            f"({number}, {quoted(text)}, {quoted(json.dumps(chr(0) + text))}, {as_array.format(quoted(text))})"
            for number, text in enumerate(texts)
        )
        lab.build(
            "select id, 'x' || v as person, timestamp '2026-01-02 03:04:05' as seen_at, v, cast(j as json) as j, a "
            f"from (values {rows}) t(id, v, j, a)"
        )
        rows_back = lab.messages({**EVENT, "properties": ["id", "v", "j", "a"]})
        found = {int(message["id"]): message for message in map(strict, rows_back)}
        expected = [{"id": n, "v": text, "j": f"\ufffd{text}", "a": [text]} for n, text in enumerate(texts)]
        assert [found[number] for number in range(len(texts))] == expected


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
