"""The gate: which models are held back because of what dbt just did with them.

A model is held back when its last result is an error or a skip, or when a test that is attached to it failed. Whatever
dbt says nothing about may pass: rows that did not change cost nothing, and a partial run must not starve the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbt_posthog_sync.dbt_test import DbtTest, StoredFailures, name_of_test
from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.manifest import Manifest, read_tests
from dbt_posthog_sync.run_results import RunResults, read_run_results
from dbt_posthog_sync.sync import Holding, Sync
from dbt_posthog_sync.sync_run import RunStatus, SyncRun

RUN_RESULTS_FILE = "run_results.json"

# Only these say how a table came to be. `compile`, `docs generate`, `show` and `clone` call every model a success.
_BUILDING = frozenset({"run", "build", "seed", "snapshot", "retry", "test", ""})
_CALLED = {"generate": "docs generate"}  # dbt writes the last word of the command
_NOT_BUILT = {
    "error": "dbt could not build the model",
    "skipped": "dbt skipped the model",
    "partial success": "dbt built only a part of the model",
}
_FAILED = frozenset({"fail", "error"})
_TEST_KINDS = frozenset({"test", "unit_test"})
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A sync that is not begun, with the reason."""

    sync: Sync
    reason: str

    @classmethod
    def of(cls, sync: Sync, reason: str) -> HeldBack:
        """The sync with its reason as a sentence."""
        return cls(sync, f"Held back: {reason}.")

    def as_run(self, run_id: str, dbt_invocation_id: str) -> SyncRun:
        """The sync run that did not begin; it fails the command, because rows that wait did not go out."""
        model = self.sync.model
        run = SyncRun(run_id, self.sync.id, self.sync.name, model.name, model.unique_id)
        run = replace(run, dbt_invocation_id=dbt_invocation_id or None)
        return run.ended(RunStatus.SKIPPED, self.reason, exit_code=UnsafePlan.exit_code)


