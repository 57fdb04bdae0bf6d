"""Selection on the command line: as dbt's own, which is asked where the manifest does not say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import preloaded
import pytest
from shop import ORDERS, Shop

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_project"
DBT = Path(sys.executable).parent / "dbt"
SELECTORS = "selectors:\n  - name: of_customers\n    definition: '+customer_history'\n"
ROWS = ((1, "u1", 12.5), (2, "u2", 3.0))
WORDS = (
    "orders", "tiny", "tiny.orders", "fqn:tiny.orders", "fqn:*", "*_views", "customer_history", "tag:nightly",
    "tag:night*", "path:models", "path:models/*.sql", "models/orders.sql", "orders.sql", "file:orders", "package:this",
    "package:tiny", "resource_type:seed", "config.meta.posthog_sync.object:page", "tag:nightly,orders", "orders plans",
    "tiny.*", "fqn:customers", "path:seeds", "path:snapshots", "file:orders.sql", "package:t*", "resource_type:model",
    "resource_type:snapshot", "config.meta.posthog_sync.object:event", "path:models,c*", "[op]*",
)  # fmt: skip
# With what of each word dbt is asked for.
ASKED = {
    "+customer_history": "+customer_history", "customers+": "customers+", "1+customer_history": "1+customer_history",
    "@customers": "@customers", "customers+1": "customers+1", "source:crm": "source:crm",
    "source:crm.accounts+": "source:crm.accounts+", "config.materialized:table": "config.materialized:table",
    "access:protected": "access:protected", "+customer_history,resource_type:model": "+customer_history",
    "path:models,config.materialized:table": "config.materialized:table", "customers+ plans": "customers+",
    "state:modified": "state:modified", "state:modified+,path:models": "state:modified+",
    "tag:nightly +customer_history,path:snapshots": "+customer_history",
}  # fmt: skip
MANY_LISTS = """
import json, sys
from dbt.cli.main import dbtRunner
words, place = json.loads(sys.argv[1]), ["--project-dir", sys.argv[2], "--profiles-dir", sys.argv[2]]
flags = ["--no-write-json", "--quiet", "--state", sys.argv[3]]
shown = ["--output", "json", "--output-keys", "unique_id", *place]
runner = dbtRunner(dbtRunner().invoke([*flags, "parse", *place]).result)
found = {word: runner.invoke([*flags, "ls", *shown, "--select", *word.split()]).result for word in words}
print("FOUND" + json.dumps({word: [json.loads(line)["unique_id"] for line in lines] for word, lines in found.items()}))
"""
# A dbt that knows what dbt said.
REPEATS = """
import json, pathlib, sys
known = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
place = sys.argv.index("--select") + 1
for unique_id in known[" ".join(sys.argv[place:])]:
    print(json.dumps({"unique_id": unique_id}))
"""

pytestmark = pytest.mark.usefixtures("macros_are_read_once")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project, parsed by the dbt of this environment; its state is kept, and then a model is changed."""
    folder = tmp_path_factory.mktemp("tiny") / "project"
    shutil.copytree(TINY, folder)
    (folder / "selectors.yml").write_text(SELECTORS)
    assert preloaded.run(["dbt", "parse", "--quiet"], folder).returncode == 0
    shutil.copytree(folder / "target", folder / "state")
    changed = folder / "models" / "page_views.sql"
    changed.write_text(f"{changed.read_text()}-- changed\n")
    return folder


def names(shop: Shop, tiny: Path, *words: str) -> list[str]:
    """The syncs of the tiny project that `validate` selects."""
    answer = shop("validate", "--output", "json", "--project-dir", str(tiny), *words)
    assert answer.code == 0, answer.err
    return [sync["name"] for sync in answer.json["syncs"]]


@pytest.fixture(scope="module")
def theirs(tiny: Path) -> dict[str, set[str]]:
    """What the real dbt selects, by word."""
    words = json.dumps([*{*WORDS, *ASKED, *ASKED.values()}])
    command = [sys.executable, "-c", MANY_LISTS, words, str(tiny), str(tiny / "state")]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=tiny)
    return {word: set(ids) for word, ids in json.loads(done.stdout.partition("FOUND")[2]).items()}


