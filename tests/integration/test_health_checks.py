"""Health checks and what follows from them (SPEC §4), on real servers and real clients."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from netns.namespaces.lab import NamespaceLab
from netns.web import StopSignal
from tests.integration.conftest import VIP, MakeLab, events, eventually, row, wait_for_state
from tests.integration.keepalive import KeepAlive

pytestmark = pytest.mark.integration

PHASES = 12
SPEED = 10
SLACK_S = 0.25 * SPEED
"""A busy machine's quarter of a real second, in box seconds. The unit tests have the bounds without it."""
CURL = ["curl", "--silent", "--show-error", "--max-time", "2"]


def keep_alive_to(lab: NamespaceLab, server: str, **options: Any) -> KeepAlive:
    """A keep-alive client whose connection the box has given to `server`."""
    for _ in range(6):
        client = KeepAlive(lab, VIP, **options)
        if client.get() == server:
            return client
        client.__exit__()
    raise AssertionError(f"no connection went to {server}")


def server_of_new_connection(lab: NamespaceLab) -> str:
    return lab.run("client", [*CURL, f"http://{VIP}/"], check=True).stdout.strip()


def box_time(lab: NamespaceLab) -> float:
    return float(lab.box.stats()["uptime_s"])


def is_past(lab: NamespaceLab, start: float) -> bool:
    return box_time(lab) >= start


def test_server_without_health_file_fails_in_10_to_20_s_whatever_the_phase(make_lab: MakeLab) -> None:
    lab = make_lab(speed=SPEED)
    phase = random.Random(4)
    taken = []
    for _ in range(PHASES):
        wait_for_state(lab, "rs2", "ACTIVE")
        start = box_time(lab) + phase.uniform(0, 10)
        eventually(partial(is_past, lab, start), "the phase")
        lab.health_off("rs2")
        off = box_time(lab)
        wait_for_state(lab, "rs2", "FAILED")
        changes = [(event["old"], event["new"]) for event in events(lab, "server_state", server="rs2")]
        assert changes[-2:] == [("ACTIVE", "SUSPECT"), ("SUSPECT", "FAILED")]
        taken.append(events(lab, "server_state", server="rs2", new="FAILED")[-1]["box_time"] - off)
        lab.health_on("rs2")
    assert all(10 - SLACK_S <= seconds <= 20 + SLACK_S for seconds in taken), taken
    assert max(taken) - min(taken) > 4, taken


def test_failed_server_gets_no_new_flow_but_keeps_its_keep_alive_client(make_lab: MakeLab) -> None:
    lab = make_lab()
    with keep_alive_to(lab, "rs2") as client:
        lab.health_off("rs2")
        wait_for_state(lab, "rs2", "SUSPECT")
        assert row(lab, "rs2")["bound"]
        wait_for_state(lab, "rs2", "FAILED")
        assert not row(lab, "rs2")["bound"]
        assert {server_of_new_connection(lab) for _ in range(9)} == {"rs1", "rs3"}
        assert [client.get() for _ in range(5)] == ["rs2"] * 5
        lab.health_on("rs2")
        wait_for_state(lab, "rs2", "ACTIVE")
        assert client.get() == "rs2"
    success = events(lab, "probe", server="rs2", outcome="success")
    bound = events(lab, "server_state", server="rs2", old="FAILED", new="ACTIVE")[0]
    assert bound["box_time"] in {event["box_time"] for event in success}, "bound at once at the first success"
    assert "rs2" in {server_of_new_connection(lab) for _ in range(3)}


def test_server_without_vip_fails_its_check_and_its_client_hangs(make_lab: MakeLab) -> None:
    lab = make_lab()
    with keep_alive_to(lab, "rs2", timeout_s=1.5) as client:
        lab.vip_down("rs2")
        wait_for_state(lab, "rs2", "FAILED")
        assert "timeout" in events(lab, "probe", server="rs2")[-1]["detail"]
        assert client.get() == "TimeoutError"
        assert client.ask("state") == "idle", "no FIN and no RST came"


def test_direct_checks_stay_green_while_the_client_hangs(make_lab: MakeLab) -> None:
    lab = make_lab(health_check={"path": "direct"})
    with keep_alive_to(lab, "rs2", timeout_s=1.5) as client:
        lab.vip_down("rs2")
        assert client.get() == "TimeoutError"
        down = box_time(lab)
        eventually(lambda: box_time(lab) > down + 31, "three more checks")
        late = [event for event in events(lab, "probe", server="rs2") if event["box_time"] > down]
        assert {event["outcome"] for event in late} == {"success"}
        assert row(lab, "rs2")["state"] == "ACTIVE"


def test_l4_check_fails_when_the_process_stops_and_binds_at_the_first_success(make_lab: MakeLab) -> None:
    lab = make_lab(health_check={"kind": "l4"})
    lab.health_off("rs2")
    lab.stop("rs2", StopSignal.GRACEFUL)
    wait_for_state(lab, "rs2", "FAILED")
    assert [(event["old"], event["new"]) for event in events(lab, "server_state", server="rs2")][-2:] == [
        ("ACTIVE", "SUSPECT"),
        ("SUSPECT", "FAILED"),
    ]
    assert events(lab, "probe", server="rs2", outcome="miss")[-1]["detail"] == "refused"
    lab.start("rs2")
    wait_for_state(lab, "rs2", "ACTIVE")
    success = [event["box_time"] for event in events(lab, "probe", server="rs2", outcome="success")]
    bound = events(lab, "server_state", server="rs2", old="FAILED", new="ACTIVE")[0]["box_time"]
    assert bound in success
    assert row(lab, "rs1")["state"] == "ACTIVE"


def test_check_tells_its_status_and_when_it_began(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.health_off("rs2")
    wait_for_state(lab, "rs2", "FAILED")
    lab.stop("rs3", StopSignal.GRACEFUL)
    wait_for_state(lab, "rs3", "FAILED")
    last = {server: events(lab, "probe", server=server)[-1] for server in ("rs1", "rs2", "rs3")}

    assert [last[server]["status"] for server in ("rs1", "rs2", "rs3")] == [200, 404, None]
    for checks in (events(lab, "probe", server=server) for server in last):
        assert all(event["began"] <= event["box_time"] for event in checks)
        assert all(one["box_time"] < following["began"] for one, following in pairwise(checks)), checks
    assert lab.box.stats()["loop_lag"]["beats"] > 0


def test_checks_of_different_servers_are_spread_over_the_interval(make_lab: MakeLab) -> None:
    lab = make_lab()
    begin = box_time(lab)
    eventually(lambda: box_time(lab) > begin + 21, "two rounds of checks")
    times = {
        server: [event["box_time"] for event in events(lab, "probe", server=server)][-1] % 10
        for server in ("rs1", "rs2", "rs3")
    }
    gaps = sorted((one - other) % 10 for one in times.values() for other in times.values() if one != other)
    assert gaps[0] > 2, times
