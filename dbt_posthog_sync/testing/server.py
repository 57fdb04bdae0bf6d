"""The stand-in as an HTTP server: start it in a `with` block, or let `serve` block until Ctrl-C."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from dbt_posthog_sync.testing.account import Account, RequestRecord, Summary, summary
from dbt_posthog_sync.testing.config import StandInConfig
from dbt_posthog_sync.testing.connection import Connection
from dbt_posthog_sync.testing.faults import ArrivalKind, FaultPlan
from dbt_posthog_sync.testing.forwarding import Forwarding
from dbt_posthog_sync.testing.listener import Listener
from dbt_posthog_sync.testing.project import Project


class StandIn:
    """A local PostHog: `with StandIn() as posthog: ... posthog.url ... posthog.project.events`.

    Attributes:
        config: what it plays.
        account: projects and request log; they outlive the server.
    """

    def __init__(
        self,
        config: StandInConfig | None = None,
        faults: FaultPlan | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.config = config or StandInConfig()
        self.account = Account(self.config)
        self._address = (host, port)
        self._faults = faults
        self._api_faults: FaultPlan | None = None
        self._server: _Server | None = None

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen and answer in the background.

        Raises:
            OSError: the port is taken.
        """
        self._server = _Server(self._address, self.account, self._plan)
        self._address = (self._address[0], self._server.server_port)
        self._server.start()

    def stop(self) -> None:
        """Close every connection and stop listening. What was kept stays readable."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def inject(self, faults: FaultPlan | None = None, *, api: FaultPlan | None = None) -> None:
        """Replace the fault plans; None ends all faults. Request numbers go on.

        Args:
            faults: for ingestion.
            api: for the private API and the key checks.
        """
        self._faults, self._api_faults = faults, api

    def _plan(self, kind: ArrivalKind) -> FaultPlan | None:
        """The plan for a kind of request."""
        return self._api_faults if kind == "api" else self._faults

    def reset(self) -> None:
        """Forget all events and requests, and number requests from 1 again."""
        self.account.reset()

    @property
    def url(self) -> str:
        """The host to point a client at."""
        return f"http://{self._address[0]}:{self._address[1]}"

    @property
    def token(self) -> str:
        """The project API key of the main project."""
        return self.config.tokens[0]

    @property
    def personal_key(self) -> str:
        """The first personal API key."""
        return self.config.personal_keys[0].value

    @property
    def project(self) -> Project:
        """The main project."""
        return self.account.project

    @property
    def projects(self) -> Mapping[str, Project]:
        """Every project by its key."""
        return self.account.projects

    @property
    def forwarding(self) -> Forwarding:
        """The destinations of the main project, and the requests that they made."""
        return self.account.forwarding(self.token)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """Every request so far."""
        return self.account.requests

    def summary(self) -> Summary:
        """Count what arrived and what was kept."""
        return summary(self.account)


class _Server(Listener):
    """The listener with what connections need."""

    def __init__(
        self, address: tuple[str, int], account: Account, plan: Callable[[ArrivalKind], FaultPlan | None]
    ) -> None:
        self.account = account
        self.plan = plan
        super().__init__(address, Connection)


def serve(
    host: str, port: int, config: StandInConfig | None = None, *, ready: Callable[[str], None] | None = None
) -> Summary:
    """Run the stand-in until Ctrl-C, and return what it saw.

    Args:
        host: address to listen on.
        port: port to listen on; 0 picks a free one.
        config: what to play.
        ready: called with the URL once requests are answered.

    Raises:
        OSError: the port is taken.
    """
    stand_in = StandIn(config, host=host, port=port)
    with stand_in, contextlib.suppress(KeyboardInterrupt):
        if ready is not None:
            ready(stand_in.url)
        threading.Event().wait()
    return stand_in.summary()
