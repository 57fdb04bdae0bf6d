"""`destinations` on the stand-in: functions are made, found again, changed, disabled, and never overwritten unseen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forwarded import CONTACTS, EVENTS, LOOPS_KEY, PEOPLE, expose, functions, writes
from shop import Shop

from dbt_posthog_sync.forwarding.marker import Marker
from dbt_posthog_sync.secret import Secret
from dbt_posthog_sync.testing import CloseConnection, FirstOf, LoseAnswer, Script, Status, When

MADE = [("POST", "function"), ("POST", "invocations"), ("PATCH", "function")]
CHANGED = [("POST", "invocations"), ("PATCH", "function")]


@pytest.fixture
def shop_of_people(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop with a sync of persons, keys, and two exposures; nothing in PostHog yet."""
    shop.annotate(PEOPLE)
    expose(shop, loops_contacts=CONTACTS, loops_orders=EVENTS)
    shop.settings(posthog={"host": shop.posthog.url, "project_id": 1})
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", shop.posthog.personal_key)
    monkeypatch.setenv("LOOPS_API_KEY", LOOPS_KEY)
    return shop


@pytest.fixture
def applied(shop_of_people: Shop) -> Shop:
    """The same after `apply`."""
    assert shop_of_people("destinations", "apply").code == 0
    writes(shop_of_people)
    return shop_of_people


def changes(shop: Shop, *words: str) -> dict[str, dict[str, Any]]:
    """What a plan says, by exposure."""
    answer = shop("destinations", "plan", "--output", "json", *words)
    return {one["exposure"]: one for one in answer.json["changes"]}


def test_plan_writes_nothing_and_shows_what_would_be_made(shop_of_people: Shop) -> None:
    answer = shop_of_people("destinations", "plan")
    assert answer.code == 0
    assert "+ loops_contacts (contacts, template-loops): would be created" in answer.out
    assert 'properties: {"firstName": "{person.properties.first_name}"' in answer.out
    assert "events: $identify, $set" in answer.out
    assert "api key: from LOOPS_API_KEY" in answer.out
    assert LOOPS_KEY not in answer.out + answer.err
    assert (writes(shop_of_people), functions(shop_of_people)) == ([], ())


def test_apply_makes_tests_and_then_enables(shop_of_people: Shop) -> None:
    answer = shop_of_people("destinations", "apply", "loops_contacts")
    assert (answer.code, writes(shop_of_people)) == (0, MADE)
    assert "created" in answer.out
    (function,) = functions(shop_of_people)
    assert function.is_enabled
    assert function.secrets == {"apiKey": {"value": LOOPS_KEY}}
    assert function.values["inputs"] == {
        "email": {"value": "{person.properties.email}"},
        "include_all_properties": {"value": False},
        "properties": {
            "value": {"firstName": "{person.properties.first_name}", "planName": "{person.properties.plan}"}
        },
    }
    assert [one["id"] for one in function.values["filters"]["events"]] == ["$identify", "$set"]
    assert function.values["filters"]["filter_test_accounts"] is True
    marker = Marker.in_text(function.values["description"])
    assert marker is not None
    assert (marker.project, marker.exposure) == ("lab", "loops_contacts")
    assert marker.key is not None
    assert marker.key.fits(Secret(LOOPS_KEY))
    assert LOOPS_KEY not in function.values["description"] + answer.out + answer.err


def test_second_apply_changes_nothing(applied: Shop) -> None:
    for _ in range(2):
        answer = applied("destinations", "apply")
        assert (answer.code, writes(applied)) == (0, [])
        assert answer.out.count("as it should be") == 2
    assert {one["change"] for one in changes(applied).values()} == {"keep"}
    assert applied("destinations", "status").code == 0


