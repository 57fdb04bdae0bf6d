"""The gate: what dbt did decides what may be sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbt_posthog_sync.dbt_test import DbtTest, StoredFailures, name_of_test
from dbt_posthog_sync.errors import RunResultsError, UnsafePlan
from dbt_posthog_sync.gate import Gate, gate_of, read_gate
from dbt_posthog_sync.manifest import manifest_from, read_tests
from dbt_posthog_sync.run_results import read_run_results, run_results_from

ORDERS, PEOPLE = "model.shop.orders", "model.shop.people"
UNIQUE, UNIT = "test.shop.unique_orders_id.abc123", "unit_test.shop.orders.adds_up"
ATTACHED = {test: DbtTest(name_of_test(test), (ORDERS,)) for test in (UNIQUE, UNIT)}
METADATA = {
    "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
    "dbt_version": "1.11.16",
    "generated_at": "2026-01-02T03:04:05.678901Z",
    "invocation_id": "one",
}
MANIFEST = {
    "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "invocation_id": "one"},
    "nodes": {
        ORDERS: {"unique_id": ORDERS, "name": "orders", "config": {"meta": {"posthog_sync": {}}}},
        UNIQUE: {"unique_id": UNIQUE, "attached_node": ORDERS, "depends_on": {"nodes": [ORDERS, PEOPLE]}},
        "test.shop.joined": {"unique_id": "test.shop.joined", "depends_on": {"macros": [], "nodes": [ORDERS, PEOPLE]}},
        "test.shop.alone": {"unique_id": "test.shop.alone", "attached_node": None},
    },
    "unit_tests": {UNIT: {"unique_id": UNIT, "model": "orders", "depends_on": {"nodes": [ORDERS]}}},
}


def results(statuses: dict[str, str], which: str | None = "build", **args: Any) -> dict[str, Any]:
    """A run_results.json."""
    rows = [{"unique_id": node, "status": status} for node, status in statuses.items()]
    return {"metadata": METADATA, "args": {**({"which": which} if which else {}), **args}, "results": rows}


def gate(*documents: dict[str, Any], invocation_id: str = "one") -> Gate:
    return gate_of([run_results_from(document) for document in documents], invocation_id, ATTACHED)


def is_open(found: Gate) -> bool:
    """True when nothing is held back and nothing is odd."""
    return not found.reasons and not found.warnings


@pytest.mark.parametrize("status", ["success", "no-op", "reused", "pass", "warn", "something newer"])
def test_what_was_built_may_pass(status: str) -> None:
    assert is_open(gate(results({ORDERS: status})))


def test_it_says_which_invocation_built_a_model_last() -> None:
    first, second = results({ORDERS: "success", PEOPLE: "success"}), results({PEOPLE: "success", ORDERS: "error"})
    second["metadata"] = {**METADATA, "invocation_id": "two", "generated_at": "2027-01-01T00:00:00Z"}
    tested = results({ORDERS: "success"}, which="compile")
    assert dict(gate(first, second, tested).built_by) == {ORDERS: "one", PEOPLE: "two"}


def test_what_is_not_listed_may_pass() -> None:
    assert gate(results({})) == gate() == Gate()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("error", "dbt could not build the model"),
        ("skipped", "dbt skipped the model"),
        ("partial success", "dbt built only a part of the model"),
    ],
)
@pytest.mark.parametrize("which", ["run", "build", "seed", "snapshot", "retry", None])
def test_what_was_not_built_is_held_back(status: str, reason: str, which: str | None) -> None:
    assert gate(results({ORDERS: status, PEOPLE: "success"}, which)).reasons == {ORDERS: reason}


@pytest.mark.parametrize("status", ["fail", "error"])
@pytest.mark.parametrize(("test", "name"), [(UNIQUE, "unique_orders_id"), (UNIT, "adds_up")])
def test_a_failed_test_holds_its_model_back(test: str, name: str, status: str) -> None:
    reasons = gate(results({ORDERS: "success", test: status}, "test")).reasons
    assert reasons == {ORDERS: f"its test `{name}` failed"}


@pytest.mark.parametrize("status", ["pass", "warn", "skipped"])
def test_any_other_test_holds_nothing_back(status: str) -> None:
    assert gate(results({ORDERS: "success", UNIQUE: status})).reasons == {}


def test_many_failed_tests_are_named_in_part() -> None:
    tests = {f"test.shop.t{number}.a": "fail" for number in range(5)}
    known = {test: DbtTest(name_of_test(test), (ORDERS,)) for test in tests}
    found = gate_of([run_results_from(results(tests))], "one", known)
    assert found.reasons == {ORDERS: "its tests `t0`, `t1`, `t2` and 2 more failed"}


def test_a_model_that_was_not_built_says_so_before_its_tests() -> None:
    assert gate(results({ORDERS: "error", UNIT: "fail"})).reasons == {ORDERS: "dbt could not build the model"}
    assert gate(results({ORDERS: "skipped", UNIT: "fail"})).reasons == {ORDERS: "its test `adds_up` failed"}


@pytest.mark.parametrize("which", ["compile", "generate", "show", "clone", "run-operation"])
def test_a_command_that_builds_nothing_holds_nothing_back_and_is_told(which: str) -> None:
    found = gate(results({ORDERS: "error"}, which, empty=True))
    assert found.reasons == {}
    (warning,) = found.warnings
    called = "docs generate" if which == "generate" else which
    assert f"`dbt {called}`, which says nothing" in warning


@pytest.mark.parametrize("args", [{"empty": True}, {"sample": {"start": "a", "end": "b"}}, {"sample": "2 days"}])
def test_tables_without_their_rows_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(UnsafePlan, match=r"run_results.json: dbt build with --empty or --sample.*--no-gate"):
        gate(results({}, "build", **args))


def test_the_last_result_counts_whatever_the_order_of_the_files() -> None:
    first, second = results({ORDERS: "error", UNIQUE: "fail"}), results({ORDERS: "success"}, "run")
    second["metadata"] = {**METADATA, "generated_at": "2026-01-02T04:00:00Z"}
    expected = {ORDERS: "its test `unique_orders_id` failed"}
    assert gate(first, second).reasons == gate(second, first).reasons == expected


def test_results_of_another_invocation_are_told_and_count() -> None:
    found = gate(results({ORDERS: "error"}), invocation_id="two")
    assert list(found.reasons) == [ORDERS]
    (warning,) = found.warnings
    assert "different dbt commands" in warning
    assert "2026-01-02T03:04:05.678901Z" in warning
    other = results({})
    other["metadata"] = {**METADATA, "invocation_id": "two"}
    assert gate(results({}), other, invocation_id="two").warnings == ()


def test_a_failed_test_that_the_manifest_does_not_know_is_told() -> None:
    (warning,) = gate(results({"test.shop.gone.1": "fail"})).warnings
    assert "no model for the failed test test.shop.gone.1" in warning


# --- rows ---


def stored(status: str = "fail", relation: str | None = '"db"."audit"."t"', **more: str) -> dict[str, Any]:
    """Results of a build whose unique test stored the rows it failed for."""
    document = results({ORDERS: "success", UNIQUE: status, **more})
    document["results"][1] |= {"relation_name": relation, "failures": 2}
    return document


def test_a_failed_test_that_stored_its_rows_leads_to_them() -> None:
    found = gate(stored())
    assert found.stored == {ORDERS: (StoredFailures(ATTACHED[UNIQUE], '"db"."audit"."t"', 2),)}
    assert (found.reasons, found.rowless) == ({ORDERS: "its test `unique_orders_id` failed"}, {})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (stored(relation=None), "`unique_orders_id` stored no rows (store_failures)"),
        (stored(relation=""), "`unique_orders_id` stored no rows (store_failures)"),
        (stored("error"), "`unique_orders_id` stored no rows (store_failures)"),
        (stored(**{UNIT: "fail"}), "`adds_up` stored no rows (store_failures)"),
    ],
)
def test_a_failed_test_without_its_rows_holds_the_model_back(document: dict[str, Any], why: str) -> None:
    found = gate(document)
    assert (found.stored, found.rowless) == ({}, {ORDERS: why})


def test_rows_of_a_test_of_several_models_are_nobodys() -> None:
    joined = {UNIQUE: DbtTest("joined", (ORDERS, PEOPLE))}
    found = gate_of([run_results_from(stored())], "one", joined)
    assert found.stored == {}
    assert set(found.rowless) == {ORDERS, PEOPLE}
    assert "reads several models" in found.rowless[PEOPLE]


def test_stored_rows_do_not_open_the_gate_for_a_model_that_was_not_built() -> None:
    document = stored()
    document["results"][0]["status"] = "error"
    found = gate(document)
    assert (found.stored, found.reasons) == ({}, {ORDERS: "dbt could not build the model"})


def test_a_later_failure_without_rows_makes_earlier_rows_old() -> None:
    later = stored(relation=None)
    later["metadata"] = {**METADATA, "generated_at": "2026-01-02T04:00:00Z"}
    assert gate(stored(), later).stored == gate(later, stored()).stored == {}


# --- reading ---


def test_results_of_few_keys_are_read() -> None:
    bare: dict[str, Any] = {"metadata": {"dbt_schema_version": METADATA["dbt_schema_version"]}, "results": [{}, None]}
    found = run_results_from(bare)
    assert (found.command, found.invocation_id, found.is_partial) == ("", "", False)
    assert found.statuses == (("", ""), ("", ""))
    assert "(of no known time)" in gate(bare).warnings[0]


@pytest.mark.parametrize("version", [4, 5, 6])
def test_every_version_is_read(version: int) -> None:
    document = results({ORDERS: "success"})
    document["metadata"] = {"dbt_schema_version": f"https://schemas.getdbt.com/dbt/run-results/v{version}.json"}
    assert run_results_from(document).statuses == ((ORDERS, "success"),)
    assert run_results_from(document).warnings == ()


def test_newer_results_are_read_with_a_warning() -> None:
    document = results({})
    document["metadata"] = {**METADATA, "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v7.json"}
    (warning,) = gate(document).warnings
    assert "schema version 7" in warning


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no run_results.json of dbt"),
        ({"metadata": METADATA}, "no run_results.json of dbt"),
        ({"metadata": {"dbt_schema_version": "https://x/dbt/manifest/v12.json"}, "results": []}, "no run_results.json"),
        ({"metadata": {"dbt_schema_version": "https://x/dbt/run-results/v3.json"}, "results": []}, "version 3"),
    ],
)
def test_other_json_is_refused(document: object, message: str) -> None:
    with pytest.raises(RunResultsError, match=message):
        run_results_from(document)


def test_files_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunResultsError, match="no such file"):
        read_run_results(tmp_path / "none.json")
    with pytest.raises(RunResultsError, match="cannot be read"):
        read_run_results(tmp_path)
    (tmp_path / "half.json").write_text('{"metadata": {')
    with pytest.raises(RunResultsError, match=r"not valid JSON.*--no-gate"):
        read_run_results(tmp_path / "half.json")


def test_tests_lead_to_the_models_they_are_attached_to(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    tests = [UNIQUE, UNIT, "test.shop.joined", "test.shop.alone", "test.shop.gone"]
    found = {test: one.models for test, one in read_tests(tmp_path / "manifest.json", tests).items()}
    assert found == {
        UNIQUE: (ORDERS,),
        UNIT: (ORDERS,),
        "test.shop.joined": (ORDERS, PEOPLE),
        "test.shop.alone": (),
        "test.shop.gone": (),
    }


def test_the_file_in_the_target_folder_is_read_unless_others_are_named(tmp_path: Path) -> None:
    manifest = manifest_from(MANIFEST)
    assert read_gate(manifest, tmp_path) == Gate()
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "run_results.json").write_text(json.dumps(results({"test.shop.joined": "fail"})))
    assert set(read_gate(manifest, tmp_path).reasons) == {ORDERS, PEOPLE}
    (tmp_path / "build.json").write_text(json.dumps(results({ORDERS: "success"})))
    assert read_gate(manifest, tmp_path, [tmp_path / "build.json"]).reasons == {}
