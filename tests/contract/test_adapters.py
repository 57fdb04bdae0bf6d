"""Every statement of every object, as each adapter writes it: what cannot run here is rendered and parsed.

The statements are those that the program really asks for, in runs on DuckDB; types and names are the adapter's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from lab import Lab, Server
from people import finding_persons_in, make_person
from rendering import MACROS, Dialect, Rendering
from sqlglot import exp

import dbt_posthog_sync
from dbt_posthog_sync.column_type import ColumnType, Family
from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.rights import probe_rights

_COMMON = {"boolean": "boolean", "integer": "int", "bigint": "bigint", "text": "varchar", "date": "date"}
_SPARK = {**_COMMON, "text": "string", "decimal": "decimal(38,9)", "float": "double", "timestamp": "timestamp_ntz"}
_NESTED = {"array": "array<timestamp>", "struct": "struct<a:bigint,b:array<string>>", "map": "map<string,double>"}
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "spark", {**_SPARK, **_NESTED, "timestamp_tz": "timestamp", "json": "variant"}, (), "`", database=False
        ),
        Dialect("databricks", {**_SPARK, **_NESTED, "timestamp_tz": "timestamp", "json": "variant"}, ("spark",), "`"),
        Dialect(
            "snowflake",
            {
                **{**_COMMON, "integer": "number(38,0)", "bigint": "number(38,0)", "decimal": "number(38,9)"},
                **{"float": "float", "timestamp": "timestamp_ntz", "timestamp_tz": "timestamp_tz", "json": "variant"},
                **{"array": "array", "struct": "object", "map": "variant"},
            },
        ),
        Dialect(
            "bigquery",
            {
                **{"boolean": "BOOL", "integer": "INT64", "bigint": "INT64", "text": "STRING", "date": "DATE"},
                **{"decimal": "BIGNUMERIC", "float": "FLOAT64", "timestamp": "DATETIME", "timestamp_tz": "TIMESTAMP"},
                **{"json": "JSON", "array": "ARRAY<DATETIME>", "struct": "STRUCT<a INT64, b ARRAY<STRING>>"},
            },
            mark="`",
        ),
        Dialect(
            "redshift",
            {
                **{**_COMMON, "text": "character varying", "decimal": "numeric(38,9)", "float": "double precision"},
                **{
                    "timestamp": "timestamp without time zone",
                    "timestamp_tz": "timestamp with time zone",
                    "json": "super",
                },
            },
            ("postgres",),
        ),
    )
}
Call = tuple[str, dict[str, Any]]


class Recorder:
    """A warehouse that remembers what was asked of it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._warehouse, name)
        if name not in ("run", "run_if_any", "rows", "stream", "repeated", "evaluate"):
            return found

        def call(macro: str, **arguments: Any) -> Any:
            if name != "evaluate":
                options = {"own_connection", "seconds"} if name in ("stream", "repeated") else set()
                self.calls.append((macro, {key: value for key, value in arguments.items() if key not in options}))
            return found(macro, **arguments)

        return call


VALUES = """number as id, case when number <> 7 then 'u' || number end as person, 'seen' as what, 'acme' as company,
    timestamp '2026-01-02 03:04:05' as naive, cast('2026-01-02 03:04:05+00' as timestamptz) as moment,
    date '2026-01-02' as day, true as flag, cast(1.5 as decimal(38, 9)) as price, cast(2.5 as double) as score,
    cast(9 as bigint) as big, 'https://a.de/x' as url, cast('[1]' as json) as doc, ['a'] as tags, {'a': 1} as pair,
    map {'a': 1} as counts, 'x' || number || '@example.com' as email, 'n' as note"""
