"""The one implementation of `Warehouse`: dbt's own adapter, in this process, without parsing the user's project.

The calls below are those that dbt itself makes before `run-operation`; they were run on dbt-core 1.8 and 1.11.
"""

from __future__ import annotations

import os
import queue
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbt_posthog_sync.errors import SettingsError, WarehouseUnavailable
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.warehouse import ResultRow

_CHUNK_ROWS = 2_000
_CHUNKS_AHEAD = 8
_PACKAGE = "dbt_posthog_sync"


@dataclass(frozen=True, slots=True)
class DbtOptions:
    """Where dbt finds the connection: dbt's own options.

    Attributes:
        project_dir: folder of the user's dbt_project.yml.
        profiles_dir: folder of profiles.yml; None lets dbt look where it always looks.
        profile: name of the profile, when not the project's.
        target: name of the target, when not the profile's.
        threads: as in dbt.
        variables: values for `--vars`, as profiles may use them.
    """

    project_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    threads: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


def package_path() -> Path:
    """Folder of the dbt package with our macros: inside the wheel, or the repository when it is used in place."""
    module_dir = Path(__file__).resolve().parent.parent
    bundled = module_dir / "dbt_package"
    return bundled if bundled.is_dir() else module_dir.parent


class DbtWarehouse:
    """A warehouse reached through dbt's adapter. Use it as a context manager."""

    def __init__(self, options: DbtOptions) -> None:
        self._adapter = _register_adapter(options)
        self._in_transaction = False

    @property
    def adapter_type(self) -> str:
        """See `Warehouse`."""
        return str(self._adapter.type())

    @property
    def target_name(self) -> str:
        """See `Warehouse`."""
        return str(self._adapter.config.target_name)

    def __enter__(self) -> DbtWarehouse:
        from dbt.adapters.factory import FACTORY  # noqa: PLC0415 - see _register_adapter

        # dbt finds the adapter of a macro's dispatch in this registry, one a type; another warehouse may have used it.
        FACTORY.adapters[self._adapter.type()] = self._adapter
        self._adapter.cache.clear()  # what existed when this warehouse was last open says nothing about today
        with _translated():
            self._adapter.acquire_connection(_PACKAGE)
            self._prepare_session()
        return self

    def __exit__(self, *_: object) -> None:
        with _translated():
            self._adapter.release_connection()

    def evaluate(self, macro: str, **arguments: Any) -> Any:
        """See `Warehouse`."""
        with _translated():
            result = self._adapter.execute_macro(macro, kwargs=arguments)
            if not self._in_transaction:
                self._commit()
        return result

    def run(self, macro: str, **arguments: Any) -> int:
        """See `Warehouse`."""
        cursor = self._execute(macro, arguments)
        written = _rows_written(cursor)
        self._settle()
        return written

    def rows(self, macro: str, **arguments: Any) -> list[ResultRow]:
        """See `Warehouse`."""
        cursor = self._execute(macro, arguments)
        with _translated():
            found = [tuple(row) for row in cursor.fetchall()]
        self._settle()
        return found

    @contextmanager
    def transaction(self, *, one_view: bool = False) -> Iterator[None]:
        """See `Warehouse`."""
        with _translated():
            self._begin()
            isolation = self._adapter.execute_macro("one_view_of_the_data") if one_view else ""
            self._in_transaction = True
            try:
                if isolation:
                    self._add_query(isolation)
                yield
            except BaseException:
                self._in_transaction = False
                self._rollback()
                raise
            self._in_transaction = False
            self._commit()

    @contextmanager
    def stream(
        self, macro: str, *, own_connection: bool = True, **arguments: Any
    ) -> Iterator[Iterator[Sequence[ResultRow]]]:
        """See `Warehouse`."""
        with _translated():
            select = self._adapter.execute_macro(macro, kwargs=arguments)
            statement = self._adapter.execute_macro("stream_statement", kwargs={"select": select})
            method = self._adapter.execute_macro("stream_method")
        handle = None if own_connection else self._adapter.connections.get_thread_connection().handle
        reader = _Reader(self._adapter, _StreamPlan(statement.strip(), method, handle), self._prepare_session)
        reader.start()
        try:
            yield reader.chunks()
        finally:
            reader.stop()

    @contextmanager
    def repeated(self, macro: str, *, seconds: float, **arguments: Any) -> Iterator[None]:
        """See `Warehouse`."""
        with _translated():
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
                with _translated(), self._adapter.connection_named(f"{_PACKAGE}_heartbeat"):
                    self._begin()
                    self._add_query(statement)
                    self._commit()
            except WarehouseUnavailable:
                # The thread that works meets the same fault and reports it; a heartbeat that came late is no fault.
                continue

    def _execute(self, macro: str, arguments: Mapping[str, Any]) -> Any:
        with _translated():
            sql = self._adapter.execute_macro(macro, kwargs=dict(arguments))
            if not self._in_transaction:
                self._begin()
            return self._add_query(sql)

    def _add_query(self, sql: str) -> Any:
        _, cursor = self._adapter.connections.add_query(sql.strip(), auto_begin=False, abridge_sql_log=True)
        return cursor

    def _settle(self) -> None:
        if not self._in_transaction:
            with _translated():
                self._commit()

    def _begin(self) -> None:
        connection = self._adapter.connections.get_thread_connection()
        if not connection.transaction_open:
            self._adapter.connections.begin()

    def _commit(self) -> None:
        connection = self._adapter.connections.get_thread_connection()
        if connection.transaction_open:
            self._adapter.connections.commit()

    def _rollback(self) -> None:
        self._adapter.connections.rollback_if_open()

    def _prepare_session(self) -> None:
        for statement in self._adapter.execute_macro("session_settings"):
            self._begin()
            self._add_query(statement)
            self._commit()


