"""The identity model: what the settings name is found in the manifest, or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_posthog_sync.errors import AnnotationError, SettingsError, UserError
from dbt_posthog_sync.identity_model import identity_model, kept_names
from dbt_posthog_sync.manifest import Manifest, manifest_from, read_manifest
from dbt_posthog_sync.project import Project
from dbt_posthog_sync.settings import Identities, IdentitySource
from dbt_posthog_sync.sync import Behavior

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "tests" / "fixtures" / "manifests").glob("*.json"))
ERASURES = {"object": "person", "sync_key": {"email": "email"}, "behavior": "delete"}


def named(model: str | None) -> Identities:
    return Identities(IdentitySource.MODEL, model=model)


def node(name: str, **rest: Any) -> dict[str, Any]:
    kind, package = rest.pop("resource_type", "model"), rest.pop("package_name", "shop")
    version = f".v{rest['version']}" if "version" in rest else ""
    return {
        "unique_id": f"{kind}.{package}.{name}{version}",
        "name": name.rpartition(".")[2],
        "resource_type": kind,
        "package_name": package,
        "relation_name": f'"db"."main"."{name}"',
        "config": {"materialized": "table"},
        **rest,
    }


def document_of(*nodes: dict[str, Any], disabled: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    return {
        "metadata": {"dbt_schema_version": version, "project_name": "shop"},
        "nodes": {one["unique_id"]: one for one in nodes if one["resource_type"] != "source"},
        "sources": {one["unique_id"]: one for one in nodes if one["resource_type"] == "source"},
        "disabled": {one["unique_id"]: [one] for one in disabled},
    }


def manifest_of(name: str, *nodes: dict[str, Any], disabled: tuple[dict[str, Any], ...] = ()) -> Manifest:
    return manifest_from(document_of(*nodes, disabled=disabled), keep=kept_names(named(name)))


def problem_of(name: str, *nodes: dict[str, Any], disabled: tuple[dict[str, Any], ...] = ()) -> str:
    found, problems = identity_model(manifest_of(name, *nodes, disabled=disabled), named(name))
    assert found is None
    (problem,) = problems
    assert str(problem).startswith("posthog_sync.yml, $.identities.model: ")
    return str(problem).partition(": ")[2]


PERSONS = node("posthog.persons", resource_type="source", source_name="posthog")


def test_nothing_named_is_nothing_found() -> None:
    assert kept_names(Identities()) == ()
    assert identity_model(manifest_from(document_of()), Identities()) == (None, ())


@pytest.mark.parametrize("kind", ["model", "snapshot", "seed"])
def test_nodes_are_found_by_name(kind: str) -> None:
    found, problems = identity_model(manifest_of("people", node("people", resource_type=kind)), named("people"))
    assert problems == ()
    assert found is not None
    assert (found.resource_type, found.relation_name) == (kind, '"db"."main"."people"')


def test_source_is_found_by_both_of_its_names() -> None:
    found, _ = identity_model(manifest_of("posthog.persons", PERSONS), named("posthog.persons"))
    assert found is not None
    assert (found.name, found.unique_id) == ("persons", "source.shop.posthog.persons")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest_of_every_dbt_has_the_models(path: Path) -> None:
    for name, relation in (("plain", "plain"), ("crm.accounts", "accounts")):
        found, problems = identity_model(read_manifest(path, keep=kept_names(named(name))), named(name))
        assert problems == ()
        assert found is not None
        assert found.identifier == relation


def test_kept_model_is_no_sync(tmp_path: Path) -> None:
    project = loaded(tmp_path, {"identities": {"source": "identity_model", "model": "people"}}, node("people"))
    assert project.identity_model is not None
    assert project.identity_model.unique_id == "model.shop.people"
    assert project.syncs == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("peple", "the manifest has no model `peple`. Did you mean `people`?"),
        ("persons", "the manifest has no model `persons`. Did you mean `posthog.persons`?"),
        ("posthog.prsons", "the manifest has no model `posthog.prsons`. Did you mean `posthog.persons`?"),
        ("person", "the manifest has no model `person`. Did you mean `posthog.persons`?"),
        (
            "zzz",
            "the manifest has no model `zzz`. Name a model, snapshot or seed, or a source as `source_name.table_name`.",
        ),
    ],
)
def test_unknown_model_is_told_with_the_nearest(name: str, expected: str) -> None:
    assert problem_of(name, node("people"), PERSONS) == expected


def test_model_without_a_relation_is_told() -> None:
    ephemeral = node("people", config={"materialized": "ephemeral"})
    assert "is ephemeral" in problem_of("people", ephemeral)
    assert "is disabled" in problem_of("people", disabled=(node("people"),))
    assert "does not name the relation" in problem_of("people", node("people", relation_name=None))
    assert "has no model" in problem_of("people", node("people", resource_type="analysis"))


def test_own_project_and_enabled_nodes_come_first() -> None:
    others = node("people", package_name="other")
    found, _ = identity_model(manifest_of("people", others, node("people")), named("people"))
    assert found is not None
    assert found.package == "shop"
    found, _ = identity_model(manifest_of("people", others, disabled=(node("people"),)), named("people"))
    assert found is not None
    assert found.package == "other"
    third = node("people", package_name="third")
    assert problem_of("people", others, third).endswith("Give one of them another name.")


def test_version_of_a_model_is_named() -> None:
    versions = (node("people", version=1), node("people", version=2))
    assert problem_of("people", *versions).endswith("Write `people.v1` or `people.v2`.")
    found, _ = identity_model(manifest_of("people.v2", *versions), named("people.v2"))
    assert found is not None
    assert found.unique_id == "model.shop.people.v2"
    assert identity_model(manifest_of("people", versions[1]), named("people"))[0] == found


def loaded(folder: Path, settings: dict[str, Any], *nodes: dict[str, Any]) -> Project:
    (folder / "dbt_project.yml").write_text("name: shop\n", encoding="utf-8")
    (folder / "posthog_sync.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "target").mkdir()
    (folder / "target" / "manifest.json").write_text(json.dumps(document_of(*nodes)), encoding="utf-8")
    return Project.load(folder, None, {})


def annotated(name: str, annotation: object) -> dict[str, Any]:
    meta = {"posthog_sync": annotation}
    return node(name, config={"materialized": "table", "meta": meta}, meta=meta)


def test_all_problems_of_settings_and_annotations_are_told_together(tmp_path: Path) -> None:
    settings = {"identities": {"source": "identity_model", "model": "peple"}}
    with pytest.raises(UserError) as raised:
        loaded(tmp_path, settings, node("people"), annotated("erasures", ERASURES), annotated("orders", {}))
    told = [str(problem) for problem in raised.value.problems]
    assert [problem.partition(",")[0] for problem in told] == ["posthog_sync.yml", "erasures", "orders"]
    assert "Write `deletion: {enabled: true}` in posthog_sync.yml." in told[1]


def test_unknown_model_alone_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no model `peple`"):
        loaded(tmp_path, {"identities": {"source": "identity_model", "model": "peple"}}, node("people"))


def test_delete_needs_a_word_in_the_settings(tmp_path: Path) -> None:
    allowed, forbidden, broken = (tmp_path / name for name in ("allowed", "forbidden", "broken"))
    for folder in (allowed, forbidden, broken):
        folder.mkdir()
    (sync,) = loaded(allowed, {"deletion": {"enabled": True}}, annotated("erasures", ERASURES)).syncs
    assert sync.behavior is Behavior.DELETE
    with pytest.raises(AnnotationError, match="the settings do not allow it"):
        loaded(forbidden, {}, annotated("erasures", ERASURES))
    with pytest.raises(SettingsError) as raised:
        loaded(broken, {"deletion": {"enabled": True, "event": True}}, annotated("erasures", ERASURES))
    assert "unknown key `event`" in str(raised.value)
