"""Many servers fail at once (SPEC §5, the limit): how long the resets take, and what another VIP feels."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import MakeLab, eventually, nstat, row
from tests.integration.many_connections import IDLE, ManyConnections
from tests.integration.steady_load import Request, SteadyLoad

pytestmark = [pytest.mark.integration, pytest.mark.alone]

SPEED = 10
SESSIONS = 20_000
PACED_PER_S = 2000
"""Resets per real second: what this box, a Python process, does beside its packets."""
BURST, PACED, CALM = "192.0.2.10", "192.0.2.20", "192.0.2.30"
FAILING = {BURST: ("rs1", "rs2"), PACED: ("rs3", "rs4")}
LOAD_PER_S = 200
CLIENTS = ("client", "client2")
WINDOW_S = 1.0

Figures = dict[str, Any]


def lab_of_three_vips(make_lab: MakeLab) -> NamespaceLab:
    def service(name: str, vip: str, dscp: int, servers: Sequence[str], pace: float) -> dict[str, Any]:
        return {
            "name": name,
            "address": vip,
            "port": 80,
            "dscp": dscp,
            "servers": servers,
            "reset_on_port_fail": {"enabled": True, "pace": pace},
            "health_check": {"timeout_s": 5},
        }

    return make_lab(
        speed=SPEED,
        lab={
            "name": "ropf-mass",
            "clients": 3,
            "server": [{"name": f"rs{number}"} for number in range(1, 6)],
            "box": {"events": {"sessions": False}},
            "virtual_server": [
                service("burst", BURST, 10, FAILING[BURST], 0),
                service("paced", PACED, 20, FAILING[PACED], PACED_PER_S / SPEED),
                service("calm", CALM, 30, ["rs5"], 0),
            ],
        },
    )


def latency(requests: Sequence[Request], begin: float, end: float) -> Figures:
    """What became of the requests that were due from `begin` to `end`, Unix time.

    `p99_window_ms` is the median, over windows of WINDOW_S or the whole if it is shorter, of each one's p99.
    """
    taken = [one for one in requests if begin <= one.due < end]
    assert len(taken) > LOAD_PER_S / 4
    count = max(int((end - begin) / WINDOW_S), 1)
    width_s = (end - begin) / count
    windows = [
        [one for one in taken if number * width_s <= one.due - begin < (number + 1) * width_s]
        for number in range(count)
    ]
    return {
        "requests": len(taken),
        "failed": sum(one.error is not None for one in taken),
        "p50_ms": _quantile(taken, 0.5),
        "p99_ms": _quantile(taken, 0.99),
        "p99_window_ms": round(median(_quantile(window, 0.99) for window in windows), 2),
    }


def _quantile(requests: Sequence[Request], share: float) -> float:
    ordered = sorted(one.took_s * 1000 for one in requests)
    return round(ordered[int(share * len(ordered))], 2)


def resets_accepted(lab: NamespaceLab) -> int:
    return sum(nstat(lab, node, "TcpEstabResets") for node in CLIENTS)


def storm(lab: NamespaceLab, vip: str) -> tuple[float, float, Figures]:
    """Both servers of the VIP fail; Unix times of the first FAILED and the last reset accepted, figures."""
    before = resets_accepted(lab)
    seen = lab.box.stats()["last_event"]
    for server in FAILING[vip]:
        lab.health_off(server)
    started: list[float] = []
    ended = 0
    for event in lab.box.events(since=seen, follow=True):  # asking again and again would load the box
        if event["kind"] == "reset_started":
            started.append(datetime.fromisoformat(event["time"]).timestamp())
        ended += event["kind"] == "reset_ended"
        if ended == len(FAILING[vip]):
            break
    eventually(lambda: resets_accepted(lab) >= before + SESSIONS, "the last reset")
    last = time.time()
    took_s = last - started[0]
    figures = {"took_s": round(took_s, 2), "resets_per_s": round(SESSIONS / took_s)}
    return started[0], last, figures


def run(lab: NamespaceLab) -> Figures:
    with ExitStack() as held:
        clients = {
            vip: [held.enter_context(ManyConnections(lab, vip, node=node)) for node in CLIENTS]
            for vip in FAILING
        }
        for vip, both in clients.items():
            for one in both:
                one.start(SESSIONS // 2)
            for one in both:
                one.wait(SESSIONS // 2, IDLE)
                one.hold()  # clients are elsewhere; what they do with a reset is no load on a box
            assert [row(lab, server)["sessions"] for server in FAILING[vip]] == [SESSIONS // 2] * 2
        with SteadyLoad(lab, CALM, node="client3", per_s=LOAD_PER_S) as load:
            marks = [time.time()]
            _let_pass(3 * WINDOW_S)
            marks.append(time.time())
            burst_began, burst_ended, burst = storm(lab, BURST)
            marks.append(time.time())
            _let_pass(3 * WINDOW_S)
            marks.append(time.time())
            paced_began, paced_ended, paced = storm(lab, PACED)
            marks.append(time.time())
            _let_pass(2 * WINDOW_S)
            marks.append(time.time())
        everyone = [one for both in clients.values() for one in both]
        reset = {"ECONNRESET": SESSIONS // 2}
        eventually(lambda: all(one.ended() == reset for one in everyone), "the clients' errors")
        assert resets_accepted(lab) == 2 * SESSIONS
    burst["before"] = latency(load.requests, marks[0], marks[1])
    burst["during"] = latency(load.requests, burst_began, max(burst_ended, burst_began + 0.5))
    burst["after"] = paced["before"] = latency(load.requests, marks[2], marks[3])
    paced["during"] = latency(load.requests, paced_began, paced_ended)
    paced["after"] = latency(load.requests, marks[4], marks[5])
    for figures in (
        burst,
        paced,
    ):  # what varies from one calm phase to another is this machine's, not the box's
        calm_ms = max(figures[phase]["p99_window_ms"] for phase in ("before", "after"))
        figures["p99_ratio"] = round(figures["during"]["p99_window_ms"] / calm_ms, 2)
    return {"burst": burst, "paced": paced}


def _let_pass(seconds: float) -> None:
    """A phase of the load, not a wait for anything."""
    time.sleep(seconds)


def test_20000_sessions_of_two_servers_are_reset_at_a_pace_that_another_vip_does_not_feel(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    figures = run(lab_of_three_vips(make_lab))
    (tmp_path / "figures.json").write_text(json.dumps(figures, indent=1))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    for kind in figures.values():
        assert kind["before"]["failed"] == kind["after"]["failed"] == 0
    assert figures["paced"]["during"]["failed"] == 0
    assert figures["paced"]["resets_per_s"] <= PACED_PER_S * 1.02
    assert figures["paced"]["p99_ratio"] <= 2
    assert figures["burst"]["took_s"] < figures["paced"]["took_s"]
