"""`run` and `retry` with their flags, the results file, and the second signal, as a user meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from shop import ORDERS, Shop

from dbt_posthog_sync.testing import Arrival, Delay, EventResults, Fault, Verdict, When, always

ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
DROPPED = When(
    always, EventResults(lambda event: Verdict("drop", "event_too_big") if event["distinct_id"] == "u1" else None)
)

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


def results(shop: Shop) -> dict[str, Any]:
    """The results file."""
    document: dict[str, Any] = json.loads((shop.folder / "target" / "posthog_sync_results.json").read_text())
    return document


def test_retry_sends_what_was_rejected(any_shop: Shop) -> None:
    any_shop.build(*ROWS)
    any_shop.posthog.inject(DROPPED)
    assert any_shop("run").code == 1
    assert any_shop("run", "--allow-rejected").code == 0
    any_shop.posthog.inject(None)
    answer = any_shop("retry")
    assert (answer.code, answer.out.splitlines()[1]) == (0, "  1 row = 0 unchanged + 1 delivered + 0 rejected")
    assert any_shop("retry").out.splitlines()[1] == "  0 rows = 0 unchanged + 0 delivered + 0 rejected"


def test_who_somebody_is_goes_before_what_they_did(shop: Shop) -> None:
    shop.build(*ROWS)
    person = {"object": "person", "sync_key": {"distinct_id": "customer"}, "properties": ["amount"], "name": "people"}
    shop.annotate([{**ORDERS, "name": "b"}, {**ORDERS, "name": "a"}, person])
    assert [run["sync"] for run in shop("run", "--output", "json").json["runs"]] == ["people", "a", "b"]
    assert [event.event for event in shop.posthog.project.events][:2] == ["$set", "$set"]


def test_status_shows_reasons_with_an_example_and_the_last_runs(any_shop: Shop) -> None:
    any_shop.build(*ROWS)
    any_shop.posthog.inject(DROPPED)
    any_shop("run")
    text = any_shop("status").out
    assert "PostHog dropped it: the event is larger" in text
    assert " rejected " in text
    found = any_shop("status", "--output", "json").json
    assert [(row["rows"], row["example"]) for row in found["rejected"]] == [(1, "1")]
    (last,) = found["runs"]
    assert last["counts"]["delivered"] == 1
    assert {"stage", "deliver", "confirm", "record"} <= set(last["phases"])
    assert last["dbt_invocation_id"] == "00000000-0000-4000-8000-000000000000"


def test_the_results_file_tells_what_a_run_came_to(shop: Shop) -> None:
    shop.build(*ROWS, (3, "null", 1.0))
    shop("run", "--select", shop.table)
    found = results(shop)
    assert found["metadata"]["version"] == 1
    assert found["args"] == {
        "command": "run",
        "select_words": [shop.table],
        "exclude_words": [],
        "selector": None,
        "target": None,
        "profile": None,
        "full_scan": False,
        "full_refresh": False,
        "rebaseline": False,
        "adopt": None,
        "force": False,
        "shard": None,
        "no_gate": False,
        "after_dbt": None,
    }
    (result,) = found["results"]
    assert (result["unique_id"], result["status"]) == (f"model.lab.{shop.table}", "rejected")
    assert (result["counts"]["delivered"], result["counts"]["rejected"]) == (2, 1)
    assert [step["name"] for step in result["timing"]] == ["stage", "begin", "deliver", "confirm", "record"]
    assert (found["exit_code"], found["errors"]) == (1, [])
    assert list((shop.folder / "target").glob("*.tmp")) == []


def test_the_results_file_is_written_when_a_run_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build(*ROWS)
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    shop("run")
    assert results(shop)["exit_code"] == 2
    assert "POSTHOG_PROJECT_API_KEY is not set" in results(shop)["errors"][0]
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", "phc_sandbox")
    shop.posthog.stop()
    shop("run")
    assert (results(shop)["exit_code"], results(shop)["results"][0]["status"]) == (4, "error")
    shop.annotate({**ORDERS, "objekt": "x"})
    shop("run")
    assert (results(shop)["exit_code"], results(shop)["results"]) == (2, [])


def test_a_results_file_that_cannot_be_written_changes_nothing_else(shop: Shop) -> None:
    shop.build(*ROWS)
    (shop.folder / "target" / "posthog_sync_results.json").mkdir()
    answer = shop("run")
    assert answer.code == 0
    assert answer.err.startswith("Warning: ")
    assert len(shop.posthog.project.events) == 2


def test_rebaseline_and_adopt_on_the_command_line(any_shop: Shop) -> None:
    any_shop.build(*ROWS)
    planned = any_shop("plan", "--rebaseline").out
    assert "would take 2 rows as delivered and send none" in planned
    assert any_shop("run", "--rebaseline").out.splitlines()[1].endswith("+ 2 taken as known")
    any_shop.annotate({**ORDERS, "name": "renamed"})
    stopped = any_shop("run")
    assert (stopped.code, f"--adopt {any_shop.table}" in stopped.out) == (1, True)
    planned_stop = any_shop("plan")
    assert (planned_stop.code, f"--adopt {any_shop.table}" in planned_stop.err) == (1, True)
    adopted = any_shop("run", "--adopt", any_shop.table)
    assert (adopted.code, adopted.out.splitlines()[1]) == (0, "  2 rows = 2 unchanged + 0 delivered + 0 rejected")
    assert any_shop.posthog.requests == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--rebaseline", "--full-refresh"), "choose one"),
        (("plan", "--rebaseline", "--full-refresh"), "choose one"),
        (("run", "--mock", "--rebaseline"), "--mock has nothing to show"),
        (("run", "--mock", "--adopt", "x"), "--mock has nothing to show"),
        (("run", "--mock", "--steal"), "--steal has no effect"),
        (("run", "--mock", "--force"), "--force has no effect"),
        (("run", "--mock", "--allow-rejected"), "--allow-rejected has no effect"),
    ],
)
def test_flags_that_contradict_each_other(shop: Shop, words: tuple[str, ...], expected: str) -> None:
    answer = shop(*words)
    assert (answer.code, expected in answer.err) == (2, True)


def test_adopt_is_about_one_sync(shop: Shop) -> None:
    shop.annotate([{**ORDERS, "name": "one"}, {**ORDERS, "name": "two"}])
    assert "Select the one that was renamed" in shop.complaint("run", "--adopt", "x", code=2)


def test_the_second_run_is_refused_within_two_seconds_of_looking(postgres_shop: Shop) -> None:
    shop = postgres_shop
    shop.build(*ROWS)
    shop("run")
    shop.server.sql(
        f"update {shop.state}.leases set is_held = true, run_id = 'other', owner = 'anna, process 1', host = 'laptop', "
        "taken_at = now(), heartbeat_at = now()"
    )
    answer = shop("run", "--output", "json")
    (run,) = answer.json["runs"]
    assert (answer.code, run["seconds"] < 2) == (1, True)
    assert "anna, process 1 on laptop" in run["message"]
    assert shop("run", "--steal").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(shop: Shop, number: signal.Signals, code: int) -> None:
    shop.build(*ROWS)
    hangs = _Hangs()
    shop.posthog.inject(hangs)
    command = [sys.executable, "-m", "dbt_posthog_sync", "run"]
    with subprocess.Popen(command, cwd=shop.folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert hangs.has_begun.wait(30)
        process.send_signal(number)
        assert "Stopping" in process.stderr.readline()
        process.send_signal(number)
        assert "Stopped at once" in process.stderr.readline()
        assert process.wait(10) == code
    shop.posthog.inject(None)
    assert shop("run").code == 0
    assert len(shop.posthog.project.events) == 2


class _Hangs:
    """A server that takes a request and says nothing for longer than anybody waits."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()

    def fault_for(self, _arrival: Arrival) -> Fault:
        self.has_begun.set()
        return Delay(60.0)


def test_a_run_without_settings_says_where_it_sends(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop.folder / "posthog_sync.yml").unlink()
    monkeypatch.setenv("POSTHOG_HOST", shop.posthog.url)
    shop.build(*ROWS)
    answer = shop("run")
    assert answer.code == 0
    assert f"There is no posthog_sync.yml: any target may send, to {shop.posthog.url}." in answer.err
