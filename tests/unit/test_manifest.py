"""The manifest: read leniently, whichever dbt wrote it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from dbt_posthog_sync.annotation import check_annotations, syncs_from
from dbt_posthog_sync.errors import ManifestError
from dbt_posthog_sync.manifest import Manifest, Node, manifest_from, read_manifest
from dbt_posthog_sync.manifest_file import contents_from, contents_of
from dbt_posthog_sync.sync import Sync

MANIFESTS = Path(__file__).parents[1] / "fixtures" / "manifests"
EVERY = sorted(MANIFESTS.glob("*.json"))
V12 = "https://schemas.getdbt.com/dbt/manifest/v12.json"


def by_name(manifest: Manifest) -> dict[str, Sync]:
    return {sync.name: sync for sync in syncs_from(manifest)}


def manifest_of(*nodes: dict[str, Any], dbt_version: str = "1.11.0", **rest: Any) -> Manifest:
    metadata = {"dbt_schema_version": V12, "dbt_version": dbt_version, "project_name": "shop"}
    return manifest_from({"metadata": metadata, "nodes": {node["unique_id"]: node for node in nodes}, **rest})


def node_of(manifest: Manifest) -> Node:
    (node,) = manifest.nodes
    return node


def raw(meta: object = None, **rest: Any) -> dict[str, Any]:
    base = {"unique_id": "model.shop.orders", "name": "orders", "resource_type": "model", "package_name": "shop"}
    return {**base, "config": {"meta": meta if meta is not None else {"posthog_sync": {}}}, **rest}


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_every_dbt_gives_the_same_syncs(path: Path) -> None:
    assert by_name(read_manifest(path)) == by_name(read_manifest(MANIFESTS / "dbt_1.11.json"))


def test_tiny_project_is_read_whole() -> None:
    manifest = read_manifest(MANIFESTS / "dbt_1.11.json")
    assert (manifest.project_name, manifest.adapter_type, manifest.schema_version) == ("tiny", "duckdb", 12)
    assert manifest.dbt_version == "1.11.16"
    assert manifest.generated_at is not None
    assert manifest.generated_at.tzinfo is timezone.utc
    assert manifest.warnings == ()
    assert set(manifest.names) == {
        "accounts", "cents", "customer_history", "customers", "orders", "page_views", "plain", "plans",
    }  # fmt: skip
    assert manifest.property_files == ("models/schema.yml", "seeds/seeds.yml", "snapshots/snapshots.yml")
    types = {node.ref.name: node.ref.resource_type for node in manifest.nodes}
    assert types == {
        "orders": "model", "customers": "model", "page_views": "model",
        "customer_history": "snapshot", "plans": "seed", "accounts": "source",
    }  # fmt: skip


def test_relation_is_taken_verbatim() -> None:
    orders = by_name(read_manifest(MANIFESTS / "dbt_1.8.json"))["orders"].model
    assert orders.relation_name == '"memory"."main"."orders"'
    assert (orders.database, orders.schema, orders.identifier) == ("memory", "main", "orders")
    assert (orders.tags, orders.path, orders.package) == (("nightly",), "models/orders.sql", "tiny")


def test_fault_points_to_the_file_that_holds_the_annotation() -> None:
    files = {node.ref.name: (node.ref.file, node.location) for node in read_manifest(EVERY[0]).nodes}
    assert files["orders"] == ("models/schema.yml", "$.models[orders]")
    assert files["page_views"] == ("models/page_views.sql", "$")
    assert files["accounts"] == ("models/schema.yml", "$.sources[crm].tables[accounts]")
    assert node_of(manifest_of(raw())).ref.file == "dbt_project.yml"
    other = raw(package_name="other", patch_path="other://models/x.yml")
    assert node_of(manifest_of(other)).ref.file == "other://models/x.yml"


def test_nodes_without_annotation_are_left_out_unless_asked_for() -> None:
    assert manifest_of(raw({})).nodes == ()
    path = MANIFESTS / "dbt_1.11.json"
    kept = [node for node in read_manifest(path, keep=["plain"]).nodes if node.ref.name == "plain"]
    assert [node.is_annotated for node in kept] == [False]


@pytest.mark.parametrize(
    ("dbt_version", "is_read"), [("1.6.19", True), ("1.9.11", True), ("1.10.0", False), ("2.0.0-alpha.4", False)]
)
def test_meta_of_a_column_counts_before_dbt_1_10_only(dbt_version: str, is_read: bool) -> None:
    node = raw(columns={"plan": {"name": "plan", "meta": {"posthog_sync": {"property": "tier"}}}})
    assert bool(node_of(manifest_of(node, dbt_version=dbt_version)).column_annotations) is is_read


def test_config_meta_of_a_column_counts_always() -> None:
    node = raw({}, columns={"plan": {"config": {"meta": {"posthog_sync": {"exclude": True}}}}})
    (annotation,) = node_of(manifest_of(node, dbt_version="2.0.0")).column_annotations
    assert (annotation.column, annotation.value) == ("plan", {"exclude": True})


def test_candidate_keys_of_several_columns_are_no_key() -> None:
    assert node_of(manifest_of(raw(primary_key=["id"]))).primary_key == ("id",)
    assert node_of(manifest_of(raw(primary_key=["email", "id"]))).primary_key == ()


def test_disabled_node_is_seen_unless_another_one_replaces_it() -> None:
    disabled = {"model.shop.orders": [raw()]}
    assert node_of(manifest_of(disabled=disabled)).is_disabled
    assert not node_of(manifest_of(raw(), disabled=disabled)).is_disabled
    assert node_of(manifest_of(disabled={"model.shop.orders": raw()})).is_disabled


def test_node_of_few_keys_is_read() -> None:
    node = node_of(manifest_of({"unique_id": "model.shop.a", "config": {"meta": {"posthog_sync": None}}}))
    assert (node.ref.name, node.ref.relation_name, node.materialized, node.is_annotated) == ("", "", "", True)


def test_node_without_relation_is_a_problem() -> None:
    (problem, *_) = check_annotations(manifest_of(raw())).problems
    assert "does not name the model's relation" in problem.message


def test_time_of_the_manifest_is_aware() -> None:
    metadata = {"dbt_schema_version": V12, "generated_at": "2026-01-02T03:04:05.123456Z"}
    expected = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert manifest_from({"metadata": metadata, "nodes": {}}).generated_at == expected
    assert manifest_of().generated_at is None


def test_newer_schema_is_a_warning() -> None:
    metadata = {"dbt_schema_version": V12.replace("v12", "v13")}
    manifest = manifest_from({"metadata": metadata, "nodes": {}})
    (warning,) = manifest.warnings
    assert "schema version 13" in warning


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a dbt manifest"),
        ({"nodes": {}}, "not a dbt manifest"),
        (
            {"metadata": {"dbt_schema_version": V12.replace("manifest", "run-results")}, "nodes": {}},
            "not a dbt manifest",
        ),
        ({"metadata": {"dbt_schema_version": V12}}, "not a dbt manifest"),
        (
            {"metadata": {"dbt_schema_version": V12.replace("v12", "v9"), "dbt_version": "1.5.1"}, "nodes": {}},
            "dbt 1.5.1",
        ),
    ],
)
def test_other_json_is_refused(document: object, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        manifest_from(document)


def test_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Run `dbt parse` or `dbt build` first, or .* --target-path"):
        read_manifest(tmp_path / "manifest.json")


def test_unreadable_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b'{"metadata": {', b"\xff\xfe\x00", b""])
def test_half_written_manifest_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="not valid JSON"):
        read_manifest(path)


@pytest.mark.parametrize(
    "layout", [{"indent": 2}, {"separators": (",", ":")}, {}], ids=["indented", "compact", "plain"]
)
@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_cut_text_says_what_the_whole_says(path: Path, layout: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    document["disabled"] = {"model.tiny.gone": [{**raw(), "unique_id": "model.tiny.gone"}]}
    text = json.dumps(document, **layout).encode()
    found, whole = contents_of(text, ["plain"]), contents_from(document)
    assert isinstance(found.document, dict)
    assert "child_map" not in found.document, "the text was parsed as a whole"
    assert set(found.names) == set(whole.names)
    assert found.sources == whole.sources == ("crm.accounts",)
    assert found.property_files == whole.property_files
    cut = manifest_from(found.document, keep=["plain"]).nodes
    assert cut == manifest_from(document, keep=["plain"]).nodes


@pytest.mark.parametrize("meta", [{"unique_id": "customer_id"}, {"x": {"unique_id": "x"}}])
def test_text_that_cannot_be_cut_is_parsed_whole(meta: dict[str, Any]) -> None:
    document = {"metadata": {}, "nodes": {"model.shop.orders": raw({**meta, "posthog_sync": {}})}}
    assert contents_of(json.dumps(document).encode()) == contents_from(document)


@pytest.mark.parametrize("lost", [1, 2, 3, 100, 5000])
def test_cut_off_text_is_no_manifest(lost: int) -> None:
    content = (MANIFESTS / "dbt_1.8.json").read_bytes().rstrip()
    with pytest.raises(ValueError, match=r"line|char"):
        contents_of(content[:-lost])


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_fixture_names_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["metadata"].get("user_id") is None
    assert not [word for word in ("/home/", "/tmp/", "/root/", "/Users/", "\\\\Users") if word in text]
