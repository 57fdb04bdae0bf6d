"""JUnit: what CI systems read of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.junit import write_junit
from dbt_posthog_sync.problem import Problem


def test_problems_of_one_place_are_one_failed_test(tmp_path: Path) -> None:
    (tmp_path / "schema.yml").write_text("models:\n  - name: orders\n")
    path = tmp_path / "junit.xml"
    problems = (
        Problem('it has "<&".', "Mend it.", "orders", "schema.yml", "$.models[orders]"),
        Problem("it is odd\x00.", "", "orders", "schema.yml", "$.models[orders]"),
        Problem("there is no dbt project."),
    )
    write_junit(path, (), problems, tmp_path)
    suite = ElementTree.parse(path).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    first, second = suite
    assert dict(first.attrib) == {
        "classname": "schema.yml", "file": "schema.yml", "line": "2", "name": "orders $.models[orders]",
    }  # fmt: skip
    failure = first[0]
    assert failure.get("message") == 'it has "<&".'
    assert (failure.text or "").splitlines() == [
        'orders, schema.yml, $.models[orders]: it has "<&". Mend it.',
        "orders, schema.yml, $.models[orders]: it is odd\ufffd.",
    ]
    assert (second.get("classname"), second.get("name")) == ("dbt-posthog-sync", "there is no dbt project.")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the file cannot be written: Is a directory"):
        write_junit(tmp_path, (), (), tmp_path)
