"""The summary of a step: runs, plans and problems as Markdown, for the page of a CI job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbt_posthog_sync.gate import HeldBack
from dbt_posthog_sync.plan import Plan
from dbt_posthog_sync.sync_run import SyncRun


def runs_markdown(command: str, runs: Iterable[SyncRun]) -> str:
    """What the syncs of a command came to."""
    headings = ("sync", "status", "delivered", "unchanged", "rejected", "skipped", "seconds", "")
    rows = [
        (
            run.sync_name,
            run.status.value,
            f"{run.counts.delivered:,}",
            f"{run.counts.unchanged:,}",
            f"{run.counts.rejected:,}",
            f"{run.counts.skipped:,}",
            f"{run.seconds:.1f}",
            run_message(run),
        )
        for run in runs
    ]
    return f"### dbt-posthog-sync {command}\n\n{_table(headings, rows)}"


def run_message(run: SyncRun) -> str:
    """Why a sync did not go as it should: its message, or the reasons of its rejected rows; empty where it did."""
    return run.message or "; ".join(f"{rows:,} x {reason}" for reason, rows in run.reasons)


def plans_markdown(plans: Iterable[Plan], held_back: Iterable[HeldBack], objections: Sequence[str]) -> str:
    """What a run would send."""
    rows = [(held.sync.name, "skipped", "", "", held.reason) for held in held_back]
    rows += [
        (
            plan.sync_name,
            f"{plan.estimated_events:,}",
            f"{plan.staged.unchanged:,}",
            f"{plan.staged.rejected_rows:,}",
            "; ".join(f"{count:,} x {reason}" for reason, count in plan.staged.rejected),
        )
        for plan in plans
    ]
    text = f"### dbt-posthog-sync plan\n\n{_table(('sync', 'would send', 'unchanged', 'rejected', ''), rows)}"
    return "\n".join([text, *(f"\nA run would stop: {_cell(objection)}" for objection in objections)])


def problems_markdown(problems: Sequence[object]) -> str:
    """What a command ends with."""
    return "\n".join(["### dbt-posthog-sync", "", *(f"- {_cell(str(problem))}" for problem in problems)])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that means itself: no cell ends in it, and no tag begins."""
    flat = " ".join(text.split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
