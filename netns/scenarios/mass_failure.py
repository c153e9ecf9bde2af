"""Many servers die at once, and the box has to reset all their sessions.

The limit of Reset On Port Fail: a box that sends a RST for every session of every failed server has that much
less time for the packets of others. Played twice, for sessions over two servers each time: as a burst, which
is the box as it is, and paced. Another virtual server, with a server of its own, is under a steady load all
the while: its latency and its losses show what the storm costs those who have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome

SETTINGS = {"sessions": 2000.0, "pace": 20.0, "quiet_s": 40.0}
"""Sessions over the two servers that fail; resets per box second; box seconds before and after each storm.

Far above 10,000 sessions, nginx's connection limit (netns/web.py) closes idle ones of its own accord.
"""
CLIENTS = "curl:5"
"""Those of the other virtual server."""
RATE = 50
NOISE_MS = 0.5
"""What a small machine with other things to do makes of a median; of a p99 it may make anything."""
CAPTURE = "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"
"""Capturing the steady load would be a load of its own."""


def lab(settings: Mapping[str, Any]) -> dict[str, Any]:
    def failing(number: int, pace: float, servers: list[str]) -> dict[str, Any]:
        return web(
            name="paced" if pace else "burst",
            address=f"192.0.2.{number}",
            dscp=number,
            servers=servers,
            aging_s=3600,  # none of so many may go idle for so long as to age out
            reset_on_port_fail={"enabled": True, "pace": pace},
        )

    return {
        "server": [{"name": f"rs{number}"} for number in range(1, 7)],
        "virtual_server": [
            web(servers=["rs6"]),
            failing(20, 0, ["rs1", "rs2", "rs5"]),
            failing(21, settings["pace"], ["rs3", "rs4", "rs5"]),
        ],
        "box": {"events": {"sessions": False}},
    }


@dataclass(frozen=True, slots=True)
class Storm:
    """What there is to know of one, in the run's time."""

    name: str
    sessions: int
    """Connections of clients with the servers that failed."""
    accepted: int
    """Resets that the clients' kernel has accepted."""
    began: float
    """When the first server was FAILED."""
    freed: list[float]
    """When each client found out."""


def play(run: Run) -> None:
    # One address has 28,000 ports for connections to one VIP unless told otherwise.
    run.lab.run("client", ["sysctl", "-qw", "net.ipv4.ip_local_port_range=10240 65000"], check=True)
    run.start_clients(rate=RATE)
    run.wait_until_all_answered()
    storms = [_storm(run, "burst", ["rs1", "rs2"]), _storm(run, "paced", ["rs3", "rs4"])]
    run.finish()
    for storm in storms:
        _judge(run, storm)


def _storm(run: Run, service: str, servers: list[str]) -> Storm:
    # A third of them gets the virtual server's third server, which lives.
    group = run.start_group("idle", round(run.settings["sessions"] * 1.5), service, name=service)
    run.wait_until_all_answered(within_s=1200)
    run.watch_for_s(run.settings["quiet_s"], "have latencies to compare with")
    held = set().union(*(run.connections(server, service) for server in servers))
    before = run.counted("client")
    off = run.now()
    for server in servers:
        run.health_off(server)
    began = min(run.wait_for_state(server, "FAILED", 25, since=off, service=service) for server in servers)
    run.wait_until(
        "the box has reset their sessions",
        lambda: len(run.events("reset_ended", virtual_server=service)) == len(servers),
        within_s=2 * run.settings["sessions"] / run.settings["pace"] + 60,
    )
    names = set(group.names)

    def freed() -> list[float]:
        return [end.time for end in run.ends if end.how == "reset" and end.client in names]

    run.wait_until(
        "their clients are free and have noticed",
        lambda: not run.open_ends(service) & held and len(freed()) >= len(held),
        5 * run.speed,
    )
    noticed = sorted(freed())
    run.note(f"the {service} storm is over", "box")
    accepted = run.counted("client")["TcpEstabResets"] - before["TcpEstabResets"]
    run.watch_for_s(run.settings["quiet_s"], "have latencies to compare with")
    back = run.now()
    for server in servers:
        run.health_on(server)
    for server in servers:
        run.wait_for_state(server, "ACTIVE", 15, since=back, service=service)
    again = run.ask(group, within_s=1200)
    answered = [request for request in again if request.outcome is Outcome.OK]
    run.expect_equal(f"{service}: clients whose next request is answered", len(answered), len(group.names))
    group.stop()
    return Storm(service, len(held), accepted, began, noticed)


def _judge(run: Run, storm: Storm) -> None:
    name, wanted = storm.name, round(run.settings["sessions"])
    run.expect_equal(f"{name}: sessions with the servers that fail", storm.sessions, wanted)
    run.expect_equal(
        f"{name}: resets that the clients' kernel accepts (nstat)", storm.accepted, storm.sessions
    )
    run.expect_equal(f"{name}: clients that find out", len(storm.freed), storm.sessions)
    span_s = (storm.freed[-1] - storm.freed[0]) / run.speed
    over = max(storm.freed[-1], storm.began + run.speed)  # a real second at least, to have some to measure
    quiet_s = run.settings["quiet_s"]
    spans = {
        "before": (storm.began - quiet_s, storm.began),
        "during": (storm.began, over),
        "after": (over, over + quiet_s),
    }
    others = {span: _latency(run, low, high) for span, (low, high) in spans.items()}
    run.figures[name] = {
        "sessions": storm.sessions,
        "last client free after, real s": round((storm.freed[-1] - storm.began) / run.speed, 3),
        "resets per real s": round(storm.sessions / span_s),
        "other VIP, in real time": others,
    }
    before, during = others["before"]["p50_ms"], others["during"]["p50_ms"]
    if name == "paced":
        text = (
            "paced: the other VIP's median, in real time, is at most twice that before the storm, or "
            f"{NOISE_MS:g} ms more"
        )
        run.expect(text, during <= max(2 * before, before + NOISE_MS), f"{during:g} ms, before {before:g} ms")
    lost = sum(latency["failed"] for latency in others.values())
    run.expect_equal(f"{name}: failed requests on the other VIP before, during and after the storm", lost, 0)


def _latency(run: Run, low: float, high: float) -> dict[str, float]:
    """What the other virtual server's clients had in that span; milliseconds are real."""
    within = [request for request in run.requests_of("curl") if low <= request.started < high]
    cuts = quantiles([1000 * (request.ended - request.started) / run.speed for request in within], n=100)
    return {
        "requests": len(within),
        "failed": sum(request.outcome is not Outcome.OK for request in within),
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
    }