EVERYTHING = [
    "person",
    "naive",
    "moment",
    "day",
    "flag",
    "price",
    "score",
    "big",
    "doc",
    "tags",
    "pair",
    "counts",
    "note",
]
EVENT: dict[str, Any] = {
    "object": "event",
    "sync_key": {"event_id": "id"},
    "distinct_id": "person",
    "event": "what",
    "timestamp": "naive",
    "time_zone": "Europe/Berlin",
    "groups": {"company": "company", "site": {"value": "it's 100% \\ main"}},
    "cursor": {"column": "naive", "lookback": "3 days"},
    "on_change": "resend",
    "properties": ["note"],
}
PAGE = {
    "object": "page",
    "sync_key": {"distinct_id": "person"},
    "timestamp": "moment",
    "properties": {"$current_url": "url"},
}
PERSON = {
    "object": "person",
    "sync_key": {"distinct_id": "person"},
    "timestamp": "day",
    "properties": ["note"],
}
WIDE = {**{name: name for name in EVERYTHING}, "first": {"column": "note", "operation": "set_once"}}
ERASING = {"object": "person", "sync_key": {"distinct_id": "person"}, "behavior": "delete"}
BY_EMAIL = {"object": "person", "sync_key": {"email": "email"}, "properties": ["note"], "on_several": "all"}
BEHAVIORS: tuple[dict[str, Any], ...] = (
    {"create_with": "email"},
    {"create_with": {"column": "person"}},
    {"behavior": "update_only"},
)
GROUP = {"object": "group", "group_type": "company", "sync_key": {"group_key": "person"}, "properties": ["note"]}


def built(lab: Lab, name: str, rows: int = 9) -> Lab:
    """A model of its own for a sync; no guard stops it."""
    own = replace(lab, table=f"{lab.table}_{name}", limits=None)
    own.build(f"select {VALUES} from generate_series(1, {rows}) as g(number)")
    return own


def history(lab: Lab) -> None:
    """Runs that meet, together, nearly every statement of the program."""
    probe_rights(lab.warehouse, "a_schema_of_nobody")
    wide = built(lab, "wide")
    wide.run({**EVENT, "properties": EVERYTHING})
    for nulls in ("unset", "skip", "send"):
        wide.plan({**PERSON, "name": "people", "properties": WIDE, "nulls": nulls})
    for kind, annotation in (("events", EVENT), ("pages", PAGE), ("groups", GROUP), ("people", PERSON)):
        own = built(lab, kind)
        own.run(annotation)
        own.server.sql(f"insert into {own.table} select {VALUES} from (select 1 as number union all select 12) n")
        own.server.sql(f"delete from {own.table} where id = 2")
        own.run(annotation)
        own.retry(annotation)
        own.run(annotation, rebaseline=True)
        own.run(annotation, full_refresh=True)
    own.run({**PERSON, "name": "renamed"}, adopt=own.table)
    make_person(lab.posthog, "crm1", email="x1@example.com")
    for source in IdentitySource:
        for number, behavior in enumerate(BEHAVIORS):
            finding_persons_in(built(lab, f"{source.value}_{number}", 3), source).run({**BY_EMAIL, **behavior})
    erased = built(lab, "erased", 3)
    for _ in range(2):
        erased.run(ERASING)
    built(lab, "after").run(PERSON)
    folded = built(lab, "folded", 1_200)
    for _ in range(2):
        folded.run(GROUP)


