"""The verification: what was checked and what was proven, told to the one who sits at the terminal."""

from __future__ import annotations

from collections.abc import Iterable

import click

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.diagnosis import Check, exit_code_of
from dbt_posthog_sync.private_api import PrivateApi
from dbt_posthog_sync.proof import Dispatch
from dbt_posthog_sync.prover import WAIT_SECONDS, Prover
from dbt_posthog_sync.reporter import as_json, check_text, check_values, proof_text, proof_values
from dbt_posthog_sync.terminal import say


def verify_dispatch(api: PrivateApi, dispatch: Dispatch, output: str, wait_seconds: float = WAIT_SECONDS) -> int:
    """Ask PostHog what landed of a run, tell it, and return the exit code.

    Call it when the warehouse is closed: an open DuckDB file would keep dbt waiting too.

    Args:
        api: PostHog's private API.
        dispatch: what the run sent.
        output: text or json.
        wait_seconds: how long nothing new may come before the wait ends.

    Raises:
        DestinationRefused: the personal API key, its scope or the project is wrong.
        DestinationUnavailable: PostHog did not answer.
    """
    if dispatch.total:
        messages = "1 message" if dispatch.total == 1 else f"{dispatch.total:,} messages"
        say(f"Looking for {messages} of run {dispatch.run_id} in PostHog.")
    prover = Prover(api, Patience(), wait_seconds=wait_seconds)
    proof = prover.prove(dispatch)
    click.echo(as_json("verify", **proof_values(proof)) if output == "json" else proof_text(proof))
    return proof.exit_code


def tell_checks(checks: Iterable[Check], output: str) -> int:
    """Tell each check as soon as it is done, as JSON all at the end, and return the exit code."""
    done = []
    for check in checks:
        done.append(check)
        if output == "text":
            click.echo(check_text(check))
    if output == "json":
        click.echo(as_json("debug", checks=[check_values(check) for check in done]))
    return exit_code_of(done)
