"""Documents: what they say about commands, codes, variables and files is held against the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from dbt_posthog_sync import errors
from dbt_posthog_sync.annotation import check_annotations
from dbt_posthog_sync.cli import cli
from dbt_posthog_sync.manifest import manifest_from
from dbt_posthog_sync.settings import settings_from

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "example_project" / "README.md"])
VERBS = frozenset(
    {
        "Adopt",
        "Check",
        "Compare",
        "Drop",
        "Forget",
        "Keep",
        "List",
        "Print",
        "Retry",
        "Send",
        "Show",
        "Start",
        "Verify",
        "Write",
    }
)
INTERRUPTED, TERMINATED = 130, 143
COMMANDS = sorted(cli.commands)

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """The text of one section of the README."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return [body for found, body in _BLOCK.findall(text) if found == language]


def heading_ids(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exit_codes(error: type[errors.SyncError]) -> set[int]:
    """The exit codes of an error and everything below it in the tree."""
    return {error.exit_code}.union(*(exit_codes(below) for below in error.__subclasses__()))


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_a_verb_and_ends_with_an_example(name: str) -> None:
    assert (cli.commands[name].help or "").split()[0] in VERBS
    *_, heading, example = CliRunner().invoke(cli, [name, "--help"]).output.rstrip().splitlines()
    assert heading.strip() == "Example:"
    assert f"dbt-posthog-sync {name}" in example


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_has_every_command(name: str) -> None:
    assert re.search(rf"^\| `{name}[ `]", section("Commands"), re.MULTILINE)


def test_readme_names_no_command_that_does_not_exist() -> None:
    rows = re.findall(r"^\| `([\w-]+)", section("Commands"), re.MULTILINE)
    typed = re.findall(r"dbt-posthog-sync ([a-z][a-z-]*)", README)
    assert {*rows, *typed} - {*COMMANDS} == set()


def test_readme_names_no_option_that_does_not_exist() -> None:
    known = {name for command in cli.commands.values() for option in command.params for name in option.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - known == {"--help"}


def test_readme_has_the_exit_codes_of_the_error_tree() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}
    assert listed == exit_codes(errors.SyncError) | {0, INTERRUPTED, TERMINATED}


def test_readme_has_every_variable_that_an_option_reads() -> None:
    options = [option for command in cli.commands.values() for option in command.params]
    variables = {option.envvar for option in options if isinstance(option, click.Option) and option.envvar}
    assert {name for name in variables if f"`{name}`" not in section("Environment variables")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if link.startswith(("https://", "http://")):
            continue
        if not target.exists() or (anchor and anchor not in heading_ids(target)):
            lost.append(link)
    assert lost == []


def test_example_of_the_readme_is_valid() -> None:
    annotation, settings = (yaml.safe_load(block) for block in blocks(section("In twenty lines"), "yaml"))
    assert settings_from(settings, {}).targets == ("prod",)
    assert check_annotations(manifest_from(as_manifest(annotation)), {}).problems == ()


def as_manifest(document: dict[str, Any]) -> dict[str, Any]:
    """What dbt makes of a property file, as far as annotations need it."""
    nodes = [
        {
            "unique_id": f"model.shop.{model['name']}",
            "name": model["name"],
            "resource_type": "model",
            "package_name": "shop",
            "original_file_path": f"models/{model['name']}.sql",
            "patch_path": "shop://models/schema.yml",
            "relation_name": f'"db"."main"."{model["name"]}"',
            "database": "db",
            "schema": "main",
            "alias": model["name"],
            "config": model["config"],
            "meta": model["config"]["meta"],
            "columns": {},
        }
        for model in document["models"]
    ]
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        "dbt_version": "1.11.0",
        "project_name": "shop",
    }
    return {"metadata": metadata, "nodes": {node["unique_id"]: node for node in nodes}, "disabled": {}}


def test_every_macro_that_an_adapter_may_write_is_listed() -> None:
    files = [file for file in ROOT.glob("macros/**/*.sql") if file.parent.name != "adapters"]
    dispatched = {name for file in files for name in re.findall(r"dispatch\('(\w+[a-z0-9])'", file.read_text())}
    page = (ROOT / "docs" / "warehouses.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)`", page.split("\n## Another adapter\n")[1].split("| macro |")[1]))
    assert dispatched <= listed
    adapters = {file.stem for file in ROOT.glob("macros/adapters/*.sql")}
    assert {name.lower() for name in re.findall(r"^## (\w+)$", page, re.MULTILINE)} == adapters
