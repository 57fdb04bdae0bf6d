"""Annotations: every file under tests/annotations is a case, written as a user writes a dbt property file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dbt_posthog_sync.annotation import Annotations, check_annotations, syncs_from
from dbt_posthog_sync.annotation.clashes import declared_properties
from dbt_posthog_sync.annotation.property_file import hidden_in, property_file_problems
from dbt_posthog_sync.annotation.reference import annotation_reference, exposure_reference
from dbt_posthog_sync.errors import AnnotationError
from dbt_posthog_sync.manifest import Manifest, manifest_from
from dbt_posthog_sync.schema import ANNOTATION_SCHEMA, load_schema
from dbt_posthog_sync.sync import (
    Behavior,
    Column,
    Constant,
    CreateWith,
    Creation,
    Cursor,
    KeyKind,
    Nulls,
    ObjectType,
    OnChange,
    OnSeveral,
    Operation,
    PropertyMapping,
    Sync,
    SyncKey,
)

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "annotations"
VALID = sorted((CASES / "valid").glob("*.yml"))
INVALID = sorted((CASES / "invalid").glob("*.yml"))
EVENT = {
    "object": "event",
    "sync_key": {"event_id": "order_id"},
    "distinct_id": "customer_id",
    "event": {"value": "order completed"},
    "timestamp": "ordered_at",
    "properties": ["amount"],
}
BY_EMAIL = {"object": "person", "sync_key": {"email": "email"}, "properties": "all"}


def node_of(entry: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return what dbt 1 makes of an entry of a property file."""
    config = dict(entry.get("config", {}))
    config["meta"] = config.get("meta") or entry.get("meta") or {}
    config.pop("+meta", None)
    kind = entry.get("resource_type", "model")
    version = entry.get("version")
    return {
        "unique_id": f"{kind}.shop.{entry['name']}{f'.v{version}' if version else ''}",
        "name": entry["name"],
        "version": version,
        "resource_type": kind,
        "package_name": "shop",
        "original_file_path": f"models/{entry['name']}.sql",
        "patch_path": f"shop://{file}",
        "relation_name": f'"db"."main"."{entry["name"]}"',
        "database": "db",
        "schema": "main",
        "alias": entry["name"],
        "primary_key": entry.get("primary_key", []),
        "config": config,
        "meta": config["meta"],
        "columns": {column["name"]: column for column in entry.get("columns", ())},
    }


