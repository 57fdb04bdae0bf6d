"""Code of its own: a copy of a template's Hog, changed in two places, for what the template has no input for.

Loops' documentation has users make the same changes by hand. A template whose code looks otherwise than expected at
these places is refused, because a change that lands elsewhere would send something else.
"""

from __future__ import annotations

import re

from dbt_posthog_sync.exposure import ForwardedUserId
from dbt_posthog_sync.forwarding.template_text import hog_flags

_USER_ID = re.compile(
    r"^(?P<lead>[ \t]*(?P<mark>['\"]?)userId(?P=mark)[ \t]*:[ \t]*)person\.id(?P<rest>[ \t]*,?[ \t]*)\n", re.M
)
_PAYLOAD = re.compile(r"^let[ \t]+payload[ \t]*:=[ \t]*\{", re.MULTILINE)
_REQUEST = re.compile(r"^(?:let[ \t]+\w+[ \t]*:=[ \t]*)?fetch\(", re.MULTILINE)
_ANY_REQUEST = re.compile(r"\bfetch\(")
_BODY = re.compile(r"['\"]?body['\"]?[ \t]*:[ \t]*payload\b")


class TemplateChanged(Exception):
    """The template's code is not as it was when these changes were written."""


def own_code(code: str, template_id: str, user_id: ForwardedUserId, mailing_lists: tuple[tuple[str, bool], ...]) -> str:
    """The template's code with another `userId`, and with mailing lists.

    Raises:
        TemplateChanged: it has not exactly one place for each change.
    """
    changes: list[str] = []
    if user_id is not ForwardedUserId.PERSON_ID:
        code = _with_user_id(code, user_id)
        changes.append("userId is the distinct_id" if user_id is ForwardedUserId.DISTINCT_ID else "no userId")
    if mailing_lists:
        code = _with_mailing_lists(code, mailing_lists)
        changes.append("mailing lists")
    return f"// PostHog's {template_id}, changed by dbt-posthog-sync: {', '.join(changes)}.\n{code}"


def _with_user_id(code: str, user_id: ForwardedUserId) -> str:
    _the_one(_USER_ID, code, "the line `'userId': person.id` in it")
    is_given = user_id is ForwardedUserId.DISTINCT_ID
    return _USER_ID.sub(r"\g<lead>event.distinct_id\g<rest>\n" if is_given else "", code)


def _with_mailing_lists(code: str, mailing_lists: tuple[tuple[str, bool], ...]) -> str:
    _the_one(_PAYLOAD, code, "`let payload := {`")
    _the_one(_BODY, code, "`'body': payload`")
    _the_one(_ANY_REQUEST, code, "one request (`fetch(`)")
    request = _the_one(_REQUEST, code, "its request (`let res := fetch(`) at the beginning of a line")
    added = f"payload.mailingLists := {hog_flags(mailing_lists)}\n\n"
    return code[: request.start()] + added + code[request.start() :]


def _the_one(pattern: re.Pattern[str], code: str, what: str) -> re.Match[str]:
    found = list(pattern.finditer(code))
    if len(found) != 1:
        count = "is not there" if not found else f"is there {len(found)} times"
        raise TemplateChanged(f"{what} {count}")
    return found[0]
