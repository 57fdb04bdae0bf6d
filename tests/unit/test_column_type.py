"""Names of types, read into the family that decides how a value becomes JSON."""

from __future__ import annotations

import pytest

from dbt_posthog_sync.column_type import ColumnType, Family


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("BOOLEAN", Family.BOOLEAN),
        ("integer", Family.INTEGER),
        ("oid", Family.INTEGER),
        ("UTINYINT", Family.INTEGER),
        ("bigint", Family.BIGINT),
        ("UHUGEINT", Family.BIGINT),
        ("numeric", Family.DECIMAL),
        ("DECIMAL(38,20)", Family.DECIMAL),
        ("double precision", Family.FLOAT),
        ("real", Family.FLOAT),
        ("text", Family.TEXT),
        ("character varying(20)", Family.TEXT),
        ("character(5)", Family.TEXT),
        ('"char"', Family.TEXT),
        ("citext", Family.TEXT),
        ("inet", Family.TEXT),
        ("macaddr8", Family.TEXT),
        ("uuid", Family.UUID),
        ("ENUM('a', 'it''s) [b]')", Family.ENUM),
        ("date", Family.DATE),
        ("time(3) without time zone", Family.TIME),
        ("TIME WITH TIME ZONE", Family.TIME),
        ("TIME_NS", Family.TIME),
        ("interval", Family.INTERVAL),
        ("interval day to second(3)", Family.INTERVAL),
        ("interval(3)", Family.INTERVAL),
        ("timestamp(3) without time zone", Family.TIMESTAMP),
        ("TIMESTAMP_NS", Family.TIMESTAMP),
        ("timestamp with time zone", Family.TIMESTAMP_TZ),
        ("timestamp(6) with time zone", Family.TIMESTAMP_TZ),
        (" json ", Family.JSON_TEXT),
        ("jsonb", Family.JSON),
        ("bytea", Family.UNSUPPORTED),
        ("BLOB", Family.UNSUPPORTED),
        ("composite type date", Family.UNSUPPORTED),
        ("money", Family.UNSUPPORTED),
        ("UNION(a INTEGER)", Family.UNSUPPORTED),
        ("STRUCT()", Family.UNSUPPORTED),
        ("MAP(VARCHAR)", Family.MAP),
        ("", Family.UNSUPPORTED),
    ],
)
def test_a_name_has_a_family(text: str, family: Family) -> None:
    parsed = ColumnType.parse(text)
    assert (family, text) == (parsed.family, parsed.text)
    assert parsed.is_supported is (family is not Family.UNSUPPORTED)


@pytest.mark.parametrize(
    ("text", "digits"), [("numeric(10,2)", 10), ("DECIMAL(5)", 5), ("numeric", None), ("bigint", None)]
)
def test_a_decimal_knows_its_digits(text: str, digits: int | None) -> None:
    assert digits == ColumnType.parse(text).digits


@pytest.mark.parametrize(
    "text", ["bigint[]", "BIGINT[3]", "numeric(10,2)[]", "ENUM('a', 'b]')[]", 'STRUCT("a]" DATE)[]']
)
def test_an_array_has_an_element(text: str) -> None:
    parsed = ColumnType.parse(text)
    assert parsed.element is not None
    assert (Family.ARRAY, text[: text.rindex("[")]) == (parsed.family, parsed.element.text)


def test_a_struct_has_fields_in_order_whatever_their_names_hold() -> None:
    parsed = ColumnType.parse(
        'STRUCT(a DATE, "b ""c"", d" DECIMAL(10,2), e STRUCT(f BIGINT[], "g h" MAP(VARCHAR, JSON)))'
    )
    assert [name for name, _ in parsed.fields] == ["a", 'b "c", d', "e"]
    assert [field.family for _, field in parsed.fields] == [Family.DATE, Family.DECIMAL, Family.STRUCT]
    inner = parsed.fields[2][1]
    assert [name for name, _ in inner.fields] == ["f", "g h"]
    assert [field.family for _, field in inner.fields] == [Family.ARRAY, Family.MAP]


def test_a_map_has_values_and_keys_with_one_text() -> None:
    parsed = ColumnType.parse("MAP(VARCHAR, DOUBLE[])")
    assert parsed.element is not None
    assert (parsed.family, parsed.element.family) == (Family.MAP, Family.ARRAY)
    assert Family.UNSUPPORTED is ColumnType.parse("MAP(DATE, INTEGER)").family


@pytest.mark.parametrize(
    "text", ["BLOB[]", "STRUCT(a DATE, b BLOB)", "MAP(VARCHAR, BLOB)", "STRUCT(a STRUCT(b BLOB[]))[]"]
)
def test_what_holds_something_unsupported_is_unsupported(text: str) -> None:
    assert not ColumnType.parse(text).is_supported


def test_only_types_with_one_canonical_text_name_somebody() -> None:
    naming = ["integer", "bigint", "numeric", "text", "uuid", "enum"]
    others = ["double", "json", "jsonb", "boolean", "date", "timestamp", "text[]", "interval", "bytea"]
    assert [True] * len(naming) == [ColumnType.parse(text).can_be_identity for text in naming]
    assert [False] * len(others) == [ColumnType.parse(text).can_be_identity for text in others]


def test_only_timestamps_and_dates_are_points_in_time() -> None:
    assert all(ColumnType.parse(text).can_be_time for text in ("timestamp", "timestamptz", "date"))
    assert not any(ColumnType.parse(text).can_be_time for text in ("text", "time", "interval", "bigint"))


def test_the_macros_read_a_tree() -> None:
    leaf: dict[str, object] = {"element": None, "fields": [], "digits": None}
    assert {
        "text": "STRUCT(a DECIMAL(4,1)[])",
        "family": "struct",
        "digits": None,
        "element": None,
        "fields": [
            {
                "name": "a",
                "type": {
                    **{"text": "DECIMAL(4,1)[]", "family": "array", "digits": None, "fields": []},
                    "element": {**leaf, "text": "DECIMAL(4,1)", "family": "decimal", "digits": 4},
                },
            }
        ],
    } == ColumnType.parse("STRUCT(a DECIMAL(4,1)[])").for_macro()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("array<bigint>", "array<bigint>"),
        ("array<struct<a:bigint,b c:array<string>>>", "array<struct<a bigint, b c array<text>>>"),
        ("ARRAY<STRUCT<a INT64, b ARRAY<STRING>>>", "array<struct<a bigint, b array<text>>>"),
        ("map<string,decimal(10,2)>", "map<decimal>"),
        ("struct<`odd`:timestamp>", "struct<odd timestamp_tz>"),
        ("array<interval day to second>", "unsupported<unsupported>"),
        ("timestamp_ntz", "timestamp"),
        ("array", "json"),
    ],
)
def test_an_adapter_says_what_its_types_mean(text: str, kind: str) -> None:
    names = {"timestamp": "timestamptz", "interval": "unsupported", "array": "jsonb"}
    assert kind == ColumnType.parse(text, names).kind
