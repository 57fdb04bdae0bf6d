"""The check of the project API key: whether PostHog knows it, in which region, and whether the host takes messages.

Endpoints and their answers: PostHog/posthog: rust/feature-flags, and the table in PostHog/posthog#54670.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

import requests

from dbt_posthog_sync import __version__
from dbt_posthog_sync.destinations.posthog import V0_PATH
from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.errors import DestinationUnavailable, SyncError
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.http import get, host_of, new_session, post
from dbt_posthog_sync.secret import Secret

CLOUD: Mapping[str, Host] = {"us": Host.from_text("us"), "eu": Host.from_text("eu")}
_JSON = {"Content-Type": "application/json"}
_PROBE_ID = "dbt-posthog-sync:debug"


class Knowledge(Enum):
    """Whether a host knows a project API key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    UNSAID = "the host does not answer this question"


@dataclass(frozen=True, slots=True)
class _Answers:
    knowledge: Knowledge
    quota_limited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """Asks a host about a project API key. Sends no event.

    Attributes:
        host: where messages go.
        project_key: the key.
        regions: PostHog Cloud by region, where the key is looked for when the host does not know it.
    """

    host: Host
    project_key: Secret = field(repr=False)
    regions: Mapping[str, Host] = field(default_factory=lambda: CLOUD)

    def token(self) -> Check:
        """Whether the host knows the key."""
        name = "project API key"
        try:
            answers = self._ask(self.host)
        except SyncError as error:
            return Check.of_error(name, error)
        where = _place(self.host)
        match answers.knowledge:
            case Knowledge.KNOWN if answers.quota_limited:
                return Check.warning(
                    name,
                    f"{where} knows it, and says that the project is over its quota of "
                    f"{', '.join(answers.quota_limited)}. Events may be lost too: look at PostHog > Billing.",
                )
            case Knowledge.KNOWN:
                return Check.ok(name, f"{where} knows it.")
            case Knowledge.UNKNOWN:
                return Check.failed(name, f"{where} does not know it, and would lose every event.", self._elsewhere())
            case Knowledge.UNSAID:
                return Check.warning(
                    name,
                    f"{where} does not say whether it knows it: it passes on neither /flags nor /array. If it is a "
                    "proxy of yours, that is common; see that a first event arrives, or use --send-test-event.",
                )

    def ingestion(self) -> Check:
        """Whether the host takes messages: an empty batch is refused by PostHog, and by nobody else in this way."""
        name = "ingestion"
        body = json.dumps({"api_key": self.project_key.reveal(), "batch": []}).encode()
        try:
            with _session(self.host.ingest) as session:
                answer = post(session, self.host.ingest + V0_PATH, _JSON, body)
        except SyncError as error:
            return Check.of_error(name, error)
        where = host_of(self.host.ingest)
        if answer.status_code in (200, 400, 401):
            return Check.ok(name, f"{where} takes messages.")
        if answer.status_code == 429 or answer.status_code >= 500:
            return Check.failed(name, f"{where} answered {answer.status_code} to an empty batch. Try again later.")
        return Check.failed(
            name,
            f"{where} answered {answer.status_code} to an empty batch, which PostHog does not. Check host: "
            "the ingestion host is https://us.i.posthog.com, https://eu.i.posthog.com or your own PostHog, and a proxy "
            "must pass on /batch/ and /i/v1/analytics/events.",
            exit_code=2,
        )

    def _elsewhere(self) -> str:
        """Advice for a key that the host does not know: the other region is asked where the host is one."""
        advice = (
            "Copy the key again from PostHog > Settings > Project > General, and check that host is the region of the "
            "project."
        )
        for region, host in self.regions.items():
            if self.host.region in (None, region):
                continue
            try:
                if self._ask(host).knowledge is Knowledge.KNOWN:
                    return f"It belongs to a project in {region}: write `host: {region}` in posthog_sync.yml."
            except SyncError:
                return f"{advice} The region {region} could not be asked."
        return advice

    def _ask(self, host: Host) -> _Answers:
        """Ask both endpoints that tell keys apart.

        Raises:
            DestinationUnavailable: the host does not answer, or not well.
            DestinationRefused: no request can be made.
        """
        key = self.project_key.reveal()
        body = json.dumps({"api_key": key, "distinct_id": _PROBE_ID}).encode()
        with _session(host.ingest) as session:
            flags = post(session, f"{host.ingest}/flags/?v=2", _JSON, body)
            config = get(session, f"{host.ingest}/array/{quote(key, safe='')}/config", {})
        for answer in (flags, config):
            if answer.status_code == 429 or answer.status_code >= 500:
                raise DestinationUnavailable(f"{host_of(host.ingest)} answered {answer.status_code}. Try again later.")
        said, configured = _object(flags), _object(config)
        # PostHog's own host has /array for certain; elsewhere a 404 may be a proxy's.
        is_refused = flags.status_code == 401 and "WWW-Authenticate" not in flags.headers  # else it is a proxy's login
        if is_refused or (config.status_code == 404 and host.region is not None):
            return _Answers(Knowledge.UNKNOWN)
        if flags.status_code == 200 and ("flags" in said or "featureFlags" in said):
            limited = said.get("quotaLimited")
            return _Answers(Knowledge.KNOWN, tuple(map(str, limited)) if isinstance(limited, list) else ())
        if config.status_code == 200 and "token" in configured:
            return _Answers(Knowledge.KNOWN)
        return _Answers(Knowledge.UNSAID)


def _session(url: str) -> requests.Session:
    return new_session(url, pool=1, version=__version__)


def _object(answer: requests.Response) -> Mapping[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _place(host: Host) -> str:
    return f"PostHog Cloud {host.region}" if host.region else host_of(host.ingest)
