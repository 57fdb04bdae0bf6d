"""The contract holds on Spark as well, where a run takes seconds: a part of the suite that meets every macro."""

from __future__ import annotations

import pytest
from lab import Server

# What the tests of one file have in common is asked once.
_ON_SPARK = {
    "test_odd_names_of_columns_become_properties_as_they_are",
    "test_odd_constants_arrive_as_they_are",
    "test_the_rows_at_these_positions_are_confirmed_and_no_others[spark-far apart]",
    "test_the_rows_at_these_positions_are_confirmed_and_no_others[spark-near each other, in any order]",
    "test_each_bad_row_is_rejected_with_its_reason_and_the_others_go_out",
    "test_every_row_of_a_doubled_key_is_rejected_until_one_is_left",
    "test_an_unchanged_bad_row_keeps_its_first_time_and_a_mended_one_is_sent",
    "test_a_group_needs_a_key_of_at_most_400_characters",
    "test_an_event_that_would_be_kept_twice_is_not_resent[spark-person]",
    "test_one_visitor_has_many_views_and_only_exact_doubles_are_rejected",
    "test_host_and_path_are_taken_from_the_address",
    "test_only_groups_with_a_key_are_named",
    "test_persons_by_email[spark-create_with_email-all-lookup]",
    "test_persons_by_email[spark-update_only-skip-mirror]",
    "test_persons_by_distinct_id_are_deleted[spark-mirror]",
    "test_odd_addresses_are_found[spark-lookup]",
}


@pytest.fixture(params=["duckdb", "postgres", "spark"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each warehouse in turn."""
    name = {"duckdb": "duckdb_file"}.get(request.param, request.param)
    found: Server = request.getfixturevalue(name)
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would only repeat on Spark what another test there shows."""
    left_out = [item for item in items if _is_repetition(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_repetition(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    is_on_spark = item.callspec.params.get("server") == "spark"
    return is_on_spark and not {item.name, item.originalname} & _ON_SPARK
