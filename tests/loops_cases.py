"""What the two destinations for Loops send: an event and a person in, a request out, or none.

Rules: PostHog/posthog: posthog/cdp/templates/loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PERSON = "0190a000-0000-7000-8000-000000000001"
CONTACTS, EVENTS = "template-loops", "template-loops-event"
URLS = {
    CONTACTS: "https://app.loops.so/api/v1/contacts/update",
    EVENTS: "https://app.loops.so/api/v1/events/send",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One event, and the body of the request that it makes; None where it makes none."""

    name: str
    template: str
    person: Mapping[str, Any]
    body: Mapping[str, Any] | None
    properties: Mapping[str, Any] = field(default_factory=dict)
    include_all: bool = False
    event: Mapping[str, Any] = field(default_factory=dict)
    event_name: str = "$set"
    email: str = "{person.properties.email}"

    @property
    def inputs(self) -> dict[str, Any]:
        """Inputs of the function, without the key."""
        return {
            "email": {"value": self.email},
            "include_all_properties": {"value": self.include_all},
            "properties": {"value": dict(self.properties)},
        }

    @property
    def given(self) -> dict[str, Any]:
        """PostHog's globals."""
        return {
            "event": {
                "uuid": "018c0000-0000-5000-8000-000000000001",
                "event": self.event_name,
                "distinct_id": "u1",
                "properties": dict(self.event),
                "timestamp": "2026-01-02T03:04:05Z",
            },
            "person": {"id": PERSON, "name": "", "properties": dict(self.person)},
        }


ANN = {"email": "ann@example.com"}
WHO = {"email": "ann@example.com", "userId": PERSON}
EMPTY: Mapping[str, Any] = {"null": None, "text": "", "list": [], "object": {}}
KEPT = {"zero": 0, "no": False, "blank": " ", "many": [0]}

CASES = (
    Case("contact of an address alone", CONTACTS, ANN, WHO),
    Case("no address, no request", CONTACTS, {"plan": "pro"}, None),
    Case("an empty address, no request", CONTACTS, {"email": ""}, None),
    Case("another address", CONTACTS, {"mail": "b@example.com"}, {**WHO, "email": "b@example.com"},
         email="{person.properties.mail}"),
    Case("an address from the event", CONTACTS, {}, WHO, event=ANN, email="{event.properties.email}"),
    Case("mapped properties at the top", CONTACTS, {**ANN, "firstname": "Ann", "n": 3},
         {**WHO, "firstName": "Ann", "number": 3},
         {"firstName": "{person.properties.firstname}", "number": "{person.properties.n}"}),
    Case("other properties stay at home", CONTACTS, {**ANN, "plan": "pro"}, WHO),
    Case("empty values are left out of the mapping", CONTACTS, {**ANN, **EMPTY}, WHO,
         {name: f"{{person.properties.{name}}}" for name in (*EMPTY, "missing")}),
    Case("zero and false are no empty values", CONTACTS, {**ANN, **KEPT}, {**WHO, **KEPT},
         {name: f"{{person.properties.{name}}}" for name in KEPT}),
    Case("all properties", CONTACTS, {**ANN, "plan": "pro", **KEPT}, {**WHO, "plan": "pro", **KEPT}, include_all=True),
    Case("all properties but empty ones", CONTACTS, {**ANN, **EMPTY}, WHO, include_all=True),
    Case("all properties but PostHog's own", CONTACTS, {**ANN, "$browser": "x", "a$b": 1}, {**WHO, "a$b": 1},
         include_all=True),
    Case("a mapped property of PostHog's own", CONTACTS, {**ANN, "$browser": "x"}, {**WHO, "browser": "x"},
         {"browser": "{person.properties.$browser}"}, include_all=True),
    Case("the mapping overrides", CONTACTS, {**ANN, "plan": "pro", "tier": "gold"},
         {**WHO, "plan": "gold", "tier": "gold"}, {"plan": "{person.properties.tier}"}, include_all=True),
    Case("an empty mapping overrides nothing", CONTACTS, {**ANN, "plan": "pro"}, {**WHO, "plan": "pro"},
         {"plan": "{person.properties.tier}"}, include_all=True),
    Case("all properties override the address", CONTACTS, {"email": "x@example.com", "mail": "m@example.com"},
         {"email": "x@example.com", "mail": "m@example.com", "userId": PERSON},
         include_all=True, email="{person.properties.mail}"),
    Case("the mapping overrides who it is", CONTACTS, ANN, {**WHO, "userId": "u1"}, {"userId": "{event.distinct_id}"}),
    Case("mailing lists by the mapping", CONTACTS, ANN, {**WHO, "mailingLists": {"l1": True, "l2": False}},
         {"mailingLists": "{{'l1': true, 'l2': false}}"}),
    Case("a value for everybody", CONTACTS, ANN, {**WHO, "source": "dbt", "n": 3, "b": False},
         {"source": "dbt", "n": 3, "b": False}),
    Case("an event", EVENTS, ANN, {**WHO, "eventName": "order completed", "eventProperties": {}},
         event_name="order completed"),
    Case("no address, no event", EVENTS, {}, None, event_name="order completed", event={"total": 3}),
    Case("the default of an event", EVENTS, ANN,
         {**WHO, "eventName": "$pageview", "eventProperties": {"pathname": "/x"}},
         {"pathname": "{event.properties.$pathname}"}, event_name="$pageview", event={"$pathname": "/x"}),
    Case("all properties of an event", EVENTS, {**ANN, "plan": "pro"},
         {**WHO, "eventName": "order", "eventProperties": {"total": 0, "gift": False}},
         event_name="order", event={"total": 0, "gift": False, "$lib": "x", **EMPTY}, include_all=True),
    Case("the mapping of an event overrides", EVENTS, {**ANN, "plan": "pro"},
         {**WHO, "eventName": "order", "eventProperties": {"total": "pro"}},
         {"total": "{person.properties.plan}", "none": "{event.properties.none}"},
         event_name="order", event={"total": 3}, include_all=True),
    Case("lists and names of an event do not reach Loops by the mapping", EVENTS, ANN,
         {**WHO, "eventName": "order", "eventProperties": {"mailingLists": {"l1": True}, "userId": "u1"}},
         {"mailingLists": "{{'l1': true}}", "userId": "{event.distinct_id}"}, event_name="order"),
)  # fmt: skip
