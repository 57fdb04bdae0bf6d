"""Planning: what `plan` does between its options and its exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dbt_posthog_sync.command import open_session
from dbt_posthog_sync.gate import HeldBack
from dbt_posthog_sync.plan import Plan
from dbt_posthog_sync.reporter import as_json, held_back_text, held_back_values, plan_text, plan_values
from dbt_posthog_sync.summary import plans_markdown
from dbt_posthog_sync.terminal import say, tell_github_of


def show_plans(values: Mapping[str, Any]) -> int:
    """Print what a run would send, and say the exit code: 1 where it would stop or leave a sync out.

    Args:
        values: the options of the command.
    """
    is_text = values["output"] == "text"
    objections: list[str] = []
    plans: list[Plan] = []
    with open_session(values) as session:
        held_back = session.held_back
        for held in held_back if is_text else ():
            click.echo(held_back_text(held))
        for found in session.plans():
            plans += [found.plan] if found.plan else []
            objections += [found.objection] if found.objection else []
            if is_text and found.plan:
                click.echo(plan_text(found.plan))
    if not is_text:
        click.echo(_document(values["output"], plans, held_back, objections))
    for objection in objections:
        say(f"A run would stop: {objection}")
    told = [("warning", f"{one.sync.name}: {one.reason}") for one in held_back]
    told += [("warning", f"A run would stop: {objection}") for objection in objections]
    tell_github_of(lambda: plans_markdown(plans, held_back, objections), told)
    return 1 if objections or held_back else 0


def _document(output: str, plans: Sequence[Plan], held_back: Sequence[HeldBack], objections: Sequence[str]) -> str:
    if output == "markdown":
        return plans_markdown(plans, held_back, objections)
    skipped = [held_back_values(one) for one in held_back]
    return as_json("plan", plans=[plan_values(one) for one in plans], skipped=skipped, objections=objections)