def test_drift_is_shown_and_mended(applied: Shop) -> None:
    contacts = functions(applied)[0]
    contacts.values["inputs"]["properties"]["value"] = {"firstName": "{person.properties.name}", "extra": "x"}
    contacts.values["filters"] = {"events": [], "bytecode": ["_H", 1]}
    contacts.values["hog"] += "\nprint('by hand')"
    contacts.values["enabled"] = False
    answer = applied("destinations", "plan")
    assert "~ loops_contacts (contacts, template-loops): would be changed" in answer.out
    for line in (
        "    enabled: false -> true",
        "    properties.firstName: {person.properties.name} -> {person.properties.first_name}",
        "    properties.planName: nothing -> {person.properties.plan}",
        "    properties.extra: x -> nothing",
        '    filters.events: [] -> ["$identify", "$set"]',
        "      -print('by hand')",
    ):
        assert line in answer.out.splitlines()
    drift = {one["place"]: one for one in changes(applied)["loops_contacts"]["drift"]}
    assert drift["properties.extra"] == {"place": "properties.extra", "found": "x"}
    assert "-print('by hand')" in drift["code"]["diff"]
    status = applied("destinations", "status")
    assert (status.code, "differs in `enabled`" in status.out) == (1, True)
    assert (applied("destinations", "apply").code, writes(applied)) == (0, CHANGED)
    assert {one["change"] for one in changes(applied).values()} == {"keep"}
    assert functions(applied)[0].secrets == {"apiKey": {"value": LOOPS_KEY}}  # kept, never the mask


def test_what_posthog_derives_is_no_drift(applied: Shop) -> None:
    for function in functions(applied):
        function.values["filters"] |= {"bytecode": ["_H", 1], "bytecode_error": None}
        for given in function.values["inputs"].values():
            given |= {"bytecode": ["_H"], "order": 0}
    assert {one["change"] for one in changes(applied).values()} == {"keep"}


