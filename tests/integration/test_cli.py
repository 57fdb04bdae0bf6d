"""The command as users meet it: what it prints where, its exit codes, and one clear line for everything that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import click
import psycopg2
import pytest
import yaml
from dbt.parser.manifest import ManifestLoader
from jsonschema import Draft202012Validator
from lab import Server, duckdb_server, fresh_name
from shop import E_MAIL, KEY, ORDERS, PASSWORD, Shop

from dbt_posthog_sync.cli import cli
from dbt_posthog_sync.testing import StandIn, StandInConfig

ROWS = ((1, "u1", 12.5), (2, E_MAIL, 3.0))
MODULE = (sys.executable, "-m", "dbt_posthog_sync")


@pytest.fixture(scope="module", autouse=True)
def _macros_are_read_once() -> Iterator[None]:
    """dbt reads several hundred macros for every command, which takes longer than everything else together."""
    read = ManifestLoader.load_macros
    known: dict[str, Any] = {}

    def remembered(config: Any, hook: Any) -> Any:
        kind = config.credentials.type
        if kind not in known:
            known[kind] = read(config, hook)
        return known[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ManifestLoader, "load_macros", remembered)
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


# --- init, validate, schema: no warehouse ---


def test_init_writes_settings_once_and_prints_a_first_annotation(shop: Shop) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    first = shop("init", shop.table, "--object", "event")
    second = shop("init", "--output", "json")
    assert first.code == 0
    assert f"Wrote {shop.folder / 'posthog_sync.yml'}" in first.err
    assert "object: event" in first.out
    assert second.json == {
        "version": 1, "kind": "init", "settings": str(shop.folder / "posthog_sync.yml"), "written": False,
        "annotation": None,
    }  # fmt: skip


def test_settings_of_init_are_valid(shop: Shop) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    shop("init")
    assert shop("validate").code == 0


def test_init_of_an_unknown_model_writes_nothing(shop: Shop) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    complaint = shop.complaint("init", f"{shop.table}s", code=2)
    assert f"Did you mean `{shop.table}`?" in complaint
    assert not (shop.folder / "posthog_sync.yml").exists()


def test_init_says_when_it_cannot_write(shop: Shop) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    (shop.folder / "posthog_sync.yml").symlink_to("/nowhere/at/all")
    assert "posthog_sync.yml" in shop("init").err


def test_validate_lists_the_syncs(shop: Shop) -> None:
    text, as_json = shop("validate"), shop("validate", "--output", "json")
    assert text.code == 0
    assert shop.table in text.out
    assert text.err == "1 sync is valid.\n"
    assert (1, "validate", [shop.table]) == (
        as_json.json["version"],
        as_json.json["kind"],
        [sync["name"] for sync in as_json.json["syncs"]],
    )


def test_schema_is_a_json_schema(shop: Shop) -> None:
    for words in (("schema",), ("schema", "--settings")):
        answer = shop(*words)
        assert answer.json["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(answer.json)
        assert answer.err == ""


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("validate",), ("schema",)])
def test_commands_without_a_warehouse_import_neither_dbt_nor_requests(words: tuple[str, ...]) -> None:
    program = (
        "import sys\n"
        "from dbt_posthog_sync.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n"
        "    print(sorted({'dbt', 'dbt_common', 'requests', 'agate'} & set(sys.modules)), file=sys.stderr)\n"
        "    raise\n"
    )
    done = subprocess.run((sys.executable, "-c", program, *words), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


# --- plan, run, status: the happy path, on both warehouses ---


@pytest.fixture(params=["shop", "postgres_shop"])
def any_shop(request: pytest.FixtureRequest) -> Shop:
    """Each warehouse in turn."""
    found: Shop = request.getfixturevalue(request.param)
    return found


def test_a_day_with_the_command(any_shop: Shop) -> None:
    shop = any_shop
    shop.build(*ROWS)
    plan = shop("plan")
    assert (plan.code, plan.err) == (0, "")
    assert "would send 2 events" in plan.out
    assert shop.posthog.requests == ()

    run = shop("run")
    assert (run.code, run.err) == (0, "")
    assert f"{shop.table}: done" == run.out.splitlines()[0]
    assert run.out.splitlines()[1] == "  2 rows = 0 unchanged + 2 delivered + 0 rejected"
    assert E_MAIL not in run.out
    assert {"u1", E_MAIL} == {event.distinct_id for event in shop.posthog.project.events}

    asked = len(shop.posthog.requests)
    again = shop("run")
    assert again.out.splitlines()[1] == "  2 rows = 2 unchanged + 0 delivered + 0 rejected"
    assert "  0 requests, 0 B, " in again.out
    assert asked == len(shop.posthog.requests)

    refresh = shop("run", "--full-refresh")
    assert refresh.out.splitlines()[1] == "  2 rows = 0 unchanged + 2 delivered + 0 rejected"
    assert (len(shop.posthog.project.events), len(shop.posthog.project.received)) == (2, 4)

    status = shop("status")
    assert (status.code, status.err) == (0, "")
    assert [shop.table, "event", "2"] == status.out.splitlines()[1].split()
    assert status.out.count("success") == 3


def test_json_of_each_command_is_one_versioned_document(shop: Shop) -> None:
    shop.build(*ROWS, (3, None, 1.0))
    for words, code in ((("plan",), 0), (("run",), 1), (("run", "--allow-rejected"), 0), (("status",), 0)):
        answer = shop(*words, "--output", "json")
        assert (code, 1, words[0]) == (answer.code, answer.json["version"], answer.json["kind"])
        assert answer.err == ""
        assert answer.out.count("\n") == 1
        if words == ("run",):
            counts = answer.json["runs"][0]["counts"]
            assert (counts["rows"], counts["unchanged"], counts["delivered"], counts["rejected"]) == (3, 0, 2, 1)


def test_a_rejected_row_is_told_with_its_reason(shop: Shop) -> None:
    shop.build(*ROWS, (3, None, 1.0))
    answer = shop("run")
    assert answer.code == 1
    assert "  3 rows = 0 unchanged + 2 delivered + 1 rejected" in answer.out.splitlines()
    assert "  rejected: 1 x the distinct_id is missing" in answer.out.splitlines()


def test_a_relative_path_in_the_profile_counts_from_where_we_are(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build(*ROWS)
    shop.profile(path="project/lab.duckdb")
    monkeypatch.chdir(shop.folder.parent)
    assert shop("run", "--project-dir", "project").code == 0


class Recorder(BaseHTTPRequestHandler):
    """Keeps the bodies it gets and accepts every event of PostHog's v1 protocol."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        """Keep and accept."""
        body = json.loads(zlib.decompress(self.rfile.read(int(self.headers["Content-Length"])), wbits=31))
        self.bodies.append(body)
        answer = json.dumps({"results": {event["uuid"]: {"result": "ok"} for event in body["batch"]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def recorder() -> Iterator[str]:
    """The URL of a recorder."""
    Recorder.bodies.clear()
    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_mock_prints_the_very_bodies_that_a_run_sends(
    shop: Shop, recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settings(posthog={"host": recorder}, delivery={"batch_messages": 2, "in_flight": 1})
    shop.build(*ROWS, (3, "u3", 1e7 / 7))
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    mock = shop("run", "--mock", "--output", "json")
    assert (mock.code, Recorder.bodies) == (0, [])
    assert mock.err == "2 requests would be sent; nothing was sent.\n"
    mocked = [json.loads(line)["body"] for line in mock.out.splitlines()]
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", KEY)
    assert shop("run").code == 0
    assert [_without_ids(body) for body in mocked] == [_without_ids(body) for body in Recorder.bodies]


def _without_ids(body: dict[str, Any]) -> dict[str, Any]:
    for event in body["batch"]:
        del event["properties"]["dbt_posthog_sync_run_id"]
    return {**body, "created_at": ""}


def test_mock_in_text_shows_the_address_and_an_event_a_line(shop: Shop) -> None:
    shop.build(*ROWS)
    answer = shop("run", "--mock")
    assert f"{shop.table}: POST {shop.posthog.url}/i/v1/analytics/events" == answer.out.splitlines()[0]
    assert "Authorization: Bearer ***" in answer.out
    assert answer.out.count('"event": "order completed"') == 2
    assert shop.posthog.requests == ()


# --- what the user wrote is wrong: exit 2 ---


def test_every_wrong_annotation_has_its_line(shop: Shop) -> None:
    shop.annotate(
        {**ORDERS, "object": "evnt"},
        people={**ORDERS, "timestmp": "ordered_at"},
        firms={"object": "group", "properties": "all"},
    )
    for command in ("validate", "plan", "run"):
        answer = shop(command)
        lines = answer.err.splitlines()
        assert (answer.code, answer.out) == (2, "")
        assert f"{len(lines) - 1} problems:" == lines[0]
        assert all(line.startswith("- ") for line in lines[1:])
        assert {shop.table, "people", "firms"} == {line.removeprefix("- ").split(",")[0] for line in lines[1:]}
    assert shop.posthog.requests == ()


def test_a_column_that_the_table_lacks_is_named(shop: Shop) -> None:
    shop.annotate({**ORDERS, "timestamp": "orderd_at", "properties": ["amont"]})
    shop.build(*ROWS)
    answer = shop("run")
    assert (answer.code, answer.out) == (2, "")
    assert "orderd_at" in answer.err
    assert "`ordered_at`" in answer.err
    assert "amont" in answer.err
    assert shop.posthog.requests == ()


def test_a_model_that_was_never_built_says_how_to_build_it(shop: Shop) -> None:
    assert f"dbt build --select {shop.table}" in shop.complaint("run", code=2)


def test_no_annotation_at_all_points_to_init(shop: Shop) -> None:
    manifest = json.loads((shop.folder / "target" / "manifest.json").read_text())
    manifest["nodes"] = {}
    (shop.folder / "target" / "manifest.json").write_text(json.dumps(manifest))
    assert "dbt-posthog-sync init" in shop.complaint("plan", code=2)


def test_a_missing_manifest_says_how_to_make_one(shop: Shop) -> None:
    (shop.folder / "target" / "manifest.json").unlink()
    assert "dbt parse" in shop.complaint("run", code=2)


def test_a_manifest_of_another_adapter_is_refused(shop: Shop) -> None:
    path = shop.folder / "target" / "manifest.json"
    path.write_text(path.read_text().replace('"duckdb"', '"postgres"'))
    complaint = shop.complaint("run", code=2)
    assert "made for postgres" in complaint
    assert "--target" in complaint


def test_no_project_here(shop: Shop, tmp_path: Path) -> None:
    assert "--project-dir" in shop.complaint("validate", "--project-dir", str(tmp_path), code=2)


def _lacking_file(shop: Shop) -> None:
    (shop.folder / "profiles.yml").unlink()


def _write_profile(text: str) -> Any:
    def write(shop: Shop) -> None:
        (shop.folder / "profiles.yml").write_text(text)

    return write


def _as_it_is(_: Shop) -> None:
    return


BROKEN = f"lab:\n  outputs:\n    dev:\n      password: {PASSWORD}\n     type: duckdb\n"


@pytest.mark.parametrize(
    ("spoil", "words", "expected"),
    [
        (_lacking_file, (), "profiles.yml: there is no such file. Write a profiles.yml as for dbt itself, or name"),
        (_write_profile(""), (), "profiles.yml: the file is empty."),
        (_write_profile(BROKEN), (), "not valid YAML near line"),
        (_write_profile("other: {}\n"), (), "has no profile `lab`"),
        (_as_it_is, ("--profile", "nope"), "has no profile `nope`. Name one of its profiles with --profile"),
        (_as_it_is, ("--target", "nope"), "has no target `nope`; it has: dev. Name one"),
        (
            _write_profile("lab: {target: dev, outputs: {dev: {type: duckdb, path: \"{{ env_var('DUCK_PATH') }}\"}}}"),
            (),
            "the environment variable DUCK_PATH is not set, and the profile needs it. Set DUCK_PATH.",
        ),
        (
            _write_profile("lab: {target: dev, outputs: {dev: {type: duckdb, path: \"{{ var('duck') }}\"}}}"),
            (),
            "the variable `duck` is not set, and the profile needs it. Set it with --vars '{duck: value}'.",
        ),
        (
            _write_profile("lab: {target: dev, outputs: {dev: {type: oracle, path: x}}}"),
            (),
            "the adapter oracle is not installed here. Install it beside this program: pip install dbt-oracle.",
        ),
        (
            _write_profile(f"lab: {{target: dev, outputs: {{dev: {{type: postgres, password: {PASSWORD}}}}}}}"),
            (),
            "the target `dev` of the profile `lab` lacks `",
        ),
        (
            _write_profile(f"lab: {{target: dev, outputs: {{dev: {{type: duckdb, threads: {PASSWORD}}}}}}}"),
            (),
            "profiles.yml",
        ),
    ],
)
def test_a_profile_that_cannot_be_used(shop: Shop, spoil: Any, words: tuple[str, ...], expected: str) -> None:
    spoil(shop)
    complaint = shop.complaint("run", *words, code=2)
    assert str(shop.folder) in complaint or str(Path.home()) in complaint
    assert expected in complaint


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "the environment variable POSTHOG_PROJECT_API_KEY is not set"),
        ("phx_of-a-person", "holds a personal API key (`phx_`)"),
        ("phs_of-a-project", "holds a project secret key (`phs_`)"),
        ("phc key with spaces", "holds no project API key"),
    ],
)
def test_a_key_that_cannot_be_used(shop: Shop, monkeypatch: pytest.MonkeyPatch, key: str, expected: str) -> None:
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", key)
    shop.build(*ROWS)
    complaint = shop.complaint("run", code=2)
    assert expected in complaint
    assert "Settings > Project" in complaint
    assert not key or key not in complaint


def test_a_target_that_may_not_send_can_plan_and_mock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.settings(targets=["prod"])
    shop.build(*ROWS)
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")  # nobody should need the key to learn that it is of no use here
    complaint = shop.complaint("run", code=2)
    assert "the dbt target `dev` may not send; `targets` allows prod" in complaint
    assert shop("plan").code == 0
    assert shop("run", "--mock").code == 0
    assert shop.posthog.requests == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--select", "nope"), "the selector `nope` matches no sync"),
        (("--select", "state:modified"), "the selector method `state:`"),
        (("--vars", "{a: ["), "--vars is not valid YAML. Write it as dbt does"),
        (("--vars", "text"), "--vars is no mapping. Write it as dbt does"),
    ],
)
def test_a_wrong_option(shop: Shop, words: tuple[str, ...], expected: str) -> None:
    assert expected in shop.complaint("plan", *words, code=2)


