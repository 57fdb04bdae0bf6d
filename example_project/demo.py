"""A day in the shop: build it, sync it, sync it again, let a day pass, sync what changed.

`make demo` runs this file. dbt and dbt-posthog-sync are the installed commands, run as you would run them; only PostHog
and Loops are stand-ins, inside this process, so that their own logs can be asked what really arrived. Everything is
written to `.demo/` beside this file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbt_posthog_sync.testing import LoopsStandIn, LoopsStandInConfig, Person, StandIn, StandInConfig

SHOP = Path(__file__).resolve().parent
SCRATCH = SHOP / ".demo"

# The rows of the shop on its first day, and what one day brings; README.md has both by model.
FIRST_DAY_ROWS = 15_165
CHANGES_OF_A_DAY = 64

# What the direct exposures come to in Loops. A day brings one more loyal customer and ten orders; Loops makes contacts
# of the five others who ordered, because it knows nobody by their addresses.
FIRST_DAY_CONTACTS = 40
CONTACTS_OF_A_DAY = 6
EVENTS_OF_A_DAY = 10
MAILING_LIST = "cm06f5v0e45nf0ml5754o9cix"

# Settings of the shell that would lead dbt, or the sync, somewhere else than to this demo.
_FOREIGN = ("DBT_", "POSTHOG_", "SHOP_", "LOOPS_")


class BrokenPromiseError(Exception):
    """Something is not as this demo says it is."""


@dataclass(frozen=True)
class Arrivals:
    """What the stand-in's own log says: requests of any kind, and events that came with them."""

    requests: int
    events: int


def main() -> int:
    """Run the demo; the result is the exit code."""
    begun = time.monotonic()
    try:
        with (
            LoopsStandIn(LoopsStandInConfig(mailing_lists=(MAILING_LIST,))) as loops,
            StandIn(StandInConfig(loops_url=loops.url)) as posthog,
        ):
            _demonstrate(posthog, loops)
    except BrokenPromiseError as error:
        _say(f"\nThe demo failed: {error}")
        return 1
    _say(f"\nAll as promised, in {time.monotonic() - begun:.0f} s. What was written is in {SCRATCH}.")
    return 0


def _demonstrate(posthog: StandIn, loops: LoopsStandIn) -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir()
    environment = _environment(posthog, loops)
    _say(f"A stand-in for PostHog answers at {posthog.url}, one for Loops at {loops.url}.")
    _say("The warehouse is a new DuckDB file.")

    _title("The shop on its first day")
    _run(environment, "dbt", "--quiet", "build")

    _title("First sync: PostHog has nothing yet, so every row is sent")
    first = _sync(environment, posthog)
    _expect(f"{FIRST_DAY_ROWS:,} messages", FIRST_DAY_ROWS, first.events)
    _say(f"  PostHog's log: {first.events:,} messages in {first.requests:,} requests.")

    _expect(f"{FIRST_DAY_CONTACTS} contacts and no event", (FIRST_DAY_CONTACTS, 0), _arrived_in(loops))
    asked = len(loops.requests)
    _say(f"  Loops' log: {FIRST_DAY_CONTACTS} contacts, and no event, because orders of the past start no mail.")

    _title("Second sync: nothing changed, so nothing is sent")
    _expect("no message and no request", Arrivals(0, 0), _sync(environment, posthog))
    _expect("no request", asked, len(loops.requests))
    _say("  PostHog's log: 0 messages in 0 requests. Loops' log: 0 requests.")

    before = {person.distinct_ids[0]: person for person in posthog.project.persons}
    _title("A day passes in the shop: orders, page views, new customers, changed plans")
    _run(environment, "dbt", "--quiet", "build", "--vars", "shop_day: 1")

    _title("Third sync: only what changed is sent")
    third = _sync(environment, posthog)
    _expect(f"{CHANGES_OF_A_DAY} messages", CHANGES_OF_A_DAY, third.events)
    _say(f"  PostHog's log: {third.events:,} messages in {third.requests:,} requests.")

    expected = (FIRST_DAY_CONTACTS + CONTACTS_OF_A_DAY, EVENTS_OF_A_DAY)
    _expect(f"{expected[0]} contacts, and an event an order", expected, _arrived_in(loops))
    _say(f"  Loops' log: {len(loops.requests) - asked} requests.")

    _title("What PostHog holds now")
    _say(_holdings(posthog))
    _check_nothing_lost(posthog)
    _title("One customer whose row changed")
    _say(_change(before, posthog.project.persons))
    _title("What Loops holds now")
    _say(_contacts(loops))
    _forward(environment, posthog, loops)


