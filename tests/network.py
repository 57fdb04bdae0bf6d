"""A network that is a function: what a session of `requests` sends is answered in place, and remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import requests
from requests.adapters import BaseAdapter

S = TypeVar("S")


class Reply(Protocol):
    """What a server answers."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class Network(BaseAdapter, Generic[S]):
    """Answers requests by a function; mount it in a session.

    Attributes:
        seen: the requests so far, as `read` understands them.
    """

    def __init__(self, read: Callable[[requests.PreparedRequest], S], answer: Callable[[S], Reply | Exception]) -> None:
        super().__init__()
        self._read = read
        self._answer = answer
        self.seen: list[S] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        seen = self._read(request)
        self.seen.append(seen)
        reply = self._answer(seen)
        if isinstance(reply, Exception):
            raise reply
        response = requests.Response()
        response.status_code = reply.status
        response.headers.update(reply.headers)
        response.url = request.url or ""
        response.request = request
        response._content = reply.body
        return response

    def close(self) -> None:
        """Nothing is open."""
