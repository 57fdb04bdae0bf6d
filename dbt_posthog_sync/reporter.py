"""The reporter: values into text or JSON. It returns strings and prints nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dbt_posthog_sync.diagnosis import Check
from dbt_posthog_sync.exposure import Exposure
from dbt_posthog_sync.gate import HeldBack
from dbt_posthog_sync.ingestion_warning import meaning_of
from dbt_posthog_sync.plan import Plan, Sample
from dbt_posthog_sync.proof import Proof
from dbt_posthog_sync.sync import LoopsObject, Sync
from dbt_posthog_sync.sync_run import Counts, RunStatus, SyncRun

if TYPE_CHECKING:  # `validate` needs no network, and importing requests takes longer than it does
    from dbt_posthog_sync.destinations import RenderedRequest

JSON_VERSION = 1
_EXAMPLE_LENGTH = 60
_MESSAGE_LENGTH = 80
_SAMPLE_LENGTH = 400

_KINDS = (
    ("unchanged", "unchanged"),
    ("delivered", "delivered"),
    ("rejected", "rejected"),
    ("skipped", "skipped"),
    ("known", "taken as known"),
    ("moved", "changed since staging"),
    ("pending", "pending"),
)


def as_json(kind: str, **values: Any) -> str:
    """One JSON document, versioned, on one line."""
    return json.dumps({"version": JSON_VERSION, "kind": kind, **values}, ensure_ascii=False, default=str)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Plain columns; numbers to the right."""
    columns = [_column(head, cells) for head, *cells in zip(headings, *rows, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _column(head: str, cells: Sequence[Any]) -> list[str]:
    """One column of a table, padded; to the right where every cell that is not empty is a number."""
    told = [cell for cell in cells if cell not in (None, "")]
    is_numeric = bool(told) and all(isinstance(cell, int) for cell in told)
    texts = [head, *(f"{cell:,}" if isinstance(cell, int) else str(cell or "") for cell in cells)]
    width = max(map(len, texts))
    return [text.rjust(width) if is_numeric else text.ljust(width) for text in texts]


def plan_text(plan: Plan) -> str:
    """A plan as people read it: what would be sent, what would not and why, and a few messages."""
    staged = plan.staged
    lines = [
        f"{plan.sync_name}: {plan.model} -> {plan.object}",
        f"  {_rows(staged.rows)} looked at: {staged.unchanged:,} unchanged, {staged.added:,} new, "
        f"{staged.changed:,} changed, {staged.rejected_rows:,} rejected"
        + (f", {staged.skipped_rows:,} skipped" if staged.skipped else ""),
    ]
    if plan.takes_as_known:
        lines.append(f"  would take {_rows(plan.known)} as delivered and send none")
        if plan.known < staged.pending:
            lines.append(f"  {_rows(staged.pending - plan.known)} changed besides or in doubt, and would stay pending")
    elif plan.deletion is not None:
        with_events = " and their events" if plan.deletion.events else ""
        lines.append(f"  would delete {_persons(plan.estimated_events)}{with_events}")
    else:
        lines.append(f"  would send {plan.estimated_events:,} {_noun(plan)}{_duration(plan)}")
    lines += _notes(plan)
    examples = dict(staged.examples)
    lines += [f"  rejected: {rows:,} x {reason}{_example(examples.get(reason))}" for reason, rows in staged.rejected]
    lines += [f"  skipped: {rows:,} x {reason}{_example(examples.get(reason))}" for reason, rows in staged.skipped]
    lines += [f"  message: {_message(sample)}" for sample in plan.samples]
    return "\n".join(lines)


def _noun(plan: Plan) -> str:
    noun = "contact" if plan.object == LoopsObject.CONTACTS.value else "event"
    return noun if plan.estimated_events == 1 else f"{noun}s"


def _duration(plan: Plan) -> str:
    """How long a rate of single requests makes it, where that is long enough to matter."""
    seconds = plan.estimated_events / plan.requests_per_second if plan.requests_per_second else 0.0
    if seconds < 60:
        return ""
    return f", {_about(seconds)} at {plan.requests_per_second:g} requests a second"


def _keeper(kind: str) -> str:
    """Who keeps what has left the model."""
    return "Loops" if kind in {one.value for one in LoopsObject} else "PostHog"


def _notes(plan: Plan) -> list[str]:
    """What is to be known about a plan beside its sums."""
    lines = []
    if plan.outside:
        lines.append(f"  {_rows(plan.outside)} outside the cursor's window, not looked at (--full-scan looks at all)")
    if plan.removed and plan.deletion is None:
        lines.append(
            f"  {_rows(plan.removed)} gone from the model since the last run; {_keeper(plan.object)} keeps them"
        )
    if plan.mapping_changed:
        lines.append("  the annotation changed since the last run")
    if plan.dropped_properties:
        names, keeper = ", ".join(plan.dropped_properties), _keeper(plan.object)
        removal = f" (`unset: [{names}]` removes it)" if keeper == "PostHog" else ""
        lines.append(f"  no longer in the annotation, and {keeper} keeps it: {names}{removal}")
    if plan.forwarding is not None and plan.estimated_events:
        rate, names = plan.forwarding.events_per_second, ", ".join(plan.forwarding.exposures)
        lines.append(
            f"  PostHog hands each event on to Loops ({names}) and loses what Loops does not take at once, so a run "
            f"sends {rate:g} a second: {_about(plan.estimated_events / rate)}"
        )
    if plan.hash_changed:
        lines.append("  the warehouse computes row hashes differently than in the last run")
    return lines


def _about(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 3600:.1f} hours" if seconds >= 7200 else f"about {seconds / 60:.0f} minutes"


def plan_values(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values."""
    return {
        **asdict(plan),
        "estimated_events": plan.estimated_events,
        "staged": {
            **asdict(plan.staged),
            "rejected": dict(plan.staged.rejected),
            "skipped": dict(plan.staged.skipped),
            "examples": dict(plan.staged.examples),
        },
    }


def held_back_text(held: HeldBack) -> str:
    """A sync that a plan leaves out, as people read it."""
    return f"{held.sync.name}: would be skipped\n  {held.reason}"


def held_back_values(held: HeldBack) -> dict[str, Any]:
    """A sync that a plan leaves out, as JSON values."""
    sync = held.sync
    return {"sync": sync.name, "model": sync.model.name, "status": RunStatus.SKIPPED.value, "message": held.reason}


def run_text(run: SyncRun) -> str:
    """A sync run as people read it, with the sums of all its rows."""
    counts = run.counts
    lines = [f"{run.sync_name}: {_HEADLINES[run.status]}"]
    if run.message:
        lines.append(f"  {run.message}")
    if run.status is not RunStatus.UNSAFE and (run.message == "" or counts.rows + counts.outside > 0):
        lines.append(f"  {_sums(counts)}")
    if run.status not in (RunStatus.UNSAFE, RunStatus.SKIPPED):
        lines.append(
            f"  {run.requests:,} {'request' if run.requests == 1 else 'requests'}, {_bytes(run.bytes_sent)}, "
            f"{run.seconds:.1f} s"
        )
    if counts.outside:
        lines.append(f"  {_rows(counts.outside)} outside the cursor's window")
    if counts.removed:
        lines.append(f"  {_rows(counts.removed)} gone from the model; what was sent of them stays")
    if counts.warned:
        lines.append(f"  {counts.warned:,} stored by PostHog without a person")
    lines += [f"  rejected: {rows:,} x {reason}" for reason, rows in run.reasons]
    lines += [f"  skipped: {rows:,} x {reason}" for reason, rows in run.skips]
    return "\n".join(lines)


def _persons(number: int) -> str:
    return f"{number:,} {'person' if number == 1 else 'persons'}"


def _sums(counts: Counts) -> str:
    """Every row counted once; the kinds that are usual are named although they are zero."""
    values = counts.as_dict()
    usual = ("unchanged", "delivered", "rejected")
    parts = (f"{values[name]:,} {words}" for name, words in _KINDS if values[name] or name in usual)
    return f"{_rows(counts.rows)} = {' + '.join(parts)}"


_HEADLINES = {
    RunStatus.RUNNING: "running",
    RunStatus.SUCCESS: "done",
    RunStatus.REJECTED: "done, with rejected rows",
    RunStatus.UNSAFE: "stopped before anything was sent",
    RunStatus.INTERRUPTED: "interrupted",
    RunStatus.ERROR: "failed",
    RunStatus.SKIPPED: "skipped",
}


def run_values(run: SyncRun) -> dict[str, Any]:
    """A sync run as JSON values."""
    return {
        "run_id": run.run_id,
        "sync": run.sync_name,
        "model": run.model,
        "status": run.status.value,
        "message": run.message,
        "counts": run.counts.as_dict(),
        "rejected": dict(run.reasons),
        "skipped": dict(run.skips),
        "requests": run.requests,
        "bytes": run.bytes_sent,
        "seconds": round(run.seconds, 3),
        "phases": {name: round(seconds, 3) for name, seconds in run.phases},
    }


def check_text(check: Check) -> str:
    """A check as people read it: verdict and part, and beside them what was found."""
    opening = f"{check.verdict.value:<7}  {check.name:<20}  "
    return ("\n" + " " * len(opening)).join([f"{opening}{check.findings[0]}", *check.findings[1:]])


def check_values(check: Check) -> dict[str, Any]:
    """A check as JSON values."""
    return {"name": check.name, "verdict": check.verdict.value, "findings": list(check.findings)}


def proof_text(proof: Proof) -> str:
    """A proof as people read it: how much landed, by object, and PostHog's warnings with their meaning."""
    dispatch = proof.dispatch
    lines = [proof.headline, *(f"  {kind.value}: {found:,} of {sent:,}" for kind, sent, found in proof.objects())]
    if proof.landed.total > dispatch.total > 0 and not dispatch.is_open:
        lines.append(f"  {proof.landed.total - dispatch.total:,} more are there that were sent without an answer")
    if proof.advice:
        lines.append(f"  {proof.advice}")
    for kind, count in proof.warnings:
        meaning = meaning_of(kind)
        lines.append(f"  warning {kind} ({count:,} noted, {meaning.effect.value}): {meaning.words}.")
    if proof.warnings_problem:
        lines.append(f"  The ingestion warnings could not be read: {proof.warnings_problem}")
    return "\n".join(lines)


def proof_values(proof: Proof) -> dict[str, Any]:
    """A proof as JSON values."""
    return {
        "run_id": proof.dispatch.run_id,
        "sent": proof.dispatch.total,
        "landed": proof.landed.total,
        "missing": proof.missing,
        "objects": {kind.value: {"sent": sent, "landed": found} for kind, sent, found in proof.objects()},
        "advice": proof.advice or None,
        "warnings": [
            {
                "type": kind,
                "noted": count,
                "effect": meaning_of(kind).effect.value,
                "meaning": meaning_of(kind).words,
            }
            for kind, count in proof.warnings
        ],
        "warnings_problem": proof.warnings_problem or None,
        "polls": proof.polls,
        "exit_code": proof.exit_code,
    }


def request_text(sync_name: str, request: RenderedRequest) -> str:
    """A request as it would be sent, readable: headers, then the body, of a batch with a line an event."""
    body = json.loads(request.body)
    events = body.pop("batch", None)
    lines = [f"{sync_name}: {request.method} {request.url}", *(f"{name}: {value}" for name, value in request.headers)]
    if events is None:
        return "\n".join([*lines, "", json.dumps(body, ensure_ascii=False), ""])
    lines += ["", json.dumps({**body, "batch": f"{len(events)} events, below"}, ensure_ascii=False)]
    return "\n".join([*lines, *(json.dumps(event, ensure_ascii=False) for event in events), ""])


def request_values(request: RenderedRequest) -> dict[str, Any]:
    """A request as JSON values."""
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "body": json.loads(request.body),
    }


def status_text(found: dict[str, Any]) -> str:
    """What the state schema says, as people read it."""
    if not found["syncs"]:
        return "Nothing has been synced to this target yet."
    syncs = [
        (sync["name"], sync["object"], sync["live_keys"], sync["owner"] if sync["is_held"] else "")
        for sync in found["syncs"]
    ]
    runs = [
        (
            run["started_at"][:19],
            run["sync"],
            run["status"],
            run["delivered"],
            run["rejected"],
            _cut(run["message"] or "", _MESSAGE_LENGTH),
        )
        for run in found["runs"]
    ]
    rejected = [
        (row["sync"], row["rows"], _cut(row["example"] or "", _EXAMPLE_LENGTH), row["reason"])
        for row in found["rejected"]
    ]
    parts = [table(("sync", "object", "rows delivered", "run by"), syncs)]
    parts.append(table(("started (UTC)", "sync", "status", "delivered", "rejected", "message"), runs))
    if rejected:
        parts.append(table(("rejected rows of", "rows", "sync key of one", "reason"), rejected))
    return "\n\n".join(parts)


def syncs_text(syncs: Sequence[Sync]) -> str:
    """The validated syncs, a line each."""
    rows = [
        (
            sync.name,
            sync.model.name,
            sync.object.value,
            f"{sync.sync_key.kind.value}: {sync.sync_key.column}",
            sync.behavior.value,
        )
        for sync in syncs
    ]
    return table(("sync", "model", "object", "sync key", "behavior"), rows)


def sync_values(sync: Sync) -> dict[str, Any]:
    """A validated sync as JSON values."""
    return {
        "name": sync.name,
        "model": sync.model.unique_id,
        "object": sync.object.value,
        "sync_key": {sync.sync_key.kind.value: sync.sync_key.column},
        "behavior": sync.behavior.value,
    }


def exposures_text(exposures: Sequence[Exposure]) -> str:
    """The validated exposures that PostHog sends for, a line each."""
    rows = [(one.name, one.object.value, ", ".join(model.name for model in one.models)) for one in exposures]
    return table(("exposure", "object", "models"), rows)


def exposure_values(exposure: Exposure) -> dict[str, Any]:
    """A validated exposure as JSON values."""
    return {
        "name": exposure.name,
        "models": [model.unique_id for model in exposure.models],
        "object": exposure.object.value,
        "via": exposure.route.via.value,
    }


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _example(key: str | None) -> str:
    return f" (sync key {_cut(key, _EXAMPLE_LENGTH)})" if key else ""


def _message(sample: Sample) -> str:
    return _cut("{" + sample.head + ',"properties":{' + sample.properties.lstrip(",") + "}}", _SAMPLE_LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
