"""GitHub: workflow commands mean what they say, and the summary stays what GitHub takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_posthog_sync.errors import AnnotationError, DestinationRefused
from dbt_posthog_sync.github import GitHub, command
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.summary import problems_markdown


@pytest.mark.parametrize("environ", [{}, {"GITHUB_ACTIONS": "false"}, {"GITHUB_STEP_SUMMARY": "s.md"}])
def test_elsewhere_there_is_no_step(environ: dict[str, str]) -> None:
    assert GitHub.of(environ) is None


def test_a_text_cannot_end_or_begin_a_command() -> None:
    told = command("warning", "50 %\n::error::no\r", {"file": "a,b:c%.yml"})
    assert told == "::warning title=dbt-posthog-sync,file=a%2Cb%3Ac%25.yml::50 %25%0A::error::no%0D"


def test_each_problem_points_at_its_line_in_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "dbt"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "schema.yml").write_text("models:\n  - name: orders\n")
    step = GitHub.of({"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path / "repo")})
    assert step is not None
    error = AnnotationError(
        Problem("it is wrong.", "Mend it.", "orders", "models/schema.yml", "$.models[orders]"),
        Problem("there is none.", file="../../elsewhere.yml"),
    )
    assert step.of_error(error, folder) == (
        "::error title=dbt-posthog-sync,file=dbt/models/schema.yml,line=2::orders, $.models[orders]: it is wrong. "
        "Mend it.",
        "::error title=dbt-posthog-sync::there is none.",
    )
    assert step.of_error(DestinationRefused("no"), folder) == ("::error title=dbt-posthog-sync::no",)


def test_the_summary_is_appended_to_and_never_too_large(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    step = GitHub(tmp_path, path)
    step.add_summary("one")
    step.add_summary("x" * 1_000_000)
    step.add_summary("two")
    assert path.read_text() == "one\n\ntwo\n\n"


@pytest.mark.parametrize("place", [None, "no/such/folder/summary.md"])
def test_a_summary_that_cannot_be_written_hurts_nobody(tmp_path: Path, place: str | None) -> None:
    GitHub(tmp_path, tmp_path / place if place else None).add_summary("one")
    assert list(tmp_path.iterdir()) == []


def test_a_summary_shows_text_as_text() -> None:
    assert problems_markdown(["a | <b> `c` d_e*\nf"]).splitlines()[-1] == "- a \\| &lt;b> `c` d\\_e\\* f"
