"""What PostHog's answers mean: HTTP answers become outcomes, by protocol, status and result.

Facts from PostHog/posthog: rust/capture/src/v1/analytics/{process,types}.rs, rust/capture/src/v1/error.rs and
rust/capture/src/api.rs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from dbt_posthog_sync.destinations import Answered, Batch, Outcome, Poisoned, Refusal, TooLarge, TryAgain, uuid_of
from dbt_posthog_sync.errors import DestinationRefused
from dbt_posthog_sync.http import one_line, redacted

KEY_ADVICE = (
    "Check that the environment variable holds the project API key (phc_...) of the right project, and that host is "
    "the region of that project (us or eu): PostHog > Settings > Project > General."
)

DROPPED = {
    "missing_event_name": "the event name is empty",
    "event_name_too_long": "the event name is longer than 200 bytes",
    "missing_distinct_id": "the distinct_id is empty",
    "distinct_id_too_large": "the distinct_id is longer than 200 bytes",
    "invalid_event_timestamp": "the timestamp is not an RFC 3339 time",
    "malformed_event_properties": "the properties are not a JSON object",
    "invalid_options": "an option of the event has the wrong type",
    "event_too_big": "the event is larger than PostHog's limit of about 1 MB",
    "event_restriction_drop": "an event restriction of the PostHog project drops it",
    "billing_limit_exceeded": "the PostHog project is over its billing limit",
    "serialization_failed": "PostHog could not store it",
    "rejected": "PostHog's queue refused it",
}
"""Drop details in people's words. Tags from PostHog/posthog: rust/capture/src/v1/error.rs and process.rs."""

HEALING_DROPS = frozenset({"event_restriction_drop", "billing_limit_exceeded"})
"""Drops that are about the project and not about the row: every run tries such a row again."""

