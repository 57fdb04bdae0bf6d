"""The two destinations for Loops that PostHog offers, as templates, in code of the stand-in's own.

They do what PostHog's do, by variables of the same names (PostHog/posthog: posthog/cdp/templates/loops); texts for
people differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CODE = """\
// The stand-in's own words for what PostHog's template does.
if (empty(inputs.email)) {
    print('Skipped: there is no email.')
    return
}

let payload := {
    'email': inputs.email,
    'userId': person.id,%(opening)s
}

if (inputs.include_all_properties) {
    for (let name, found in %(all)s) {
        if (not empty(found) and not name like '$%%') {
            %(target)s[name] := found
        }
    }
}

for (let name, found in inputs.properties) {
    if (not empty(found)) {
        %(target)s[name] := found
    }
}

let res := fetch('https://app.loops.so/api/v1/%(path)s', {
    'method': 'POST',
    'headers': {
        'Authorization': f'Bearer {inputs.apiKey}',
        'Content-Type': 'application/json'
    },
    'body': payload
})

if (res.status >= 400) {
    throw Error(f'Loops answered {res.status}: {res.body}')
}
"""


def _template(id: str, description: str, code: Mapping[str, str], mapping: Mapping[str, str], events: Any) -> Any:
    return {
        "id": id,
        "name": "Loops",
        "description": description,
        "type": "destination",
        "status": "stable",
        "free": False,
        "category": ["Email Marketing"],
        "icon_url": "/static/services/loops.png",
        "code": _CODE % code,
        "code_language": "hog",
        "inputs_schema": [
            _input("apiKey", "string", "Loops API key", "", secret=True, required=True),
            _input("email", "string", "E-mail address", "{person.properties.email}", required=True),
            _input("include_all_properties", "boolean", "Include all properties", default=False, required=True),
            _input("properties", "dictionary", "Properties", dict(mapping)),
        ],
        "filters": {
            "events": [
                {"id": name, "name": name, "type": "events", "order": order} for order, name in enumerate(events)
            ],
            "actions": [],
            "filter_test_accounts": True,
        },
        "masking": None,
        "mapping_templates": None,
    }


def _input(key: str, type: str, label: str, default: Any, *, secret: bool = False, required: bool = False) -> Any:
    return {
        "key": key, "type": type, "label": label, "default": default, "secret": secret, "required": required,
    }  # fmt: skip


LOOPS_TEMPLATES: tuple[Mapping[str, Any], ...] = (
    _template(
        "template-loops",
        "Update contacts in Loops",
        {
            "opening": "",
            "all": "person.properties",
            "target": "payload",
            "path": "contacts/update",
        },
        {"firstName": "{person.properties.firstname}", "lastName": "{person.properties.lastname}"},
        ("$identify", "$set"),
    ),
    _template(
        "template-loops-event",
        "Send events to Loops",
        {
            "opening": "\n    'eventName': event.event,\n    'eventProperties': {}",
            "all": "event.properties",
            "target": "payload.eventProperties",
            "path": "events/send",
        },
        {"pathname": "{event.properties.$pathname}"},
        ("$pageview",),
    ),
)
"""As PostHog's API serves templates."""
