"""The editor schema: an editor accepts in dbt's YAML files what the program accepts, as far as one file tells."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from dbt_posthog_sync.editor_schema import editor_schema

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "annotations"
VALID, INVALID = (sorted((CASES / kind).glob("*.yml")) for kind in ("valid", "invalid"))
EXAMPLES = sorted([*ROOT.glob("example_project/models/**/*.yml"), *ROOT.glob("tests/fixtures/tiny_project/**/*.yml")])
GROUP = {"object": "group", "sync_key": {"group_key": "id"}, "group_type": "company", "properties": "all"}
# What no single place of a file tells: rules about words, other places, other models, dbt's own manifest, the settings.
BEYOND_AN_EDITOR = frozenset(
    {
        "column_annotation_claims_a_property", "column_annotation_conflicts", "column_annotation_without_model",
        "column_not_in_contract", "constant_is_infinite", "create_with_column_not_in_contract",
        "create_with_missing", "default_cannot_be_a_behavior", "default_is_wrong", "default_unset_is_written",
        "disabled", "ephemeral", "exclude_without_all",
        "exposure_column_not_in_contract", "exposure_depends_on_nothing", "exposure_does_not_say_which_model",
        "exposure_event_of_nobody", "exposure_exclude_without_all", "exposure_has_the_name_of_a_sync",
        "exposure_key_is_doubled", "exposure_of_an_unfit_model", "exposure_takes_names_of_loops",
        "exposures_fight_over_the_user_id",
        "key_is_doubled", "not_a_model",
        "keep_of_persons_that_are_looked_up", "keep_without_hook",
        "page_with_two_distinct_ids", "page_without_url", "person_without_properties", "reserved_event_name",
        "reserved_property", "reserved_property_by_all", "rows_cannot_be_a_default", "rows_of_history_for_a_person",
        "rows_of_history_under_one_key", "rows_without_snapshot", "secret_in_constant", "set_once_for_event",
        "time_zone", "too_many_group_types", "two_columns_one_property", "two_person_syncs_fight",
        "two_person_syncs_write_one_property", "two_syncs_with_one_name", "unset_and_all", "unset_and_properties",
    }
)  # fmt: skip


@cache
def editor(defaults: frozenset[str]) -> Draft7Validator:
    """Something that checks as editors do."""
    schema = editor_schema(defaults)
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def messages(document: Any, defaults: Iterable[str] = ()) -> list[str]:
    """What an editor says."""
    return [error.message for error in editor(frozenset(defaults)).iter_errors(document)]


def told(case: Path) -> list[str]:
    document = yaml.safe_load(case.read_text(encoding="utf-8"))
    sections = {name: document[name] for name in ("models", "exposures") if name in document}
    return messages(sections, document.get("defaults", ()))


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.stem)
def test_a_right_annotation_is_right_in_an_editor(case: Path) -> None:
    assert told(case) == []


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.stem)
def test_a_wrong_annotation_is_wrong_in_an_editor_where_the_file_tells(case: Path) -> None:
    assert (not told(case)) == (case.stem in BEYOND_AN_EDITOR)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_whole_projects_are_right(path: Path) -> None:
    assert messages(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def meta(annotation: Any, name: str = "posthog_sync") -> dict[str, Any]:
    return {"config": {"meta": {name: annotation}}}


@pytest.mark.parametrize("section", ["models", "snapshots", "seeds", "sources"])
def test_everything_with_rows_is_checked(section: str) -> None:
    def document(annotation: Any) -> dict[str, Any]:
        nodes = [{"name": "a", **meta(annotation)}]
        return {section: [{"name": "crm", "tables": nodes}] if section == "sources" else nodes}

    assert messages(document(GROUP)) == []
    assert messages(document([{**GROUP, "name": "one"}, {**GROUP, "name": "two"}])) == []
    assert messages(document({**GROUP, "group_types": "a"})) != []


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"posthog_sync": GROUP}, "dbt ignores it"),
        ({"meta": {"posthog_sync": GROUP}}, "dbt 2 refuses"),
        ({"config": {"posthog_sync": GROUP}}, "directly under `config`"),
        ({"config": {"+meta": {"posthog_sync": GROUP}}}, "dbt_project.yml only"),
        (meta(GROUP, "posthog-sync"), "The key is `posthog_sync`"),
        (meta(GROUP, "PosthogSync"), "The key is `posthog_sync`"),
        ({"columns": [{"name": "a", "posthog_sync": {"exclude": True}}]}, "dbt ignores it"),
        ({"columns": [{"name": "a", **meta({"exclud": True})}]}, "'exclud' was unexpected"),
        ({"columns": [{"name": "a", "meta": {"posthog_sync": {}}}]}, "{}"),
        ({"versions": [{"v": 1, "posthog_sync": GROUP}]}, "dbt ignores it"),
        ({"versions": [{"v": 1, **meta({"object": "grup"})}]}, "grup"),
    ],
)
def test_a_wrong_place_is_told_with_the_right_one(entry: dict[str, Any], why: str) -> None:
    (message,) = messages({"models": [{"name": "orders", **entry}]})
    assert why in message


@pytest.mark.parametrize("section", ["analyses", "macros"])
@pytest.mark.parametrize("entry", [meta(GROUP), {"meta": {"posthog_sync": GROUP}}])
def test_what_has_no_rows_has_no_annotation(section: str, entry: dict[str, Any]) -> None:
    (message,) = messages({section: [{"name": "a", **entry}]})
    assert "have rows" in message


def test_what_is_dbts_business_passes() -> None:
    node = {"name": "a", "anything": 1, "config": {"meta": {"owner": "b"}, "tags": []}, "columns": [{"name": "c"}]}
    assert messages({"version": 2, "models": [node], "groups": [{}], "exposures": [{"name": "b", "meta": {}}]}) == []


def test_defaults_need_not_be_written() -> None:
    bare = {"models": [{"name": "a", **meta({key: GROUP[key] for key in GROUP if key != "group_type"})}]}
    assert messages(bare) != []
    assert messages(bare, ["group_type"]) == []
    erase = {"object": "person", "sync_key": {"distinct_id": "id"}}
    assert messages({"models": [{"name": "a", **meta(erase)}]}, ["properties"]) == []
