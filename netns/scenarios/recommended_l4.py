"""Deploy behind an L4 health check: stop, deploy, start.

The check is a connection to the port, so stopping the web server does both: its kernel sends every client a
FIN, they close and connect elsewhere, and the box finds the port closed. What is missing is the drain: until
the box has found that out, at most 20 box s, it gives the server its share of the new connections, and they
are refused. Who has no connection, or has just been told to make a new one, can be hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome
from netns.record.segments import port

SETTINGS = {"stop": ("graceful", "abrupt", "kill")}
CLIENTS = "curl:20,curl-new:5"


def lab(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"virtual_server": [web(health_check={"kind": "l4"})]}


def play(run: Run) -> None:
    run.start_clients()
    run.wait_until_all_answered()
    run.wait_for_random_phase("rs2")

    kept = {request.local_port for request in run.requests_of("curl")}
    connected = {end for end in run.connections("rs2") if port(end) in kept}
    stopping = stop_began, stopped = run.stop("rs2")
    failed = run.wait_for_state("rs2", "FAILED", within_s=25, since=stop_began)
    run.expect_found("rs2", "FAILED", "its web server was told to stop", stopping, failed, 10, 20)
    left = run.wait_until_drained("rs2")
    run.deploy("rs2")
    starting = run.start("rs2")
    bound = run.wait_for_state("rs2", "ACTIVE", within_s=15, since=starting[0])
    run.expect_found("rs2", "ACTIVE", "its web server was started", starting, bound, 0, 10)
    run.wait_until(
        "a client has been served by rs2 again",
        lambda: any(request.server == "rs2" and request.started > bound for request in run.requests),
        within_s=30,
    )
    run.watch_for_s(20, "see more requests")
    run.finish()

    end = {s.destination for s in run.segments("client") if (s.fin or s.rst) and s.time > stop_began}
    run.expect_equal(
        "keep-alive clients of rs2 whose connection its kernel ends when it stops (capture at the client)",
        len(connected & end),
        len(connected),
    )
    run.figures["sessions left whose client was refused or reset by rs2, which the box can't see"] = len(left)
    reset = {segment.destination for segment in run.segments("client") if segment.rst}
    run.expect_none("the box has no other session of rs2 left than of clients that rs2 refused", left - reset)
    lost = [request for request in run.requests if request.outcome is not Outcome.OK]
    run.expect_none("no request is lost over a connection that was there", [r for r in lost if r.reused])
    refused = [
        r
        for r in lost
        if r.outcome is Outcome.REFUSED and stop_began < r.ended and r.started < failed + run.slack_s
    ]
    answers = [s for s in run.segments("rs2") if s.refuses and stop_began < s.time < failed + run.slack_s]
    run.figures["new connections refused before detection"] = len(refused)
    run.figures["of clients that keep theirs and were told to make a new one"] = len(
        [request for request in refused if request.client.rpartition("-")[0] == "curl"]
    )
    run.expect(
        "what is lost is new connections, refused before rs2 is found FAILED",
        len(refused) == len(lost),
        f"{len(refused)} of {len(lost)} lost requests, in {failed - stop_began:.1f} {run.unit}",
    )
    run.expect_equal(
        "which is how many SYNs rs2's kernel refuses (capture at rs2)", len(refused), len(answers)
    )
    at_rs2 = [s for s in run.segments("rs2") if s.is_request and stopped < s.time < bound]
    run.expect_none("no request reaches rs2 between its stop and its re-binding (capture at rs2)", at_rs2)