@dataclass(frozen=True, slots=True)
class _StreamPlan:
    """What to read and how; `handle` is an open connection to borrow, or None to open one."""

    statement: str
    method: str
    handle: Any


class _Reader:
    """Reads one query on a thread of its own into a bounded queue."""

    def __init__(self, adapter: Any, plan: _StreamPlan, prepare_session: Callable[[], None]) -> None:
        self._adapter = adapter
        self._plan = plan
        self._prepare_session = prepare_session
        self._queue: queue.Queue[Sequence[ResultRow] | BaseException | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"{_PACKAGE}-stream", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the query, empty the queue and wait for the thread."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def chunks(self) -> Iterator[Sequence[ResultRow]]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def put(self, chunk: Sequence[ResultRow]) -> None:
        """Hand over a chunk; waits while the reader of the queue is behind."""
        if self._stopped.is_set():
            raise _StreamStopped
        self._queue.put(chunk)

    def _read(self) -> None:
        try:
            with _translated(), self._adapter.connection_named(f"{_PACKAGE}_stream"):
                handle = self._plan.handle or self._open()
                with self._adapter.connections.exception_handler("the message stream"):
                    self._copy(handle) if self._plan.method == "copy" else self._fetch(handle)
        except _StreamStopped:
            self._queue.put(None)
        except WarehouseUnavailable as error:
            self._queue.put(None if self._stopped.is_set() else error)
        else:
            self._queue.put(None)

    def _open(self) -> Any:
        self._prepare_session()
        return self._adapter.connections.get_thread_connection().handle

    def _copy(self, handle: Any) -> None:
        sink = _CopySink(self)
        with handle.cursor() as cursor:
            cursor.copy_expert(self._plan.statement, sink)
        sink.flush()

    def _fetch(self, handle: Any) -> None:
        cursor = handle.cursor()
        cursor.execute(self._plan.statement)
        while rows := cursor.fetchmany(_CHUNK_ROWS):
            self.put(rows)


class _StreamStopped(WarehouseUnavailable):
    """The reader of a stream wants no more rows."""


class _CopySink:
    """What COPY writes into: one call a row, which psycopg2 promises for COPY TO (psycopg2: pqpath.c)."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._rows: list[ResultRow] = []

    def write(self, line: bytes) -> None:
        """Take one row of text with unit separators between its fields."""
        self._rows.append(tuple(line[:-1].split(b"\x1f")))
        if len(self._rows) >= _CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand over what is gathered."""
        if self._rows:
            self._reader.put(self._rows)
            self._rows = []


def _rows_written(cursor: Any) -> int:
    count = getattr(cursor, "rowcount", -1)
    if isinstance(count, int) and count >= 0:
        return count
    if cursor.description:
        row = cursor.fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else -1
    return -1


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what dbt raises into our own error, with the warehouse's words and without its statement."""
    from dbt_common.exceptions import DbtBaseException  # noqa: PLC0415 - dbt is imported only where a warehouse is needed

    try:
        yield
    except DbtBaseException as error:
        message = str(getattr(error, "msg", error)).strip()
        raise WarehouseUnavailable(f"The warehouse answered: {message}") from error


def _register_adapter(options: DbtOptions) -> Any:
    # dbt is imported here and not above: it costs more than a second, and only commands that reach a warehouse pay it.
    from dbt.adapters.factory import FACTORY, get_adapter, register_adapter  # noqa: PLC0415
    from dbt.context.providers import generate_runtime_macro_context  # noqa: PLC0415
    from dbt.mp_context import get_mp_context  # noqa: PLC0415
    from dbt.parser.manifest import ManifestLoader  # noqa: PLC0415
    from dbt_common.events.event_manager_client import cleanup_event_logger  # noqa: PLC0415

    config = _runtime_config(options)
    cleanup_event_logger()
    FACTORY.adapters.pop(config.credentials.type, None)
    with _translated():
        register_adapter(config, get_mp_context())
        cleanup_event_logger()
        adapter = get_adapter(config)
        macros = ManifestLoader.load_macros(config, adapter.connections.set_query_header)
        adapter.set_macro_resolver(macros)
        adapter.set_macro_context_generator(_kept(generate_runtime_macro_context))
    return adapter


def _kept(generate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Make each macro's context once: dbt would build all its namespaces again for every statement."""
    contexts: dict[str, dict[str, Any]] = {}

    def context(macro: Any, config: Any, manifest: Any, package_name: str | None) -> dict[str, Any]:
        if macro.unique_id not in contexts:
            contexts[macro.unique_id] = generate(macro, config, manifest, package_name)
        return dict(contexts[macro.unique_id])

    return context


def _runtime_config(options: DbtOptions) -> Any:
    from dbt.config.runtime import RuntimeConfig, load_profile, load_project  # noqa: PLC0415
    from dbt.flags import set_from_args  # noqa: PLC0415
    from dbt_common.context import set_invocation_context  # noqa: PLC0415
    from dbt_common.exceptions import DbtBaseException  # noqa: PLC0415

    profiles_dir = options.profiles_dir or _profiles_dir(options.project_dir)
    arguments = Namespace(
        project_dir=str(options.project_dir),
        profiles_dir=str(profiles_dir),
        profile=options.profile,
        target=options.target,
        threads=options.threads,
        vars=dict(options.variables),
        target_path=None,
        log_path=None,
        which="run-operation",
        version_check=False,
        send_anonymous_usage_stats=False,
        macro_debugging=False,
        full_refresh=False,
        partial_parse=False,
        quiet=True,
    )
    set_invocation_context(os.environ)  # where `env_var` in profiles.yml looks
    try:
        set_from_args(arguments, None)
        profile = load_profile(
            str(options.project_dir), dict(options.variables), options.profile, options.target, options.threads
        )
        project = load_project(str(package_path()), False, profile, {})
        return RuntimeConfig.from_parts(project, profile, arguments)
    except DbtBaseException as error:
        message = " ".join(str(getattr(error, "msg", error)).split())
        advice = f"dbt looked for profiles.yml in {profiles_dir}; name another folder with --profiles-dir."
        raise SettingsError(Problem(f"dbt cannot load the profile: {message}", advice)) from error


def _profiles_dir(project_dir: Path) -> Path:
    """Where dbt looks: the project's folder or the current one if it holds profiles.yml, else ~/.dbt."""
    for folder in (Path.cwd(), project_dir):
        if (folder / "profiles.yml").is_file():
            return folder
    return Path.home() / ".dbt"
