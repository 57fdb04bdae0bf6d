"""Types and edge values of each warehouse, and the one JSON that each comes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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


def integers() -> Iterator[Case]:
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


def decimals() -> Iterator[Case]:
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


def floats() -> Iterator[Case]:
    doubles = [
        *(("1e308", 1e308), ("-1e308", -1e308), ("5e-324", 5e-324), ("1e-7", 1e-7), ("0.1", 0.1), ("0", 0)),
        *(("0.30000000000000004", 0.1 + 0.2), ("1e16", 1e16), ("100000", 100000), ("-0.0", -0.0)),
        *(("NaN", None), ("Infinity", None), ("-Infinity", None)),
    ]
    yield from everywhere("double", ("null", None), *((f"'{text}'", value) for text, value in doubles))
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


def lists() -> Iterator[Case]:
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


def nested() -> Iterator[Case]:
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
CASES = [*integers(), *decimals(), *floats(), *texts(), *times(), *documents(), *lists(), *nested()]
TYPES_OF_POSTGRES = (
    "drop domain if exists lab_domain_of_domain, lab_domain cascade",
    "drop type if exists lab_enum cascade",
    "create type lab_enum as enum ('a', 'it''s \"b\"', 'c,d')",
    "create domain lab_domain as varchar(9)",
    "create domain lab_domain_of_domain as lab_domain check (value <> '')",
)

Built = dict[int, Any]
