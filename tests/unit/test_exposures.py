"""Exposures: found in every manifest, whichever place dbt keeps their meta in, and told or read whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_posthog_sync.annotation import check_annotations
from dbt_posthog_sync.annotation.exposures import check_exposures
from dbt_posthog_sync.annotation.property_file import hidden_in
from dbt_posthog_sync.exposure import (
    DirectSending,
    EventFilter,
    Exposure,
    Filters,
    ForwardedProperty,
    ForwardedUserId,
    Forwarding,
    PostHogProperty,
    PropertyFilter,
    Via,
)
from dbt_posthog_sync.manifest import Manifest, manifest_from
from dbt_posthog_sync.manifest_file import contents_from, contents_of
from dbt_posthog_sync.sync import Column, LoopsObject, Nulls

KEY = {"env": "LOOPS_API_KEY"}
CONTACTS = {"destination": "loops", "object": "contacts", "via": "direct", "api_key": KEY, "email": "email"}
FORWARDED = {"destination": "loops", "object": "contacts", "via": "posthog", "api_key": KEY}


def document_of(*exposures: dict[str, Any], dbt_version: str = "1.11.0", **rest: Any) -> dict[str, Any]:
    version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    model = {
        "unique_id": "model.shop.customers",
        "name": "customers",
        "resource_type": "model",
        "package_name": "shop",
        "patch_path": "shop://models/customers.yml",
        "relation_name": '"db"."main"."customers"',
        "schema": "main",
        "config": {"materialized": "table"},
    }
    other = {**model, "unique_id": "model.shop.other", "name": "other"}
    return {
        "metadata": {"dbt_schema_version": version, "dbt_version": dbt_version, "project_name": "shop"},
        "nodes": {"model.shop.customers": model, "model.shop.other": other},
        "exposures": {one["unique_id"]: one for one in exposures},
        **rest,
    }


def raw(annotation: object, name: str = "loops", **rest: Any) -> dict[str, Any]:
    return {
        "unique_id": f"exposure.shop.{name}",
        "name": name,
        "resource_type": "exposure",
        "package_name": "shop",
        "original_file_path": "models/exposures.yml",
        "depends_on": {"nodes": ["model.shop.customers"]},
        "config": {"meta": {"posthog_sync": annotation}},
        **rest,
    }


def exposure_of(annotation: object, **rest: Any) -> Exposure:
    found = check_exposures(manifest_from(document_of(raw(annotation, **rest))))
    assert found.problems == ()
    (exposure,) = found.exposures
    return exposure


def test_direct_exposure_of_contacts_is_read() -> None:
    exposure = exposure_of({**CONTACTS, "user_id": "id"}, label="Contacts")
    assert (exposure.name, exposure.label, exposure.object) == ("loops", "Contacts", LoopsObject.CONTACTS)
    assert (exposure.api_key, [model.name for model in exposure.models]) == ("LOOPS_API_KEY", ["customers"])
    route = exposure.route
    assert isinstance(route, DirectSending)
    assert (route.via, route.model.name) == (Via.DIRECT, "customers")
    assert (route.email, route.user_id, route.nulls) == (Column("email"), Column("id"), Nulls.UNSET)
    assert route.backfill


def test_direct_event_takes_what_is_there_as_known_unless_asked() -> None:
    event = {**CONTACTS, "object": "events", "event_id": "order_id", "event": {"value": "paid"}}
    for annotation, expected in ((event, False), ({**event, "backfill": True}, True)):
        route = exposure_of(annotation).route
        assert isinstance(route, DirectSending)
        assert route.backfill is expected


def test_defaults_of_posthogs_templates_are_spelled_out() -> None:
    route = exposure_of(FORWARDED).route
    assert route == Forwarding(
        filters=Filters((EventFilter("$identify"), EventFilter("$set"))),
        email=PostHogProperty("email"),
        user_id=ForwardedUserId.PERSON_ID,
        properties=(
            ForwardedProperty("firstName", PostHogProperty("firstname")),
            ForwardedProperty("lastName", PostHogProperty("lastname")),
        ),
    )
    events = exposure_of({**FORWARDED, "object": "events"}).route
    assert isinstance(events, Forwarding)
    assert events.filters == Filters((EventFilter("$pageview"),))
    assert events.properties == (ForwardedProperty("pathname", PostHogProperty("$pathname")),)


def test_filters_are_read() -> None:
    condition = {"key": "plan", "value": ["pro", "team"], "operator": "is_not", "type": "person"}
    filters = {"events": ["paid", {"name": "seen", "properties": [condition]}], "filter_test_accounts": "no"}
    route = exposure_of({**FORWARDED, "filters": filters, "properties": []}).route
    assert isinstance(route, Forwarding)
    read = PropertyFilter("plan", ("pro", "team"), "is_not", "person")
    assert route.filters == Filters((EventFilter("paid"), EventFilter("seen", (read,))), (), filter_test_accounts=False)
    assert route.properties == ()


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({}, "config.meta"),
        ({"meta": {"posthog_sync": CONTACTS}}, "config.meta"),
        ({"config": {"enabled": True}, "meta": {"posthog_sync": CONTACTS}}, "meta"),
        ({"config": {"meta": {"owner": "x"}}, "meta": {"posthog_sync": CONTACTS}}, "meta"),
    ],
)
def test_meta_is_read_where_this_dbt_keeps_it(entry: dict[str, Any], place: str) -> None:
    assert exposure_of(CONTACTS, **entry).path == f"$.exposures[loops].{place}.posthog_sync"


@pytest.mark.parametrize(("dbt_version", "problems"), [("1.9.8", 0), ("1.10.0", 1), ("2.0.0", 1)])
def test_top_level_meta_is_wrong_where_dbt_has_a_config(dbt_version: str, problems: int) -> None:
    text = "exposures: [{name: loops, meta: {posthog_sync: {}}}, {name: other}]"
    manifest = manifest_from(document_of(dbt_version=dbt_version))
    found = list(hidden_in(text, "models/exposures.yml", has_exposure_config=manifest.has_exposure_config))
    assert [(one.model, one.path) for one in found] == [("loops", "$.exposures[loops].meta.posthog_sync")] * problems


def test_disabled_exposure_is_told() -> None:
    disabled = {"exposure.shop.loops": [raw(CONTACTS)], "model.shop.x": [{"resource_type": "model"}]}
    (problem,) = check_exposures(manifest_from(document_of(disabled=disabled))).problems
    assert problem.message == "the annotated exposure is disabled in dbt."


def test_exposure_of_a_package_points_into_it() -> None:
    (problem,) = check_exposures(manifest_from(document_of(raw(None, package_name="crm")))).problems
    assert problem.file == "crm://models/exposures.yml"


def test_long_name_of_a_variable_is_no_secret() -> None:
    assert exposure_of({**CONTACTS, "api_key": {"env": "LOOPS_API_KEY_OF_THE_TEAM_2"}}).api_key[-1] == "2"


def test_exposure_without_annotation_is_passed_over() -> None:
    others = [
        raw({}, config={}, meta={}),
        raw({}, name="b", config={"meta": {"owner": "growth"}}),
        raw({}, "c", config=None),
    ]
    assert manifest_from(document_of(*others)).exposures == ()


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"resource_type": "analysis"}, "`customers` is a dbt analysis, which has no rows."),
        ({"relation_name": None}, "the manifest does not name the relation of `customers`."),
    ],
)
def test_model_without_rows_to_read_is_told(node: dict[str, Any], words: str) -> None:
    document = document_of(raw(CONTACTS))
    document["nodes"]["model.shop.customers"].update(node)
    (problem,) = check_exposures(manifest_from(document)).problems
    assert problem.message == words


def test_direct_exposures_are_syncs_and_others_are_not() -> None:
    document = document_of(raw(CONTACTS, "direct"), raw({**FORWARDED, "user_id": "none"}, "forwarded"))
    annotations = check_annotations(manifest_from(document))
    assert [exposure.name for exposure in annotations.exposures] == ["direct", "forwarded"]
    (sync,) = annotations.syncs
    assert (sync.name, sync.object, sync.file) == ("direct", LoopsObject.CONTACTS, "models/exposures.yml")


def test_large_manifest_is_read_as_a_small_one() -> None:
    """A manifest is cut into pieces and not parsed; the models of an exposure are among those that matter."""
    document = document_of(raw(CONTACTS), raw({}, name="other", config={}))
    cut = contents_of(json.dumps(document).encode())
    assert isinstance(cut.document, dict)
    assert list(cut.document["nodes"]) == ["model.shop.customers"]
    assert list(cut.document["exposures"]) == ["exposure.shop.loops"]
    assert (cut.names, cut.property_files) == (contents_from(document).names, contents_from(document).property_files)
    assert "shop://models/exposures.yml" in cut.property_files
    assert check_annotations(manifest_from(cut.document)) == check_annotations(manifest_from(document))


WORDS = st.text("ab$ _.{", max_size=3) | st.sampled_from(
    [*CONTACTS, "loops", "contacts", "events", "direct", "posthog", "value", "template", "column", "name", "key", "env"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [*CONTACTS, "user_id", "event_id", "event", "properties", "filters", "mailing_lists", "exclude", "nulls", "cursor"]
)


@settings(deadline=None)
@given(changes=st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_anything_in_an_exposure_is_told_or_read(changes: dict[str, Any]) -> None:
    """Whatever stands there, there is an exposure or a problem, and never another error."""
    event = {**CONTACTS, "object": "events", "event_id": "order_id", "event": {"value": "paid"}}
    for annotation in ({**CONTACTS, **changes}, {**event, **changes}, {**FORWARDED, **changes}, [changes], changes):
        found = check_exposures(manifest_of(annotation))
        assert found.exposures or found.problems


def manifest_of(annotation: object) -> Manifest:
    return manifest_from(document_of(raw(annotation)))