OpenLab = Callable[[Server], AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def calls(duckdb_file: Server, warehouses: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """What the program asks of a warehouse, each kind of question once."""
    from lab import fresh_name, prepared_warehouse  # noqa: PLC0415

    from dbt_posthog_sync.testing import StandIn  # noqa: PLC0415

    if "duckdb" not in warehouses:
        warehouses["duckdb"] = prepared_warehouse(duckdb_file, tmp_path_factory.mktemp("duckdb"))
    with warehouses["duckdb"] as warehouse, StandIn() as posthog:
        recorder = Recorder(warehouse)
        lab = Lab(duckdb_file, posthog, recorder, fresh_name("model"), fresh_name("state"))
        history(lab)
    return list(variations(recorder.calls))


_PREVIOUS = {"name": "model__changes_3", "temporary": False, "scratch": False}
_DOUBTS = {"has_doubts": True, "previous_epoch": 3, "continues_retry": True, "copies_staging_time": True}
VARIATIONS: tuple[Mapping[str, Any], ...] = (
    {**_DOUBTS, "has_erased": True, "has_rejects": True, "has_null_keys": True},
    {"window_start": "2026-01-01 00:00:00", **_DOUBTS, "has_null_keys": True},
)
VARIED = {
    *(
        "diff",
        "stage",
        "message_stream",
        "reject_refused_before",
        "left_staged",
        "keep_absent_doubts",
        "insert_doubtful",
    ),
    *("count_left_unrejected", "count_staged_outside", "forget_doubtful", "reject_doubtful_identities", "baseline"),
}
ASKED_IN_TROUBLE = VARIED - {"diff", "stage", "message_stream", "baseline", "left_staged"}


# Asked by `status`, `verify`, after a refusal, or when rows move or leave the model; about a sync, or about a schema.
_SOME = {"lowest": 3, "highest": 90, "listed": "3,90"}
_MANY = {"lowest": 3, "highest": 6, "marks": "1011"}
_HELD = {
    "test": "not_null_model_id",
    "relation": '"db"."tests"."failures"',
    "columns": [["id", "id"], ["note", "note"]],
}
OF_A_SYNC: Mapping[str, Mapping[str, Any]] = {
    **{macro: {} for macro in ("count_snapshot", "count_baseline", "count_volatile", "insert_volatile")},
    "reject_moved_identities": {},
    **{
        macro: {}
        for macro in ("see_volatile_again", "insert_moved", "stage_removed", "count_removed", "record_removed")
    },
    **{"reject_held": {"held": _HELD}, "create_built_table": {"name": "t"}, "has_event": {"name": "a"}},
    **{"mark_delivered": {"positions": _SOME}, "confirm_complete_keys": {"positions": _MANY}},
    "insert_refused": {"positions": _MANY, "reason": "it's 100% \\ wrong", "heals": True},
    "see_refused_again": {"positions": _SOME, "reason": "it's 100% \\ wrong"},
}
OF_A_SCHEMA: Mapping[str, Mapping[str, Any]] = {
    **{macro: {} for macro in ("read_all_syncs", "read_staged_tables", "probe_drop_schema")},
    **{"read_dispatch": {"run_id": "r"}, "read_sync_runs": {"most": 5}, "forget_mirror": {"table": "t"}},
    **{"forget_build": {"staging_id": "s"}, "forget_build_rows": {"table": "t", "staging_id": "s"}},
    **{"forget_build_sync": {"sync_id": "s"}},
    "insert_build_sync": {
        "values": {
            **{name: "it's" for name in ("sync_id", "model", "arguments", "digest")},
            **{"known_columns": "[]", "targets": "[]", "program": "1", "rows_table": "t", "keeps_every": True},
        }
    },
    **{
        "drop_left_table": {"name": "t"},
        "read_like_syncs": {"project": "p", "relation": "r", "fingerprint": "f", "sync_id": "s", "is_loops": True},
    },
}


def asked_seldom(calls: list[Call]) -> Iterator[Call]:
    """What the history does not come to."""
    sync = next(arguments["sync"] for macro, arguments in calls if macro == "stage" and arguments["sync"]["fans_out"])
    for macro, arguments in OF_A_SYNC.items():
        yield macro, {"sync": sync, **arguments}
    for macro, arguments in OF_A_SCHEMA.items():
        yield macro, {"schema": sync["schema"], **arguments}
    yield "create_few_rows", {"relation": '"db"."models"."model"', "name": "few", "most": 3}
    yield "count_stored", {"relation": _HELD["relation"]}
    yield "count_strangers", {"relation": '"db"."models"."model"', "held": _HELD}


def variations(calls: list[Call]) -> Iterator[Call]:
    """The calls, each kind once, and what they are in the doubts and windows that need a killed run or a month."""
    known: set[str] = set()
    for macro, arguments in (*calls, *asked_seldom(calls)):
        sync = arguments.get("sync") or {}
        shape = (
            macro,
            *(str(sync.get(name)) for name in ("object", "key_is_email", "nulls", "is_first", "only_rejects")),
        )
        source = (sync.get("identities") or {}).get("create")
        shape_text = str((shape, source, sorted(arguments.get("positions") or ())))
        if shape_text in known:
            continue
        known.add(shape_text)
        yield macro, arguments
        for troubled in ({macro} if macro in VARIED else set()) | (ASKED_IN_TROUBLE if macro == "stage" else set()):
            extra = {"has_staged": True} if troubled == "keep_absent_doubts" else {}
            for change in VARIATIONS:
                if "window_start" in change and not sync["cursor"]:
                    continue
                if macro == "stage" and sync["is_first"] and troubled != "stage":
                    continue
                tables = {**sync["tables"], "previous": _PREVIOUS}
                ordered = {"oldest_first": bool(sync["timestamp"])}
                yield troubled, {**arguments, **extra, "sync": {**sync, **change, **ordered, "tables": tables}}


def in_dialect(value: Any, rendering: Rendering) -> Any:
    """Arguments with the adapter's types and names in place of DuckDB's."""
    dialect = rendering.dialect
    if isinstance(value, dict):
        if set(value) >= {"text", "family", "element"}:
            text = dialect.types.get(value["family"], dialect.types["text"])
            return ColumnType.parse(text, rendering("type_names")).for_macro()
        return {key: in_dialect(item, rendering) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_dialect(item, rendering) for item in value]
    if isinstance(value, str):
        value = re.sub(r'^"([^"]+)"\."([^"]+)"\."([^"]+)"$', lambda found: dialect.relation(*found.groups()), value)
        return re.sub(r'^"([a-z_]+)"$', rf"{dialect.mark}\1{dialect.mark}", value)
    return value


def not_parsed(statement: str, dialect: str) -> str | None:
    """What a parser says against a statement; None when nothing."""
    try:
        found = sqlglot.parse(statement, read=dialect)
    except sqlglot.errors.SqlglotError as error:
        return f"{error}\n{statement}"
    told = statement.split(maxsplit=1)[0].lower()
    if len(found) != 1 or (isinstance(found[0], exp.Command) and told not in ("show", "set", "alter")):
        return f"not one statement that is known:\n{statement}"
    return None


@pytest.mark.parametrize("name", list(DIALECTS))
def test_every_statement_is_one_of_the_adapters_language(name: str, calls: list[Call]) -> None:
    rendering = Rendering(DIALECTS[name])
    statements = [*rendering("session_settings"), *rendering("transaction_statements").values()]
    for macro, arguments in calls:
        statement = rendering(macro, **in_dialect(arguments, rendering)).strip()
        statements += [statement] if statement else []
    temporary = rendering("read_temporary_tables").strip()
    statements += [temporary, rendering("drop_temporary_table", name="a")] if temporary else []
    wrong = [problem for problem in (not_parsed(statement, name) for statement in dict.fromkeys(statements)) if problem]
    assert wrong == [], f"{len(wrong)} of {len(statements)}"


@pytest.mark.parametrize("name", list(DIALECTS))
def test_an_adapter_takes_no_macro_of_another_database(name: str, calls: list[Call]) -> None:
    """dbt counts Redshift among the Postgres and Databricks among the Sparks: the one is wrong for most macros."""
    rendering = Rendering(DIALECTS[name])
    for macro, arguments in calls:
        rendering(macro, **in_dialect(arguments, rendering))
    families = {name, "default"} | ({"spark"} if name == "databricks" else set())
    assert [found for found in sorted(rendering.dispatched) if found[1] not in families] == []


def test_every_macro_that_python_names_is_among_them(calls: list[Call]) -> None:
    package = Path(dbt_posthog_sync.__file__).parent
    words = {word for file in package.rglob("*.py") for word in re.findall(r'"([a-z_]+)"', file.read_text())}
    files = [file for file in MACROS.rglob("*.sql") if file.parent.name != "adapters"]
    macros = {name for file in files for name in re.findall(r"{% macro ([a-z_]+)\(", file.read_text())}
    recorded = {macro for macro, _ in calls}
    assert " ".join(sorted((macros & words - recorded) ^ NO_STATEMENTS)) == ""  # a text, because pytest cuts sets short


# Macros whose names are also words of the program, that say something about the adapter, or that only shards ask for.
NO_STATEMENTS = {
    *("current_rows", "digest", "few_rows_relation", "is_held", "program_version"),
    *("historical", "identities", "json_text", "kind", "snapshot", "value", "primary_key", "quoted"),
    *(
        "admits_other_processes",
        "create_state_schema",
        "cursor_module",
        "hash_canary",
        "hash_name",
        "one_view_of_the_data",
    ),
    *("read_temporary_tables", "drop_temporary_table", "relation_exists", "schema_exists", "session_settings"),
    *(
        "stream_method",
        "stream_settings",
        "stream_statement",
        "table_name_column",
        "target_database",
        "transaction_statements",
        "type_names",
    ),
    *("count_epoch", "keep_staged_name", "take_shard"),
    # Only Postgres has places.
    *("message_parcels", "parcel_settings", "parcel_statement", "read_has_places"),
    # A state schema of an older version, which no other warehouse than DuckDB and Postgres can have.
    *("upgrade_length", "upgrade_staged_table", "upgrade_statement"),
}


def test_the_families_of_types_that_are_rendered_are_all_there_are() -> None:
    kinds = {family for dialect in DIALECTS.values() for family in dialect.types}
    elsewhere = {"uuid", "enum", "time", "interval", "json_text", "unsupported"}
    assert {family.value for family in Family} - elsewhere == kinds
