"""PostHog away, guards, signals, bugs: how a command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import click
import psycopg2
import pytest
import yaml
from dbt_common.events.event_manager_client import get_event_manager
from shop import E_MAIL, ORDERS, PASSWORD, Shop

from dbt_posthog_sync.cli import cli
from dbt_posthog_sync.testing import StandIn, StandInConfig

ROWS = ((1, "u1", 12.5), (2, E_MAIL, 3.0))
MODULE = (sys.executable, "-m", "dbt_posthog_sync")

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


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
        told = json.loads((shop.folder / "target" / "posthog_sync_results.json").read_text())
        assert (told["exit_code"], told["results"][0]["exit_code"]) == (code, 130)
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
    words = (sys.executable, "-c", program, "sandbox", "--port", "0", "--loops-port", "0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as sandbox:
        assert sandbox.stderr is not None
        said = sandbox.stderr.readline() + sandbox.stderr.readline()
        loops, posthog = (word.rstrip(".") for word in said.split() if word.startswith("http"))
        assert "key phc_sandbox, and the personal key phx_sandbox." in said
        assert "key loops_sandbox." in said
        with urllib.request.urlopen(posthog, timeout=5) as page:
            assert page.status == 200
        asking = urllib.request.Request(f"{loops}/v1/api-key", headers={"Authorization": "Bearer loops_sandbox"})
        with urllib.request.urlopen(asking, timeout=5) as answer:
            assert b"Sandbox" in answer.read()
        sandbox.send_signal(signal.SIGINT)
        out, err = sandbox.communicate(timeout=10)
    assert (sandbox.returncode, out, err) == (0, "", "")


def test_the_module_runs_like_the_command(shop: Shop) -> None:
    done = subprocess.run((*MODULE, "--version"), capture_output=True, text=True, check=True, cwd=shop.folder)
    assert done.stdout.startswith("dbt-posthog-sync, version ")


def test_a_taken_port_is_told(shop: Shop) -> None:
    port = shop.posthog.url.rpartition(":")[2]
    assert f"127.0.0.1:{port} cannot be listened on: " in shop.complaint("sandbox", "--port", port, code=2)
    words = shop.complaint("sandbox", "--port", "0", "--loops-port", port, code=2)
    assert f"127.0.0.1:0 or 127.0.0.1:{port} cannot be listened on: " in words


def test_a_profile_without_a_target_spoils_no_document(shop: Shop) -> None:
    """dbt says which target it took, and wherever nobody told it to it says so on standard output."""
    shop.build(*ROWS)
    (shop.folder / "profiles.yml").write_text(yaml.safe_dump({"lab": {"outputs": {"default": shop.server.output}}}))
    shop.settings(targets=["default"])
    done = subprocess.run((*MODULE, "plan", "--output", "json"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["plans"][0]["staged"]["added"] == 2


def test_dbt_in_the_same_process_is_heard_again_afterwards(shop: Shop) -> None:
    before = get_event_manager()
    shop.build(*ROWS)
    assert shop("plan").code == 0
    assert get_event_manager() is before


def test_dbt_writes_no_files_into_the_project(shop: Shop) -> None:
    shop.build(*ROWS)
    shop("run")
    files = {name for name in os.listdir(shop.folder) if not name.endswith(".wal")}
    assert {"dbt_project.yml", "lab.duckdb", "posthog_sync.yml", "profiles.yml", "target"} == files
    assert {"manifest.json", "posthog_sync_results.json"} == set(os.listdir(shop.folder / "target"))


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
