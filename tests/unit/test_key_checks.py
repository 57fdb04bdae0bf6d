"""What the checks of the keys say, for each way in which a host, a key or a project may be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from dbt_posthog_sync.budget import Patience
from dbt_posthog_sync.diagnosis import Check, Verdict, exit_code_of
from dbt_posthog_sync.errors import DestinationUnavailable, SettingsError
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.http import RetryPolicy
from dbt_posthog_sync.key_check import KeyCheck
from dbt_posthog_sync.personal_key_check import PersonalKeyCheck
from dbt_posthog_sync.reporter import check_text
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.settings import Settings
from dbt_posthog_sync.testing import (
    CloseConnection,
    CutAnswer,
    EventResults,
    Fault,
    FaultPlan,
    FirstOf,
    PersonalKey,
    Script,
    StandIn,
    StandInConfig,
    Status,
    When,
    always,
)
from dbt_posthog_sync.testing import (
    Verdict as EventVerdict,
)
from dbt_posthog_sync.trial_event import EVENT, POLLS, TrialEvent

KEY, PERSONAL = "phc_right", "phx_right"
IMPATIENT = Patience(RetryPolicy(attempts=1), pause=lambda _: None)
BOTH_WRONG = {"query:read": "model customers"}


@pytest.fixture
def regions() -> Iterator[Mapping[str, StandIn]]:
    """PostHog Cloud: the keys of these tests belong to the EU."""
    eu = StandInConfig(tokens=(KEY,), personal_keys=(PersonalKey(PERSONAL),))
    us = StandInConfig(tokens=("phc_other",), personal_keys=(PersonalKey("phx_other"),))
    with ExitStack() as stack:
        yield {name: stack.enter_context(StandIn(config)) for name, config in (("us", us), ("eu", eu))}


def hosts(regions: Mapping[str, StandIn]) -> dict[str, Host]:
    return {name: Host(one.url, one.url, name) for name, one in regions.items()}


def key_check(host: Host, key: str = KEY, regions: Mapping[str, Host] | None = None) -> KeyCheck:
    return KeyCheck(host, Secret(key), regions or {})


def own(posthog: StandIn) -> Host:
    return Host(posthog.url, posthog.url, None)


def personal_checks(host: Host, key: str = PERSONAL, **changes: Any) -> list[Check]:
    settings = Settings(host=host, project_id=changes.pop("project_id", "1"))
    values = {"project_key": Secret(KEY), "needed": {}, "patience": IMPATIENT, "regions": {}, **changes}
    return list(PersonalKeyCheck(settings, Secret(key), **values).checks())


def verdicts(checks: Iterable[Check]) -> list[str]:
    for check in checks:
        for secret in (KEY, PERSONAL, "phx_other", "phc_other"):
            assert secret not in repr(check)
    return [check.verdict.value for check in checks]


# The project API key.


def test_a_key_that_the_region_knows(regions: Mapping[str, StandIn]) -> None:
    check = key_check(hosts(regions)["eu"]).token()
    assert (check.verdict, check.findings) == (Verdict.OK, ("PostHog Cloud eu knows it.",))


def test_a_key_of_the_other_region_is_found_there(regions: Mapping[str, StandIn]) -> None:
    check = key_check(hosts(regions)["us"], regions=hosts(regions)).token()
    assert (check.verdict, check.exit_code) == (Verdict.FAILED, 4)
    assert check.findings[1] == "It belongs to a project in eu: write `host: eu` in posthog_sync.yml."


def test_a_key_that_no_region_knows(regions: Mapping[str, StandIn]) -> None:
    check = key_check(hosts(regions)["us"], "phc_nobodys", hosts(regions)).token()
    assert check.verdict is Verdict.FAILED
    assert check.findings[1].startswith("Copy the key again")
    regions["eu"].stop()
    assert (
        "The region eu could not be asked."
        in key_check(hosts(regions)["us"], "phc_x", hosts(regions)).token().findings[1]
    )


@pytest.mark.parametrize("name", ["/flags/", "/array/phc_right/config"])
def test_a_host_with_one_of_the_two_answers_is_enough(posthog: StandIn, name: str) -> None:
    with StandIn(StandInConfig(tokens=(KEY,))) as proxy:
        proxy.inject(api=When(lambda arrival: arrival.path == name, Status(404)))
        assert key_check(own(proxy)).token().verdict is Verdict.OK
    assert key_check(own(posthog), "phc_sandbox").token().verdict is Verdict.OK


def test_a_missing_configuration_counts_on_posthogs_own_host_alone(regions: Mapping[str, StandIn]) -> None:
    regions["eu"].inject(api=When(lambda arrival: arrival.path.startswith("/array/"), Status(404)))
    assert key_check(hosts(regions)["eu"]).token().verdict is Verdict.FAILED


def test_a_proxy_that_passes_on_nothing_but_messages_is_told(posthog: StandIn) -> None:
    posthog.inject(api=When(always, Status(404, "<html>", content_type="text/html")))
    check = key_check(own(posthog)).token()
    assert check.verdict is Verdict.WARNING
    assert "--send-test-event" in check.findings[0]


def test_a_login_of_a_proxy_is_no_word_of_posthog() -> None:
    class Wall(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Wall) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        check = key_check(Host(address, address, None)).token()
        server.shutdown()
    assert check.verdict is Verdict.WARNING


def test_a_project_over_its_quota_is_told() -> None:
    with StandIn(StandInConfig(tokens=(KEY,), quota_limited=("feature_flags", "events"))) as posthog:
        check = key_check(own(posthog)).token()
    assert check.verdict is Verdict.WARNING
    assert "over its quota of feature_flags, events" in check.findings[0]


@pytest.mark.parametrize("fault", [Status(503), Status(429), CloseConnection()])
def test_a_host_that_is_down_is_told(posthog: StandIn, fault: Fault) -> None:
    posthog.inject(When(always, fault), api=When(always, fault))
    check = key_check(own(posthog))
    assert [(one.verdict, one.exit_code) for one in (check.token(), check.ingestion())] == [(Verdict.FAILED, 4)] * 2


def test_a_host_takes_messages_or_not(posthog: StandIn) -> None:
    assert key_check(own(posthog)).ingestion().verdict is Verdict.OK
    assert posthog.project.received == ()
    posthog.inject(When(always, Status(404)))
    check = key_check(own(posthog)).ingestion()
    assert (check.verdict, check.exit_code) == (Verdict.FAILED, 2)
    assert "must pass on /batch/" in check.findings[0]


# The personal API key.


def test_a_good_key_of_the_right_project(regions: Mapping[str, StandIn]) -> None:
    checks = personal_checks(hosts(regions)["eu"])
    assert verdicts(checks) == ["ok", "ok", "ok"]
    assert "query:read, person:read, project:read" in checks[1].findings[0]
    assert checks[2].findings == ("1, the project of the project API key.",)


def test_a_key_that_is_not_valid(regions: Mapping[str, StandIn]) -> None:
    checks = personal_checks(hosts(regions)["eu"], "phx_wrong")
    assert verdicts(checks) == ["failed", "warning", "warning"]
    assert "Make a new one in PostHog > Settings > Account > Personal API keys" in checks[0].findings[1]
    assert exit_code_of(checks) == 4


def test_a_personal_key_of_the_other_region_is_found_there(regions: Mapping[str, StandIn]) -> None:
    checks = personal_checks(hosts(regions)["us"], regions=hosts(regions))
    assert checks[0].findings[1] == "It is one of eu: check host, or make a key in us."
    lost = personal_checks(hosts(regions)["us"], "phx_wrong", regions=hosts(regions))
    assert lost[0].findings[1].startswith("Make a new one")
    regions["eu"].stop()
    away = personal_checks(hosts(regions)["us"], regions=hosts(regions))
    assert "The region eu could not be asked." in away[0].findings[1]


def scoped(*scopes: str, **config: Any) -> StandInConfig:
    return StandInConfig(tokens=(KEY,), personal_keys=(PersonalKey(PERSONAL, scopes),), **config)


def test_scopes_that_syncs_need_fail_and_those_of_comfort_warn() -> None:
    with StandIn(scoped("person:read")) as posthog:
        wished = personal_checks(own(posthog))
        missing = personal_checks(
            own(posthog), needed={"query:read": ("customers", "leads"), "person:write": ("gone",)}
        )
    assert verdicts(wished) == ["ok", "warning", "warning"]
    assert wished[1].findings[1].startswith("It lacks `query:read`, for `verify`")
    assert wished[2].findings == ("Not checked, because the personal API key lacks `project:read`.",)
    assert verdicts(missing) == ["ok", "failed", "warning"]
    assert missing[1].findings[0] == "It lacks `query:read`, which the syncs `customers` and `leads` need."
    assert len([line for line in missing[1].findings if "query:read" in line]) == 1


def test_a_scope_that_cannot_be_tried_without_harm_is_named() -> None:
    with StandIn(scoped("*")) as posthog:
        (_, scopes, _) = personal_checks(own(posthog), needed={"person:write": ("gone",)})
    assert scopes.findings[1] == "`person:write`, which the sync `gone` needs, is not tried here."


def test_scopes_of_destinations_are_tried_where_an_exposure_needs_them() -> None:
    with StandIn(scoped("query:read", "project:read", "person:read")) as posthog:
        without = personal_checks(own(posthog), forwarded=("loops_contacts",))
        unasked = personal_checks(own(posthog))
    with StandIn(scoped("query:read", "project:read", "hog_function:write")) as posthog:
        enough = personal_checks(own(posthog), forwarded=("loops_contacts",))
        assert posthog.forwarding.functions.all == ()
    assert verdicts(without) == ["ok", "warning", "ok"]
    assert without[1].findings[1].startswith("It lacks `hog_function:read`, for `destinations plan` and")
    assert without[1].findings[2].endswith("of the exposures `loops_contacts`.")
    assert verdicts(unasked) == verdicts(enough) == ["ok", "ok", "ok"]
    assert "hog_function:read, hog_function:write" in enough[1].findings[0]


def test_another_project_than_that_of_the_events() -> None:
    keys = (PersonalKey(PERSONAL, current_project=2),)
    with StandIn(StandInConfig(tokens=(KEY, "phc_other"), personal_keys=keys)) as posthog:
        right, wrong, nobody = (personal_checks(own(posthog), project_id=number) for number in ("1", "2", "3"))
        unsaid = personal_checks(own(posthog), project_id=None)
        alone = personal_checks(own(posthog), project_key=None)
    assert verdicts(right) == ["ok", "ok", "ok"]
    assert (verdicts(wrong), exit_code_of(wrong)) == (["ok", "ok", "failed"], 2)
    assert "events would go to one project" in wrong[2].findings[0]
    assert verdicts(nobody) == ["ok", "failed", "failed"]
    assert "has no project 3" in nobody[1].findings[0]
    assert verdicts(unsaid) == verdicts(alone) == ["ok", "ok", "warning"]
    assert "another project." in unsaid[2].findings[0]


def test_the_number_of_the_right_project_is_given(regions: Mapping[str, StandIn]) -> None:
    (*_, project) = personal_checks(hosts(regions)["eu"], project_id=None)
    assert project.findings[1] == "Write `project_id: 1` under posthog."


def test_a_host_without_a_private_api_is_told() -> None:
    with StandIn(scoped("*", private_api=False)) as proxy:
        checks = personal_checks(own(proxy))
    assert verdicts(checks) == ["failed", "warning", "warning"]
    assert "Set posthog.api_host to https://us.posthog.com" in checks[0].findings[0]


# The test event.


def trial(posthog: StandIn, personal: bool = True, pauses: list[float] | None = None) -> Check:
    patience = replace(IMPATIENT, pause=(pauses if pauses is not None else []).append)
    settings = Settings(host=own(posthog), project_id="1")
    api = PersonalKeyCheck(settings, Secret(posthog.personal_key), None, {}, patience).api() if personal else None
    return TrialEvent(settings, Secret(posthog.token), patience).check(api)


@pytest.mark.parametrize("v1_routed", [True, False])
def test_the_test_event_is_found_and_makes_no_person(v1_routed: bool) -> None:
    pauses: list[float] = []
    with StandIn(StandInConfig(blind_queries=2, v1_routed=v1_routed)) as posthog:
        check = trial(posthog, pauses=pauses)
        (event,) = posthog.project.events
        assert (check.verdict, event.event, posthog.project.persons) == (Verdict.OK, EVENT, ())
        assert pauses == [3.0, 3.0]


def test_a_test_event_that_nobody_can_look_for(posthog: StandIn) -> None:
    assert trial(posthog, personal=False).verdict is Verdict.WARNING


def test_a_test_event_that_never_lands_ends_the_wait() -> None:
    pauses: list[float] = []
    with StandIn(
        StandInConfig(tokens=("phc_a",), billing_limited_tokens=frozenset({"phc_a"}), v1_routed=False)
    ) as posthog:
        check = trial(posthog, pauses=pauses)
    assert (check.verdict, len(pauses)) == (Verdict.FAILED, POLLS)
    assert "over its quota" in check.findings[0]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (When(always, EventResults(lambda _: EventVerdict("drop", "event_restriction_drop"))), "event restriction"),
        (When(always, EventResults(lambda _: EventVerdict("retry"))), "later"),
        (When(always, Status(503)), "503"),
        (When(always, Status(402)), "billing limit"),
        (FirstOf((When(always, CutAnswer()),)), "PostHog did not take it"),
    ],
)
def test_a_test_event_that_is_not_taken(posthog: StandIn, plan: FaultPlan, words: str) -> None:
    posthog.inject(plan)
    check = trial(posthog)
    assert check.verdict is Verdict.FAILED
    assert words in check.findings[0]


def test_a_test_event_whose_reading_is_refused(posthog: StandIn) -> None:
    posthog.inject(api=Script((Status(503),)))
    assert "503" in trial(posthog).findings[0]


# Values.


def test_checks_are_told_in_columns() -> None:
    text = check_text(Check.failed("state schema", "One.", "Two."))
    assert text.splitlines() == ["failed   state schema          One.", " " * 31 + "Two."]
    error = Check.of_error("settings", SettingsError("a", "b"))
    assert (error.findings, error.exit_code) == (("a", "b"), 2)
    assert exit_code_of([error, Check.of_error("x", DestinationUnavailable("y")), Check.ok("z", "!")]) == 4
    assert exit_code_of([]) == 0
