from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from lb.core.events import ResetReason
from lb.core.packet import Drop
from lb.core.service import ResetSettings
from lb.metrics import ANSWERED, FOLLOWED, QueueStatistics

from .fake_daemon import CLIENT, MISSING, OK, VIP, FakeDaemon, call, web

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "metrics.md"


def samples(host: FakeDaemon) -> Iterator[Sample]:
    text = call(host, "GET", "/metrics").text
    for family in text_string_to_metric_families(text):
        yield from family.samples


def value(host: FakeDaemon, name: str, **labels: str) -> float:
    (found,) = [one.value for one in samples(host) if one.name == name and one.labels == labels]
    return found


@pytest.fixture
def host() -> FakeDaemon:
    return FakeDaemon(web(), web("tls", port=443))


def test_the_scrape_says_what_it_is(host: FakeDaemon) -> None:
    response = call(host, "GET", "/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")


def test_packets_are_counted_as_forwarded_or_by_why_they_were_not(host: FakeDaemon) -> None:
    host.open(40000)
    host.send("A", port=40001, ack=7)
    assert value(host, "l4box_packets_forwarded_total") == 2
    assert value(host, "l4box_packets_dropped_total", reason="no_entry") == 1
    assert value(host, "l4box_packets_dropped_total", reason="table_full") == 0
    assert value(host, "l4box_resets_total", reason="no_entry", side="client") == 1


def test_every_reason_of_a_drop_has_its_series_before_it_ever_happens(host: FakeDaemon) -> None:
    reasons = {one.labels["reason"] for one in samples(host) if one.name == "l4box_packets_dropped_total"}
    assert reasons == {reason.value for reason in Drop}


def test_resets_are_counted_by_reason_and_side_and_by_what_became_of_them() -> None:
    host = FakeDaemon(web(reset=ResetSettings(on_port_fail=True, server=True)))
    host.open(40000, 40001, 40002)
    host.wait(5)
    host.fail("web/rs1")
    rs1 = {"virtual_server": "web", "server": "rs1"}
    assert value(host, "l4box_server_sessions_resetting", **rs1) == 2
    host.wait(0)
    assert value(host, "l4box_server_sessions_resetting", **rs1) == 0
    assert value(host, "l4box_tombstones") == 2
    host.send("A", port=40000, seq=1001, ack=6001)
    assert value(host, "l4box_resets_total", reason="port_fail", side="client") == 3
    assert value(host, "l4box_resets_total", reason="port_fail", side="server") == 2
    assert value(host, "l4box_resets_total", reason="administrator", side="client") == 0
    host.wait(61)
    assert value(host, "l4box_tombstones") == 0
    for outcome, number in {"accepted": 1, "challenged": 1, "probed": 0, "silent": 0}.items():
        assert value(host, "l4box_reset_outcomes_total", reason="port_fail", outcome=outcome) == number


def test_a_client_that_was_not_idle_is_asked_with_a_syn(host: FakeDaemon) -> None:
    host.open(40000)
    call(host, "POST", "/v1/sessions/reset", server="rs1")
    assert value(host, "l4box_syn_probes_total") == 0
    host.wait(0.5)
    assert value(host, "l4box_syn_probes_total") == 1


def test_every_reason_of_a_reset_has_its_series_before_it_ever_happens(host: FakeDaemon) -> None:
    sides = {
        (one.labels["reason"], one.labels["side"])
        for one in samples(host)
        if one.name == "l4box_resets_total"
    }
    assert sides == {(reason.value, "client") for reason in (*ANSWERED, *ResetReason)} | {
        (reason.value, "server") for reason in FOLLOWED
    }


def test_sessions_and_flows_are_counted_by_server(host: FakeDaemon) -> None:
    host.open(40000, 40001, 40002)
    host.send("R", port=40000, seq=1001)
    assert value(host, "l4box_sessions") == 2
    assert value(host, "l4box_sessions_limit") == 100_000
    assert value(host, "l4box_server_sessions", virtual_server="web", server="rs1") == 1
    assert value(host, "l4box_server_flows_total", virtual_server="web", server="rs1") == 2
    assert value(host, "l4box_server_flows_total", virtual_server="tls", server="rs1") == 0


