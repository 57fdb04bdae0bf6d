"""The same row gives the same JSON in every warehouse: one table of types and edge values, one truth for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from typing import Any

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_cases import (
    BOTH,
    CASES,
    EVENT,
    ON_SPARK,
    TYPES,
    TYPES_OF_POSTGRES,
    WAREHOUSES,
    Built,
)
from lab import Lab, Server, fresh_name, prepared_warehouse

from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse


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
