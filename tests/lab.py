"""Real warehouses for tests: a relation to sync, and what the program makes of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import psycopg2.extensions
import yaml

from dbt_posthog_sync.annotation import syncs_from
from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.courier import CourierSettings, rows_of
from dbt_posthog_sync.delivery import DeliverySettings
from dbt_posthog_sync.destinations import Row
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig
from dbt_posthog_sync.directory import Directory
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.kept_builds import runs_of
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.plan import Limits, Plan
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.private_api import PrivateApi, PrivateApiConfig
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.runner import Runner, RunSettings
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Deletion
from dbt_posthog_sync.sync import Sync
from dbt_posthog_sync.sync_run import SyncRun
from dbt_posthog_sync.terminal import onlooker
from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse import Warehouse
from dbt_posthog_sync.warehouse.arguments import RunIdentity
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse
from dbt_posthog_sync.warehouse.identities import IdentitySettings
from dbt_posthog_sync.warehouse.profile import DbtOptions

PROJECT = "lab"
NO_PATIENCE = RetryPolicy(attempts=3, total_seconds=60, base=0.0, cap=0.0, jitter=0.0)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A warehouse that tests may write to: how dbt connects, and how a test runs SQL of its own."""

    kind: str
    database: str
    schema: str
    output: Mapping[str, Any]
    connect: Callable[[], Any]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL on a connection of its own and commit."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return [tuple(row) for row in rows]
        finally:
            connection.close()

    def relation(self, table: str) -> str:
        """A table's name as dbt writes it into the manifest."""
        if self.kind == "spark":
            return f"`{self.schema}`.`{table}`"
        return f'"{self.database}"."{self.schema}"."{table}"'


def duckdb_server(folder: Path) -> Server:
    """A DuckDB file."""
    path = folder / "lab.duckdb"

    def connect() -> Any:
        connection = duckdb.connect(str(path))
        connection.execute("begin")
        return connection

    connect().close()  # the program reads a file that dbt has made, and makes none itself
    return Server("duckdb", "lab", "main", {"type": "duckdb", "path": str(path), "schema": "main"}, connect)