def test_exactly_one_state_of_a_server_is_1(host: FakeDaemon) -> None:
    host.fail("web/rs1")
    states = {
        one.labels["state"]: one.value
        for one in samples(host)
        if one.name == "l4box_server_state"
        and (one.labels["virtual_server"], one.labels["server"]) == ("web", "rs1")
    }
    assert states.pop("FAILED") == 1
    assert len(states) == 6
    assert not any(states.values())
    assert value(host, "l4box_server_bound", virtual_server="web", server="rs1") == 0
    assert value(host, "l4box_server_bound", virtual_server="tls", server="rs1") == 1


def test_health_checks_are_counted_by_outcome(host: FakeDaemon) -> None:
    host.probe("web/rs1", MISSING, OK, OK)
    labels = {"virtual_server": "web", "server": "rs1"}
    assert value(host, "l4box_health_checks_total", **labels, outcome="success") == 3
    assert value(host, "l4box_health_checks_total", **labels, outcome="bad_status") == 1
    assert value(host, "l4box_health_checks_total", **labels, outcome="miss") == 0


def test_health_checks_that_could_not_be_made_are_counted_by_error(host: FakeDaemon) -> None:
    host.checks_not_made["EMFILE"] += 2
    assert value(host, "l4box_health_checks_not_made_total", error="EMFILE") == 2


def test_the_queue_and_what_was_injected(host: FakeDaemon) -> None:
    host.statistics = QueueStatistics(
        waiting=1,
        dropped_full=2,
        dropped_user=3,
        received=40,
        batches=5,
        injected=6,
        injection_failures={"ENETUNREACH": 7},
    )
    assert value(host, "l4box_queue_waiting_packets") == 1
    assert value(host, "l4box_queue_dropped_packets_total", reason="full") == 2
    assert value(host, "l4box_queue_dropped_packets_total", reason="no_buffer") == 3
    assert value(host, "l4box_queue_received_packets_total") == 40
    assert value(host, "l4box_queue_batches_total") == 5
    assert value(host, "l4box_injected_packets_total") == 6
    assert value(host, "l4box_injection_failures_total", error="ENETUNREACH") == 7


def test_loop_lag_is_a_histogram(host: FakeDaemon) -> None:
    host.heartbeat.note(0.15)

    buckets = {one.labels["le"]: one.value for one in samples(host) if one.name.endswith("_bucket")}
    assert [buckets[bound] for bound in ("0.02", "0.05", "0.1", "0.2", "+Inf")] == [0, 1, 1, 2, 2]
    assert value(host, "l4box_loop_lag_seconds_count") == 2
    assert value(host, "l4box_loop_lag_seconds_sum") == pytest.approx(0.2)


def test_the_start_is_unix_time_whatever_the_box_time_was(host: FakeDaemon) -> None:
    assert value(host, "l4box_start_time_seconds") == host.wall(host.time)
    assert value(host, "l4box_speed_ratio") == 1


def test_no_label_ever_names_a_client(host: FakeDaemon) -> None:
    host.box.session_events = True
    host.open(*range(40000, 40100))
    before = sum(1 for _ in samples(host))
    host.open(*range(41000, 41100))
    text = call(host, "GET", "/metrics").text
    assert sum(1 for _ in samples(host)) == before
    assert CLIENT not in text
    assert VIP not in text


def test_a_server_that_was_removed_has_no_series_any_more(host: FakeDaemon) -> None:
    host.box.configure(host.time, [web()])
    host.settle()
    assert {one.labels["virtual_server"] for one in samples(host) if "virtual_server" in one.labels} == {
        "web"
    }


def test_every_metric_is_documented_and_every_documented_metric_is_there(host: FakeDaemon) -> None:
    host.statistics = QueueStatistics(injection_failures={"EPERM": 1})
    host.checks_not_made["EMFILE"] += 1
    documented = {
        line.split("`")[1] for line in DOCUMENTATION.read_text().splitlines() if line.startswith("| `l4box_")
    }
    assert {re.sub("_(bucket|sum|count)$", "", one.name) for one in samples(host)} == documented


@pytest.mark.parametrize("reasons", [Drop, ResetReason])
def test_every_reason_is_documented(reasons: type[Drop] | type[ResetReason]) -> None:
    text = DOCUMENTATION.read_text()
    assert [reason.value for reason in reasons if f"`{reason.value}`" not in text] == []
