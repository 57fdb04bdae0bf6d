"""The truth table of persons: kind of key x behavior x how many persons match x policy, from every source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from lab import Lab
from people import finding_persons_in, make_person, noted, people

from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.sync_run import RunStatus, SyncRun

BY_EMAIL = {"object": "person", "sync_key": {"email": "email"}, "properties": ["note"]}
BY_ID = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": ["note"]}
MODEL = """select 'crm1' as id, ' One@example.com' as email, 'one' as note
    union all select 'crm2', 'two@example.com', 'two' union all select 'crm0', 'nobody@example.com', 'none'"""

MEANT_OF_TWO = {"skip": set(), "all": {"older", "newer"}, "newest": {"newer"}, "oldest": {"older"}}
MADE_OF_NOBODY = {"email": {"nobody@example.com"}, "column": {"crm0"}, "skip": set(), None: set()}
BEHAVIORS: Mapping[str, Mapping[str, Any]] = {
    "create_with_email": {"behavior": "update_or_create", "create_with": "email"},
    "create_with_column": {"behavior": "update_or_create", "create_with": {"column": "id"}},
    "create_with_skip": {"behavior": "update_or_create", "create_with": "skip"},
    "update_only": {"behavior": "update_only"},
}


def two_share_an_address(lab: Lab) -> None:
    """One person with one address, two with another in other spellings, and one whom the model does not know."""
    make_person(lab.posthog, "only", email="one@Example.com ")
    make_person(lab.posthog, "older", email="two@example.com")
    make_person(lab.posthog, "newer", email="TWO@example.com")
    make_person(lab.posthog, "stranger", email="else@example.com")
    make_person(lab.posthog, "without address")


def expected_counts(run: SyncRun, *, sent: int, rejected: int, skipped: int) -> None:
    assert (run.counts.delivered, run.counts.rejected, run.counts.skipped) == (sent, rejected, skipped), run
    assert run.status is (RunStatus.REJECTED if rejected else RunStatus.SUCCESS)


@pytest.mark.parametrize("source", list(IdentitySource))
@pytest.mark.parametrize("policy", list(MEANT_OF_TWO))
@pytest.mark.parametrize("behavior", list(BEHAVIORS))
def test_persons_by_email(lab: Lab, source: IdentitySource, policy: str, behavior: str) -> None:
    two_share_an_address(lab)
    lab.build(MODEL)
    annotation = {**BY_EMAIL, **BEHAVIORS[behavior], "on_several": policy}
    made = MADE_OF_NOBODY[behavior.removeprefix("create_with_") if behavior != "update_only" else None]
    run = finding_persons_in(lab, source).run(annotation)
    expected = {"only": "one"} | dict.fromkeys(MEANT_OF_TWO[policy], "two") | dict.fromkeys(made, "none")
    assert noted(lab.posthog) == expected
    expected_counts(run, sent=len(expected), rejected=int(policy == "skip"), skipped=int(not made))
    again = finding_persons_in(lab, source).run(annotation)
    expected_counts(again, sent=0, rejected=int(policy == "skip"), skipped=int(not made))
    assert again.requests == 0


@pytest.mark.parametrize("source", list(IdentitySource))
@pytest.mark.parametrize("policy", list(MEANT_OF_TWO))
def test_persons_by_email_are_deleted(lab: Lab, source: IdentitySource, policy: str) -> None:
    two_share_an_address(lab)
    lab.build(MODEL)
    annotation = {"object": "person", "sync_key": {"email": "email"}, "behavior": "delete", "on_several": policy}
    before = set(people(lab.posthog))
    found = finding_persons_in(lab, source)
    shown = found.run(annotation)
    gone = {"only"} | MEANT_OF_TWO[policy]
    assert (shown.status, set(people(lab.posthog))) == (RunStatus.UNSAFE, before)
    assert f"{len(gone)} person" in shown.message
    run = found.run(annotation)
    assert set(people(lab.posthog)) == before - gone
    expected_counts(run, sent=len(gone), rejected=int(policy == "skip"), skipped=1)


@pytest.mark.parametrize("source", list(IdentitySource))
def test_persons_by_distinct_id_are_only_updated(lab: Lab, source: IdentitySource) -> None:
    make_person(lab.posthog, "crm1")
    lab.build(MODEL)
    annotation = {**BY_ID, "behavior": "update_only"}
    run = finding_persons_in(lab, source).run(annotation)
    expected_counts(run, sent=1, rejected=0, skipped=2)
    assert noted(lab.posthog) == {"crm1": "one"}
    assert run.exit_code == 0


@pytest.mark.parametrize("source", list(IdentitySource))
def test_persons_by_distinct_id_are_deleted(lab: Lab, source: IdentitySource) -> None:
    make_person(lab.posthog, "crm1")
    make_person(lab.posthog, "stranger")
    lab.build(MODEL)
    annotation = {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "delete"}
    found = finding_persons_in(lab, source)
    assert found.run(annotation).status is RunStatus.UNSAFE
    expected_counts(found.run(annotation), sent=1, rejected=0, skipped=2)
    assert set(people(lab.posthog)) == {"stranger"}


def test_persons_by_distinct_id_are_made_without_a_look(lab: Lab) -> None:
    lab.build(MODEL)
    expected_counts(lab.run(BY_ID), sent=3, rejected=0, skipped=0)
    assert set(noted(lab.posthog)) == {"crm1", "crm2", "crm0"}


@pytest.mark.parametrize("source", list(IdentitySource))
@pytest.mark.parametrize(
    "key", ["cast(7 as bigint)", "cast(7 as smallint)", "cast('7' as varchar)", "cast(7 as numeric(10,2))"]
)
def test_a_key_of_another_type_means_the_person_of_its_text(lab: Lab, source: IdentitySource, key: str) -> None:
    make_person(lab.posthog, "7")
    lab.build(f"select {key} as id, 'seven' as note")
    expected_counts(
        finding_persons_in(lab, source).run({**BY_ID, "behavior": "update_only"}), sent=1, rejected=0, skipped=0
    )
    assert noted(lab.posthog) == {"7": "seven"}


ODD = ["O'Brien@example.com", 'a"b@example.com', "back\\slash@example.com", "ÜMLAUT@example.com", "100%@example.com"]


@pytest.mark.parametrize("source", list(IdentitySource))
def test_odd_addresses_are_found(lab: Lab, source: IdentitySource) -> None:
    for number, address in enumerate(ODD):
        make_person(lab.posthog, f"p{number}", email=address.upper())
    rows = (
        f"select '{address.lower().replace(chr(39), chr(39) * 2)}' as email, '{n}' as note"
        for n, address in enumerate(ODD)
    )
    lab.build(" union all ".join(rows))
    finding_persons_in(lab, source).run({**BY_EMAIL, "behavior": "update_only"})
    assert noted(lab.posthog) == {f"p{number}": str(number) for number in range(len(ODD))}


@pytest.mark.parametrize(
    ("address", "reason"),
    [("null", "the sync key is null"), ("'  '", "the sync key is null"), ("'n/a'", "the e-mail address has no @")],
)
def test_what_is_no_address_is_rejected(lab: Lab, address: str, reason: str) -> None:
    lab.build(f"select cast({address} as varchar) as email, 'x' as note")
    run = lab.run({**BY_EMAIL, "create_with": "email"})
    assert run.reasons == ((reason, 1),)
    assert noted(lab.posthog) == {}


def test_two_spellings_of_one_address_are_one_key(lab: Lab) -> None:
    lab.build("select 'A@example.com' as email, 'x' as note union all select 'a@example.com ', 'y'")
    run = lab.run({**BY_EMAIL, "create_with": "email"})
    assert run.reasons == (("the sync key occurs more than once in the model", 2),)


@pytest.mark.parametrize("source", list(IdentitySource))
def test_an_empty_distinct_id_is_nobodys(lab: Lab, source: IdentitySource) -> None:
    lab.build("select '' as id, 'x' as note")
    make_person(lab.posthog, "crm1")  # an export of nobody is not believed
    run = finding_persons_in(lab, source).run({**BY_ID, "behavior": "update_only"})
    assert run.skips == (("PostHog has no such person", 1),)