def _forward(environment: dict[str, str], posthog: StandIn, loops: LoopsStandIn) -> None:
    """Bring the exposures with `via: posthog` to PostHog, and let a customer sign in on the web site."""
    _title("Destinations of PostHog: what Loops would get for rows of the model")
    _run(environment, "dbt-posthog-sync", "destinations", "test", "loops_signed_in", "--rows", "1")
    _title("They are made as the exposures say; a second time there is nothing to do")
    _run(environment, "dbt-posthog-sync", "destinations", "apply")
    _run(environment, "dbt-posthog-sync", "destinations", "apply")
    _title("A customer signs in on the web site, and asks for an offer")
    known = {contact.email for contact in loops.team.contacts}
    person = next(one for one in posthog.project.persons if one.properties.get("email") not in {None, *known})
    events_before = len(loops.team.events)
    _capture(posthog, "$identify", person.distinct_ids[0])
    _capture(posthog, "offer requested", person.distinct_ids[0], product="Fountain pen")
    contact = next(one for one in loops.team.contacts if one.email == person.properties["email"])
    _expect("the shop's number as userId", person.distinct_ids[0], contact.user_id)
    _expect("the plan of the customer", person.properties["plan"], contact.properties.get("planName"))
    _expect("one event", 1, len(loops.team.events) - events_before)
    _expect("a place on the mailing list", {MAILING_LIST}, set(contact.mailing_lists))
    _say(f"  Loops has {contact.user_id} now: {json.dumps(dict(contact.properties))}")
    _say(f"  and the event `{loops.team.events[-1].name}`: {json.dumps(dict(loops.team.events[-1].properties))}")


def _capture(posthog: StandIn, event: str, distinct_id: str, **properties: str) -> None:
    """Send an event as a web site does."""
    body = {"api_key": posthog.token, "batch": [{"event": event, "distinct_id": distinct_id, "properties": properties}]}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{posthog.url}/batch/", json.dumps(body).encode(), headers)  # noqa: S310 - ours
    with urllib.request.urlopen(request) as response:  # noqa: S310
        _expect("a taken event", 200, response.status)


def _environment(posthog: StandIn, loops: LoopsStandIn) -> dict[str, str]:
    """The environment of the commands: this demo's warehouse, folders and PostHog, and nothing of the shell's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        "SHOP_DUCKDB_PATH": str(SCRATCH / "shop.duckdb"),
        "SHOP_POSTHOG_HOST": posthog.url,
        "POSTHOG_PROJECT_API_KEY": posthog.token,
        "POSTHOG_PERSONAL_API_KEY": posthog.personal_key,
        "POSTHOG_PROJECT_ID": "1",
        "SHOP_LOOPS_HOST": loops.url,
        "LOOPS_API_KEY": loops.api_key,
        "DBT_TARGET_PATH": str(SCRATCH / "target"),
        "DBT_LOG_PATH": str(SCRATCH / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        # A proxy of the shell's cannot reach this machine's own address.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _sync(environment: dict[str, str], posthog: StandIn) -> Arrivals:
    """Run one sync, and say what arrived by the stand-in's own log."""
    before = _arrivals(posthog)
    _run(environment, "dbt-posthog-sync", "run")
    after = _arrivals(posthog)
    return Arrivals(after.requests - before.requests, after.events - before.events)


def _arrivals(posthog: StandIn) -> Arrivals:
    requests = posthog.requests
    return Arrivals(len(requests), sum(request.events for request in requests))


