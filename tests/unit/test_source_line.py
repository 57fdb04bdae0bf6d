"""Lines of problems: a JSON path leads to the line that a person would look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.source_line import line_of_problem

SCHEMA = """\
version: 2
models:
  - name: orders
    config:
      meta:
        posthog_sync:
          - object: event
            name: first
          - object: event
            name: second
            evnt: {value: bought}
            "odd key": 1
    columns:
      - name: amount
        config: {meta: {posthog_sync: {property: a}}}
sources:
  - name: crm
    tables:
      - name: accounts
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("$.models[orders]", 3),
        ("$.models[orders].config.meta.posthog_sync[1].evnt", 11),
        ("$.models[orders].config.meta.posthog_sync[1]['odd key']", 12),
        ("$.models[orders].config.meta.posthog_sync[0].sync_key", 7),
        ("$.models[orders].columns[amount].config.meta.posthog_sync.property", 15),
        ("$.sources[crm].tables[accounts].config", 19),
        ("$.models[nobody].config", 2),
        ("$", 1),
        ("", 1),
    ],
)
def test_a_path_leads_to_its_line_or_to_what_should_have_it(tmp_path: Path, path: str, line: int) -> None:
    (tmp_path / "schema.yml").write_text(SCHEMA)
    assert line == line_of_problem(Problem("wrong", file="schema.yml", path=path), tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("orders.sql", "select 1\n-- more\n{{ config(meta={'posthog_sync': {}}) }}\n", 3),
        ("orders.sql", "select 1\n", 1),
        ("broken.yml", "a: 1\nb: [\n", 3),
        ("empty.yml", "", 1),
        ("text.yml", "only a text", 1),
    ],
)
def test_other_files(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text)
    assert line == line_of_problem(Problem("wrong", file=name, path="$.models[orders]"), tmp_path)


@pytest.mark.parametrize("file", ["", "gone.yml", "package://models/schema.yml", "."])
def test_no_file_has_no_line(tmp_path: Path, file: str) -> None:
    assert line_of_problem(Problem("wrong", file=file, path="$.models[orders]"), tmp_path) is None


def test_bytes_that_are_no_text_have_no_line(tmp_path: Path) -> None:
    (tmp_path / "schema.yml").write_bytes(b"\xff\xfe\xfa")
    assert line_of_problem(Problem("wrong", file="schema.yml"), tmp_path) is None