@dataclass(frozen=True, slots=True)
class Gate:
    """What may pass.

    Attributes:
        reasons: why a model is held back, by dbt's id of it.
        stored: what its failed tests stored, of a model that was built and whose failed tests all stored their rows.
        rowless: why `gate: rows` cannot tell rows apart, of a model with failed tests that is not in `stored`.
        warnings: what is odd about the results without holding anything back.
        built_by: by dbt's id of a model, the invocation that built it last.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    stored: Mapping[str, tuple[StoredFailures, ...]] = field(default_factory=dict)
    rowless: Mapping[str, str] = field(default_factory=dict)
    built_by: Mapping[str, str] = field(default_factory=dict)

    def held_back(self, syncs: Iterable[Sync]) -> tuple[HeldBack, ...]:
        """The syncs that may not pass. Of one with `gate: rows` it is `stored_of` that says what it holds back."""
        found = ((sync, self._reason(sync)) for sync in syncs if not self.stored_of(sync))
        return tuple(HeldBack.of(sync, reason) for sync, reason in found if reason is not None)

    def stored_of(self, sync: Sync) -> tuple[StoredFailures, ...]:
        """The stored failures that hold back rows of a sync instead of all of it."""
        return self.stored.get(sync.model.unique_id, ()) if sync.gate is Holding.ROWS else ()

    def _reason(self, sync: Sync) -> str | None:
        reason, rowless = self.reasons.get(sync.model.unique_id), self.rowless.get(sync.model.unique_id)
        return f"{reason}, and {rowless}" if reason and rowless and sync.gate is Holding.ROWS else reason


def read_gate(manifest: Manifest, target_path: Path, paths: Sequence[Path] = ()) -> Gate:
    """Read what dbt did.

    Args:
        manifest: the manifest that was read.
        target_path: where it was read, and where dbt leaves its run_results.json; without one, everything may pass.
        paths: files to read instead of that one.

    Raises:
        RunResultsError: a file cannot be read.
        UnsafePlan: the tables were built without their rows.
    """
    own = target_path / RUN_RESULTS_FILE
    files = [read_run_results(path) for path in paths or ([own] if own.exists() else [])]
    failed = _failed_tests(_last_statuses(_of_building(files)))
    tests = read_tests(target_path / "manifest.json", failed) if failed else {}
    return gate_of(files, manifest.invocation_id, tests)


def gate_of(files: Sequence[RunResults], invocation_id: str, tests: Mapping[str, DbtTest]) -> Gate:
    """What may pass.

    Args:
        files: what dbt did; the last result of a node counts.
        invocation_id: id of the dbt invocation that wrote the manifest.
        tests: the failed tests, by their ids.

    Raises:
        UnsafePlan: the tables were built without their rows.
    """
    building = _of_building(files)
    _check_whole(building)
    statuses = _last_statuses(building)
    failed = {test: tests.get(test, DbtTest(name_of_test(test))) for test in _failed_tests(statuses)}
    unbuilt = {node: _NOT_BUILT[status] for node, status in statuses.items() if _is_unbuilt(node, status)}
    of_model = {model: _attached(model, failed) for test in failed.values() for model in test.models}
    tested = {model: _failure(attached) for model, attached in of_model.items()}
    warnings = (
        *(warning for one in files for warning in one.warnings),
        *_silence(files),
        *_strangers(building, invocation_id),
        *_unknown_tests(node for node, test in failed.items() if not test.models),
    )
    # A failed unit test is why dbt skipped its model, and says more than that.
    told = {node: reason for node, reason in unbuilt.items() if node not in tested or statuses[node] != "skipped"}
    stored = _last_stored(building)
    built = {model: attached for model, attached in of_model.items() if model not in unbuilt}
    rowless = {model: why for model, attached in built.items() if (why := _rowless(attached, failed, stored))}
    by_model = {
        model: tuple(StoredFailures(failed[test], *stored[test]) for test in attached)
        for model, attached in built.items()
        if model not in rowless
    }
    return Gate({**tested, **told}, warnings, by_model, rowless, _built_by(building))


def _attached(model: str, failed: Mapping[str, DbtTest]) -> list[str]:
    return [node for node, test in failed.items() if model in test.models]


def _last_stored(building: Iterable[RunResults]) -> dict[str, tuple[str, int]]:
    """Where the failures of a test are and how many, by its id, if its last result says so."""
    found: dict[str, tuple[str, int]] = {}
    for one in building:
        for node, _ in one.statuses:
            found.pop(node, None)
        found |= {node: (relation, failures) for node, relation, failures in one.stored}
    return found


def _rowless(attached: Iterable[str], failed: Mapping[str, DbtTest], stored: Collection[str]) -> str:
    """Why the rows of a model cannot be told apart by its failed tests; empty where they perhaps can."""
    for test in attached:
        if test not in stored:
            return f"`{name_of_test(test)}` stored no rows (store_failures)"
        if len(failed[test].models) > 1:
            return f"`{name_of_test(test)}` reads several models, so whose rows it stored cannot be told"
    return ""


def _of_building(files: Iterable[RunResults]) -> list[RunResults]:
    return sorted((one for one in files if one.command in _BUILDING), key=lambda one: one.generated_at)


def _check_whole(building: Iterable[RunResults]) -> None:
    for one in building:
        if one.is_partial:
            raise UnsafePlan(
                f"{one.file}: dbt {one.command or 'ran'} with --empty or --sample, so the models lack rows, and "
                "nothing is sent. Build them without it; --no-gate goes on all the same."
            )


def _built_by(building: Iterable[RunResults]) -> dict[str, str]:
    return {
        node: one.invocation_id
        for one in building
        for node, status in one.statuses
        if not _is_test(node) and status.lower() == "success"
    }


def _last_statuses(building: Iterable[RunResults]) -> dict[str, str]:
    return {node: status.lower() for one in building for node, status in one.statuses}


def _failed_tests(statuses: Mapping[str, str]) -> list[str]:
    return [node for node, status in statuses.items() if _is_test(node) and status in _FAILED]


def _is_test(unique_id: str) -> bool:
    return unique_id.partition(".")[0] in _TEST_KINDS


def _is_unbuilt(unique_id: str, status: str) -> bool:
    return not _is_test(unique_id) and status in _NOT_BUILT


def _failure(tests: Collection[str]) -> str:
    """Why a model with these failed tests is held back."""
    names = sorted(map(name_of_test, tests))
    named = ", ".join(f"`{name}`" for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{'its test' if len(names) == 1 else 'its tests'} {named}{more} failed"


def _silence(files: Iterable[RunResults]) -> Iterable[str]:
    for one in files:
        if one.command not in _BUILDING:
            yield (
                f"{one.file} is of `dbt {_CALLED.get(one.command, one.command)}`, which says nothing about how the "
                "models were built, so it holds nothing back. Name the results of the build with --run-results to be "
                "sure of them."
            )


def _strangers(building: Sequence[RunResults], invocation_id: str) -> Iterable[str]:
    """Say so when no file is of the invocation that wrote the manifest: dbt parsed since then, or the files are old."""
    if building and invocation_id not in {one.invocation_id for one in building}:
        last = building[-1]
        yield (
            f"{last.file} ({last.generated_at or 'of no known time'}) and the manifest are of different dbt commands; "
            "models that it calls failed are held back all the same. If it is out of date, run dbt again or pass "
            "--no-gate."
        )


def _unknown_tests(tests: Iterable[str]) -> Iterable[str]:
    for test in tests:
        yield f"the manifest has no model for the failed test {test}, so it holds nothing back."
