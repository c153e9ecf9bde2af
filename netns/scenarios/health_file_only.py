"""Rename the health file and deploy: the trap.

The server fails its health check, and no new connection goes to it. But the box keeps the sessions it has,
and a keep-alive client's never goes idle: its requests go on reaching a server that is being redeployed, for
as long as it keeps asking. Only a session that is idle for the aging time ends, and its client is told so by
a reset when it next speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome
from netns.record.segments import port

SETTINGS = {"aging_s": 120.0, "watch_s": 30.0}
"""Aging: the least that the box allows, so that a run is short."""


def lab(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"virtual_server": [web(aging_s=settings["aging_s"])]}


def play(run: Run) -> None:
    aging_s = run.settings["aging_s"]
    run.start_clients()
    idle = run.start_group("idle", 9)
    run.wait_until_all_answered()
    run.wait_for_random_phase("rs2")

    renaming = renamed, _ = run.health_off("rs2")
    failed = run.wait_for_state("rs2", "FAILED", within_s=25, since=renamed)
    run.expect_found("rs2", "FAILED", "its health file was renamed", renaming, failed, 10, 20)

    answers = run.ask(idle)
    on_rs2 = {request.client for request in answers if request.server == "rs2"}
    reused = sum(request.reused is True for request in answers)
    run.expect(
        "an idle client's next request still goes to rs2, over the connection it had",
        on_rs2 and reused == len(answers),
        f"{len(on_rs2)} of {len(answers)} clients were served by rs2, {reused} over the connection they had",
    )
    run.deploy("rs2")
    run.watch_for_s(run.settings["watch_s"], "see where the clients' requests go")
    watched = run.now()

    run.wait_until(
        "rs2's idle sessions have aged out",
        lambda: len(run.events("session_removed", server="rs2", reason="aged_out")) >= len(on_rs2),
        within_s=aging_s,
    )
    late = [request for request in run.ask(idle) if request.client in on_rs2]
    reset = sum(request.outcome is Outcome.RESET for request in late)
    run.expect("the next request of each of those is reset", reset == len(late), f"{reset} of {len(late)}")
    again = [request for request in run.ask(idle) if request.client in on_rs2]
    elsewhere = sum(request.outcome is Outcome.OK and request.server != "rs2" for request in again)
    run.expect(
        "and the one after it is answered by another server",
        elsewhere == len(again),
        f"{elsewhere} of {len(again)}",
    )
    run.finish()

    aging = f"{aging_s:g} {run.unit}"
    for event in run.events("session_removed", server="rs2", reason="aged_out"):
        spoke = [
            segment.time
            for segment in run.segments("client")
            if segment.source == event["client"] and segment.time < event["at"]
        ]
        text = f"the session of {event['client']} ages out when the client has said nothing for {aging}"
        run.expect_between(text, event["at"] - max(spoke), aging_s, aging_s)

    curls = run.requests_of("curl")
    before = {request.client for request in curls if request.server == "rs2" and request.ended < renamed}
    after = [request for request in curls if request.server == "rs2" and failed < request.started < watched]
    run.figures["requests that rs2 served while FAILED"] = len(after)
    run.expect(
        "every keep-alive client of rs2 is still served by it after FAILED",
        before and before == {request.client for request in after},
        f"{len({request.client for request in after})} of {len(before)} clients, {len(after)} requests in "
        f"{watched - failed:.0f} {run.unit}",
    )
    ports = {request.local_port for request in after}
    logged = [row for row in run.served("rs2") if failed < row.time < watched and port(row.client) in ports]
    run.expect(
        "rs2's own access log has those requests, each within a request of the clients' count",
        abs(len(logged) - len(after)) <= len(ports),
        f"{len(logged)} of {len(after)}",
    )
    run.expect_none("no keep-alive request is lost", run.lost("curl"))
    run.expect_none(
        "no new connection reaches rs2 after FAILED (capture at rs2)",
        [segment for segment in run.segments("rs2") if segment.opens and segment.time > failed + run.slack_s],
    )
