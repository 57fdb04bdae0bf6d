"""Settings of Loops: where its API is, how fast it may be asked, and the keys of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.host import address_from
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.secret import Secret, shown
from dbt_posthog_sync.spelling import nearest

LOOPS_HOST = "https://app.loops.so/api"
LOOPS_REQUESTS_PER_SECOND = 10.0
"""What Loops allows a team, all of its keys together (loops.so/docs/api-reference/intro, rate limiting)."""

_PATH = "$.loops.host"
_WHERE = "You make one in Loops under Settings > API."


@dataclass(frozen=True, slots=True)
class LoopsSettings:
    """How Loops is reached by direct exposures.

    Attributes:
        host: address of its API, without a slash at the end.
        requests_per_second: highest rate of requests of this program.
    """

    host: str = LOOPS_HOST
    requests_per_second: float = LOOPS_REQUESTS_PER_SECOND


def loops_settings(
    section: Mapping[str, Any], environ: Mapping[str, str], file: str
) -> tuple[LoopsSettings, tuple[Problem, ...]]:
    """Return the settings of the `loops` section, and what is wrong with its address."""
    written = section.get("host", LOOPS_HOST)
    rate = section.get("requests_per_second", LOOPS_REQUESTS_PER_SECOND)
    variable = written.get("env") if isinstance(written, Mapping) else None
    if isinstance(variable, str):
        written = environ.get(variable, "").strip()
        if not written:  # a test that forgot it must not reach Loops itself
            message = f"the environment variable {variable} is not set."
            advice = f"Set it to the address of Loops' API, such as {LOOPS_HOST}."
            return LoopsSettings(), (Problem(message, advice, file=file, path=_PATH),)
    if not isinstance(written, str) or not isinstance(rate, (int, float)):
        return LoopsSettings(), ()  # the schema says what is wrong
    try:
        return LoopsSettings(address_from(written), float(rate)), ()
    except ValueError:
        source = f"the environment variable {variable}" if variable else shown(written)
        message = f"{source} is no address that a key may be sent to."
        advice = f"Write one that starts with `https://`, such as {LOOPS_HOST}, or leave it out."
        return LoopsSettings(), (Problem(message, advice, file=file, path=_PATH),)


def loops_key(environ: Mapping[str, str], variable: str, *, exposure: str, file: str, path: str) -> Secret:
    """Return the Loops API key of an exposure.

    Raises:
        SettingsError: the variable is not set, or holds something that is no key.
    """
    key = environ.get(variable, "").strip()
    if not key:
        similar = nearest(variable, (name for name in environ if "LOOPS" in name.upper() and name != variable))
        hint = f" `{similar}` is set: did you mean it?" if similar else ""
        message = f"the Loops API key is missing: the environment variable {variable} is not set.{hint}"
        raise SettingsError(Problem(message, _WHERE, exposure, file, path))
    if not (key.isascii() and key.isprintable() and " " not in key):
        message = f"the environment variable {variable} holds no Loops API key."
        raise SettingsError(Problem(message, _WHERE, exposure, file, path))
    return Secret(key)
