"""Reading one query of any length, on a thread of its own, into a queue that is never long."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dbt_posthog_sync.errors import WarehouseUnavailable
from dbt_posthog_sync.warehouse import Columns, cursor
from dbt_posthog_sync.warehouse.dbt_error import translated
from dbt_posthog_sync.warehouse.parcel import ParcelCutter

_CHUNK_ROWS = 2_000
_BLOCK_BYTES = 512 * 1024
_CHUNKS_AHEAD = 8
_SEPARATOR = b"\x1f"
_PARCEL_FIELDS = 3  # position, lane, message
_CONNECTION = "dbt_posthog_sync_stream"


class StreamMethod(Enum):
    """How rows leave the warehouse: row by row, as lines of a COPY, or many messages as one row of a COPY."""

    ROWS = "rows"
    COPY = "copy"
    PARCELS = "parcels"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to read and how.

    Attributes:
        statements: the query, or the COPY that holds it; several are read side by side, each on its connection.
        method: how to read them.
        handle: an open connection to borrow, or None to open one.
        cursor_module: see `cursor.executed`.
    """

    statements: tuple[str, ...]
    method: StreamMethod
    handle: Any = None
    cursor_module: str = ""


class StreamReader:
    """Reads a query on threads of its own into a bounded queue; use as a context manager, which gives the chunks."""

    def __init__(self, adapter: Any, plan: StreamPlan, prepare_session: Callable[[], None]) -> None:
        self._adapter = adapter
        self._plan = plan
        self._prepare_session = prepare_session
        self._queue: queue.Queue[Columns | BaseException | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(statement,), name=f"{_CONNECTION}_{number}", daemon=True)
            for number, statement in enumerate(plan.statements)
        ]

    def __enter__(self) -> Iterator[Columns]:
        for thread in self._threads:
            thread.start()
        return self._chunks()

    def __exit__(self, *_: object) -> None:
        """Stop the query, empty the queue and wait for the threads."""
        self._stopped.set()
        for thread in self._threads:
            while thread.is_alive():
                try:
                    self._queue.get(timeout=0.05)
                except queue.Empty:
                    continue

    def _chunks(self) -> Iterator[Columns]:
        """What was read, chunk by chunk, as it comes.

        Raises:
            WarehouseUnavailable: reading failed.
        """
        reading = len(self._threads)
        while reading:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                reading -= 1
            else:
                yield item

    def put(self, chunk: Columns) -> None:
        """Hand over a chunk; waits while the reader of the queue is behind."""
        if self._stopped.is_set():
            raise _StreamStopped
        self._queue.put(chunk)

    def _read(self, statement: str) -> None:
        with ExitStack() as reading:
            reading.push(self._finish)
            reading.enter_context(translated())
            reading.enter_context(self._adapter.connection_named(threading.current_thread().name))
            handle = self._plan.handle or self._open()
            with self._adapter.connections.exception_handler("the message stream"):
                self._read_from(handle, statement)

    def _finish(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Hand over how reading ended, whatever it was: who waits for a chunk must not wait for ever."""
        self._queue.put(None if self._stopped.is_set() else error)
        return True

    def _open(self) -> Any:
        self._prepare_session()
        return self._adapter.connections.get_thread_connection().handle

    def _read_from(self, handle: Any, statement: str) -> None:
        match self._plan.method:
            case StreamMethod.ROWS:
                self._fetch(handle, statement)
            case StreamMethod.COPY:
                self._copy(handle, statement)
            case StreamMethod.PARCELS:
                with handle.cursor() as copying:
                    copying.copy_expert(statement, _ParcelSink(self))

    def _copy(self, handle: Any, statement: str) -> None:
        sink = _CopySink(self)
        with handle.cursor() as copying, ExitStack() as ending:
            ending.callback(sink.abandon)
            lines = io.BufferedWriter(sink, _BLOCK_BYTES)
            copying.copy_expert(statement, lines)
            lines.flush()

    def _fetch(self, handle: Any, statement: str) -> None:
        for rows in cursor.chunks(cursor.executed(handle, statement, self._plan.cursor_module), _CHUNK_ROWS):
            self.put(list(zip(*rows, strict=True)))


class _StreamStopped(WarehouseUnavailable):
    """The reader of a stream wants no more rows."""


class _CopySink(io.RawIOBase):
    """Cuts what COPY writes into columns, a block at a time.

    psycopg2 writes one row a call (psycopg2: pqpath.c), so what it writes into is a buffer that Python has in C, and
    no line of Python is run for a row.
    """

    def __init__(self, reader: StreamReader) -> None:
        super().__init__()
        self._reader = reader
        self._begun = b""
        self._is_open = True

    def writable(self) -> bool:
        """True, as a buffer asks to know."""
        return True

    def write(self, block: Any) -> int:
        """Take a block of text: rows that end with a line feed, with unit separators between their fields."""
        if self._is_open:
            data = self._begun + block
            end = data.rfind(b"\n") + 1
            self._begun = data[end:]
            if end:
                self._hand_over(data[:end])
        return len(block)

    def abandon(self) -> None:
        """Ignore what a buffer may still write when it is thrown away."""
        self._is_open = False

    def _hand_over(self, rows: bytes) -> None:
        width = rows.count(_SEPARATOR, 0, rows.index(b"\n")) + 1
        fields = rows.replace(b"\n", _SEPARATOR).split(_SEPARATOR)
        fields.pop()  # what follows the last separator: nothing
        self._reader.put([fields[number::width] for number in range(width)])


class _ParcelSink:
    """Cuts parcels into columns."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._cutter = ParcelCutter()

    def write(self, data: bytes) -> int:
        """Take what has come."""
        for parcel in self._cutter.add(data):
            fields = parcel.split(_SEPARATOR)
            self._reader.put([fields[number::_PARCEL_FIELDS] for number in range(_PARCEL_FIELDS)])
        return len(data)
