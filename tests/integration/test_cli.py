"""The command as users meet it: what each command prints, and where."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from shop import E_MAIL, KEY, Shop

ROWS = ((1, "u1", 12.5), (2, E_MAIL, 3.0))
MODULE = (sys.executable, "-m", "dbt_posthog_sync")

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


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


def test_schema_for_editors_knows_the_defaults_of_the_project(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settings(defaults={"timestamp": "ordered_at"})
    answer = shop("schema", "--editor")
    Draft7Validator.check_schema(answer.json)
    assert "timestamp" not in answer.json["definitions"]["event"]["required"]
    assert shop("schema", "--editor", "--settings").code == 2
    (shop.folder / "posthog_sync.yml").write_text("{")
    assert "posthog_sync.yml" in shop.complaint("schema", "--editor", code=2)
    monkeypatch.chdir(tmp_path)
    assert "timestamp" in shop("schema", "--editor").json["definitions"]["event"]["required"]


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


@pytest.mark.parametrize(("in_flight", "requests"), [(1, 2), (8, 3)])
def test_mock_prints_the_very_bodies_that_a_run_sends(
    shop: Shop, recorder: str, monkeypatch: pytest.MonkeyPatch, in_flight: int, requests: int
) -> None:
    shop.settings(posthog={"host": recorder}, delivery={"batch_messages": 2, "in_flight": in_flight})
    shop.build(*ROWS, (3, "u3", 1e7 / 7), (4, "u1", 7.25), (5, None, 1.5))
    monkeypatch.delenv("POSTHOG_PROJECT_API_KEY")
    mock = shop("run", "--mock", "--output", "json")
    assert (mock.code, Recorder.bodies) == (0, [])
    rejected = f"{shop.table}: 1 row would be rejected: the distinct_id is missing"
    assert mock.err == f"{rejected}\n{requests} requests would be sent; nothing was sent.\n"
    mocked = [json.loads(line)["body"] for line in mock.out.splitlines()]
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", KEY)
    assert shop("run", "--allow-rejected").code == 0
    # Requests of several lanes arrive in any order.
    assert sorted(map(_without_ids, mocked)) == sorted(map(_without_ids, Recorder.bodies))


def _without_ids(body: dict[str, Any]) -> str:
    for event in body["batch"]:
        del event["properties"]["dbt_posthog_sync_run_id"]
    return json.dumps({**body, "created_at": ""})


def test_mock_in_text_shows_the_address_and_an_event_a_line(shop: Shop) -> None:
    shop.build(*ROWS)
    answer = shop("run", "--mock")
    assert f"{shop.table}: POST {shop.posthog.url}/i/v1/analytics/events" == answer.out.splitlines()[0]
    assert "Authorization: Bearer ***" in answer.out
    assert answer.out.count('"event": "order completed"') == 2
    assert shop.posthog.requests == ()