@pytest.mark.parametrize("words", [("nope",), ("run", "--nope"), ("run", "--output", "xml")])
def test_wrong_usage_is_exit_2(shop: Shop, words: tuple[str, ...]) -> None:
    answer = shop(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[-1].startswith("Error: ")


# --- the warehouse: exit 4, and 2 for a state of a newer program ---


def test_a_duckdb_file_held_by_another_process(shop: Shop) -> None:
    shop.build(*ROWS)
    program = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    path = str(shop.server.output["path"])
    with subprocess.Popen(
        (sys.executable, "-c", program, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        complaint = shop.complaint("run", code=4)
        other.communicate("\n")
    assert (
        f"Another process ({other.pid}) holds the DuckDB file {path}, which admits one at a time. End that process or "
        "wait for it."
    ) == complaint


def test_a_missing_duckdb_file_is_not_made(shop: Shop) -> None:
    shop.profile(path=str(shop.folder / "none.duckdb"))
    for command in ("plan", "run"):
        complaint = shop.complaint(command, code=4)
        assert f"The DuckDB file {shop.folder / 'none.duckdb'} does not exist. Build it first with dbt" in complaint
    assert not (shop.folder / "none.duckdb").exists()


def test_a_file_that_is_no_duckdb(shop: Shop) -> None:
    (shop.folder / "text.duckdb").write_text("hello, " * 1000)
    shop.profile(path=str(shop.folder / "text.duckdb"))
    assert "Check the path in profiles.yml." in shop.complaint("plan", code=4)


def test_a_closed_port_of_postgres(postgres_shop: Shop) -> None:
    postgres_shop.profile(host="127.0.0.1", port=1, password=PASSWORD)
    complaint = postgres_shop.complaint("plan", code=4)
    assert "Connection refused" in complaint
    assert "Check that it is running, and the host and port in profiles.yml." in complaint


def test_a_database_that_is_not_there(postgres_shop: Shop) -> None:
    postgres_shop.profile(dbname="nowhere", password=PASSWORD)
    path = postgres_shop.folder / "target" / "manifest.json"
    path.write_text(path.read_text().replace(f'"database": "{postgres_shop.server.database}"', '"database": "nowhere"'))
    complaint = postgres_shop.complaint("plan", code=4)
    assert 'database "nowhere" does not exist. Check the name of the database in profiles.yml.' in complaint


def test_a_role_that_may_not_create_the_state_schema(postgres_shop: Shop) -> None:
    shop = postgres_shop
    shop.build(*ROWS)
    role = fresh_name("reader")
    shop.server.sql(f"create role {role} login password '{PASSWORD}'")
    shop.server.sql(f"grant select on {shop.table} to {role}")
    shop.profile(user=role, password=PASSWORD)
    complaint = shop.complaint("run", code=4)
    assert "permission denied for database" in complaint
    assert "state schema" in complaint
    assert "rant" in complaint
    status = shop("status")
    assert (status.code, status.out, status.err) == (0, "Nothing has been synced to this target yet.\n", "")


def test_a_row_that_cannot_be_read_is_not_quoted(any_shop: Shop) -> None:
    shop = any_shop
    shop.build(*ROWS)
    shop.server.sql(f"alter table {shop.table} rename to {shop.table}_raw")
    shop.server.sql(
        f"create view {shop.table} as select cast(customer as integer) as order_id, customer, amount, ordered_at "
        f"from {shop.table}_raw where customer like '%@%'"
    )
    run = shop("run")
    assert (run.code, shop.posthog.requests) == (4, ())
    assert "Select every column of the model in the warehouse" in run.out
    assert E_MAIL not in run.out + run.err


def test_a_state_of_a_newer_program_is_left_alone(shop: Shop) -> None:
    shop.build(*ROWS)
    shop.server.sql(f"create schema {shop.state}")
    shop.server.sql(f"create table {shop.state}.schema_version as select 99 as version")
    for command in ("plan", "run", "status"):
        complaint = shop.complaint(command, code=2)
        assert f"the state schema `{shop.state}` has version 99" in complaint
        assert "Upgrade dbt-posthog-sync" in complaint


# --- PostHog, and the guards ---


def test_a_stopped_posthog_is_told_in_one_line(shop: Shop) -> None:
    shop.build(*ROWS)
    shop.posthog.stop()
    text = shop("run")
    assert (text.code, text.err) == (4, "")
    lines = text.out.splitlines()
    assert f"{shop.table}: failed" == lines[0]
    assert "Connection refused" in lines[1]
    assert lines[2] == "  2 rows = 0 unchanged + 0 delivered + 0 rejected + 2 pending"
    as_json = shop("run", "--output", "json")
    assert (as_json.code, as_json.json["runs"][0]["status"]) == (4, "error")
    assert as_json.err.count("\n") == 1
    assert "Connection refused" in as_json.err
    shop.posthog.start()
    assert "2 delivered" in shop("run").out


def test_a_key_that_posthog_refuses(shop: Shop) -> None:
    shop.build(*ROWS)
    with StandIn(StandInConfig(tokens=("phc_another",), enforce_known_tokens=True)) as strict:
        shop.settings(posthog={"host": strict.url})
        answer = shop("run")
    assert answer.code == 4
    assert f"{shop.table}: failed" == answer.out.splitlines()[0]
    assert "API key" in answer.out.splitlines()[1]


def test_another_key_than_before_stops_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build(*ROWS)
    shop("run")
    shop.posthog.reset()
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", "phc_of-another-project")
    run, plan = shop("run"), shop("plan", "--output", "json")
    assert (run.code, run.err) == (1, "")
    assert [f"{shop.table}: stopped before anything was sent"] == run.out.splitlines()[:1]
    assert "set another state_schema" in run.out.splitlines()[1]
    assert plan.code == 1
    assert plan.json["plans"] == []
    assert "set another state_schema" in plan.json["objections"][0]
    assert plan.err.startswith("A run would stop: ")
    assert shop.posthog.requests == ()


def test_a_guard_stops_plan_and_run(shop: Shop) -> None:
    shop.settings(limits={"max_events": 1})
    shop.build(*ROWS)
    plan, run = shop("plan"), shop("run")
    assert (plan.code, run.code) == (1, 1)
    assert "A run would stop: " in plan.err
    assert "the limit max_events is 1" in plan.err
    assert "the limit max_events is 1" in run.out
    assert shop.posthog.requests == ()


# --- the end: signals, bugs, the sandbox ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_and_the_next_one_goes_on(shop: Shop, number: signal.Signals, code: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    shop.build(*((i, f"u{i}", 1.0) for i in range(40)))
    with StandIn(StandInConfig(latency_seconds=0.2)) as slow:
        shop.settings(posthog={"host": slow.url}, delivery={"batch_messages": 10, "in_flight": 1})
        sender = threading.Thread(target=_signal_after_a_request, args=(slow, number))
        sender.start()
        answer = shop("run")
        sender.join()
        assert code == answer.code
        assert f"{shop.table}: interrupted" == answer.out.splitlines()[0]
        assert " pending" in answer.out
        rest = shop("run", "--output", "json").json["runs"][0]["counts"]
        assert 0 < rest["delivered"] < 40
        assert len(slow.project.received) == 40
    assert before == signal.getsignal(signal.SIGINT)


def _signal_after_a_request(posthog: StandIn, number: signal.Signals) -> None:
    while not posthog.requests:
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def test_a_bug_is_one_line_and_exit_3(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ValueError("two\nlines")

    monkeypatch.setitem(cli.commands, "broken", broken)
    answer = shop("broken")
    assert (answer.code, answer.out) == (3, "")
    assert "ValueError: two lines" in answer.err.splitlines()[0]
    assert "DBT_POSTHOG_SYNC_TRACEBACK=1" in answer.err.splitlines()[1]


def test_sandbox_answers_until_ctrl_c(tmp_path: Path) -> None:
    # Python installs no handler where the shell that started the tests ignores Ctrl-C, as one does in the background.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from dbt_posthog_sync.cli import main; main()"
    )
    words = (sys.executable, "-c", program, "sandbox", "--port", "0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as sandbox:
        assert sandbox.stderr is not None
        said = sandbox.stderr.readline()
        url = next(word.rstrip(".") for word in said.split() if word.startswith("http"))
        with urllib.request.urlopen(url, timeout=5) as page:
            assert page.status == 200
        sandbox.send_signal(signal.SIGINT)
        out, err = sandbox.communicate(timeout=10)
    assert (sandbox.returncode, out, err) == (0, "", "")


def test_the_module_runs_like_the_command(shop: Shop) -> None:
    done = subprocess.run((*MODULE, "--version"), capture_output=True, text=True, check=True, cwd=shop.folder)
    assert done.stdout.startswith("dbt-posthog-sync, version ")


def test_a_taken_port_is_told(shop: Shop) -> None:
    port = shop.posthog.url.rpartition(":")[2]
    assert f"127.0.0.1:{port} cannot be listened on: " in shop.complaint("sandbox", "--port", port, code=2)


def test_dbt_writes_no_files_into_the_project(shop: Shop) -> None:
    shop.build(*ROWS)
    shop("run")
    files = {name for name in os.listdir(shop.folder) if not name.endswith(".wal")}
    assert {"dbt_project.yml", "lab.duckdb", "posthog_sync.yml", "profiles.yml", "target"} == files
    assert os.listdir(shop.folder / "target") == ["manifest.json"]


def test_a_postgres_password_that_is_wrong_is_not_shown(postgres_shop: Shop) -> None:
    postgres_shop.profile(user="nobody_of_this_name", password=PASSWORD)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(
            host=postgres_shop.server.output["host"], user="nobody_of_this_name", dbname="postgres", password=PASSWORD
        )
    assert "Check the user and the password in profiles.yml." in postgres_shop.complaint("plan", code=4)


def test_syncs_after_the_one_that_met_a_stopped_posthog_are_not_tried(shop: Shop) -> None:
    shop.build(*ROWS)
    shop.annotate(ORDERS)
    manifest_path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    node = next(iter(manifest["nodes"].values()))
    node["config"]["meta"]["posthog_sync"] = [{**ORDERS, "name": "first"}, {**ORDERS, "name": "second"}]
    manifest_path.write_text(json.dumps(manifest))
    shop.posthog.stop()
    answer = shop("run")
    assert answer.code == 4
    assert "second: skipped" in answer.out
    assert "Not run: PostHog took nothing from the sync before it." in answer.out


def test_settings_in_a_file_of_another_name_are_not_silently_left_out(shop: Shop) -> None:
    shop.build(*ROWS)
    (shop.folder / "posthog_sync.yml").rename(shop.folder / "posthog_sync.yaml")
    answer = shop("run")
    assert answer.code == 2
    assert "Rename it to posthog_sync.yml." in answer.err


def test_a_manifest_of_another_target_sends_nothing(shop: Shop) -> None:
    shop.build(*ROWS)
    path = shop.folder / "profiles.yml"
    profile = yaml.safe_load(path.read_text())
    outputs = profile["lab"]["outputs"]
    outputs["prod"] = {**outputs["dev"], "schema": "analytics"}
    path.write_text(yaml.safe_dump(profile))
    answer = shop("run", "--target", "prod")
    assert answer.code == 2
    assert "the manifest was made for the target `dev`" in answer.err
    assert "--target prod" in answer.err
    assert not shop.posthog.requests


def test_a_relation_whose_name_differs_in_case_is_no_bug(shop: Shop) -> None:
    shop.build(*ROWS)
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    node = next(iter(manifest["nodes"].values()))
    node["alias"] = node["alias"].upper()
    path.write_text(json.dumps(manifest))
    answer = shop("plan")
    assert answer.code == 2
    assert "nearly the same name" in answer.err
