"""Refusals of the private API: what a status that will not change means, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbt_posthog_sync.destinations.posthog_answers import HttpAnswer
from dbt_posthog_sync.errors import ChangedMeanwhile, DestinationRefused, ScopeMissing

_MISSING_SCOPE = re.compile(r"missing required scope '([a-z_]+:[a-z]+)'")
_WHERE_KEYS = "PostHog > Settings > Account > Personal API keys"

API_HOST_ADVICE = (
    "a proxy that carries only ingestion has none. Set posthog.api_host to https://us.posthog.com, "
    "https://eu.posthog.com or the address of your own PostHog"
)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for what.

    Attributes:
        needed_by: what needs the answer.
        path: what was asked for.
        project_id: number of the project as text, or `@current`.
        key_variable: name of the environment variable with the key.
    """

    needed_by: str
    path: str
    project_id: str
    key_variable: str


def refusal(answer: HttpAnswer, said: str, asker: Asker) -> DestinationRefused:
    """The error of an answer that another attempt would not better.

    Args:
        answer: what came back.
        said: PostHog's reason, without anything private; empty where it gives none.
        asker: who asked.
    """
    match answer.status:
        case 401:
            return DestinationRefused(_bad_key(answer, asker))
        case 403:
            return _forbidden(answer, said, asker)
        case 404 if isinstance(answer.json(), dict):
            return DestinationRefused(
                f"{answer.host} has no project {asker.project_id} that the personal API key can see (404). "
                "Check posthog.project_id, the number in the address of every page of the project, and host."
            )
        case 301 | 302 | 307 | 308 | 404 | 405:
            return DestinationRefused(
                f"{answer.host} has no private API ({answer.status} for {asker.path}); {API_HOST_ADVICE}."
            )
        case 409:
            return ChangedMeanwhile(
                f"somebody has changed in {answer.host} what {asker.needed_by} is changing (409). Nothing was "
                "overwritten: look at it, and run this again."
            )
        case _:
            return DestinationRefused(
                f"{answer.host} answered {answer.status} to what {asker.needed_by} needs: {said or 'no reason'}"
            )


def _forbidden(answer: HttpAnswer, said: str, asker: Asker) -> DestinationRefused:
    found = _MISSING_SCOPE.search(said)
    if found is None:
        return DestinationRefused(
            f"{answer.host} forbids what {asker.needed_by} needs (403): {said or 'without a reason'}. Check "
            f"which projects and scopes the key has in {_WHERE_KEYS}."
        )
    scope = found.group(1)
    return ScopeMissing(
        f"The personal API key lacks the scope `{scope}`, which {asker.needed_by} needs. Add it to the key in "
        f"{_WHERE_KEYS}.",
        scope,
    )


def _bad_key(answer: HttpAnswer, asker: Asker) -> str:
    return (
        f"{answer.host} does not accept the personal API key (401), which {asker.needed_by} needs: it is wrong, "
        f"expired or revoked, or of another region. Make a new one in {_WHERE_KEYS} and put it into "
        f"{asker.key_variable}."
    )
