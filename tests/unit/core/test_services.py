"""When servers are checked, what the checks make of them, and what an administrator does (SPEC §4)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lb.core.box import Box
from lb.core.events import Drained, Probed, ServerChanged
from lb.core.health import Outcome, ProbeResult, ServerState
from lb.core.service import CheckSettings
from lb.core.services import Probe

from .dialogue import NOT_FOUND, OK, REFUSED, SILENT, Answer, Dialogue, changed, service, tcp

FAILED, ACTIVE, SUSPECT = ServerState.FAILED, ServerState.ACTIVE, ServerState.SUSPECT


def running(**settings: int | bool) -> Dialogue:
    """A box whose servers have been ACTIVE for a while."""
    talk = Dialogue(service(check=CheckSettings(**settings)))  # type: ignore[arg-type]
    talk.wait(60)
    talk.state_changes()
    return talk


def gaps(talk: Dialogue, server: str) -> list[float]:
    times = [time for time, name in talk.checks if name == server]
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


# States


def test_server_is_tested_at_once_and_active_at_its_first_success() -> None:
    talk = Dialogue(service(servers=("rs1",)))

    assert talk.state_changes() == ["rs1 ENABLED TESTING", "rs1 TESTING ACTIVE"]
    assert talk.send(tcp("S")) == "rs1"


def test_server_that_has_not_answered_yet_gets_no_flow() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2")), answers={"rs1": SILENT})

    assert talk.states() == {"rs1": "TESTING", "rs2": "ACTIVE"}
    assert {talk.send(tcp("S", port=port)) for port in range(4)} == {"rs2"}


def test_first_miss_is_suspect_and_still_bound_second_is_failed_and_not() -> None:
    talk = running()
    talk.answers["rs2"] = REFUSED

    talk.wait_for_state("rs2", SUSPECT)
    assert {talk.send(tcp("S", port=port)) for port in range(3)} == {"rs1", "rs2", "rs3"}

    talk.wait_for_state("rs2", FAILED)
    assert {talk.send(tcp("S", port=port)) for port in range(10, 16)} == {"rs1", "rs3"}
    assert talk.state_changes() == ["rs2 ACTIVE SUSPECT", "rs2 SUSPECT FAILED"]


def test_first_success_binds_a_failed_server_at_once() -> None:
    talk = running()
    talk.answers["rs2"] = NOT_FOUND
    talk.wait_for_state("rs2", FAILED)
    talk.answers["rs2"] = OK
    talk.state_changes()

    assert talk.wait_for_state("rs2", ACTIVE) <= 10
    assert talk.state_changes() == ["rs2 FAILED ACTIVE"]
    assert {talk.send(tcp("S", port=port)) for port in range(3)} == {"rs1", "rs2", "rs3"}


@pytest.mark.parametrize(
    ("settings", "checks"),
    [
        ({"retries": 0}, 1),
        ({"retries": 1}, 2),
        ({"retries": 2}, 3),
        ({"retries": 2, "fail_on_bad_status": True}, 1),
    ],
)
def test_checks_that_it_takes_to_fail(settings: dict[str, int], checks: int) -> None:
    talk = running(**settings)
    talk.answers["rs2"] = NOT_FOUND
    talk.checks.clear()

    talk.wait_for_state("rs2", FAILED)

    assert [name for _, name in talk.checks].count("rs2") == checks


def test_state_change_says_which_server_from_what_to_what_why_and_what_it_holds() -> None:
    talk = running(retries=0)
    for port in range(3):
        talk.send(tcp("S", port=port))
    talk.answers["rs2"] = NOT_FOUND
    talk.wait_for_state("rs2", FAILED)

    (event,) = talk.take_events(ServerChanged)

    assert isinstance(event, ServerChanged)
    assert (event.virtual_server, event.server) == ("web", "rs2")
    assert (event.old, event.new, event.bound) == (ACTIVE, FAILED, False)
    assert (event.reason, event.sessions) == ("health check: 404", 1)
    assert event.box_time == pytest.approx(talk.now, abs=0.011)


def test_every_check_is_reported_as_it_ended() -> None:
    talk = Dialogue(service(servers=("rs1",)), answers={"rs1": SILENT})
    began = talk.now
    talk.wait(1)

    assert talk.take_events(Probed) == [
        Probed(began + 1, "web", "rs1", Outcome.MISS, "timeout", status=None, began=began)
    ]


def test_check_begins_when_it_is_started_however_late_that_is() -> None:
    """So that a check that was late, or missed, is told from a server that was slow."""
    box = Box()
    box.configure(100.0, [service(servers=("rs1",))])
    box.handle_timer(100.5)
    (probe,) = box.take_probes(103.0)
    box.take_events()

    box.handle_probe(103.25, probe, ProbeResult(Outcome.BAD_STATUS, "404", 404))

    (probed,) = [event for event in box.take_events() if isinstance(event, Probed)]
    assert (probed.began, probed.box_time, probed.status) == (103.0, 103.25, 404)


# When: SPEC §4, "10–20 s after its file is renamed, 11–21 s after it goes silent"


@pytest.mark.parametrize(
    ("answer", "earliest_s", "latest_s"), [(NOT_FOUND, 10, 20), (REFUSED, 10, 20), (SILENT, 11, 21)]
)
def test_time_to_detect_over_a_hundred_phases_of_the_interval(
    answer: Answer, earliest_s: float, latest_s: float
) -> None:
    took = []
    for tenth in range(100):
        talk = running()
        talk.wait(tenth / 10 + 0.05)
        talk.answers["rs2"] = answer
        took.append(talk.wait_for_state("rs2", FAILED))

    assert min(took) >= earliest_s
    assert max(took) <= latest_s
    assert min(took) == pytest.approx(earliest_s, abs=0.2)
    assert max(took) == pytest.approx(latest_s, abs=0.2)


@pytest.mark.parametrize("server", ["rs1", "rs2", "rs3"])
def test_server_that_fails_right_after_its_first_check_is_found_in_time_too(server: str) -> None:
    talk = Dialogue()
    talk.wait(0.01)
    talk.answers[server] = NOT_FOUND

    assert talk.wait_for_state(server, FAILED) <= 20


def test_no_server_is_ever_left_unchecked_for_longer_than_the_interval() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2", "rs3", "rs4")))
    talk.wait(100)

    for server in ("rs1", "rs2", "rs3", "rs4"):
        assert max(gaps(talk, server)) <= 10


def test_checks_come_once_per_interval_each_server_in_a_phase_of_its_own() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2", "rs3", "rs4")))
    talk.wait(60)
    for server in ("rs1", "rs2", "rs3", "rs4"):
        assert set(gaps(talk, server)[1:]) == {10.0}

    phases = sorted({round(time % 10, 6) for time, _ in talk.checks[-8:]})

    assert [later - earlier for earlier, later in pairwise(phases)] == [2.5, 2.5, 2.5]


def test_checks_of_two_virtual_servers_are_spread_over_the_interval_too() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2")), service("dns", port=53, servers=("rs3", "rs4")))
    talk.wait(60)

    assert len({round(time % 10, 6) for time, _ in talk.checks[-8:]}) == 4


def test_late_timer_makes_one_check_and_keeps_the_phase() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    talk.wait(25)
    before = talk.checks[-1][0]
    talk.checks.clear()

    talk.now += 47.3
    talk.wait(0)
    assert len(talk.checks) == 1
    talk.wait(30)

    times = [time for time, _ in talk.checks]
    assert len(times) == 4
    assert [round((time - before) % 10, 6) for time in times[1:]] == [0, 0, 0]
    assert 0 < times[1] - times[0] <= 10


@pytest.mark.parametrize("interval_s", [1.0, 3.3, 7.7, 10.0, 0.1 + 0.2])
@pytest.mark.parametrize("at", [0.0, 10_000.1, 1e6 / 3, 1e8, 1e9 / 7, 1e9])
def test_rounding_never_makes_a_check_twice(at: float, interval_s: float) -> None:
    talk = Dialogue(service(check=CheckSettings(interval_s=interval_s)), at=at)
    talk.wait(300 * interval_s)

    for server in ("rs1", "rs2", "rs3"):
        assert gaps(talk, server)[1:] == pytest.approx([interval_s] * (len(gaps(talk, server)) - 1), abs=1e-5)


# Results that come too late


def test_result_from_before_a_server_was_disabled_says_nothing() -> None:
    talk = Dialogue(service(servers=("rs1",)), answers={"rs1": Answer(Outcome.SUCCESS, "200", after_s=0.9)})
    talk.wait(0.5)
    talk.box.disable(talk.now, talk.server("rs1"))
    talk.wait(5)

    assert talk.states() == {"rs1": "DISABLED"}
    assert talk.state_changes() == ["rs1 ENABLED TESTING", "rs1 TESTING DISABLED"]


def test_result_from_before_a_server_was_disabled_says_nothing_once_it_is_enabled_again() -> None:
    talk = Dialogue(service(servers=("rs1",)), answers={"rs1": Answer(Outcome.SUCCESS, "200", after_s=0.9)})
    talk.wait(0.5)
    talk.answers["rs1"] = SILENT
    rs1 = talk.server("rs1")
    talk.box.disable(talk.now, rs1)
    talk.box.enable(talk.now, rs1)
    talk.wait(0.5)

    assert talk.states() == {"rs1": "TESTING"}


def test_result_for_a_server_that_is_gone_says_nothing() -> None:
    talk = Dialogue(answers={"rs3": SILENT})
    talk.configure(service(servers=("rs1", "rs2")))
    talk.take_events()
    talk.wait(2)

    assert "rs3" not in {event.server for event in talk.take_events(Probed) if isinstance(event, Probed)}


def test_result_for_a_server_that_never_was_says_nothing() -> None:
    talk = Dialogue()
    talk.take_events()

    talk.box.handle_probe(talk.now, Probe(99, 1, talk.now), ProbeResult(Outcome.MISS, "timeout"))

    assert talk.box.take_events() == []


# The administrator


def test_disabled_server_gets_no_flows_and_no_checks_and_keeps_its_sessions() -> None:
    talk = running()
    served = {port: talk.send(tcp("S", port=port)) for port in range(3)}
    talk.box.disable(talk.now, talk.server("rs2"))
    talk.checks.clear()

    assert {talk.send(tcp("S", port=port)) for port in range(10, 16)} == {"rs1", "rs3"}
    assert {port: talk.send(tcp("A", port=port)) for port in range(3)} == served
    talk.wait(30)
    assert {name for _, name in talk.checks} == {"rs1", "rs3"}
    assert talk.states()["rs2"] == "DISABLED"


def test_enabled_server_is_checked_at_once_and_bound_at_the_first_success() -> None:
    talk = running()
    rs2 = talk.server("rs2")
    talk.box.disable(talk.now, rs2)
    talk.wait(33)
    talk.take_events()
    talk.checks.clear()

    talk.box.enable(talk.now, rs2)
    talk.wait(0)

    assert (talk.now, "rs2") in talk.checks
    assert talk.state_changes() == [
        "rs2 DISABLED ENABLED",
        "rs2 ENABLED TESTING",
        "rs2 TESTING ACTIVE",
    ]


@pytest.mark.parametrize("times", [1, 2, 10])
def test_server_disabled_and_enabled_in_quick_succession_is_checked_as_often_as_any(times: int) -> None:
    talk = running()
    rs2 = talk.server("rs2")
    talk.checks.clear()
    for _ in range(times):
        talk.box.disable(talk.now, rs2)
        talk.box.enable(talk.now, rs2)
        talk.wait(0.1)
    talk.checks = talk.checks[-1:]
    talk.wait(100)

    assert max(gaps(talk, "rs2")) <= 10
    assert 10 <= [name for _, name in talk.checks].count("rs2") <= 12


def test_enabling_a_server_that_is_enabled_changes_nothing_and_checks_nothing_twice() -> None:
    talk = running()
    talk.box.enable(talk.now, talk.server("rs2"))
    talk.checks.clear()
    talk.wait(100)

    assert talk.state_changes() == []
    assert [name for _, name in talk.checks].count("rs2") == 10


def test_shut_down_server_is_reported_drained_when_its_last_session_has_gone() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    for port in (1, 2):
        talk.send(tcp("S", port=port))
    talk.box.shut_down(talk.now, talk.server("rs1"))

    assert talk.send(tcp("A", port=1)) == "rs1"
    assert talk.send(tcp("S", port=3)) == "no_server"
    assert talk.send(tcp("R", port=1)) == "rs1"
    assert talk.take_events(Drained) == []
    talk.send(tcp("R", port=2))
    assert talk.take_events(Drained) == [Drained(talk.now, "web", "rs1")]
    assert talk.states() == {"rs1": "SHUTDOWN"}


def test_failed_server_is_reported_drained_too() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    talk.send(tcp("S"))
    talk.answers["rs1"] = REFUSED
    talk.wait_for_state("rs1", FAILED)
    talk.take_events()
    talk.wait(600)

    assert [type(event) for event in talk.take_events(Drained)] == [Drained]


def test_bound_server_is_never_reported_drained() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    talk.send(tcp("S"))
    talk.send(tcp("R"))

    assert talk.take_events(Drained) == []


def test_disabled_and_shut_down_servers_can_become_each_other() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    rs1 = talk.server("rs1")
    talk.take_events()

    for act in (talk.box.disable, talk.box.shut_down, talk.box.disable, talk.box.disable):
        act(talk.now, rs1)
    talk.wait(0)

    talk.events += talk.box.take_events()
    assert talk.state_changes() == ["rs1 ACTIVE DISABLED", "rs1 DISABLED SHUTDOWN", "rs1 SHUTDOWN DISABLED"]


def test_two_boxes_do_not_share_servers() -> None:
    one, other = Dialogue(), Dialogue()
    one.box.disable(one.now, one.server("rs1"))

    assert other.states()["rs1"] == "ACTIVE"


def test_longer_interval_is_kept_from_the_next_check_on() -> None:
    talk = Dialogue(service(servers=("rs1",), check=CheckSettings(interval_s=1)))
    talk.wait(200)
    talk.configure(service(servers=("rs1",), check=CheckSettings(interval_s=10)))
    talk.checks.clear()
    talk.wait(100)

    assert 9 <= len(talk.checks) <= 11
    assert max(gaps(talk, "rs1")) <= 10


def test_shorter_interval_is_kept_from_the_next_check_on() -> None:
    talk = Dialogue(service(servers=("rs1",), check=CheckSettings(interval_s=10)))
    talk.wait(200)
    talk.configure(service(servers=("rs1",), check=CheckSettings(interval_s=1)))
    talk.checks.clear()
    talk.wait(100)

    assert 90 <= len(talk.checks) <= 101


def test_changed_retries_hold_from_the_next_miss_on() -> None:
    talk = running(retries=3)
    talk.configure(changed(service(), check=CheckSettings(retries=0)))
    talk.answers["rs2"] = REFUSED
    talk.take_events()
    talk.wait_for_state("rs2", FAILED)

    assert talk.state_changes() == ["rs2 ACTIVE FAILED"]
