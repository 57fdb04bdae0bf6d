"""Forwarding: a destination of the PostHog project, kept as an exposure with `via: posthog` says.

PostHog calls a destination a hog function. These modules know what one holds, what it should hold, and how the two
differ; they ask nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from dbt_posthog_sync.sync import LoopsObject

TEMPLATES: Mapping[LoopsObject, str] = {
    LoopsObject.CONTACTS: "template-loops",
    LoopsObject.EVENTS: "template-loops-event",
}
"""PostHog's template by what Loops gets (PostHog/posthog: posthog/cdp/templates/loops)."""

KEY_INPUT = "apiKey"
"""The input that holds the key of Loops."""

INPUTS = (KEY_INPUT, "email", "include_all_properties", "properties")
"""Inputs of both templates."""
