"""What docs/ci.md tells users to copy: the GitHub workflows are run, the rest is read."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflow import ROOT, Runner

from dbt_posthog_sync.cli import cli
from dbt_posthog_sync.testing import LoopsStandIn, StandIn

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLE = ROOT / "example_project"
NOT_OF_THE_PROJECT = shutil.ignore_patterns(".demo", "target", "logs", "*.duckdb", "dbt_packages", "__pycache__")


def block(first_line: str) -> str:
    """The example that begins with a line."""
    (found,) = [body for _, body in BLOCKS if body.startswith(f"{first_line}\n")]
    return str(found)


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository with the example project, on a branch that changes an annotation."""
    origin, clone = tmp_path_factory.mktemp("git") / "origin", tmp_path_factory.mktemp("clone") / "shop"
    shutil.copytree(EXAMPLE, origin, ignore=NOT_OF_THE_PROJECT)
    git(origin, "init")
    git(origin, "add", "--all")
    git(origin, "commit", "--message", "The shop")
    git(clone.parent, "clone", str(origin), str(clone))
    git(clone, "checkout", "-b", "change")
    schema = clone / "models" / "marts" / "schema.yml"
    text = schema.read_text()
    assert "object: group" in text
    schema.write_text(re.sub(r"(\n +)object: group\n", r"\1object: group\1name: companies\n", text, count=1))
    return clone


@pytest.fixture(scope="module")
def loops() -> Iterator[LoopsStandIn]:
    """What the example sends to beside PostHog."""
    with LoopsStandIn() as standin:
        yield standin


def runner(checkout: Path, temp: Path, posthog: StandIn, loops: LoopsStandIn) -> Runner:
    return Runner.of(
        checkout,
        temp / "runner",
        GITHUB_BASE_REF="main",
        POSTHOG_PROJECT_API_KEY=posthog.token,
        SHOP_POSTHOG_HOST=posthog.url,
        SHOP_LOOPS_HOST=loops.url,
        LOOPS_API_KEY=loops.api_key,
        SHOP_DUCKDB_PATH=str(temp / "shop.duckdb"),
        DBT_SEND_ANONYMOUS_USAGE_STATS="false",
        NO_PROXY="127.0.0.1",
    )


def test_the_workflow_of_a_pull_request_comments_on_it(
    checkout: Path, tmp_path: Path, posthog: StandIn, loops: LoopsStandIn
) -> None:
    ran = runner(checkout, tmp_path, posthog, loops)
    ran.job(block("# .github/workflows/posthog_review.yml"))
    comment = (ran.temp / "comment").read_text()
    assert comment.startswith("<!-- dbt-posthog-sync diff -->\n")
    assert "| `companies`<br>group | renamed from accounts |" in comment
    assert "`--adopt accounts`" in comment
    assert (
        'testcase classname="models/marts/schema.yml" name="companies"' in (ran.temp / "posthog_sync.xml").read_text()
    )
    assert "### What this change means for PostHog" in (ran.temp / "summary.md").read_text()
    assert "--method POST repos/shop/shop/issues/7/comments" in (ran.temp / "gh.log").read_text()

    (ran.temp / "old_comments").write_text("41\n42\n")
    ran.action(command="comment", arguments=f"--state '{ran.temp}/before'", install="false")
    assert "--method PATCH repos/shop/shop/issues/comments/41 " in (ran.temp / "gh.log").read_text()
    assert posthog.requests == ()


def test_the_workflow_of_the_main_branch_builds_and_sends(
    checkout: Path, tmp_path: Path, posthog: StandIn, loops: LoopsStandIn
) -> None:
    ran = runner(checkout, tmp_path, posthog, loops)
    ran.job(block("# .github/workflows/posthog_sync.yml"))
    assert len(posthog.project.events) > 10_000
    assert "| companies | success |" in (ran.temp / "summary.md").read_text()
    assert "dbt-posthog-sync[duckdb] dbt-core<1.12" in (ran.temp / "pip.log").read_text()

    told = ran.action(command="run", arguments="--select 'companies customers' --output json", extras="duckdb")
    assert '"delivered": 0' in told
    assert f"{ROOT}[duckdb]" in (ran.temp / "pip.log").read_text()
    ran.action(command="comment", arguments="--state target", plan="--exclude orders", install="false")
    comment = (ran.temp / "comment").read_text()
    assert comment.index("Syncs: 6 unchanged.") < comment.index("| companies | 0 |")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ran.action(command="run", arguments="--select nothing_of_this_name", install="false")
    assert failed.value.returncode == 2
    assert "::error title=dbt-posthog-sync::the selector" in failed.value.stderr


def test_the_shorter_examples_are_steps_of_our_action() -> None:
    (step,) = yaml.safe_load(next(body for _, body in BLOCKS if body.strip().startswith("- uses: dbt-posthog-sync")))
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(step["with"]) <= set(inputs)
    assert all(f"`{name}`" in PAGE for name in inputs)


def test_examples_in_python_can_be_compiled() -> None:
    sources = [body for language, body in BLOCKS if language == "python"]
    assert [("airflow" in source, "dagster" in source) for source in sources] == [(True, False), (False, True)]
    for source in sources:
        compile(source, "docs/ci.md", "exec")


def words_of_examples() -> list[list[str]]:
    """Every call of the program in the examples, as words."""
    scripts = [body for _, body in BLOCKS]
    calls = re.findall(r"dbt-posthog-sync (?:validate|run|plan|diff|retry)[^\n|&\"`]*", "\n".join(scripts))
    for source in (body for language, body in BLOCKS if language == "python"):
        lists = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.List)]
        texts = [[part.value for part in one.elts if isinstance(part, ast.Constant)] for one in lists]
        calls += [" ".join(map(str, text)) for text in texts if text[:1] == ["dbt-posthog-sync"]]
    return [shlex.split(call) for call in calls]


def test_examples_call_commands_and_options_that_there_are() -> None:
    calls = words_of_examples()
    assert len(calls) >= 6
    for _, name, *words in calls:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, (name, words)


def test_the_gitlab_example_is_yaml_with_scripts() -> None:
    document: dict[str, Any] = yaml.safe_load(block("# .gitlab-ci.yml"))
    assert [name for name, job in document.items() if "script" in job] == ["posthog_review", "build_and_sync"]
    for job in document.values():
        script = "\n".join(job.get("script", ()))
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_hooks_of_pre_commit_call_the_program(tmp_path: Path) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (repository,) = yaml.safe_load(block("# .pre-commit-config.yaml"))["repos"]
    assert {hook["id"] for hook in repository["hooks"]} <= {hook["id"] for hook in hooks}
    runner = Runner.of(tmp_path, tmp_path / "runner")
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    for hook in hooks:
        assert (hook["pass_filenames"], hook["require_serial"]) == (False, True)
        assert re.search(hook["files"], "models/schema.yml")
    words = shlex.split(hooks[0]["entry"])
    done = subprocess.run(words, cwd=tmp_path, env=dict(runner.environ), capture_output=True, text=True, check=False)
    assert (done.returncode, "there is no dbt manifest here" in done.stderr) == (2, True)
