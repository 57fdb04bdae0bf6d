"""Hog functions over PostHog's private API: templates, functions, and their test. Scopes hog_function:read and :write.

Facts are from PostHog/posthog (products/cdp/backend/api/hog_function.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbt_posthog_sync.errors import DestinationRefused, ScopeMissing
from dbt_posthog_sync.forwarding.function import (
    HogFunction,
    HogTemplate,
    read_function,
    read_functions,
    read_templates,
    read_totals,
)
from dbt_posthog_sync.forwarding.trial import Trial, read_trial
from dbt_posthog_sync.private_api import PrivateApi, ProjectRequest
from dbt_posthog_sync.secret import Secret

_PAGE = 100
_NEW = "new"


class HogFunctionApi:
    """Reads and writes the hog functions of one project. Every method raises as `PrivateApi.query` does.

    Args:
        api: the private API.
        needed_by: what needs it, for messages.
    """

    def __init__(self, api: PrivateApi, needed_by: str = "`destinations`") -> None:
        self._api = api
        self._needed_by = needed_by

    def template(self, id: str) -> HogTemplate:
        """One template.

        Raises:
            DestinationRefused: PostHog does not offer it.
        """
        path = f"hog_function_templates/?type=destination&template_id={id}&limit=350"
        found = self._api.ask(ProjectRequest(path, self._needed_by), read_templates)
        template = next((one for one in found if one.id == id), None)
        if template is None:
            raise DestinationRefused(
                f"PostHog does not offer the template `{id}` in this project. Its destinations need the data pipelines."
            )
        return template

    def functions(self) -> tuple[HogFunction, ...]:
        """Every destination of the project that is not deleted."""
        functions: list[HogFunction] = []
        has_more = True
        while has_more:
            path = f"hog_functions/?type=destination&full=true&limit={_PAGE}&offset={len(functions)}"
            page, has_more = self._api.ask(ProjectRequest(path, self._needed_by), read_functions)
            functions += page
            has_more = has_more and bool(page)
        return tuple(functions)

    def function(self, id: str) -> HogFunction:
        """One function as it is now."""
        return self._api.ask(ProjectRequest(f"hog_functions/{id}/", self._needed_by), read_function)

    def create(self, template_id: str, body: Mapping[str, Any], key: Secret) -> HogFunction:
        """Make a function, disabled. It is not repeated where no answer came: there could be two of them then.

        Args:
            template_id: of the template that it belongs to.
            body: everything it holds.
            key: the key in it, which no message repeats.
        """
        made = {**body, "template_id": template_id, "enabled": False}
        asked = ProjectRequest("hog_functions/", self._needed_by, made, (key.reveal(),), once=True)
        return self._api.ask(asked, read_function)

    def update(self, function: HogFunction, body: Mapping[str, Any], key: Secret | None = None) -> HogFunction:
        """Change a function that nobody has changed since it was read.

        Args:
            function: as it was read.
            body: what is to be written.
            key: the key in it, if there is one, which no message repeats.

        Raises:
            ChangedMeanwhile: somebody has; nothing was written.
        """
        changed = {**body, "base_updated_at": function.updated_at}
        private = (key.reveal(),) if key else ()
        asked = ProjectRequest(f"hog_functions/{function.id}/", self._needed_by, changed, private, changes=True)
        return self._api.ask(asked, read_function)

    def tried(
        self, configuration: Mapping[str, Any], given: Mapping[str, Any], *, live_key: Secret | None = None
    ) -> Trial:
        """Let PostHog run a configuration over an event, which changes nothing.

        Args:
            configuration: code, inputs and filters.
            given: PostHog's globals.
            live_key: with it the requests are really made, once; without it they are mocked.
        """
        body = {"configuration": configuration, "globals": given, "mock_async_functions": live_key is None}
        private = (live_key.reveal(),) if live_key else ()
        is_live = live_key is not None
        path = f"hog_functions/{_NEW}/invocations/"
        return self._api.ask(ProjectRequest(path, self._needed_by, body, private, once=is_live), read_trial)

    def check_reading(self) -> None:
        """Make sure that functions may be read.

        Raises:
            ScopeMissing: they may not.
        """
        self._api.ask(ProjectRequest("hog_functions/?type=destination&limit=1", self._needed_by), _anything)

    def check_writing(self) -> None:
        """Make sure that functions may be written, by a test that PostHog turns down because it has nothing to test.

        Raises:
            ScopeMissing: they may not.
        """
        try:
            self._api.ask(ProjectRequest(f"hog_functions/{_NEW}/invocations/", self._needed_by, {}), _anything)
        except ScopeMissing:
            raise
        except DestinationRefused:
            return  # the key may; it is the test that is none

    def totals(self, function: HogFunction) -> Mapping[str, int]:
        """How many runs of a function ended how, in the time that PostHog counts."""
        path = f"hog_functions/{function.id}/metrics/totals/"
        return self._api.ask(ProjectRequest(path, self._needed_by), read_totals)


def _anything(payload: Any) -> bool | None:
    """True for any JSON object."""
    return True if isinstance(payload, dict) else None
