"""What a user or the warehouse has wrong: one clear line, the right exit code, and nothing sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import fresh_name
from shop import E_MAIL, ORDERS, PASSWORD, Shop

ROWS = ((1, "u1", 12.5), (2, E_MAIL, 3.0))
MODULE = (sys.executable, "-m", "dbt_posthog_sync")

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


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
        (("--select", "stat:modified"), "no selector method `stat:`. Did you mean `state:`"),
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
