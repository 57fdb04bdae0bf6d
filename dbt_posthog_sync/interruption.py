"""An interruption by Ctrl-C or SIGTERM: the first lets what is in flight end, the second ends the process at once.

Python runs signal handlers on the main thread between two of its instructions, so a statement that the warehouse takes
minutes for would delay them. The interpreter's wakeup descriptor (docs.python.org: signal.set_wakeup_fd) is written to
at once, and a thread of its own reads it.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interruption:
    """Use as a context manager, on the main thread.

    Attributes:
        caught: the first signal that came, or None.
    """

    def __init__(self, stop: Callable[[signal.Signals], None], leave: Callable[[int], None]) -> None:
        """Prepare.

        Args:
            stop: called on another thread for the first signal.
            leave: called on another thread for the second one, with the exit code; should not return.
        """
        self.caught: signal.Signals | None = None
        self._stop = stop
        self._leave = leave
        self._before: dict[signal.Signals, Any] = {}
        self._descriptor_before = -1

    @property
    def exit_code(self) -> int | None:
        """Exit code of an interrupted program; None when nothing came."""
        return None if self.caught is None else EXIT_CODES[self.caught]

    def __enter__(self) -> Interruption:
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._watch = threading.Thread(target=self._watching, name="interruption", daemon=True)
        self._watch.start()
        self._descriptor_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        # Without a handler in Python the default action would end the process.
        self._before = {number: signal.signal(number, _ignored) for number in EXIT_CODES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._descriptor_before)
        self._writing.close()
        self._watch.join()
        self._reading.close()

    def _watching(self) -> None:
        while received := self._reading.recv(64):
            for number in received:
                if number in EXIT_CODES:
                    self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        if self.caught is not None:
            self._leave(EXIT_CODES[number])
            return
        self.caught = number
        self._stop(number)


def _ignored(_number: int, _frame: object) -> None:
    return