def exposure_node_of(entry: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return what dbt 1.10 and later make of an exposure, which takes its models as `ref('name')`."""
    config = {"enabled": True, **entry.get("config", {})}
    config["meta"] = config.get("meta") or entry.get("meta") or {}
    refs = [ref.removeprefix("ref('").removesuffix("')") for ref in entry.get("depends_on", ())]
    return {
        "unique_id": f"exposure.shop.{entry['name']}",
        "name": entry["name"],
        "label": entry.get("label"),
        "resource_type": "exposure",
        "package_name": "shop",
        "original_file_path": file,
        "config": config,
        "meta": config["meta"],
        "depends_on": {"macros": [], "nodes": [f"model.shop.{ref}" for ref in refs]},
    }


def manifest_of(document: Mapping[str, Any], file: str = "models/schema.yml") -> Manifest:
    """Return the manifest of a project whose only property file is the document."""
    nodes = [node_of(entry, file) for entry in document["models"]]
    exposures = [exposure_node_of(entry, file) for entry in document.get("exposures", ())]
    enabled = [node for node in nodes if node["config"].get("enabled", True)]
    version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    return manifest_from(
        {
            "metadata": {"dbt_schema_version": version, "dbt_version": "1.11.0", "project_name": "shop"},
            "nodes": {node["unique_id"]: node for node in enabled},
            "exposures": {one["unique_id"]: one for one in exposures},
            "disabled": {node["unique_id"]: [node] for node in nodes if node not in enabled},
        }
    )


def checked(case: Path) -> Annotations:
    text = case.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    manifest = manifest_of(document)
    found = hidden_in(text, "models/schema.yml")
    may_delete = document.get("deletion", {}).get("enabled", False)
    return check_annotations(manifest, document.get("defaults"), found=found, may_delete=may_delete)


def sync_of(annotation: object, **entry: Any) -> Sync:
    (sync,) = syncs_from(manifest_of(model(annotation, **entry)))
    return sync


def model(annotation: object, **entry: Any) -> dict[str, Any]:
    return {"models": [{"name": "orders", "config": {"meta": {"posthog_sync": annotation}}, **entry}]}


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.stem)
def test_valid_annotation_has_no_problem(case: Path) -> None:
    annotations = checked(case)
    assert annotations.problems == ()
    assert annotations.syncs or annotations.exposures


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.stem)
def test_invalid_annotation_has_the_expected_problems(case: Path) -> None:
    expected = case.with_suffix(".txt").read_text(encoding="utf-8")
    assert "".join(f"{problem}\n" for problem in checked(case).problems) == expected


@pytest.mark.parametrize("case", [*VALID, *INVALID], ids=lambda case: case.stem)
def test_editors_accept_what_the_program_accepts(case: Path) -> None:
    """The schema as a whole agrees: right annotations pass, and what it refuses is refused by the program."""
    document = yaml.safe_load(case.read_text(encoding="utf-8"))
    whole = Draft202012Validator(load_schema(ANNOTATION_SCHEMA))
    entries = [*document["models"], *document.get("exposures", ())]
    metas = [entry.get("config", {}).get("meta", {}) for entry in entries]
    passes = all(whole.is_valid(meta["posthog_sync"]) for meta in metas if "posthog_sync" in meta)
    if case in VALID and "defaults" not in document:
        assert passes
    assert passes or checked(case).problems


def test_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(dict(load_schema(ANNOTATION_SCHEMA)))


def test_event_becomes_a_sync() -> None:
    sync = sync_of(
        {
            **EVENT,
            "event": "event_name",
            "groups": {"company": "account_id", "area": {"value": "eu"}},
            "properties": {"total": "amount", "by": {"value": "dbt"}},
            "cursor": {"column": "ordered_at", "lookback": "1 week"},
            "backfill": "no",
            "on_change": "resend",
        }
    )
    assert (sync.name, sync.name_is_explicit, sync.project) == ("orders", False, "shop")
    assert (sync.object, sync.behavior) == (ObjectType.EVENT, Behavior.SEND)
    assert (sync.sync_key.kind, sync.sync_key.column) == (KeyKind.EVENT_ID, "order_id")
    assert (sync.distinct_id, sync.event, sync.timestamp) == (Column("customer_id"), Column("event_name"), "ordered_at")
    assert sync.groups == (("area", Constant("eu")), ("company", Column("account_id")))
    assert sync.properties == (PropertyMapping("by", Constant("dbt")), PropertyMapping("total", Column("amount")))
    assert sync.cursor == Cursor("ordered_at", timedelta(weeks=1))
    assert (sync.backfill, sync.on_change) == (False, OnChange.RESEND)


def test_person_becomes_a_sync() -> None:
    properties = {"plan": {"column": "p"}, "source": {"column": "s", "operation": "set_once"}}
    annotation = {"object": "person", "sync_key": {"distinct_id": "id"}, "properties": properties, "nulls": "skip"}
    sync = sync_of({**annotation, "name": "people", "shared": True})
    assert (sync.name, sync.name_is_explicit, sync.shared) == ("people", True, True)
    assert (sync.behavior, sync.nulls, sync.distinct_id) == (Behavior.UPDATE_OR_CREATE, Nulls.SKIP, Column("id"))
    assert [mapping.operation for mapping in sync.properties] == [Operation.SET, Operation.SET_ONCE]


@pytest.mark.parametrize(
    ("create_with", "expected"),
    [("skip", Creation.SKIP), ("email", Creation.EMAIL), ({"column": "Customer_Id"}, Column("Customer_Id"))],
)
def test_person_by_email_becomes_a_sync(create_with: object, expected: CreateWith) -> None:
    columns = [{"name": "email"}, {"name": "customer_id"}, {"name": "plan"}]
    annotation = {**BY_EMAIL, "create_with": create_with, "on_several": "oldest", "unset": ["old_plan", "old_tier"]}
    sync = sync_of(annotation, columns=columns)
    assert (sync.sync_key, sync.distinct_id) == (SyncKey(KeyKind.EMAIL, "email"), None)
    assert (sync.create_with, sync.on_several, sync.unset) == (expected, OnSeveral.OLDEST, ("old_plan", "old_tier"))
    left_out = {"customer_id"} if isinstance(expected, Column) else set()
    assert set(declared_properties(sync)) == {"customer_id", "plan"} - left_out


def test_update_only_creates_nobody() -> None:
    by_email = sync_of({**BY_EMAIL, "behavior": "update_only"})
    by_distinct_id = sync_of({**BY_EMAIL, "sync_key": {"distinct_id": "id"}, "behavior": "update_only"})
    assert (by_email.behavior, by_email.create_with, by_email.on_several) == (
        Behavior.UPDATE_ONLY,
        None,
        OnSeveral.SKIP,
    )
    assert (by_distinct_id.distinct_id, by_distinct_id.create_with) == (Column("id"), None)


def test_delete_writes_no_properties() -> None:
    annotation = {"object": "person", "sync_key": {"email": "email"}, "behavior": "delete"}
    document = model(annotation, columns=[{"name": "email"}, {"name": "plan"}])
    defaults = {"properties": "all", "backfill": False, "create_with": "email", "unset": ["plan"]}
    (sync,) = syncs_from(manifest_of(document), defaults, may_delete=True)
    assert (sync.behavior, sync.properties, sync.all_properties, sync.unset) == (Behavior.DELETE, (), False, ())
    assert (sync.backfill, sync.create_with, declared_properties(sync)) == (True, None, ())
    with pytest.raises(AnnotationError, match=r"`deletion: \{enabled: true\}` in posthog_sync.yml"):
        syncs_from(manifest_of(document), defaults)


def test_default_of_persons_by_email_leaves_others_alone() -> None:
    document = model([{**BY_EMAIL, "name": "a"}, {**BY_EMAIL, "name": "b", "sync_key": {"distinct_id": "id"}}])
    defaults = {"create_with": {"column": "id"}, "on_several": "all", "shared": True}
    by_email, by_distinct_id = syncs_from(manifest_of(document), defaults)
    assert (by_email.create_with, by_email.on_several) == (Column("id"), OnSeveral.ALL)
    assert (by_distinct_id.create_with, by_distinct_id.on_several) == (None, OnSeveral.SKIP)


def test_order_of_properties_makes_no_other_sync() -> None:
    one = sync_of({**EVENT, "properties": {"a": "x", "b": "y"}})
    assert sync_of({**EVENT, "properties": {"b": "y", "a": "x"}}) == one


def test_columns_carry_their_own_annotation() -> None:
    columns = [
        {"name": "amount", "config": {"meta": {"posthog_sync": {"property": "total"}}}},
        {"name": "note", "config": {"meta": {"posthog_sync": {"exclude": "yes"}}}},
        {"name": "ordered_at"},
        {"name": "card"},
    ]
    sync = sync_of({**EVENT, "properties": "all", "exclude": ["CARD"]}, columns=columns)
    assert sync.all_properties
    assert [(column.property, column.exclude) for column in sync.model.columns[:2]] == [("total", False), (None, True)]
    assert declared_properties(sync) == ("total",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30 seconds", timedelta(seconds=30)), ("1 minute", timedelta(minutes=1)), (" 12 hours", timedelta(hours=12))],
)
def test_lookback_is_a_duration(text: str, expected: timedelta) -> None:
    sync = sync_of({**EVENT, "cursor": {"column": "ordered_at", "lookback": text}})
    assert sync.cursor is not None
    assert sync.cursor.lookback == expected


def test_default_is_merged_by_entry_and_replaced_otherwise() -> None:
    defaults = {"properties": {"by": {"value": "dbt"}, "amount": "x"}, "cursor": {"column": "c", "lookback": "1 day"}}
    annotation = {**EVENT, "properties": {"amount": "amount"}, "cursor": {"column": "ordered_at"}}
    (sync,) = syncs_from(manifest_of(model(annotation)), defaults)
    assert sync.properties == (PropertyMapping("amount", Column("amount")), PropertyMapping("by", Constant("dbt")))
    assert sync.cursor == Cursor("ordered_at", timedelta(days=1))
    (sync,) = syncs_from(manifest_of(model({**EVENT, "event": "name"})), {"event": {"value": "x"}})
    assert sync.event == Column("name")


def test_syncs_that_are_right_stand_beside_the_problems() -> None:
    document = model(EVENT)
    document["models"].append({"name": "broken", "config": {"meta": {"posthog_sync": {"object": "event"}}}})
    annotations = check_annotations(manifest_of(document))
    assert [sync.name for sync in annotations.syncs] == ["orders"]
    assert {problem.model for problem in annotations.problems} == {"broken"}
    with pytest.raises(AnnotationError) as raised:
        syncs_from(manifest_of(document))
    assert raised.value.problems == annotations.problems


def test_no_message_shows_a_secret() -> None:
    for case in INVALID:
        for problem in checked(case).problems:
            assert "1234567890" not in str(problem)
            assert "a8f3b2c4" not in str(problem)


def test_property_files_are_read_from_the_project(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = (CASES / "invalid" / "place_beside_name.yml").read_text(encoding="utf-8")
    (tmp_path / "models" / "schema.yml").write_text(text, encoding="utf-8")
    manifest = manifest_of(yaml.safe_load(text))
    (problem,) = property_file_problems(tmp_path, manifest)
    assert (problem.model, problem.path) == ("orders", "$.models[orders].posthog_sync")
    assert property_file_problems(tmp_path / "elsewhere", manifest) == ()


@pytest.mark.parametrize(
    "text", ["posthog_sync: [", "# posthog_sync", "- posthog_sync", "models: posthog_sync", "models: [posthog_sync]"]
)
def test_odd_property_file_is_left_to_dbt(text: str) -> None:
    assert list(hidden_in(text, "models/schema.yml")) == []


def test_anchors_double_no_key() -> None:
    text = "models: [{name: a, x: &x {posthog_sync: &y {<<: {b: 1}, <<: {c: 2}, d: *y}}}, {name: b, x: *x}]"
    assert list(hidden_in(text, "models/schema.yml")) == []


def test_source_table_is_found_in_the_wrong_place() -> None:
    text = "sources: [{name: crm, tables: [{name: accounts, posthog_sync: {}}]}]"
    (problem,) = hidden_in(text, "models/crm.yml")
    assert problem.path == "$.sources[crm].tables[accounts].posthog_sync"


def test_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "annotation.md").read_text(encoding="utf-8")
    assert annotation_reference() == written, "write annotation_reference() to docs/annotation.md"


def test_tables_of_exposures_are_up_to_date() -> None:
    written = (ROOT / "docs" / "loops.md").read_text(encoding="utf-8")
    assert exposure_reference() in written, "write exposure_reference() to docs/loops.md"


WORDS = st.text("ab$ _.{", max_size=3) | st.sampled_from(
    [*EVENT, "all", "value", "column", "person", "group", "lookback", "email", "skip", "delete", "update_only"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [*EVENT, "groups", "cursor", "exclude", "nulls", "name", "behavior", "on_several", "create_with", "unset"]
)


@settings(deadline=None)
@given(changes=st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_anything_in_an_annotation_is_told_or_read(changes: dict[str, Any]) -> None:
    """Whatever stands there, there is a sync or a problem, and never another error."""
    for annotation in ({**EVENT, **changes}, {**EVENT, "object": "person", **changes}, [changes], changes):
        annotations = check_annotations(manifest_of(model(annotation)), changes)
        assert annotations.syncs or annotations.problems


@settings(deadline=None)
@given(annotation=ANYTHING)
def test_anything_as_an_annotation_of_a_column_is_told_or_read(annotation: object) -> None:
    columns = [{"name": "amount", "config": {"meta": {"posthog_sync": annotation}}}]
    annotations = check_annotations(manifest_of(model({**EVENT, "properties": "all"}, columns=columns)))
    assert annotations.syncs or annotations.problems


def test_validating_loads_nothing_heavy() -> None:
    code = """
import pathlib, sys
from dbt_posthog_sync import annotation, manifest, selection, settings
annotation.syncs_from(manifest.read_manifest(pathlib.Path(sys.argv[1])))
settings.settings_from({}, {})
print(*{name.partition(".")[0] for name in sys.modules} & {"dbt", "click", "requests", "duckdb", "psycopg2"})
"""
    path = str(ROOT / "tests" / "fixtures" / "manifests" / "dbt_1.11.json")
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == ""
