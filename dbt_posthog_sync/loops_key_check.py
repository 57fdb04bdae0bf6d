"""The check of Loops API keys: whether Loops knows the key that each direct exposure names.

The key is tested at the address that Loops has for it (loops.so/docs/api-reference/api-key); nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dbt_posthog_sync import __version__
from dbt_posthog_sync.destinations.loops import KEY_PATH
from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.errors import SettingsError, SyncError
from dbt_posthog_sync.http import get, host_of, new_session, one_line, redacted
from dbt_posthog_sync.loops_settings import LoopsSettings, loops_key
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.sync import Sync

NAME = "Loops API key"


def loops_key_checks(syncs: Iterable[Sync], settings: LoopsSettings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Check the key of every environment variable that a direct exposure names; nothing where there is none."""
    named = {sync.loops.api_key: sync for sync in reversed(tuple(syncs)) if sync.loops is not None}
    for variable, sync in reversed(named.items()):
        path = f"{sync.path}.api_key.env"
        try:
            key = loops_key(environ, variable, exposure=sync.name, file=sync.file, path=path)
        except SettingsError as error:
            yield Check.of_error(NAME, error)
        else:
            yield _check(key, variable, settings.host)


def _check(key: Secret, variable: str, host: str) -> Check:
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    try:
        with new_session(host, pool=1, version=__version__) as session:
            answer = get(session, host + KEY_PATH, headers)
    except SyncError as error:
        return Check.of_error(NAME, error)
    where, status = host_of(host), answer.status_code
    if status in (401, 403):
        advice = f"Make one in Loops under Settings > API, and put it into {variable}."
        return Check.failed(NAME, f"{where} does not know the key of {variable}.", advice)
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    if status == 200 and isinstance(said, dict) and said.get("success") is True:
        team = one_line(redacted(str(said.get("teamName", "")), key.reveal()))
        return Check.ok(NAME, f"{where} knows the key of {variable}: the team `{team}`.")
    if status == 429 or status >= 500:
        return Check.failed(NAME, f"{where} answered {status}. Try again later.")
    message = f"{where} answered {status}, which Loops does not. Check loops.host in posthog_sync.yml."
    return Check.failed(NAME, message, exit_code=2)
