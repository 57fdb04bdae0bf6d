"""Changes: what `destinations apply` would do with each hog function, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.forwarding import TEMPLATES
from dbt_posthog_sync.forwarding.drift import Difference, differences
from dbt_posthog_sync.forwarding.function import HogFunction
from dbt_posthog_sync.forwarding.marker import Marker
from dbt_posthog_sync.forwarding.wanted import Blocked, WantedFunction
from dbt_posthog_sync.secret import Secret

_LOOPS = "app.loops.so"


@dataclass(frozen=True, slots=True)
class Create:
    """There is no function yet."""

    wanted: WantedFunction


@dataclass(frozen=True, slots=True)
class Update:
    """The function differs.

    Attributes:
        function: as PostHog has it.
        wanted: as the exposure says.
        differences: where the two differ; at least one.
        sends_key: true where the key is sent again.
    """

    function: HogFunction
    wanted: WantedFunction
    differences: tuple[Difference, ...]
    sends_key: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """The function is as it should be."""

    function: HogFunction
    wanted: WantedFunction


@dataclass(frozen=True, slots=True)
class Disable:
    """The function was made for an exposure that is no more; it is switched off and never deleted."""

    function: HogFunction
    marker: Marker


Change: TypeAlias = Create | Update | Keep | Disable | Blocked


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a project's functions are compared by.

    Attributes:
        project: name of the dbt project.
        functions: every destination of the PostHog project.
        keys: keys of Loops by the name of their variable; absent where the environment has none.
        adopts: true to take functions of the same name and template for ours although they carry no marker.
        resends_keys: true to send every key again.
    """

    project: str
    functions: Sequence[HogFunction]
    keys: Mapping[str, Secret]
    adopts: bool = False
    resends_keys: bool = False

    def change_of(self, wanted: WantedFunction) -> Change:
        """What is to be done for one exposure."""
        ours = [one for one in self.functions if _is_ours(one, wanted.exposure)]
        if len(ours) > 1:
            where = " and ".join(one.id for one in ours)
            return Blocked(
                wanted.exposure, f"two functions carry its marker: {where}.", "Delete one of them in PostHog."
            )
        alike = [one for one in self.functions if _is_alike(one, wanted)]
        if not ours and alike and not self.adopts:
            reason = (
                f"PostHog has a destination `{wanted.name}` from the same template without the marker ({alike[0].id})."
            )
            return Blocked(wanted.exposure, reason, "Take it over with --adopt, or rename or delete it in PostHog.")
        found = (ours or alike)[:1]
        return self._update(found[0], wanted) if found else Create(wanted)

    def retired(self, exposures: Iterable[Exposure]) -> Iterator[Disable]:
        """Functions of this dbt project that no exposure stands for any more, as far as they are enabled."""
        known = tuple(exposures)
        for function in self.functions:
            marker = Marker.in_text(function.description)
            if marker is None or marker.project != self.project or not function.is_enabled:
                continue
            if not any(marker.names(exposure) for exposure in known):
                yield Disable(function, marker)

    def strangers(self) -> Iterator[HogFunction]:
        """Enabled functions that send to Loops too, and that no exposure of this dbt project stands for."""
        for function in self.functions:
            marker = Marker.in_text(function.description)
            is_of_loops = function.template_id in TEMPLATES.values() or _LOOPS in function.code
            if function.is_enabled and is_of_loops and (marker is None or marker.project != self.project):
                yield function

    def is_key_other(self, function: HogFunction, exposure: Exposure) -> bool:
        """Tell whether PostHog is known to have another key than the environment."""
        key = self.keys.get(exposure.api_key)
        marker = Marker.in_text(function.description)
        if key is None:
            return not function.has_key
        is_same = marker is not None and marker.key is not None and marker.key.fits(key)
        return not (is_same and function.has_key) or self.resends_keys

    def _update(self, function: HogFunction, wanted: WantedFunction) -> Change:
        sends_key = self.is_key_other(function, wanted.exposure)
        found = differences(function, wanted, is_key_other=sends_key)
        if found and function.has_draft:
            reason = f"somebody's change of `{function.name}` waits in PostHog to be published."
            return Blocked(wanted.exposure, reason, "Publish or discard it there.")
        return Update(function, wanted, found, sends_key) if found else Keep(function, wanted)


def _is_ours(function: HogFunction, exposure: Exposure) -> bool:
    marker = Marker.in_text(function.description)
    return marker is not None and marker.names(exposure)


def _is_alike(function: HogFunction, wanted: WantedFunction) -> bool:
    is_unmarked = Marker.in_text(function.description) is None
    return is_unmarked and (function.name, function.template_id) == (wanted.name, wanted.template.id)
