"""Persons by e-mail and update_only: what changes between runs, what goes wrong, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lab import Lab, fresh_name
from mortal import Killed, MortalWarehouse
from people import export_of_persons, export_ref, finding_persons_in, make_person, noted, people
from weather import in_another_session

from dbt_posthog_sync.errors import UnsafePlan
from dbt_posthog_sync.planner import Planner, PlanSettings
from dbt_posthog_sync.settings import IdentitySource
from dbt_posthog_sync.sync_run import RunStatus
from dbt_posthog_sync.testing import EventResults, PersonalKey, StandIn, StandInConfig, Verdict, When, always
from dbt_posthog_sync.warehouse.arguments import RunIdentity
from dbt_posthog_sync.warehouse.identities import IdentitySettings

ONLY_KNOWN = {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "update_only", "properties": ["note"]}
BY_EMAIL = {**ONLY_KNOWN, "sync_key": {"email": "email"}}
ASKING = [IdentitySource.LOOKUP, IdentitySource.MIRROR]
ONE = "select 'u1' as id, 'u1@example.com' as email, 'a' as note"


def api_calls(lab: Lab) -> int:
    """Requests to the private API that the stand-in has seen."""
    return sum(request.path.startswith("/api/") for request in lab.posthog.requests)


def test_who_is_unknown_is_tried_again_in_every_run(lab: Lab) -> None:
    lab.build(ONE)
    run = lab.run(ONLY_KNOWN)
    assert run.skips == (("PostHog has no such person", 1),)
    assert (run.exit_code, people(lab.posthog)) == (0, {})
    make_person(lab.posthog, "u1")
    assert lab.run(ONLY_KNOWN).counts.delivered == 1
    assert lab.run(ONLY_KNOWN).counts.unchanged == 1


def test_a_cursor_does_not_hide_who_was_unknown(lab: Lab) -> None:
    dated = "select '{}' as id, 'a' as note, cast('{}' as timestamp) as seen_at"
    lab.build(dated.format("old", "2026-01-01") + " union all " + dated.format("new", "2026-03-01"))
    make_person(lab.posthog, "new")
    annotation = {**ONLY_KNOWN, "cursor": {"column": "seen_at"}}
    assert lab.run(annotation).counts.skipped == 1
    make_person(lab.posthog, "old")
    run = lab.run(annotation)
    assert run.counts.delivered == 1
    assert noted(lab.posthog) == {"old": "a", "new": "a"}
    assert lab.planner().state.rejected() == []


@pytest.mark.parametrize("source", ASKING)
@pytest.mark.parametrize("annotation", [ONLY_KNOWN, BY_EMAIL])
def test_without_a_change_nobody_is_asked(lab: Lab, source: IdentitySource, annotation: dict[str, Any]) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    found = finding_persons_in(lab, source)
    assert found.run(annotation).counts.delivered == 1
    calls = api_calls(lab)
    run = found.run(annotation)
    assert (run.counts.unchanged, run.requests, api_calls(lab) - calls) == (1, 0, 0)


def test_only_changed_rows_are_looked_up(lab: Lab) -> None:
    many = " union all ".join(f"select 'u{n}' as id, 'a' as note" for n in range(250))
    for number in range(250):
        make_person(lab.posthog, f"u{number}")
    lab.build(many)
    lab.run(ONLY_KNOWN)
    assert api_calls(lab) == 2
    lab.build(many.replace("'u7' as id, 'a'", "'u7' as id, 'b'"))
    assert lab.run(ONLY_KNOWN).counts.delivered == 1
    assert api_calls(lab) == 3


def mirrors(lab: Lab) -> list[str]:
    tables = "select table_name from information_schema.tables where table_schema = '{state}'"
    return [str(name) for (name,) in lab.sql(f"{tables} and table_name like 'persons_by%'")]


def test_a_mirror_serves_until_it_is_too_old(lab: Lab) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    hourly = finding_persons_in(lab, IdentitySource.MIRROR)
    assert hourly.run(BY_EMAIL).counts.delivered == 1
    assert api_calls(lab) == 1
    lab.build(ONE + " union all select 'u2', 'u2@example.com', 'b'")
    make_person(lab.posthog, "u2", email="u2@example.com")
    assert hourly.run(BY_EMAIL).counts.skipped == 1
    assert api_calls(lab) == 1
    first = mirrors(lab)
    lab.sql("update {state}.mirrors set loaded_at = loaded_at - interval '10' minute")
    at_once = replace(lab, identities=IdentitySettings(IdentitySource.MIRROR, timedelta(0)))
    assert at_once.run(BY_EMAIL).counts.delivered == 1
    assert len(mirrors(lab)) == 1
    assert mirrors(lab) != first


def test_a_mirror_that_another_run_has_just_chosen_stays(shared_lab: Lab) -> None:
    class Overtaken(MortalWarehouse):
        @contextmanager
        def transaction(self, *, one_view: bool = False) -> Iterator[None]:
            if one_view:  # the mirror is chosen, and the rows are about to be staged
                in_another_session(shared_lab.warehouse, lambda: replace(mirrored, table=other).run(BY_EMAIL))
            with super().transaction(one_view=one_view):
                yield

    make_person(shared_lab.posthog, "u1", email="u1@example.com")
    other = fresh_name("model")
    mirrored = replace(shared_lab, identities=IdentitySettings(IdentitySource.MIRROR, timedelta(0)))
    for lab in (mirrored, replace(mirrored, table=other)):
        lab.build(ONE)
    run = replace(mirrored, warehouse=Overtaken(shared_lab.warehouse, 10_000)).run(BY_EMAIL)
    assert run.counts.delivered == 1, run.message


class DiesAt(MortalWarehouse):
    """A warehouse that dies before one macro."""

    def __init__(self, lab: Lab, macro: str) -> None:
        super().__init__(lab.warehouse, 1_000_000)
        self._fatal = macro

    def run(self, macro: str, **arguments: Any) -> int:
        if macro == self._fatal:
            raise Killed
        return super().run(macro, **arguments)


def test_a_mirror_that_was_not_loaded_to_its_end_is_not_believed(lab: Lab) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    mirrored = finding_persons_in(lab, IdentitySource.MIRROR)
    with pytest.raises(Killed):
        replace(mirrored, warehouse=DiesAt(lab, "end_mirror")).run(BY_EMAIL)
    assert mirrored.run(BY_EMAIL, steal=True).counts.delivered == 1


def test_a_plan_asks_and_leaves_nothing_behind(lab: Lab) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    for source in IdentitySource:
        plan = finding_persons_in(lab, source).plan(BY_EMAIL)
        assert plan.estimated_events == 1
        assert '"distinct_id":"u1"' in plan.samples[0].head
    assert not lab.planner().state.exists()


def test_a_row_that_comes_while_persons_are_looked_up_waits_for_the_next_run(lab: Lab) -> None:
    class Growing(MortalWarehouse):
        def run(self, macro: str, **arguments: Any) -> int:
            if macro == "insert_unknown_identities":
                lab.server.sql(f"insert into {lab.table} values ('a@example.com', 'late')")
            return super().run(macro, **arguments)

    lab.build("select 'early@example.com' as email, 'early' as note")
    annotation = {**BY_EMAIL, "behavior": "update_or_create", "create_with": "email"}
    run = replace(lab, warehouse=Growing(lab.warehouse, 10_000)).run(annotation)
    assert run.skips == (("the row came while persons were looked up, and the next run takes it", 1),)
    assert set(noted(lab.posthog)) == {"early@example.com"}
    assert lab.run(annotation).counts.delivered == 1


KEYS = [
    (PersonalKey("phx_expired", expired=True), "does not accept the personal API key"),
    (PersonalKey("phx_unknown"), "does not accept the personal API key"),
    (PersonalKey("phx_narrow", scopes=("project:read",)), "lacks the scope `{scope}`, which {model} needs"),
]


SCOPES = {IdentitySource.LOOKUP: "person:read", IdentitySource.MIRROR: "query:read"}


@pytest.mark.parametrize("source", ASKING)
@pytest.mark.parametrize(("key", "words"), KEYS, ids=["expired", "unknown", "narrow"])
def test_a_key_that_may_not_look_is_told_and_nothing_is_sent(
    lab: Lab, source: IdentitySource, key: PersonalKey, words: str
) -> None:
    known = (key,) if key.value != "phx_unknown" else ()
    with StandIn(StandInConfig(personal_keys=known)) as posthog:
        there = replace(finding_persons_in(lab, source), posthog=posthog, personal_key=key.value)
        lab.build(ONE)
        run = there.run(ONLY_KNOWN)
        assert (run.status, run.requests, run.is_posthog_away) == (RunStatus.ERROR, 0, False)
        assert words.format(scope=SCOPES[source], model=lab.table) in run.message
        assert posthog.project.received == ()


def test_a_key_is_confirmed_with_the_last_of_its_persons(lab: Lab) -> None:
    make_person(lab.posthog, "first", email="u1@example.com")
    make_person(lab.posthog, "second", email="u1@example.com")
    lab.build(ONE)
    everyone = {**BY_EMAIL, "on_several": "all"}
    drops_second = EventResults(lambda event: Verdict("drop") if event["distinct_id"] == "second" else None)
    lab.posthog.inject(When(always, drops_second))
    run = lab.run(everyone)
    assert (run.counts.delivered, run.counts.rejected) == (1, 1)
    lab.posthog.inject()
    again = lab.retry(everyone)
    assert set(noted(lab.posthog)) == {"first", "second"}
    assert again.status is RunStatus.SUCCESS
    assert lab.run(everyone).counts.unchanged == 1


@pytest.mark.parametrize("source", list(IdentitySource))
def test_a_mock_asks_nobody(lab: Lab, source: IdentitySource) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    found = finding_persons_in(lab, source)
    planner = Planner(lab.warehouse, PlanSettings(lab.schema, None, identities=found.identities))
    resolved = planner.resolve([lab.sync(BY_EMAIL)])[0]
    if source is IdentitySource.MODEL:
        assert planner.plan(resolved, RunIdentity("mock")).plan.estimated_events == 1
    else:
        with pytest.raises(UnsafePlan, match="--mock asks nobody"):
            planner.plan(resolved, RunIdentity("mock"))
    assert api_calls(lab) == 0


EXPORTS: list[tuple[str, str]] = [
    ("drop table {export}", "does not exist in the warehouse"),
    ("delete from {export}", "has no persons"),
    ("alter table {export} drop column person_id", "no column `person_id`"),
    ("alter table {export} drop column properties", "no column `properties`"),
]


@pytest.mark.parametrize(("statement", "words"), EXPORTS)
def test_an_export_that_cannot_be_believed_stops_the_sync(lab: Lab, statement: str, words: str) -> None:
    make_person(lab.posthog, "u1", email="u1@example.com")
    lab.build(ONE)
    model = export_of_persons(lab)
    lab.server.sql(statement.format(export=model.identifier))
    run = replace(lab, identities=IdentitySettings(IdentitySource.MODEL, model=model)).run(BY_EMAIL)
    assert run.status is RunStatus.UNSAFE
    assert words in run.message
    assert run.requests == 0


def export_with(lab: Lab, table: str, columns: str, *rows: str) -> Lab:
    lab.server.sql(f"drop table if exists {table}")
    lab.server.sql(f"create table {table} ({columns})")
    for row in rows:
        lab.server.sql(f"insert into {table} values ({row})")
    return replace(lab, identities=IdentitySettings(IdentitySource.MODEL, model=export_ref(lab, table), project_id="1"))


def test_the_newest_version_of_an_export_counts(lab: Lab) -> None:
    columns = (
        "team_id int, distinct_id varchar, person_id varchar, properties varchar, person_version int, "
        "person_distinct_id_version int, is_deleted boolean"
    )
    found = export_with(
        lab,
        f"{lab.table}_export",
        columns,
        """1, 'a', 'P1', '{"email": "old@example.com"}', 1, 1, false""",
        """1, 'b', 'P1', '{"email": "u1@example.com"}', 2, 1, false""",
        """1, 'gone', 'P2', '{"email": "u1@example.com"}', 1, 1, false""",
        """1, 'gone', 'P2', '{"email": "u1@example.com"}', 2, 2, true""",
        """2, 'other', 'P3', '{"email": "u1@example.com"}', 1, 1, false""",
    )
    make_person(lab.posthog, "a")
    lab.build(ONE + " union all select 'u0', 'old@example.com', 'b'")
    run = found.run(BY_EMAIL)
    assert (run.counts.delivered, run.counts.skipped) == (1, 1)
    assert noted(lab.posthog) == {"a": "a"}


def test_a_model_of_ones_own_may_have_an_email_column(lab: Lab) -> None:
    found = export_with(
        lab,
        f"{lab.table}_export",
        "distinct_id varchar, person_id varchar, email varchar",
        "'a', 'P1', 'U1@example.com'",
    )
    make_person(lab.posthog, "a")
    lab.build(ONE)
    assert found.run(BY_EMAIL).counts.delivered == 1


def test_another_behavior_for_the_same_rows_is_another_sync(lab: Lab) -> None:
    make_person(lab.posthog, "u1")
    lab.build(ONE)
    lab.run(ONLY_KNOWN)
    delete = {"object": "person", "sync_key": {"distinct_id": "id"}, "behavior": "delete"}
    run = lab.run(delete)
    assert run.status is RunStatus.UNSAFE
    assert "the behavior was another and is now delete" in run.message
    assert set(people(lab.posthog)) == {"u1"}


def test_a_changed_policy_is_a_changed_annotation(lab: Lab) -> None:
    make_person(lab.posthog, "older", email="u1@example.com")
    make_person(lab.posthog, "newer", email="u1@example.com")
    lab.build(ONE)
    lab.run({**BY_EMAIL, "on_several": "oldest"})
    assert lab.plan({**BY_EMAIL, "on_several": "all"}).mapping_changed
    lab.run({**BY_EMAIL, "on_several": "all"})
    assert set(noted(lab.posthog)) == {"older", "newer"}


def test_a_stop_ends_the_look_up_and_leaves_the_rest_to_the_next_run(lab: Lab) -> None:
    lab.build(ONE)
    make_person(lab.posthog, "u1")
    runner = lab.runner()
    stopped = runner._planner.resolve([lab.sync(ONLY_KNOWN)])[0]

    class Impatient(MortalWarehouse):
        def run(self, macro: str, **arguments: Any) -> int:
            if macro == "create_identities_table":
                runner.stop()
            return super().run(macro, **arguments)

    runner._planner._identities._warehouse = Impatient(lab.warehouse, 1_000_000)
    run = runner.run(stopped)
    assert (run.status, run.requests, noted(lab.posthog)) == (RunStatus.INTERRUPTED, 0, {})
    assert lab.run(ONLY_KNOWN).counts.delivered == 1
