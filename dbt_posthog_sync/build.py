"""A build: what the user's dbt did right before the syncs, by the run results that it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbt_posthog_sync.errors import DbtProgramError, RunResultsError
from dbt_posthog_sync.gate import RUN_RESULTS_FILE
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.run_results import RunResults, read_run_results

PARTLY_FAILED = 1


@dataclass(frozen=True, slots=True)
class Build:
    """What dbt did.

    Attributes:
        exit_code: 0, or what the whole command ends with at least; then nobody knows about nodes that were not run.
        nodes: ids of the nodes that dbt ran.
        is_interrupted: true when a signal ended it; then nothing is to be sent.
    """

    exit_code: int = 0
    nodes: frozenset[str] = frozenset()
    is_interrupted: bool = False


def results_left(target_path: Path) -> RunResults | None:
    """The run results in dbt's target folder; None where there are none that can be read."""
    try:
        return read_run_results(target_path / RUN_RESULTS_FILE)
    except RunResultsError:
        return None


def build_of(command: str, code: int, before: RunResults | None, after: RunResults | None) -> Build:
    """What a dbt command came to.

    Args:
        command: such as build, for messages.
        code: what dbt exited with; 1 and 2 mean other things in dbt 1 and dbt 2, so only 0 is told from the rest.
        before: the run results that dbt found.
        after: the run results that dbt left.

    Raises:
        DbtProgramError: dbt ran nothing, or did not write down what.
    """
    is_new = after is not None and _moment(after) != _moment(before)
    if after is None or not is_new or (code and not after.statuses):  # dbt 2 writes results of nothing when it fails
        if code:
            message = f"dbt {command} ended with exit code {code} before it ran anything, so nothing is sent."
            raise DbtProgramError(Problem(message, "What it said stands above."))
        message = f"dbt {command} left no {RUN_RESULTS_FILE}, so nobody knows what it built, and nothing is sent."
        raise DbtProgramError(Problem(message, "Let dbt write JSON (DBT_WRITE_JSON), and check --target-path."))
    return Build(PARTLY_FAILED if code else 0, frozenset(node for node, _ in after.statuses))


def _moment(results: RunResults | None) -> tuple[str, str] | None:
    return None if results is None else (results.invocation_id, results.generated_at)
