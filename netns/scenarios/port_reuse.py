"""A client comes back from the same port, and an entry of its last connection is still there.

A server has failed, and its client is gone without a word, as one is behind a NAT gateway that restarts. The
next connection happens to have the same source port. By default the box takes the SYN for what it is, a new
connection, and gives it to a server that lives. With `on_port_reuse = "keep"`, a stale-entry bug of real
boxes, the SYN follows the old entry to the dead server: a timeout that strikes at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome

CLIENTS = "curl:6"
PORT = 20001
"""Below the ports that kernels pick by themselves."""


def lab(_: Mapping[str, Any]) -> dict[str, Any]:
    keep = web(name="keep", address="192.0.2.20", dscp=11, on_port_reuse="keep")
    return {"virtual_server": [web(name="schedule"), keep]}


def play(run: Run) -> None:
    how: Any = {"options": ["--source-port", str(PORT)], "max_time_s": 4}
    fresh = run.start_group("idle", 3, "schedule", name="schedule", **how)
    stale = run.start_group("idle", 3, "keep", name="keep", **how)
    run.wait_until_all_answered()  # one of each three by each server, by round-robin
    run.start_clients()
    run.wait_until_all_answered()
    on_rs2 = {r.client: r.local_port for r in run.requests if r.server == "rs2" and r.local_port < PORT + 3}
    struck = {client for client in on_rs2 if client in stale.names}
    spared = {client for client in on_rs2 if client in fresh.names}
    run.expect_equal("clients of rs2, one behind each virtual server", (len(spared), len(struck)), (1, 1))

    down, _ = run.vip_down("rs2")
    failed = max(
        run.wait_for_state("rs2", "FAILED", within_s=26, since=down, service=service)
        for service in ("schedule", "keep")
    )
    run.vanish(fresh)
    run.vanish(stale)
    again = {request.client: request for request in run.ask(fresh) + run.ask(stale, within_s=120)}
    run.finish()

    ports = {again[client].local_port for client in spared}
    run.expect(
        "by default the client that comes back from its port is answered by another server",
        spared
        and all(
            again[client].outcome is Outcome.OK and again[client].server not in ("", "rs2")
            for client in spared
        )
        and ports == {on_rs2[client] for client in spared},
        ", ".join(
            f"port {again[client].local_port}: {again[client].server or again[client].error}"
            for client in spared
        ),
    )
    run.expect(
        "with keep it times out",
        struck and all(again[client].outcome is Outcome.TIMEOUT for client in struck),
        ", ".join(
            f"port {on_rs2[client]}: {again[client].outcome.value}, {again[client].error}"
            for client in struck
        ),
    )
    syns = [s for s in run.segments("rs2") if s.opens and s.time > failed + run.slack_s]
    run.expect(
        "its SYNs reach rs2, which has failed, and nobody else's do (capture at rs2)",
        syns
        and {(s.dscp, int(s.source.rpartition(":")[2])) for s in syns} == {(11, on_rs2[c]) for c in struck},
        f"{len(syns)} SYNs",
    )
    others = [again[c] for c in again if c not in struck]
    run.expect_none(
        "nobody else's request fails", [request for request in others if request.outcome is not Outcome.OK]
    )
