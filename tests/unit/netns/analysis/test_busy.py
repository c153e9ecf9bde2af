"""What a machine does to a run: told by what should have happened when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netns.analysis.busy import LOOP_S, PACING_S, measure
from netns.record.recording import Change, ClientGroup, Fact, Outcome, Recording, Request
from tests import recordings

SETTINGS = {"virtual_server": [{"name": "web", "health_check": {"interval_s": 10.0, "timeout_s": 1.0}}]}
BOX_S = 300.0
"""How long the box had run when the run began: its times are not the run's."""
NO_LOOP: tuple[dict[str, Any], dict[str, Any]] = ({}, {})


def run(*starts: float, took: float = 0.01, speed: float = 1.0, **more: Any) -> Recording:
    """One client that was told to ask ten times a second; times are real."""
    requests = tuple(
        Request("curl-1", at * speed, (at + took) * speed, Outcome.OK, 200, "rs1", True, 40000)
        for at in starts
    )
    return replace(
        recordings.quiet(),
        speed=speed,
        ended=100.0 * speed,
        requests=requests,
        groups=(ClientGroup("curl", "curl", "web", 1, 10.0, 2.0),),
        settings=SETTINGS,
        **{"events": (), "changes": (), **more},
    )


def probe(began: float, outcome: str = "success", detail: str = "200", took: float = 0.01) -> dict[str, Any]:
    return {
        "kind": "probe",
        "virtual_server": "web",
        "server": "rs1",
        "outcome": outcome,
        "detail": detail,
        "began": BOX_S + began,
        "box_time": BOX_S + began + took,
        "at": began + took,
    }


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_a_client_that_keeps_its_pace_shows_an_idle_machine(speed: float) -> None:
    found = measure(run(*(n / 10 for n in range(200)), speed=speed), NO_LOOP, None, None)
    assert found.pacing_s == pytest.approx(0.0, abs=1e-6)
    assert found.words == ""


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_requests_that_leave_late_show_a_busy_machine(speed: float) -> None:
    late = 2 * PACING_S
    found = measure(run(*(n * (0.1 + late) for n in range(200)), speed=speed), NO_LOOP, None, None)
    assert found.pacing_s == pytest.approx(late)
    assert "1 request in 100 left" in found.words


def test_a_request_that_waits_for_a_slow_answer_is_not_late() -> None:
    found = measure(run(*(n * 1.0 for n in range(200)), took=1.0), NO_LOOP, None, None)
    assert found.pacing_s == pytest.approx(0.0, abs=1e-6)


def test_one_late_request_of_many_is_no_busy_machine() -> None:
    starts = [n / 10 for n in range(199)]
    assert measure(run(*starts, 25.0), NO_LOOP, None, None).words == ""


def test_loop_lag_is_that_of_the_run_and_not_what_came_before() -> None:
    bounds = [0.01, 0.1, 1.0]
    before = {"upper_bounds_s": bounds, "counts": [0, 0, 500], "beats": 510, "worst_s": 3.0}
    idle = {"upper_bounds_s": bounds, "counts": [1000, 1000, 1500], "beats": 1510, "worst_s": 3.0}
    busy = {"upper_bounds_s": bounds, "counts": [900, 900, 1500], "beats": 1510, "worst_s": 3.0}
    stalled = {"upper_bounds_s": bounds, "counts": [0, 0, 500], "beats": 520, "worst_s": 7.0}
    assert measure(run(0.0), (before, idle), None, None).loop_s == 0.01
    found = measure(run(0.0), (before, busy), None, None)
    assert found.loop_s == 1.0 > LOOP_S
    assert measure(run(0.0), (before, stalled), None, None).loop_s == 7.0
    assert "event loop" in found.words


def test_a_check_that_begins_late_shows_a_busy_machine() -> None:
    found = measure(run(0.0, events=(probe(5.0), probe(15.0), probe(26.5))), NO_LOOP, 0, 0)
    assert found.check_s == pytest.approx(1.5)
    assert "a health check began 1.50 s late" in found.words


def test_a_check_that_timed_out_of_a_server_that_answered_clients_shows_a_busy_machine() -> None:
    missed = probe(5.0, "miss", "timeout", took=1.0)
    found = measure(run(5.2, events=(missed,)), NO_LOOP, None, None)
    assert (found.missed, found.words) == (1, ""), "alone, it may be the health page that hangs"
    gone = (Change(0.0, "rs1", Fact.LISTENING, True), Change(4.0, "rs1", Fact.LISTENING, False))
    assert measure(run(5.2, events=(missed,), changes=gone), NO_LOOP, None, None).missed == 0
    assert measure(run(9.0, events=(missed,)), NO_LOOP, None, None).missed == 0


def test_a_server_that_was_not_checked_for_a_while_is_no_late_check() -> None:
    states = ("SHUTDOWN", "DISABLED", "ENABLED")
    out = [
        {"kind": "server_state", "virtual_server": "web", "server": "rs1", "new": new, "at": 6.0}
        for new in states
    ]
    assert measure(run(0.0, events=(probe(5.0), *out, probe(40.0))), NO_LOOP, 0, 0).check_s is None


def test_pressure_is_told_beside_what_it_did_and_alone_is_no_fault() -> None:
    assert measure(run(0.0), NO_LOOP, 10.0, 100.0).words == ""
    late = run(*(n * 1.0 for n in range(200)))
    assert "tasks waited for a CPU 90% of the time" in measure(late, NO_LOOP, 10.0, 100.0).words