def test_key_is_sent_again_only_when_it_changed(applied: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_API_KEY", "another-key-of-loops")
    assert "    api key: another -> from the environment" in applied("destinations", "plan").out
    assert applied("destinations", "apply").code == 0
    assert {one.secrets["apiKey"]["value"] for one in functions(applied)} == {"another-key-of-loops"}
    writes(applied)
    assert (applied("destinations", "apply").code, writes(applied)) == (0, [])
    assert (applied("destinations", "apply", "--resend-keys").code, writes(applied)) == (0, CHANGED * 2)


@pytest.mark.parametrize("value", ["", " ", "********"])
def test_without_a_key_nothing_is_made(shop_of_people: Shop, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("LOOPS_API_KEY") if value is None else monkeypatch.setenv("LOOPS_API_KEY", value)
    assert "LOOPS_API_KEY is not set" in shop_of_people("destinations", "plan").err
    answer = shop_of_people("destinations", "apply")
    assert (answer.code, writes(shop_of_people)) == (2, [])
    assert "2 problems:" in answer.err
    assert "the environment variable LOOPS_API_KEY holds no key of Loops" in answer.err


def test_without_a_key_what_is_there_keeps_its_own(applied: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPS_API_KEY")
    functions(applied)[0].values["name"] = "by hand"
    assert applied("destinations", "apply").code == 0
    assert functions(applied)[0].values["name"] == "loops_contacts"
    assert functions(applied)[0].secrets == {"apiKey": {"value": LOOPS_KEY}}


def test_what_somebody_changed_meanwhile_is_not_overwritten(applied: Shop) -> None:
    contacts = functions(applied)[0]
    contacts.values["name"] = "by hand"

    def somebody(arrival: Any) -> bool:
        """Between the test and the change."""
        if arrival.path.endswith("/invocations/"):
            applied.posthog.forwarding.functions.update(contacts, {"name": "by somebody"})
        return False

    applied.posthog.inject(api=When(somebody, Status(500)))
    answer = applied("destinations", "apply")
    assert (answer.code, contacts.values["name"]) == (4, "by somebody")
    assert "loops_contacts: somebody has changed in" in answer.err
    assert "Nothing was overwritten" in answer.err
    assert "was not changed" in answer.out


def test_lost_answer_to_the_making_makes_no_second_one(shop_of_people: Shop) -> None:
    class LostPost:
        def fault_for(self, arrival: Any) -> Any:
            is_made = arrival.path.endswith("/hog_functions/") and arrival.number == 4
            return LoseAnswer() if is_made else None

    shop_of_people.posthog.inject(api=LostPost())
    answer = shop_of_people("destinations", "apply", "loops_contacts")
    assert (answer.code, [one.is_enabled for one in functions(shop_of_people)]) == (0, [True]), answer


def test_making_that_fails_is_told_and_not_repeated(shop_of_people: Shop) -> None:
    shop_of_people.posthog.inject(api=Script((None, None, None, CloseConnection())))
    answer = shop_of_people("destinations", "apply", "loops_contacts")
    assert (answer.code, functions(shop_of_people)) == (4, ())
    assert "Error: " in answer.err


def test_destination_without_its_exposure_is_disabled_and_stays(applied: Shop) -> None:
    expose(applied, loops_contacts=CONTACTS)
    assert "would be disabled, because the exposure loops_orders is no more" in applied("destinations", "plan").out
    assert (applied("destinations", "apply", "loops_contacts").code, writes(applied)) == (0, [("PATCH", "function")])
    assert [one.is_enabled for one in functions(applied)] == [True, False]
    assert len(changes(applied)) == 1
    expose(applied, loops_contacts=CONTACTS, loops_orders=EVENTS)
    assert applied("destinations", "apply").code == 0
    assert [one.is_enabled for one in functions(applied)] == [True, True]


def test_destination_of_a_renamed_exposure_ends_before_the_new_one_begins(applied: Shop) -> None:
    expose(applied, loops_people=CONTACTS, loops_orders=EVENTS)
    told = applied("destinations", "plan", "loops_people").out
    assert "would be disabled, because the exposure loops_contacts is no more" in told
    assert applied("destinations", "apply", "loops_people").code == 0
    assert writes(applied) == [("PATCH", "function"), *MADE]
    assert [one.is_enabled for one in functions(applied)] == [False, True, True]


def test_contacts_that_become_events_are_another_destination(applied: Shop) -> None:
    expose(applied, loops_contacts={**EVENTS}, loops_orders=EVENTS)
    assert applied("destinations", "apply").code == 0
    found = [(one.template_id, one.is_enabled) for one in functions(applied)]
    assert found == [("template-loops", False), ("template-loops-event", True), ("template-loops-event", True)]


def test_function_of_the_same_name_is_taken_over_only_when_asked(shop_of_people: Shop) -> None:
    made = {"template_id": "template-loops", "name": "loops_contacts", "enabled": True}
    inputs = {"apiKey": {"value": "by hand"}, "email": {"value": "x"}, "include_all_properties": {"value": True}}
    shop_of_people.posthog.forwarding.functions.create({**made, "inputs": inputs})
    answer = shop_of_people("destinations", "plan", "loops_contacts")
    assert answer.code == 1
    assert "! loops_contacts: PostHog has a destination `loops_contacts` from the same template" in answer.out
    assert shop_of_people("destinations", "apply", "--adopt", "loops_contacts").code == 0
    (function,) = functions(shop_of_people)
    assert function.secrets == {"apiKey": {"value": LOOPS_KEY}}
    assert changes(shop_of_people, "loops_contacts")["loops_contacts"]["change"] == "keep"


def test_two_functions_with_one_marker_are_left_to_people(applied: Shop) -> None:
    first = functions(applied)[0]
    inputs = {**first.inputs}
    twin = applied.posthog.forwarding.functions.create(
        {**first.values, "inputs": inputs, "template_id": first.template_id}
    )
    answer = applied("destinations", "apply")
    assert (answer.code, writes(applied)) == (1, [])
    assert f"two functions carry its marker: {first.id} and {twin.id}" in answer.out


def test_draft_of_somebody_blocks_a_change(applied: Shop) -> None:
    functions(applied)[0].values["name"] = "by hand"
    functions(applied)[0].draft = {"hog": "return"}
    assert "waits in PostHog to be published" in applied("destinations", "plan").out
    assert (applied("destinations", "apply").code, writes(applied)) == (1, [])
    assert "waits to be published" not in applied("destinations", "status", "loops_orders").out


def test_other_destinations_for_loops_are_told(applied: Shop) -> None:
    inputs = {"apiKey": {"value": "k"}, "email": {"value": "x"}, "include_all_properties": {"value": True}}
    body = {"template_id": "template-loops", "name": "Old one", "enabled": True, "inputs": inputs}
    applied.posthog.forwarding.functions.create(body)
    for command in ("plan", "status"):
        assert "another enabled destination for Loops, `Old one`" in applied("destinations", command).err


def test_test_that_fails_leaves_the_new_one_disabled(shop_of_people: Shop) -> None:
    broken = {**CONTACTS, "email": {"template": "{sendEmail(person.properties.email)}"}}
    expose(shop_of_people, loops_contacts=broken)
    answer = shop_of_people("destinations", "apply")
    assert (answer.code, [one.is_enabled for one in functions(shop_of_people)]) == (1, [False])
    assert "loops_contacts: PostHog's test of the destination failed" in answer.err
    expose(shop_of_people, loops_contacts=CONTACTS)
    assert shop_of_people("destinations", "apply").code == 0
    assert [one.is_enabled for one in functions(shop_of_people)] == [True]


def test_test_that_proves_nothing_is_told(shop_of_people: Shop) -> None:
    only = {"properties": [{"key": "plan", "value": "pro", "type": "person"}]}
    expose(shop_of_people, loops_contacts={**CONTACTS, "filters": only})
    answer = shop_of_people("destinations", "apply")
    assert (answer.code, functions(shop_of_people)[0].is_enabled) == (0, True)
    assert "its filters pass the made-up event of the test over" in answer.err
    assert "Note" not in shop_of_people("destinations", "apply").err


def test_own_code_is_a_changed_copy_and_follows_the_exposure(applied: Shop) -> None:
    with_lists = {**EVENTS, "user_id": "distinct_id", "mailing_lists": {"cm06": True}}
    expose(applied, loops_contacts=CONTACTS, loops_orders=with_lists)
    assert changes(applied)["loops_orders"]["own_code"] is True
    assert "+payload.mailingLists := {'cm06': true}" in applied("destinations", "plan").out
    assert applied("destinations", "apply").code == 0
    code = functions(applied)[1].values["hog"]
    assert "'userId': event.distinct_id," in code
    assert "person.id" not in code
    writes(applied)
    assert (applied("destinations", "apply").code, writes(applied)) == (0, [])


def test_status_tells_how_it_fares(applied: Shop) -> None:
    functions(applied)[0].succeeded, functions(applied)[0].failed, functions(applied)[0].state = 1200, 3, 3
    answer = applied("destinations", "status")
    assert "enabled, stopped by PostHog; 3 failed, 1,200 succeeded" in answer.out
    found = applied("destinations", "status", "--output", "json").json["destinations"][0]
    assert (found["enabled"], found["state"], found["runs"]) == (
        True,
        "stopped by PostHog",
        {"failed": 3, "succeeded": 1200},
    )


def test_status_of_what_is_not_there_fails(shop_of_people: Shop) -> None:
    answer = shop_of_people("destinations", "status")
    assert (answer.code, answer.out.count("not there yet")) == (1, 2)


def test_apply_tells_in_json_what_was_done(shop_of_people: Shop) -> None:
    found = shop_of_people("destinations", "apply", "--output", "json").json["changes"]
    assert [(one["change"], one["done"], one["error"]) for one in found] == [("create", True, None)] * 2
    assert LOOPS_KEY not in json.dumps(found)


def test_exposures_need_no_sync_of_this_program(shop_of_people: Shop) -> None:
    path = shop_of_people.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    for node in manifest["nodes"].values():
        node["config"]["meta"] = node["meta"] = {}
    path.write_text(json.dumps(manifest))
    assert shop_of_people("destinations", "apply").code == 0
    assert "no sync of its models sends `$identify` and `$set`" in shop_of_people("destinations", "plan").err


def test_unknown_exposure_is_named(shop_of_people: Shop) -> None:
    answer = shop_of_people("destinations", "plan", "loops_contact")
    assert answer.code == 2
    assert "no exposure with `via: posthog` is called `loops_contact`. Did you mean `loops_contacts`?" in answer.err


def test_only_targets_that_may_send_may_apply(shop_of_people: Shop) -> None:
    shop_of_people.settings(posthog={"host": shop_of_people.posthog.url, "project_id": 1}, targets=["prod"])
    assert shop_of_people("destinations", "plan").code == 0
    for words in (("apply",), ("test", "--live")):
        answer = shop_of_people("destinations", *words)
        assert (answer.code, "may not send; `targets` allows `prod`" in answer.err) == (2, True), answer
    assert functions(shop_of_people) == ()


def test_project_must_be_said(shop_of_people: Shop) -> None:
    shop_of_people.settings(posthog={"host": shop_of_people.posthog.url})
    answer = shop_of_people("destinations", "plan")
    assert (answer.code, "destinations are kept in PostHog, and nothing says in which project" in answer.err) == (
        2,
        True,
    )


def test_without_exposures_there_is_nothing_to_do(shop_of_people: Shop) -> None:
    expose(shop_of_people)
    answer = shop_of_people("destinations", "apply")
    assert (answer.code, "No exposure has `via: posthog`" in answer.err) == (0, True)


def test_outage_is_told_with_exit_code_4(shop_of_people: Shop) -> None:
    shop_of_people.posthog.inject(api=FirstOf((When(lambda _: True, Status(403)),)))
    answer = shop_of_people("destinations", "plan")
    assert (answer.code, answer.out) == (4, "")
