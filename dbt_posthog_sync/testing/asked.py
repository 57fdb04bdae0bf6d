"""A request of the private API whose key is good, and how PostHog refuses one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbt_posthog_sync.testing.account import Account
from dbt_posthog_sync.testing.personal_key import PersonalKey
from dbt_posthog_sync.testing.project import Project
from dbt_posthog_sync.testing.wire import Reply, Request, read_json

CURRENT = "@current"


class RefusedError(Exception):
    """The request is refused."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


def error_reply(status: int, code: str, detail: str, attr: str | None = None) -> Reply:
    """An error in the form of PostHog's private API."""
    kinds = {400: "validation_error", 401: "authentication_error", 403: "authentication_error"}
    return Reply.from_json(
        status, {"type": kinds.get(status, "invalid_request"), "code": code, "detail": detail, "attr": attr}
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose key is good.

    Attributes:
        request: the request.
        account: everything the stand-in holds.
        key: whose request it is.
        number: the project in the path, or the empty string.
        rest: what follows the endpoint's name in the path, without slashes at its ends.
    """

    request: Request
    account: Account
    key: PersonalKey
    number: str = ""
    rest: str = ""

    def needs(self, scope: str) -> None:
        """Refuse a key without this scope, in PostHog's words."""
        if not self.key.may(scope):
            raise RefusedError(error_reply(403, "permission_denied", f"API key missing required scope '{scope}'"))

    def counts_as(self, kind: str) -> None:
        """Refuse one request too many."""
        refusal = self.account.throttle.refusal(kind)
        if refusal is not None:
            raise RefusedError(refusal)

    @property
    def project_number(self) -> int:
        """The project's number; `@current` is the one that the key's owner looked at last."""
        number = str(self.key.current_project) if self.number == CURRENT else self.number
        if not number.isdigit() or not 1 <= int(number) <= len(self.account.projects):
            raise RefusedError(error_reply(404, "not_found", "Project not found."))
        return int(number)

    @property
    def project(self) -> Project:
        """The project in the path."""
        return self.account.projects[self.token]

    @property
    def token(self) -> str:
        """Its project API key."""
        return self.account.config.tokens[self.project_number - 1]

    def body(self) -> Mapping[str, Any]:
        """The body, which must be a JSON object."""
        try:
            value = read_json(self.request.body.decode() or "{}")
        except ValueError as error:
            raise RefusedError(error_reply(400, "parse_error", f"JSON parse error - {error}")) from error
        if not isinstance(value, dict):
            raise RefusedError(error_reply(400, "invalid_input", "The body must be an object."))
        return value