REQUEST_FAULTS = frozenset(
    {"missing_required_headers", "invalid_header_value", "invalid_batch", "request_decoding_error", "empty_body"}
)
"""400s of v1 that no message can cause: something between here and PostHog changes requests."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer without its transport.

    Attributes:
        host: who answered, for people.
        status: HTTP status.
        body: decoded body.
        retry_after: seconds the server asked for, if it did.
        location: where a redirect points.
        secret: text that must never be repeated out of the body.
    """

    host: str
    status: int
    body: bytes
    retry_after: float | None = None
    location: str = ""
    secret: str = field(default="", repr=False)

    def words(self) -> str:
        """What the server said, cut to one line and without the key."""
        return one_line(redacted(self.body[:2000].decode("utf-8", "replace"), self.secret))

    def json(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:  # also a body that is not UTF-8
            return None


def v1_outcome(batch: Batch, answer: HttpAnswer) -> Outcome:
    """What an answer of `/i/v1/analytics/events` means for the batch."""
    if answer.status == 200:
        payload = answer.json()
        results = payload.get("results") if isinstance(payload, dict) else None
        if not isinstance(results, dict):
            return _unconfirmed(answer)
        return _per_message(batch, results, answer.retry_after)
    if answer.status == 400:
        payload = answer.json()
        tag = payload.get("error") if isinstance(payload, dict) else None
        if tag in REQUEST_FAULTS:
            raise DestinationRefused(
                f"{answer.host} finds the request itself faulty ({tag}): a proxy in between may change requests. "
                "Set protocol: v0, or let the proxy pass headers and body unchanged."
            )
    return _by_status(answer)


def v0_outcome(batch: Batch, answer: HttpAnswer) -> Outcome:
    """What an answer of `/batch/` means for the batch: all of it or nothing.

    Raises:
        DestinationRefused: also for a 200 that says the project is over its quota, because then nothing was kept.
    """
    if answer.status != 200:
        return _by_status(answer)
    payload = answer.json()
    status = payload.get("status") if isinstance(payload, dict) else None
    if status is True or status not in ("Ok", 1):  # 1 is what older servers say; true is nobody's word
        return _unconfirmed(answer)
    if payload.get("quota_limited"):
        raise DestinationRefused(_over_quota(answer))
    return Answered(accepted=batch.positions)


def _per_message(batch: Batch, results: dict[str, Any], retry_after: float | None) -> Answered:
    accepted: list[int] = []
    others: list[tuple[int, dict[str, Any]]] = []
    for position, message in zip(batch.positions, batch.messages, strict=True):
        entry = results.get(uuid_of(message))
        if not isinstance(entry, dict):
            continue  # not answered for, which is no word of PostHog's
        if entry.get("result") == "ok" and entry.get("details") != "person_processing_disabled":
            accepted.append(position)
        else:
            others.append((position, entry))
    refused: list[Refusal] = []
    retry: list[int] = []
    warned = 0
    for position, entry in others:
        result, details = entry.get("result"), one_line(str(entry.get("details") or ""))
        if result == "retry":
            retry.append(position)
        elif result in ("ok", "warning", "limited") and not batch.needs_person:
            accepted.append(position)
            warned += 1
        else:
            refused.append(_refusal(position, str(result), details))
    return Answered(tuple(accepted), tuple(refused), tuple(retry), retry_after, warned)


def _refusal(position: int, result: str, details: str) -> Refusal:
    match result:
        case "ok":  # an id on PostHog's list of ids that are bugs
            return Refusal(position, "PostHog stored it without person processing: it takes the distinct_id for a bug")
        case "warning" | "limited":  # too many events for one distinct_id in a short time
            return Refusal(position, f"PostHog stored it without person processing ({details or result})", heals=True)
        case "drop":
            known = DROPPED.get(details)
            reason = f"{known} ({details})" if known else details or "no reason given"
            return Refusal(position, f"PostHog dropped it: {reason}", heals=details in HEALING_DROPS)
        case _:
            return Refusal(position, f"PostHog answered {one_line(result)!r}, which this version does not know")


def _by_status(answer: HttpAnswer) -> Outcome:
    """What a status other than 200 means, on both protocols."""
    status = answer.status
    match status:
        case 400:
            return Poisoned(answer.words() or "400 without a reason")
        case 413:
            return TooLarge(f"{answer.host} answered 413, request too large")
        case 401 | 402 | 403 | 404 | 405 | 407 | 415:
            raise DestinationRefused(_advice(answer))
        case 301 | 308:
            address = one_line(answer.location) or "another address"
            raise DestinationRefused(f"{answer.host} has moved to {address}. Set host to that address.")
        case 408 | 425 | 429:
            return TryAgain(f"{answer.host} answered {status}", answer.retry_after)
        case _ if status < 400 or status >= 500:
            return TryAgain(f"{answer.host} answered {status} and confirmed nothing", answer.retry_after)
        case _:
            raise DestinationRefused(f"{answer.host} answered {status}, which PostHog does not send: {answer.words()}")


def _advice(answer: HttpAnswer) -> str:
    match answer.status:
        case 401:
            return f"{answer.host} does not accept the project API key (401). {KEY_ADVICE}"
        case 402:
            return _over_quota(answer)
        case 403:
            return f"{answer.host} forbids the request (403): a firewall or proxy in between, or the key. {KEY_ADVICE}"
        case 407:
            return f"The proxy on the way to {answer.host} wants a login (407). Check HTTPS_PROXY."
        case 415:
            return f"{answer.host} does not take gzip (415): a proxy in between may change requests. Set protocol: v0."
        case _:
            return (
                f"{answer.host} has no PostHog ingestion API ({answer.status}). Check host: the ingestion host is "
                "https://us.i.posthog.com, https://eu.i.posthog.com or your own PostHog; protocol: auto finds the rest."
            )


def _over_quota(answer: HttpAnswer) -> str:
    return (
        f"{answer.host}: the PostHog project is over its billing limit (402), so nothing is stored. Raise the limit in "
        "PostHog > Billing, then run again: the rows are still pending."
    )


def _unconfirmed(answer: HttpAnswer) -> TryAgain:
    # A login page or a proxy's greeting is also a 200; only PostHog's own words confirm a row.
    return TryAgain(f"{answer.host} answered 200 without PostHog's confirmation", answer.retry_after)
