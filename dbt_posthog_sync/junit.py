"""JUnit: problems and valid syncs as the XML that CI systems show as tests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.source_line import line_of_problem
from dbt_posthog_sync.sync import Sync

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, syncs: Iterable[Sync], problems: Iterable[Problem], folder: Path) -> None:
    """Write the file: a passed test for each sync, a failed one for each place with problems.

    Args:
        path: the file to write.
        syncs: syncs that are valid.
        problems: what is wrong.
        folder: the dbt project's folder, below which problems name their files.

    Raises:
        SettingsError: the file cannot be written.
    """
    suite = ElementTree.Element("testsuite", {"name": "dbt-posthog-sync validate"})
    for sync in syncs:
        _case(suite, sync.model.file, sync.name)
    places: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        places.setdefault((problem.file, _place(problem)), []).append(problem)
    for (file, place), found in places.items():
        case = _case(suite, file, place)
        line = line_of_problem(found[0], folder)
        if line is not None:
            case.set("line", str(line))
        text = "\n".join(str(one) for one in found)
        failure = ElementTree.SubElement(case, "failure", {"message": _clean(found[0].message), "type": "problem"})
        failure.text = _clean(text)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(places)))
    suite.set("errors", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    try:
        ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        message, advice = f"the file cannot be written: {error.strerror}.", "Name another one with --junit."
        raise SettingsError(Problem(message, advice, file=str(path))) from error


def _case(suite: ElementTree.Element, file: str, name: str) -> ElementTree.Element:
    attributes = {"classname": file or "dbt-posthog-sync", "name": name}
    if file:
        attributes["file"] = file
    return ElementTree.SubElement(suite, "testcase", {key: _clean(value) for key, value in attributes.items()})


def _place(problem: Problem) -> str:
    return " ".join(part for part in (problem.model, problem.path) if part) or problem.message


def _clean(text: str) -> str:
    """Text without what XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)
