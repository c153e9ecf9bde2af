"""A client that does not close keeps its entry until aging.

When the web server stops, its kernel sends every client a FIN; the box, which sees no packet from server to
client, learns of it only when the client sends its own. One that answers the FIN with an ACK and nothing more
stays half-closed: its entry, which points to a server that has long been stopped, redeployed and started
again, lives for the whole aging time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome

SETTINGS = {"stop": ("graceful", "abrupt", "kill"), "aging_s": 120.0}
CLIENTS = "curl:6"
FIN_RETENTION_S, FIN_RETENTION_REAL_S = 8.0, 4.0
"""Box seconds that the box keeps the entry of a client that has closed; at least so many real ones."""
"""How long the box keeps an entry after the client's FIN (SPEC §3)."""


def lab(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"virtual_server": [web(aging_s=settings["aging_s"])]}


def play(run: Run) -> None:
    aging_s = run.settings["aging_s"]
    retention_s = max(FIN_RETENTION_S, FIN_RETENTION_REAL_S * run.speed)
    run.start_clients()
    closing = run.start_group("idle", 6, name="closing")
    half_closed = run.start_group("idle", 6, name="half-closed", options=["--half-closed"])
    run.wait_until_all_answered()
    ports = {request.client: request.local_port for request in run.requests if request.server == "rs2"}
    stubborn = {client: port for client, port in ports.items() if client in half_closed.names}
    polite = {client: port for client, port in ports.items() if client in closing.names}

    stop_began, _ = run.stop("rs2")
    run.wait_until(
        "every idle client of rs2 has got a FIN",
        lambda: {end.client for end in run.ends if end.how == "fin"} >= polite.keys() | stubborn.keys(),
        within_s=20,
    )
    run.wait_until(
        "the box has forgotten the clients that closed",
        lambda: len(_removed(run, polite.values(), "client_closed")) >= len(polite),
        within_s=30,
    )
    run.wait_for_state("rs2", "FAILED", within_s=30, since=stop_began)
    run.deploy("rs2")
    started, _ = run.start("rs2")
    run.wait_for_state("rs2", "ACTIVE", within_s=30, since=started)
    states = sorted(
        socket.state
        for socket in run.sockets("client")
        if int(socket.local.rpartition(":")[2]) in stubborn.values()
    )
    run.expect_equal(
        "clients that do not close are in CLOSE-WAIT in their kernel (ss)",
        states,
        ["CLOSE-WAIT"] * len(stubborn),
    )
    kept = [row for row in run.table("rs2") if int(row["client"].rpartition(":")[2]) in stubborn.values()]
    run.expect_equal("of which the box still has an entry, with rs2 bound again", len(kept), len(stubborn))

    run.wait_until(
        "their entries have aged out",
        lambda: len(_removed(run, stubborn.values(), "aged_out")) >= len(stubborn),
        within_s=aging_s,
    )
    spoke_at = run.now()
    late = [request for request in run.ask(half_closed) if request.client in stubborn]
    reset = sum(request.outcome is Outcome.RESET for request in late)
    again = [request for request in run.ask(half_closed) if request.client in stubborn]
    run.finish()

    wire = run.segments("client")
    for client, port in polite.items():
        fin = max(s.time for s in wire if s.fin and s.source.endswith(f":{port}"))
        gone = _removed(run, [port], "client_closed")
        text = f"{client} closes, and its entry is kept for {retention_s:g} {run.unit} more"
        run.expect_between(text, gone[0]["at"] - fin, retention_s, retention_s)
    for client, port in stubborn.items():
        spoke = max(s.time for s in wire if s.source.endswith(f":{port}") and s.time < spoke_at)
        aged = _removed(run, [port], "aged_out")
        text = f"{client} does not close, and its entry lives for the aging time of {aging_s:g} {run.unit}"
        run.expect_between(text, aged[0]["at"] - spoke, aging_s, aging_s)
    run.expect("what such a client sends after that is reset", reset == len(late), f"{reset} of {len(late)}")
    sources = tuple(f":{port}" for port in stubborn.values())
    run.expect_none(
        "by the box: nothing of it reaches rs2 (capture at rs2)",
        [s for s in run.segments("rs2") if s.source.endswith(sources) and s.time > spoke_at],
    )
    served = sum(request.outcome is Outcome.OK for request in again)
    run.expect("and its next request is answered", served == len(again), f"{served} of {len(again)}")
    run.figures["an entry outlived the stop of its server by, box s"] = round(
        max(event["at"] for event in _removed(run, stubborn.values(), "aged_out")) - stop_began, 1
    )


def _removed(run: Run, ports: Any, reason: str) -> list[dict[str, Any]]:
    wanted = set(ports)
    return [
        event
        for event in run.events("session_removed", server="rs2", reason=reason)
        if int(event["client"].rpartition(":")[2]) in wanted
    ]