def postgres_server(dsn: str) -> Server:
    """A Postgres database, reached by a libpq connection string."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    output = {
        "type": "postgres",
        "host": parts.get("host", "localhost"),
        "port": int(parts.get("port", 5432)),
        "user": parts.get("user", "postgres"),
        "password": parts.get("password", ""),
        "dbname": parts.get("dbname", "postgres"),
        "schema": "public",
        "threads": 1,
    }
    return Server("postgres", str(output["dbname"]), "public", output, lambda: psycopg2.connect(dsn))


def write_project(folder: Path, output: Mapping[str, Any]) -> Path:
    """A dbt project folder with a profile for one server; nothing in it is parsed by dbt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dbt_project.yml").write_text(f"name: {PROJECT}\nversion: 1.0.0\nprofile: lab\n")
    profile = {"lab": {"target": "dev", "outputs": {"dev": dict(output)}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    return folder


def prepared_warehouse(server: Server, folder: Path) -> DbtWarehouse:
    """The program's warehouse, ready to be entered."""
    project = write_project(folder, server.output)
    return DbtWarehouse(DbtOptions(project_dir=project, profiles_dir=project))


def fresh_name(prefix: str) -> str:
    """A name that no other test uses, in this process or another."""
    return f"{prefix}_{next(_numbers)}_{uuid.uuid4().hex[:6]}"


def manifest_for(
    server: Server,
    models: Mapping[str, Mapping[str, Any] | list[Mapping[str, Any]]],
    *,
    has_hook: bool = False,
    materialized: str = "table",
) -> dict[str, Any]:
    """A manifest as dbt writes it, with one annotated model a table."""
    hooks = [{"sql": "{{ dbt_posthog_sync.stage_changes() }}", "transaction": True, "index": None}] if has_hook else []
    nodes = {
        f"model.{PROJECT}.{table}": {
            "unique_id": f"model.{PROJECT}.{table}",
            "resource_type": "model",
            "package_name": PROJECT,
            "name": table,
            "alias": table,
            "database": server.database,
            "schema": server.schema,
            "relation_name": server.relation(table),
            "original_file_path": f"models/{table}.sql",
            "patch_path": f"{PROJECT}://models/schema.yml",
            "fqn": [PROJECT, table],
            "tags": [],
            "columns": {},
            "config": {
                "materialized": materialized,
                "enabled": True,
                "meta": {"posthog_sync": annotation},
                "post-hook": hooks,
            },
            "meta": {"posthog_sync": annotation},
        }
        for table, annotation in models.items()
    }
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        "dbt_version": "1.11.16",
        "project_name": PROJECT,
        "adapter_type": server.kind,
        "invocation_id": "00000000-0000-4000-8000-000000000000",
    }
    return {"metadata": metadata, "nodes": nodes, "sources": {}, "disabled": {}}


@dataclass
class Lab:
    """One table, its annotation, one state schema, one stand-in.

    Attributes:
        server: the warehouse.
        posthog: the stand-in.
        warehouse: the program's own connection.
        table: name of the table to sync.
        schema: name of the state schema.
        limits: guards of the runs; None is `--force`.
        delivery: how batches travel; no waiting by default.
        courier: how often is confirmed.
        protocol: v1, v0 or auto.
        identities: where persons are found.
        deletion: what `behavior: delete` may do.
        personal_key: the personal API key; empty for one that may do everything.
        has_hook: true when the model has the post-hook.
        materialized: how the manifest says that dbt builds the model.
    """

    server: Server
    posthog: StandIn
    warehouse: Warehouse
    table: str
    schema: str
    limits: Limits | None = field(default_factory=Limits)
    delivery: DeliverySettings = field(default_factory=lambda: DeliverySettings(retry=NO_PATIENCE))
    courier: CourierSettings = field(default_factory=CourierSettings)
    protocol: Any = "auto"
    identities: IdentitySettings = field(default_factory=IdentitySettings)
    deletion: Deletion = field(default_factory=lambda: Deletion(enabled=True))
    personal_key: str = ""
    has_hook: bool = False
    materialized: str = "table"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL; `{model}` is the table, `{state}` the state schema."""
        return self.server.sql(statement.format(model=self.table, state=self.schema))

    def build(self, select: str) -> None:
        """Build the model from a select, as dbt builds a table."""
        self.server.sql(f"drop table if exists {self.table}")
        self.server.sql(f"create table {self.table} as {select}")

    def build_with_hook(self, select: str) -> None:
        """The same, and then what the post-hook does at the end of the build."""
        self.build(select)
        self.stage_at_build()

    def stage_at_build(self) -> None:
        """What the post-hook does."""
        relation = self.warehouse.evaluate("state_table", schema=self.server.schema, name=self.table)
        model = f"model.{PROJECT}.{self.table}"
        self.warehouse.evaluate("stage_model", schema=self.schema, relation=relation, unique_id=model)

    def sync(self, annotation: Mapping[str, Any]) -> Sync:
        """The sync that an annotation of the table comes to."""
        models = {self.table: annotation}
        manifest = manifest_from(
            manifest_for(self.server, models, has_hook=self.has_hook, materialized=self.materialized)
        )
        return syncs_from(manifest, may_delete=self.deletion.enabled)[0]

    def planner(self, destination: PostHog | None = None, **settings: Any) -> Planner:
        """A planner with the lab's state schema."""
        identity = destination.identity if destination else None
        settings = {"identities": self.identities, "deletion": self.deletion, **settings}
        plan_settings = PlanSettings(schema=self.schema, destination=identity, **settings)
        return Planner(self.warehouse, plan_settings, self.directory())

    def directory(self) -> Directory:
        """PostHog's persons as the program asks for them; the stand-in answers without waiting."""
        config = PrivateApiConfig(self.posthog.url, Secret(self.personal_key or self.posthog.personal_key))
        return Directory(PrivateApi(config, patience=Patience(NO_PATIENCE, pause=lambda _: None)))

    def destination(self, run_id: str = "00000000-0000-4000-8000-000000000001") -> PostHog:
        """PostHog as the program reaches it: the stand-in."""
        return PostHog(PostHogConfig(self.posthog.url, self.posthog.token, run_id, protocol=self.protocol))

    def resolve(self, annotation: Mapping[str, Any]) -> ResolvedSync:
        """The annotation matched to the table."""
        return self.planner().resolve([self.sync(annotation)])[0]

    def plan(self, annotation: Mapping[str, Any], **settings: Any) -> Plan:
        """What `plan` finds."""
        planner = self.planner(**settings)
        resolved = planner.resolve([self.sync(annotation)])[0]
        return planner.with_samples(planner.plan(resolved, RunIdentity("plan")))

    def messages(self, annotation: Mapping[str, Any]) -> list[Row]:
        """The messages of all rows that may be sent, as the warehouse builds them, in the order of their positions."""
        planner = self.planner()
        prepared = planner.plan(self.resolve(annotation), RunIdentity("messages"))
        stream = self.warehouse.stream("message_stream", own_connection=False, sync=prepared.arguments.for_macro())
        with stream as chunks:
            return sorted(row for chunk in chunks for row in rows_of(chunk))

    def run(self, annotation: Mapping[str, Any], **changes: Any) -> SyncRun:
        """Run the sync; `full_refresh`, `rebaseline`, `adopt`, `steal` and so on as on the command line."""
        runner = self.runner(**changes)
        return runner.run(runner._planner.resolve([self.sync(annotation)])[0])

    def runs(self, annotation: Mapping[str, Any], **changes: Any) -> list[SyncRun]:
        """The same with what waits of earlier builds, each a run of its own."""
        runner = self.runner(**changes)
        planner = runner._planner
        return list(runs_of(runner, planner, planner.resolve([self.sync(annotation)])[0]))

    def retry(self, annotation: Mapping[str, Any], **changes: Any) -> SyncRun:
        """Retry the rejected rows of the sync."""
        return self.run(annotation, only_rejects=True, **changes)

    def runner(
        self, *, full_scan: bool = False, rebaseline: bool = False, force: bool = False, **changes: Any
    ) -> Runner:
        """A runner against the stand-in."""
        run_id = str(uuid.uuid4())
        destination = self.destination(run_id)
        shared = {name: changes[name] for name in ("full_refresh", "only_rejects") if name in changes}
        planner = self.planner(destination, full_scan=full_scan, rebaseline=rebaseline, **shared)
        settings = RunSettings(
            run_id=run_id,
            owner="the lab",
            host="here",
            limits=None if force else self.limits,
            courier=self.courier,
            delivery=self.delivery,
        )
        return Runner(self.warehouse, destination, planner, replace(settings, **changes), onlooker=onlooker())
