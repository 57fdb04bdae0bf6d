"""The one implementation of `Warehouse`: dbt's own adapter, in this process, without parsing the user's project.

The calls below are those that dbt itself makes before `run-operation`; they were run on dbt-core 1.8 and 1.11.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dbt_posthog_sync.errors import WarehouseUnavailable
from dbt_posthog_sync.warehouse import Columns, RelationParts, ResultRow, cursor
from dbt_posthog_sync.warehouse.dbt_error import translated
from dbt_posthog_sync.warehouse.macros import macros_of
from dbt_posthog_sync.warehouse.overrides import add_overrides
from dbt_posthog_sync.warehouse.profile import DbtOptions, check_file, runtime_config
from dbt_posthog_sync.warehouse.stream import StreamMethod, StreamPlan, StreamReader
from dbt_posthog_sync.warehouse.target import profile_outputs, target_of_relations

_PACKAGE = "dbt_posthog_sync"


def package_path() -> Path:
    """Folder of the dbt package with our macros: inside the wheel, or the repository when it is used in place."""
    module_dir = Path(__file__).resolve().parent.parent
    bundled = module_dir / "dbt_package"
    return bundled if bundled.is_dir() else module_dir.parent


class DbtWarehouse:
    """A warehouse reached through dbt's adapter: the profile is read at once, the rest when its context is entered."""

    def __init__(self, options: DbtOptions) -> None:
        self._options = options
        with _silent_dbt():
            self._config = runtime_config(options, package_path())
        self._adapter: Any = None
        self._opened = ExitStack()

    @property
    def adapter_type(self) -> str:
        """See `Warehouse`."""
        return str(self._config.credentials.type)

    @property
    def target_name(self) -> str:
        """See `Warehouse`."""
        return str(self._config.target_name)

    def other_target_of(self, schemas: Iterable[str]) -> str | None:
        """Name of another target of the profile that these schemas belong to; None when they may be this one's."""
        outputs = profile_outputs(self._options.profiles_folder, self._config.profile_name)
        return target_of_relations(schemas, str(self._config.credentials.schema), outputs)

    def __enter__(self) -> DbtWarehouse:
        from dbt.adapters.factory import FACTORY  # noqa: PLC0415 - see _register_adapter

        check_file(self._config.credentials)
        if self._adapter is None:
            with _silent_dbt():
                self._adapter = _register_adapter(self._config, self._options.project_dir)
        # dbt finds the adapter of a macro's dispatch in this registry, one a type; another warehouse may have used it.
        FACTORY.adapters[self.adapter_type] = self._adapter
        with ExitStack() as opening:
            opening.enter_context(_without_events())
            with translated():
                self._adapter.acquire_connection(_PACKAGE)
                self._prepare_session()
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened, translated():
            with contextlib.suppress(WarehouseUnavailable):  # a connection that is gone has nothing to drop by
                self._drop_temporary_tables()
            self._adapter.release_connection()

    def _drop_temporary_tables(self) -> None:
        """Drop what stands in for temporary tables, where the warehouse has none."""
        with translated():
            listing = self._adapter.execute_macro("read_temporary_tables").strip()
            if not listing:
                return
            column = self._adapter.execute_macro("table_name_column")
            for row in self._add_query(listing).fetchall():
                self._add_query(self._adapter.execute_macro("drop_temporary_table", kwargs={"name": str(row[column])}))

    def evaluate(self, macro: str, **arguments: Any) -> Any:
        """See `Warehouse`."""
        with translated():
            result = self._adapter.execute_macro(macro, kwargs=arguments)
            # dbt's own macros may have begun a transaction in dbt's way.
            if self._adapter.connections.get_thread_connection().transaction_open:
                self._adapter.connections.commit()
        return result

    def has_relation(self, database: str | None, schema: str, identifier: str) -> bool:
        """See `Warehouse`."""
        return not self.missing([(database, schema, identifier)])

    def missing(self, relations: Iterable[RelationParts]) -> frozenset[RelationParts]:
        """See `Warehouse`."""
        self._adapter.cache.clear()  # dbt lists a schema once and remembers it
        return frozenset(parts for parts in relations if not self._is_listed(*parts))

    def _is_listed(self, database: str | None, schema: str, identifier: str) -> bool:
        return bool(self.evaluate("relation_exists", database=database, schema=schema, identifier=identifier))

    def run(self, macro: str, **arguments: Any) -> int:
        """See `Warehouse`."""
        return cursor.rows_written(self._execute(macro, arguments))

    def run_if_any(self, macro: str, **arguments: Any) -> None:
        """See `Warehouse`."""
        with translated():
            statement = self._adapter.execute_macro(macro, kwargs=arguments).strip()
            if statement:
                self._add_query(statement)

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        """See `Warehouse`."""
        found = self._execute(macro, arguments)
        # Some warehouses run a query when its rows are asked for.
        with translated(), self._adapter.connections.exception_handler(macro):
            return [tuple(row) for row in found.fetchall()]

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        """See `Warehouse`."""
        with translated():
            statements = self._adapter.execute_macro("transaction_statements")
            isolation = self._adapter.execute_macro("one_view_of_the_data") if one_view else ""
            if not statements:
                yield
                return
            self._add_query(statements["begin"])
            is_committed = False
            try:
                if isolation:
                    self._add_query(isolation)
                yield
                self._add_query(statements["commit"])
                is_committed = True
            finally:
                if not is_committed:
                    self._roll_back(statements["rollback"])

    @contextmanager
    def stream(
        self, macro: str, *, own_connection: bool = True, readers: int = 0, **arguments: Any
    ) -> Iterator[Iterator[Columns]]:
        """See `Warehouse`."""
        with translated():
            plan = self._parcel_plan(macro, readers, arguments) if readers else self._stream_plan(macro, arguments)
            settings = self._adapter.execute_macro("stream_settings", kwargs={"processors": os.cpu_count() or 1})
            settings = settings + (self._adapter.execute_macro("parcel_settings") if readers else [])
        if not own_connection:
            plan = replace(plan, handle=self._adapter.connections.get_thread_connection().handle)
        with StreamReader(self._adapter, plan, partial(self._prepare_session, settings)) as chunks:
            yield chunks

    def _stream_plan(self, macro: str, arguments: Mapping[str, Any]) -> StreamPlan:
        select = self._adapter.execute_macro(macro, kwargs=dict(arguments))
        statement = self._adapter.execute_macro("stream_statement", kwargs={"select": select}).strip()
        method = StreamMethod(self._adapter.execute_macro("stream_method"))
        return StreamPlan((statement,), method, cursor_module=self._adapter.execute_macro("cursor_module"))

    def _parcel_plan(self, macro: str, readers: int, arguments: Mapping[str, Any]) -> StreamPlan:
        parts = [{**arguments, "reader": reader, "readers": readers} for reader in range(readers)]
        selects = [self._adapter.execute_macro(macro, kwargs=part) for part in parts]
        statements = [self._adapter.execute_macro("parcel_statement", kwargs={"select": select}) for select in selects]
        return StreamPlan(tuple(map(str.strip, statements)), StreamMethod.PARCELS)

    @contextmanager
    def repeated(self, macro: str, *, seconds: float, **arguments: Any) -> Iterator[None]:
        """See `Warehouse`."""
        with translated():
            statement = self._adapter.execute_macro(macro, kwargs=arguments).strip()
            has_company = self._adapter.execute_macro("admits_other_processes")
        if not has_company:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._repeat, args=(statement, seconds, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _repeat(self, statement: str, seconds: float, ended: threading.Event) -> None:
        while not ended.wait(seconds):
            try:
                with translated(), self._adapter.connection_named(f"{_PACKAGE}_heartbeat"):
                    self._prepare_session()
                    self._add_query(statement)
            except WarehouseUnavailable:
                # The thread that works meets the same fault and reports it; a heartbeat that came late is no fault.
                continue

    def _execute(self, macro: str, arguments: Mapping[str, Any]) -> Any:
        with translated():
            return self._add_query(self._adapter.execute_macro(macro, kwargs=dict(arguments)))

    def _add_query(self, sql: str) -> Any:
        connections = self._adapter.connections
        if not hasattr(connections, "add_query"):
            with connections.exception_handler("a statement"):
                module = self._adapter.execute_macro("cursor_module")
                return cursor.executed(connections.get_thread_connection().handle, sql.strip(), module)
        _, found = connections.add_query(sql.strip(), auto_begin=False, abridge_sql_log=True)
        return found

    def _roll_back(self, statement: str) -> None:
        # A connection that is gone has rolled back by itself, and the first error is the one to tell.
        with contextlib.suppress(WarehouseUnavailable), translated():
            self._add_query(statement)

    def _prepare_session(self, more_settings: Sequence[str] = ()) -> None:
        """Make the thread's connection predictable: settings, and every statement a transaction of its own.

        dbt leaves transactions of some drivers to the driver, which then does not see the ones that are begun by SQL.
        """
        handle = self._adapter.connections.get_thread_connection().handle
        if not callable(getattr(handle, "autocommit", print)):
            handle.autocommit = True
        if hasattr(handle, "set_client_encoding"):
            handle.set_client_encoding("UTF8")  # psycopg2 does not notice when SQL sets it
        for statement in [*self._adapter.execute_macro("session_settings"), *more_settings]:
            self._add_query(statement)


@contextmanager
def _silent_dbt() -> Iterator[None]:
    """Standard output is for data, and dbt logs there whenever it feels that nobody told it where to."""
    with redirect_stdout(io.StringIO()), _without_events():
        yield


@contextmanager
def _without_events() -> Iterator[None]:
    """Let dbt write out no event: it has four for every statement, and nobody listens."""
    from dbt_common.events import event_manager_client  # noqa: PLC0415 - see _register_adapter
    from dbt_common.events.event_manager import EventManager  # noqa: PLC0415

    before, mute = event_manager_client.get_event_manager(), EventManager()
    mute.fire_event = lambda *_, **__: None
    event_manager_client.ctx_set_event_manager(mute)
    try:
        yield
    finally:
        event_manager_client.ctx_set_event_manager(before)


def _register_adapter(config: Any, project_dir: Path) -> Any:
    # dbt is imported here and not above: it costs more than a second, and only commands that reach a warehouse pay it.
    from dbt.adapters.factory import FACTORY, get_adapter, register_adapter  # noqa: PLC0415
    from dbt.context.providers import generate_runtime_macro_context  # noqa: PLC0415
    from dbt.mp_context import get_mp_context  # noqa: PLC0415

    FACTORY.adapters.pop(config.credentials.type, None)
    with translated():
        register_adapter(config, get_mp_context())
        adapter = get_adapter(config)
        macros = macros_of(config)
        has_overrides = add_overrides(macros, config, project_dir)
        adapter.set_macro_resolver(macros)
        adapter.set_macro_context_generator(_kept(generate_runtime_macro_context, for_each=has_overrides))
    return adapter


def _kept(generate: Callable[..., dict[str, Any]], *, for_each: bool) -> Callable[..., dict[str, Any]]:
    """Make the context of each package's macros once: dbt would build all its namespaces again for every statement.

    What a macro sees depends on its package and on the one to search first (dbt-core: context/providers.py,
    MacroContext), and not on the macro, while it reads no `model` and raises no error of its own, which names it.

    Args:
        generate: makes a context.
        for_each: make one for each macro all the same, because somebody else's may do such things.
    """
    contexts: dict[tuple[str, str | None], dict[str, Any]] = {}

    def context(macro: Any, config: Any, manifest: Any, package_name: str | None) -> dict[str, Any]:
        shared_by = (macro.unique_id if for_each else macro.package_name, package_name)
        if shared_by not in contexts:
            contexts[shared_by] = generate(macro, config, manifest, package_name)
        return dict(contexts[shared_by])

    return context
