"""The destination and the delivery engine against the stand-in, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from dbt_posthog_sync.batch import BatchLimits
from dbt_posthog_sync.delivery import (
    Delivered,
    Delivery,
    DeliverySettings,
    Doubted,
    Outcome,
    Refused,
    Repeated,
    Surroundings,
)
from dbt_posthog_sync.destinations import SEAM, Row, Rows
from dbt_posthog_sync.destinations.posthog import PostHog, PostHogConfig, Protocol
from dbt_posthog_sync.errors import DestinationRefused, DestinationUnavailable
from dbt_posthog_sync.http import RetryPolicy, Timeout
from dbt_posthog_sync.testing import (
    CloseConnection,
    CutAnswer,
    CutRequest,
    EventResults,
    ExpiredKey,
    Fault,
    LoseAnswer,
    Script,
    StandIn,
    StandInConfig,
    Status,
    Verdict,
    When,
    always,
)

RUN_ID = "0190a000-0000-7000-8000-000000000009"


class Waits:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._now = 0.0

    def _pause(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._now += seconds

    def surroundings(self) -> Surroundings:
        return Surroundings(clock=lambda: self._now, pause=self._pause, random=lambda: 0.0)


class Sent:
    """One delivery to a stand-in and what came of it."""

    def __init__(
        self,
        standin: StandIn,
        rows: list[Row],
        *,
        protocol: Protocol = "auto",
        needs_person: bool = False,
        messages: int = 500,
        in_flight: int = 2,
    ) -> None:
        self.waits = Waits()
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None
        config = PostHogConfig(
            standin.url, standin.token, RUN_ID, protocol=protocol, timeout=Timeout(2, 2), in_flight=in_flight
        )
        self.destination = PostHog(config)
        delivery = Delivery(
            self.destination,
            DeliverySettings(BatchLimits(messages=messages), in_flight, RetryPolicy(attempts=4)),
            needs_person=needs_person,
            surroundings=self.waits.surroundings(),
        )
        try:
            self.outcomes.extend(delivery.run([Rows.of(rows)]))
        except (DestinationRefused, DestinationUnavailable) as error:
            self.error = error
        finally:
            self.destination.close()

    @property
    def delivered(self) -> list[int]:
        return sorted(p for o in self.outcomes if isinstance(o, Delivered) for p in o.positions)

    @property
    def refused(self) -> dict[int, str]:
        return {r.position: r.reason for o in self.outcomes if isinstance(o, Refused) for r in o.refusals}


def row(position: int, *, event: str = "order completed", distinct_id: str = "", properties: bytes = b"") -> Row:
    head = b'"event":"%b","distinct_id":"%b","timestamp":"2026-01-02T03:04:05Z"' % (
        event.encode(),
        (distinct_id or f"u{position}").encode(),
    )
    return Row.of(position, f"018c0000-0000-5000-8000-{position:012x}", position, False, head, properties)


def rows(count: int) -> list[Row]:
    return [row(n, properties=b',"total":%d' % n) for n in range(count)]


def kept(standin: StandIn) -> list[str]:
    return sorted(str(event.uuid) for event in standin.project.events)


def uuids(*positions: int) -> list[str]:
    return sorted(row(position).uuid for position in positions)


@pytest.fixture(params=["v1", "v0"])
def standin(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn(StandInConfig(v1_routed=request.param == "v1")) as posthog:
        yield posthog


@pytest.fixture
def v1() -> Iterator[StandIn]:
    with StandIn() as posthog:
        yield posthog


def test_everything_arrives_once_and_is_confirmed(standin: StandIn) -> None:
    sent = Sent(standin, rows(1200))
    assert sent.error is None
    assert sent.delivered == list(range(1200))
    assert kept(standin) == uuids(*range(1200))


def test_events_carry_the_constants_of_a_sync_and_their_own_time(standin: StandIn) -> None:
    Sent(standin, rows(1))
    event = standin.project.events[0].as_json()
    properties = event["properties"]
    assert properties["$lib"] == "dbt-posthog-sync"
    assert properties["$geoip_disable"] is True
    assert properties["dbt_posthog_sync_run_id"] == RUN_ID
    assert properties["total"] == 0
    assert datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")) == datetime(
        2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc
    )


def test_session_and_window_in_head_and_properties_are_the_same_on_both_protocols(standin: StandIn) -> None:
    members = b',"session_id":"s","window_id":"w"'
    plain = row(0, event="$pageview", properties=b',"$session_id":"s","$window_id":"w"')
    Sent(standin, [plain._replace(message=plain.message.replace(SEAM, members + SEAM))])
    properties = standin.project.events[0].as_json()["properties"]
    assert (properties["$session_id"], properties["$window_id"]) == ("s", "w")


@pytest.mark.parametrize("fault", [Status(500), Status(503), CloseConnection(), CutRequest(), Status(200, "<html>")])
def test_failures_that_heal_lose_and_repeat_nothing(standin: StandIn, fault: Fault) -> None:
    standin.inject(Script((fault,) * 3))
    sent = Sent(standin, rows(50), in_flight=1)
    assert sent.error is None
    assert sent.delivered == list(range(50))
    assert kept(standin) == uuids(*range(50))


@pytest.mark.parametrize("fault", [LoseAnswer(), CutAnswer()])
def test_a_lost_answer_is_repeated_and_posthog_keeps_one(standin: StandIn, fault: Fault) -> None:
    protocol: Protocol = "v1" if standin.config.v1_routed else "v0"
    standin.inject(Script((fault,)))
    sent = Sent(standin, rows(50), in_flight=1, protocol=protocol)
    assert sent.delivered == list(range(50))
    assert kept(standin) == uuids(*range(50))


def test_retry_after_is_obeyed_as_seconds_and_as_a_date(v1: StandIn) -> None:
    date = datetime.now(timezone.utc) + timedelta(seconds=100)
    v1.inject(Script((Status(429, retry_after=60), Status(429, retry_after=date))))
    sent = Sent(v1, rows(5), in_flight=1)
    assert sent.delivered == list(range(5))
    assert sent.waits.seconds[0] == 60
    assert 90 < sent.waits.seconds[1] <= 100


def test_only_events_to_be_repeated_are_repeated(v1: StandIn) -> None:
    again = EventResults(lambda event: Verdict("retry") if event["distinct_id"] == "u3" else None)
    v1.inject(When(lambda arrival: arrival.attempt == 1, again))
    sent = Sent(v1, rows(5), in_flight=1)
    assert sent.delivered == list(range(5))
    assert [record.events for record in v1.requests] == [5, 1]


def test_one_bad_row_is_refused_with_posthogs_words_and_the_rest_is_kept(v1: StandIn) -> None:
    sent = Sent(v1, [*rows(100), row(100, event="")])
    assert sent.refused == {100: "PostHog dropped it: the event name is empty (missing_event_name)"}
    assert kept(v1) == uuids(*range(100))


def test_one_bad_row_is_bisected_out_where_posthog_does_not_name_it() -> None:
    with StandIn(StandInConfig(v1_routed=False)) as v0:
        sent = Sent(v0, [*rows(100), row(100, event="")])
        assert sent.refused == {100: "event submitted with an empty event name"}
        assert kept(v0) == uuids(*range(100))


def test_persons_stored_without_person_processing_are_refused(v1: StandIn) -> None:
    people = [row(n, event="$set", distinct_id=who) for n, who in enumerate(["ada", "null"])]
    sent = Sent(v1, people, needs_person=True)
    assert sent.delivered == [0]
    assert "without person processing" in sent.refused[1]


def test_a_request_too_large_goes_in_parts() -> None:
    with StandIn(StandInConfig(v1_wire_bytes=1500)) as posthog:
        sent = Sent(posthog, rows(300), in_flight=1)
        assert sent.delivered == list(range(300))
        assert kept(posthog) == uuids(*range(300))


@pytest.mark.parametrize("fault", [ExpiredKey(), Status(402), Status(403)])
def test_a_refused_key_in_the_middle_stops_at_once_and_confirms_only_what_was_kept(
    standin: StandIn, fault: Fault
) -> None:
    standin.inject(Script(after=4, then=fault))
    protocol: Protocol = "v1" if standin.config.v1_routed else "v0"
    sent = Sent(standin, rows(100), messages=10, in_flight=1, protocol=protocol)
    assert isinstance(sent.error, DestinationRefused)
    assert standin.token not in str(sent.error)
    assert uuids(*sent.delivered) == kept(standin)
    assert 0 < len(sent.delivered) < 100
    assert len(standin.requests) == 5


def test_an_outage_ends_with_the_host_named_and_nothing_refused(standin: StandIn) -> None:
    standin.inject(When(always, Status(503)))
    sent = Sent(standin, rows(10))
    assert isinstance(sent.error, DestinationUnavailable)
    assert "127.0.0.1" in str(sent.error)
    assert not [outcome for outcome in sent.outcomes if not isinstance(outcome, (Doubted, Repeated))]


def test_a_stopped_server_is_named() -> None:
    with StandIn() as posthog:
        pass
    sent = Sent(posthog, rows(10))
    assert isinstance(sent.error, DestinationUnavailable)
    assert "Connection refused" in str(sent.error)


def test_a_key_of_no_project_stops_the_run() -> None:
    with StandIn(StandInConfig(tokens=("phc_right",), enforce_known_tokens=True)) as posthog:
        destination = PostHog(PostHogConfig(posthog.url, "phc_wrong", RUN_ID))
        with pytest.raises(DestinationRefused, match="does not accept the project API key"):
            list(Delivery(destination).run([Rows.of(rows(1))]))
        destination.close()
