"""The choice of a run: does it deliver what a build staged, or does it stage by itself?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.warehouse.build import Build


@dataclass(frozen=True, slots=True)
class BuildChoice:
    """What a run makes of the builds that wait.

    Attributes:
        build: the one it delivers; None when it stages by itself.
        note: one line for people about it.
        settled: stagings that are done with once the run is complete.
    """

    build: Build | None = None
    note: str = ""
    settled: tuple[Build, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptBuild:
    """A build whose messages a run sends, and its place among those that wait."""

    build: Build
    number: int
    of: int

    @property
    def choice(self) -> BuildChoice:
        """There is none: it is delivered as it was kept."""
        note = f"Kept by the build of {self.build.staged_at}, {self.number} of {self.of}."
        return BuildChoice(self.build, note, (self.build,))


@dataclass(frozen=True, slots=True)
class RunScope:
    """What is asked of a run, as far as it decides about builds.

    Attributes:
        epoch: epoch of the run.
        digest: of what a hook should know of the sync today; None when the model has the post-hook no more.
        asks_for_scan: true when the run is asked to look at every row itself.
        discards: true when what waits is taken as delivered (`--rebaseline`).
        must_come_after: option that cannot go before builds that wait with their messages; empty for none.
        built_by: the dbt invocation that built the model last, by dbt's own results; None when they do not say.
    """

    epoch: int
    digest: str | None
    asks_for_scan: bool = False
    discards: bool = False
    must_come_after: str = ""
    built_by: str | None = None


def choice_of(name: str, waiting: Sequence[Build], scope: RunScope) -> BuildChoice:
    """Choose for a run of the sync `name`.

    Raises:
        UnsafePlan: the run would send a later state before earlier ones that wait.
    """
    kept = [build for build in waiting if build.keeps_every]
    if kept and scope.must_come_after:
        raise UnsafePlan(
            f"{name}: what {_builds(len(kept))} of dbt kept waits, and {scope.must_come_after} would send a later "
            f"state before it. Let `dbt-posthog-sync run` deliver it first, without {scope.must_come_after}."
        )
    if kept and not scope.discards:  # adopted a moment ago, or a build has just ended
        raise UnsafePlan(f"{name}: what {_builds(len(kept))} of dbt kept waits to be sent first. Run again.")
    if scope.discards:
        note = f"What {_builds(len(kept))} of dbt kept was not sent, but taken as delivered." if kept else ""
        return BuildChoice(note=note, settled=tuple(waiting))
    staged = tuple(build for build in waiting if not build.keeps_every)
    if not staged:
        return BuildChoice()
    build = staged[-1]
    objection = "" if scope.asks_for_scan else _objection(build, scope)
    if scope.asks_for_scan or objection:
        return BuildChoice(note=f"{objection} It was staged anew." if objection else "", settled=staged)
    return BuildChoice(build, f"Staged by the build of {build.staged_at}.", staged)


def _objection(build: Build, scope: RunScope) -> str:
    """Why what a build staged must not be sent; empty when it may."""
    if scope.digest is None:
        return "The model was staged by a build, and has the post-hook no more."
    if build.digest != scope.digest:
        return "The annotation, the settings or the program changed since the build staged the model."
    if build.epoch != scope.epoch - 1:
        return "Another run came between the build that staged the model and this one."
    if not build.is_of_this_table or scope.built_by not in (None, build.invocation_id):
        return "The model was built again since a build staged it."
    return ""


def _builds(number: int) -> str:
    return f"{number} {'build' if number == 1 else 'builds'}"
