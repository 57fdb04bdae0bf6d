"""Reading one query of any length, on a thread of its own, into a queue that is never long."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.errors import WarehouseUnavailable
from dbt_posthog_sync.warehouse import Columns, cursor
from dbt_posthog_sync.warehouse.dbt_error import translated

_CHUNK_ROWS = 2_000
_BLOCK_BYTES = 512 * 1024
_CHUNKS_AHEAD = 8
_THREAD = "dbt_posthog_sync-stream"
_CONNECTION = "dbt_posthog_sync_stream"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to read and how.

    Attributes:
        statement: the query, or the COPY that holds it.
        method: `copy` or `rows`.
        handle: an open connection to borrow, or None to open one.
        cursor_module: see `cursor.executed`.
    """

    statement: str
    method: str
    handle: Any
    cursor_module: str


class StreamReader:
    """Reads one query on a thread of its own into a bounded queue."""

    def __init__(self, adapter: Any, plan: StreamPlan, prepare_session: Callable[[], None]) -> None:
        self._adapter = adapter
        self._plan = plan
        self._prepare_session = prepare_session
        self._queue: queue.Queue[Columns | BaseException | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name=_THREAD, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the query, empty the queue and wait for the thread."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def chunks(self) -> Iterator[Columns]:
        """What was read, chunk by chunk, as it comes.

        Raises:
            WarehouseUnavailable: reading failed.
        """
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def put(self, chunk: Columns) -> None:
        """Hand over a chunk; waits while the reader of the queue is behind."""
        if self._stopped.is_set():
            raise _StreamStopped
        self._queue.put(chunk)

    def _read(self) -> None:
        with ExitStack() as reading:
            reading.push(self._finish)
            reading.enter_context(translated())
            reading.enter_context(self._adapter.connection_named(_CONNECTION))
            handle = self._plan.handle or self._open()
            with self._adapter.connections.exception_handler("the message stream"):
                self._copy(handle) if self._plan.method == "copy" else self._fetch(handle)

    def _finish(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Hand over how reading ended, whatever it was: who waits for a chunk must not wait for ever."""
        self._queue.put(None if self._stopped.is_set() else error)
        return True

    def _open(self) -> Any:
        self._prepare_session()
        return self._adapter.connections.get_thread_connection().handle

    def _copy(self, handle: Any) -> None:
        sink = _CopySink(self)
        with handle.cursor() as copying, ExitStack() as ending:
            ending.callback(sink.abandon)
            lines = io.BufferedWriter(sink, _BLOCK_BYTES)
            copying.copy_expert(self._plan.statement, lines)
            lines.flush()

    def _fetch(self, handle: Any) -> None:
        for rows in cursor.chunks(cursor.executed(handle, self._plan.statement, self._plan.cursor_module), _CHUNK_ROWS):
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
        width = rows.count(b"\x1f", 0, rows.index(b"\n")) + 1
        fields = rows.replace(b"\n", b"\x1f").split(b"\x1f")
        fields.pop()  # what follows the last separator: nothing
        self._reader.put([fields[number::width] for number in range(width)])