def test_words_mean_what_they_mean_to_dbt(shop: Shop, tiny: Path, theirs: dict[str, set[str]]) -> None:
    dbt = shop.folder / "dbt"
    dbt.write_text(f"#!{sys.executable}\n{REPEATS}")
    dbt.chmod(0o755)
    place = ("validate", "--output", "json", "--project-dir", str(tiny), "--dbt-executable", str(dbt))
    annotated = {sync["model"] for sync in shop(*place).json["syncs"]}
    assert len({*WORDS, *ASKED}) > 40
    for word in (*WORDS, *ASKED):
        asked = {ASKED[word]: sorted(theirs[ASKED[word]])} if word in ASKED else {}
        dbt.with_suffix(".json").write_text(json.dumps(asked))
        for option, expected in (("-s", annotated & theirs[word]), ("--exclude", annotated - theirs[word])):
            answer = shop(*place, option, *word.split())
            assert answer.code == 0, answer.err
            assert {sync["model"] for sync in answer.json["syncs"]} == expected, (option, word)


def test_graph_operators_state_and_selectors_are_asked_of_dbt(
    shop: Shop, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tiny))
    dbt, manifest = ("--dbt-executable", str(DBT)), (tiny / "target" / "manifest.json").read_bytes()
    family = ["customer_traits", "customer_names", "customer_history"]
    assert names(shop, tiny, "-s", "customers+", "plans", "--exclude", "customer_names", *dbt) == [
        "customer_traits", "customer_history", "plans",
    ]  # fmt: skip
    assert names(shop, tiny, "--selector", "of_customers", *dbt) == family
    assert names(shop, tiny, "-s", "state:modified", "--state", str(tiny / "state"), *dbt) == ["page_views"]
    assert names(shop, tiny, "-s", "source:crm", *dbt) == ["accounts"]
    assert (tiny / "target" / "manifest.json").read_bytes() == manifest


def test_dbts_own_error_is_told(shop: Shop, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tiny))
    monkeypatch.setenv("DBT_POSTHOG_SYNC_DBT", str(DBT))
    complaint = shop.complaint("validate", "--project-dir", str(tiny), "--selector", "x", code=2)
    assert "Could not find selector named x" in complaint
    assert complaint.endswith("Try it yourself: dbt ls --selector x")


def stand_in(shop: Shop, unique_id: str, first: str = "") -> str:
    """A dbt that lists one node."""
    path = shop.folder / "stand_in"
    node = json.dumps({"unique_id": unique_id})
    path.write_text(f"#!{sys.executable}\n{first}\nprint({node!r})\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("command", ["plan", "run", "retry"])
def test_dbt_is_asked_before_the_warehouse_is_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    shop.annotate(ORDERS, refunds=ORDERS)
    shop.build(*ROWS)
    needs_the_file = f"import duckdb\nduckdb.connect({str(shop.server.output['path'])!r}).close()"
    monkeypatch.setenv("DBT_POSTHOG_SYNC_DBT", stand_in(shop, f"model.lab.{shop.table}", needs_the_file))
    answer = shop(command, "--select", f"+{shop.table}")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{shop.table}:")


def test_without_dbt_it_is_said_how_to_name_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shop.folder))
    complaint = shop.complaint("run", "--select", f"+{shop.table}", code=2)
    assert "there is no `dbt` on the PATH. Name your dbt with --dbt-executable or DBT_POSTHOG_SYNC_DBT" in complaint


def test_nothing_of_a_state_is_nothing_to_do(shop: Shop) -> None:
    shop.build(*ROWS)
    words = ("--select", "state:modified+", "--dbt-executable", stand_in(shop, "model.lab.other"))
    for command in ("plan", "run"):
        answer = shop(command, *words)
        assert (answer.code, answer.out) == (0, "")
        assert answer.err == "No sync is selected now, so there is nothing to do.\n"
    assert "matches no sync" in shop.complaint("run", "--select", "+orders", *words[2:], code=2)


def test_several_words_follow_one_option(shop: Shop) -> None:
    shop.annotate([{**ORDERS, "name": "one"}, {**ORDERS, "name": "two"}, {**ORDERS, "name": "three"}])

    def chosen(*words: str) -> list[str]:
        return [sync["name"] for sync in shop("validate", "--output", "json", *words).json["syncs"]]

    assert chosen("-s", "one", "two") == ["one", "two"]
    assert chosen("--select=one", "three", "--exclude", "two", "three") == ["one"]
    assert chosen("--select", "one two", "-s", "three") == ["one", "two", "three"]
    assert shop("validate", "--target-path", "target", "one").code == 2