def _run(environment: dict[str, str], name: str, *arguments: str) -> None:
    """Print a command, run it in the project's folder, and let its output through.

    Raises:
        BrokenPromiseError: it is not installed beside this Python, or did not exit with 0.
    """
    _say("$ " + " ".join([name, *(f"'{word}'" if " " in word else word for word in arguments)]))
    command = shutil.which(name, path=str(Path(sys.executable).parent))
    if command is None:
        raise BrokenPromiseError(f"`{name}` is not installed beside {sys.executable}. `make venv` installs it.")
    ended = subprocess.run([command, *arguments], cwd=SHOP, env=environment, check=False)  # noqa: S603 - our own words
    if ended.returncode != 0:
        raise BrokenPromiseError(f"`{name}` ended with exit code {ended.returncode}.")


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise BrokenPromiseError(f"{what} expected, but the log says {found}.")


def _check_nothing_lost(posthog: StandIn) -> None:
    """PostHog keeps every message once, and neither drops nor alters any."""
    project = posthog.project
    _expect("every message once", FIRST_DAY_ROWS + CHANGES_OF_A_DAY, len(project.events))
    _expect("no message twice", len(project.events), len(project.received))
    _expect("no lost message", (), project.lost)
    _expect("no ingestion warning", (), project.warnings)


def _holdings(posthog: StandIn) -> str:
    summary = posthog.summary()
    held = summary.project
    rows: list[tuple[str, str, int]] = [("event", name, count) for name, count in held.events_by_name]
    rows.append(("persons", "customers and visitors", held.persons))
    rows += [("groups", name, count) for name, count in held.groups_by_type]
    rows.append(("requests", "of all three syncs", sum(count for _, count in summary.requests)))
    return "\n".join(f"  {kind:<10}{name:<26}{count:>8,}" for kind, name, count in rows)


def _arrived_in(loops: LoopsStandIn) -> tuple[int, int]:
    """Contacts and events that Loops has, by its own log."""
    return len(loops.team.contacts), len(loops.team.events)


def _contacts(loops: LoopsStandIn, most: int = 5) -> str:
    """The contacts that the exposure wrote last, and how many others there are."""
    contacts = loops.team.contacts
    loyal = [contact for contact in contacts if MAILING_LIST in contact.mailing_lists]
    names = ("firstName", "planName", "ordersCount", "lifetimeValue")
    lines = [("contact", *names)]
    for contact in loyal[-most:]:
        lines.append((str(contact.email), *(_shown(contact.properties.get(name)) for name in names)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
    cells = [[f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines]
    made = ", ".join(f"{name} ({kind})" for name, kind in sorted(loops.team.properties.items()))
    return "\n".join(
        [
            f"  {len(contacts)} contacts: {len(loyal)} loyal customers on the mailing list, and "
            f"{len(contacts) - len(loyal)} of whom Loops has only an event; the last {most} loyal ones:",
            *("    " + "  ".join(line).rstrip() for line in cells),
            f"  contact properties that were created: {made}",
            f"  {len(loops.team.events)} events `{loops.team.events[0].name}`, which start mails",
        ]
    )


def _change(before: dict[str, Person], after: Iterable[Person]) -> str:
    """The person with the most changed properties, each as it was and as it is."""
    changes = [(person.distinct_ids[0], _changed(before, person)) for person in after]
    name, rows = min(changes, key=lambda change: (-len(change[1]), change[0]))
    if not rows:
        raise BrokenPromiseError("a changed person expected at PostHog, but none differs.")
    lines = [("property", "before", "now"), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    return "\n".join(
        [f"  {name}", *(f"    {head:<{widths[0]}}  {old:<{widths[1]}}  {new}" for head, old, new in lines)]
    )


def _changed(before: dict[str, Person], person: Person) -> Sequence[tuple[str, str, str]]:
    known = before.get(person.distinct_ids[0])
    if known is None:
        return ()
    names = sorted({*known.properties, *person.properties})
    pairs = [(name, known.properties.get(name), person.properties.get(name)) for name in names]
    return [(name, _shown(old), _shown(new)) for name, old, new in pairs if old != new]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _title(text: str) -> None:
    _say(f"\n{text}\n{'-' * len(text)}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a demo talks


if __name__ == "__main__":
    sys.exit(main())
