"""The dbt program: found, called, and understood when it refuses. A small script stands in for dbt."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dbt_posthog_sync.dbt_program import DbtProgram
from dbt_posthog_sync.errors import DbtProgramError

REFUSAL = (
    "\x1b[0m18:47:55  Encountered an error:\nRuntime Error\n  Could not find selector named x, expected one of []\n"
)


def stand_in(path: Path, text: str = "", code: int = 0) -> Path:
    """A program that keeps its words beside itself, prints a text and exits."""
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"kept = [sys.argv[1:], {{name: os.environ.get(name) for name in ('DBT_LOG_FORMAT', 'OWN')}}]\n"
        f"open({str(path.with_suffix('.json'))!r}, 'w').write(json.dumps(kept))\n"
        f"print({text!r})\nsys.exit({code})\n"
    )
    path.chmod(0o755)
    return path


def test_dbt_is_called_without_writing_artifacts_and_its_ids_are_read(tmp_path: Path) -> None:
    lines = ['{"unique_id": "model.a.b"}', "[WARNING]: odd", "{odd}", '{"unique_id": 7}', '{"unique_id": "seed.a.c"}']
    path = stand_in(tmp_path / "dbt", "\n".join(lines))
    program = DbtProgram(str(path), ("--project-dir", "here"), {"OWN": "1", "DBT_LOG_FORMAT": "json"})
    assert program.listed(("--select", "+b", "c")) == {"model.a.b", "seed.a.c"}
    assert json.loads(path.with_suffix(".json").read_text()) == [
        [
            "--no-write-json", "ls", "--quiet", "--output", "json", "--output-keys", "unique_id", "--project-dir",
            "here", "--select", "+b", "c",
        ],
        {"DBT_LOG_FORMAT": "text", "OWN": "1"},
    ]  # fmt: skip


def test_dbt_of_the_path_is_found(tmp_path: Path) -> None:
    stand_in(tmp_path / "dbt", '{"unique_id": "model.a.b"}')
    assert DbtProgram(environ={"PATH": str(tmp_path)}).listed(()) == {"model.a.b"}


def test_no_dbt_says_how_to_name_one(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(DbtProgramError, match=r"no `dbt` on the PATH. Name your dbt with --dbt-executable or DBT_POST"):
        DbtProgram(environ=environ).listed(())
    with pytest.raises(DbtProgramError, match="there is no program /nowhere/dbt"):
        DbtProgram("/nowhere/dbt", environ=environ).listed(())


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dbt"
    path.write_bytes(b"\x7fELF but not really")
    path.chmod(0o755)
    with pytest.raises(DbtProgramError, match="cannot be started"):
        DbtProgram(str(path)).listed(())


def test_an_error_of_dbt_is_told_in_one_line_with_what_to_try(tmp_path: Path) -> None:
    program = DbtProgram(str(stand_in(tmp_path / "dbt", REFUSAL, 2)))
    with pytest.raises(DbtProgramError) as raised:
        program.listed(("--selector", "x"))
    assert str(raised.value) == (
        "dbt cannot list the selection: Runtime Error Could not find selector named x, expected one of []. "
        "Try it yourself: dbt ls --selector x"
    )


def test_an_error_of_dbt_2_is_told_without_its_frame(tmp_path: Path) -> None:
    lines = [
        "=========== Errors and Warnings ===========",
        "[error] Unknown selector `x`",
        " 0: <unknown>",
        " 1: <unknown>",
    ]
    with pytest.raises(DbtProgramError, match=r"selection: \[error\] Unknown selector `x`\. Try"):
        DbtProgram(str(stand_in(tmp_path / "dbt", "\n".join(lines), 1))).listed(())


def test_an_error_of_dbt_is_cut_and_quotes_no_file(tmp_path: Path) -> None:
    text = "Syntax error near line 3\n------\n2  |   user: u\n3  |   password: secret\n" + "x" * 400
    with pytest.raises(DbtProgramError) as raised:
        DbtProgram(str(stand_in(tmp_path / "dbt", text, 1))).listed(())
    assert "secret" not in str(raised.value)
    assert "…" in str(raised.value)
    with pytest.raises(DbtProgramError, match="exit code 3"):
        DbtProgram(str(stand_in(tmp_path / "dbt", "", 3))).listed(())
