"""Kept builds: with `keep: every`, what each build of dbt made is sent, build by build, before the run itself."""

from __future__ import annotations

from collections.abc import Iterator

from dbt_posthog_sync.build_choice import KeptBuild
from dbt_posthog_sync.planner import Planner
from dbt_posthog_sync.resolved_sync import ResolvedSync
from dbt_posthog_sync.runner import Runner
from dbt_posthog_sync.sync_run import RunStatus, SyncRun

_DELIVERED = (RunStatus.SUCCESS, RunStatus.REJECTED)


def runs_of(runner: Runner, planner: Planner, resolved: ResolvedSync) -> Iterator[SyncRun]:
    """Run a sync: first what waits of earlier builds, each in a run of its own and in order, then the model as it is.

    A run that does not deliver all of its build is the last one, so that no later state overtakes an earlier one.

    Raises:
        StateError: the state schema was written by a newer program.
        WarehouseUnavailable: the warehouse is gone before a run began.
    """
    planner.state.ensure()
    delivered = 0
    # A shard waits for a run of all rows, or several at once would each send what waits. A build may end meanwhile.
    while builds := () if runner.shard is not None else planner.kept_builds(resolved):
        of = delivered + len(builds)
        for delivered, build in enumerate(builds, delivered + 1):  # noqa: B020 - it counts on
            run = runner.run(resolved, KeptBuild(build, delivered, of))
            yield run
            if run.status not in _DELIVERED or runner.is_stopped:
                return
    yield runner.run(resolved)
