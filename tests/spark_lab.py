"""A real Spark for tests: PySpark in this process, with a catalog whose tables know UPDATE, DELETE and MERGE.

Delta Lake and Iceberg are jars that no Python package brings, so the tables are those of
`tests/spark/RowLevelCatalog.scala`: Spark parses, plans, rewrites and runs the statements, and the catalog keeps the
rows. The Scala compiler comes with PySpark.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlglot
from lab import Server

_SERIES = re.compile(r"(?:generate_series|range)\((\d+), (\d+)\) (?:as )?g\((\w+)\)")
_CHARACTER = re.compile(r"chr\((\d{3,})\)")  # Spark's has the first 256 alone
_SOURCE = Path(__file__).parent / "spark" / "RowLevelCatalog.scala"
_SETTINGS = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    # To compile a plan takes longer than to run it on a few rows.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.defaultCatalog": "lab",
    "spark.sql.catalog.lab": "dbt_posthog_sync.testing.RowLevelCatalog",
}

# The part of the contract suite that runs on Spark, where a run takes seconds: together they meet every macro.
CONTRACT = frozenset(
    {
        "test_odd_names_of_columns_become_properties_as_they_are",
        "test_odd_constants_arrive_as_they_are",
        "test_the_rows_at_these_positions_are_confirmed_and_no_others[spark-far apart]",
        "test_the_rows_at_these_positions_are_confirmed_and_no_others[spark-near each other, in any order]",
        "test_each_bad_row_is_rejected_with_its_reason_and_the_others_go_out",
        "test_every_row_of_a_doubled_key_is_rejected_until_one_is_left",
        "test_an_unchanged_bad_row_keeps_its_first_time_and_a_mended_one_is_sent",
        "test_a_group_needs_a_key_of_at_most_400_characters",
        "test_an_event_that_would_be_kept_twice_is_not_resent[spark-person]",
        "test_one_visitor_has_many_views_and_only_exact_doubles_are_rejected",
        "test_host_and_path_are_taken_from_the_address",
        "test_only_groups_with_a_key_are_named",
        "test_persons_by_email[spark-create_with_email-all-lookup]",
        "test_persons_by_email[spark-update_only-skip-mirror]",
        "test_persons_by_distinct_id_are_deleted[spark-mirror]",
        "test_odd_addresses_are_found[spark-lookup]",
    }
)


def why_no_spark() -> str | None:
    """What is missing to run Spark here; None when nothing is."""
    if importlib.util.find_spec("pyspark") is None or importlib.util.find_spec("dbt.adapters.spark") is None:
        return "Spark needs the package dbt-spark[session]"
    if shutil.which("java") is None:
        return "Spark needs Java 17 or later, which no Python package brings; on Debian: openjdk-17-jre-headless"
    return None


def spark_server(folder: Path) -> Server:
    """A Spark session that lives as long as the process; what it has compiled is kept in the folder."""
    from pyspark.sql import SparkSession  # noqa: PLC0415 - it is not everywhere

    builder = SparkSession.builder
    settings = {
        **_SETTINGS,
        "spark.driver.extraClassPath": str(_compiled(folder)),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    output = {"type": "spark", "method": "session", "schema": "default", "host": "here", "threads": 1}
    return Server("spark", "", "default", output, lambda: _Session(session))


def _compiled(folder: Path) -> Path:
    """The catalog as class files."""
    import pyspark  # noqa: PLC0415 - it is not everywhere

    classes = folder / "classes"
    classes.mkdir()
    jars = Path(pyspark.__file__).parent / "jars" / "*"
    command = ["java", "-cp", str(jars), "scala.tools.nsc.Main", "-usejavacp", "-d", str(classes), str(_SOURCE)]
    subprocess.run(command, check=True)
    return classes


@dataclass
class _Session:
    """The session as a connection of the Python DB-API; statements are written for DuckDB and translated."""

    session: Any
    description: list[str] = field(default_factory=list)
    _rows: list[tuple[Any, ...]] = field(default_factory=list)

    def cursor(self) -> _Session:
        return self

    def execute(self, statement: str) -> None:
        statement = _SERIES.sub(r"(select explode(sequence(\1, \2)) as \3) g", statement)
        statement = _CHARACTER.sub(lambda found: f"'{chr(int(found[1]))}'", statement)
        is_spark = re.search(r"^show tables|parse_json", statement)  # what the translator does not know
        for translated in [statement] if is_spark else sqlglot.transpile(statement, read="duckdb", write="spark"):
            frame = self.session.sql(translated)
            self._rows = [tuple(row) for row in frame.collect()]
            self.description = frame.columns

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass
