"""A health check that takes a path of its own: green, while clients fall into a black hole.

With `health_check.path = "direct"` the box checks the real server's own address. It never uses the VIP on
lo:0, nor the DSCP rule, so that it goes on succeeding when lo:0 is down. The server stays bound, and its
share of all connections is lost for as long as nobody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome

SETTINGS = {"watch_s": 40.0}
CLIENTS = "curl:10,curl-new:5"


def lab(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"virtual_server": [web(health_check={"path": "direct"})]}


def play(run: Run) -> None:
    run.start_clients()
    run.wait_until_all_answered()
    run.wait_for_random_phase("rs2")

    down, gone = run.vip_down("rs2")
    last = {request.client: request for request in run.requests_of("curl") if request.ended < down}
    on_rs2 = {client for client, request in last.items() if request.server == "rs2"}
    run.watch_for_s(run.settings["watch_s"], "give the box time to notice")
    run.wait_until(
        "every keep-alive client of rs2 has given up",
        lambda: {request.client for request in run.lost("curl")} >= on_rs2,
        within_s=60,
    )
    up, _ = run.vip_up("rs2")
    run.wait_until(
        "a client has been served by rs2 again",
        lambda: any(request.server == "rs2" and request.started > up for request in run.requests),
        within_s=60,
    )
    run.finish()

    checks = [e for e in run.events("probe", server="rs2") if down < e["at"] < up]
    green = [event for event in checks if event["outcome"] == "success"]
    run.expect(
        "every health check of rs2 succeeds meanwhile",
        len(checks) >= 3 and len(green) == len(checks),
        f"{len(green)} of {len(checks)} in {up - down:.0f} {run.unit}",
    )
    changes = [e for e in run.events("server_state", server="rs2") if e["at"] > down]
    run.expect_none("rs2's state does not change: it stays bound", changes)
    syns = [s for s in run.segments("rs2") if s.opens and down < s.time < up]
    late = [s for s in syns if s.time > gone + 21 + run.slack_s]
    answers = [
        s for s in run.segments("rs2") if s.source.endswith(":80") and gone + run.slack_s < s.time < up
    ]
    run.expect(
        "new connections still go to rs2 when a check by the clients' path would have failed it",
        late,
        f"{len({s.source for s in late})} connections more than 21 {run.unit} after lo:0 was taken down",
    )
    run.expect_none("rs2 answers clients with nothing meanwhile (capture at rs2)", answers)
    lost = run.lost("curl") + run.lost("curl-new")
    run.expect(
        "requests are lost, each by its client's timeout",
        lost and all(request.outcome is Outcome.TIMEOUT for request in lost),
        f"{len(lost)}",
    )
    hung = {request.client for request in lost if request.reused}
    run.expect("every keep-alive client of rs2 hangs", hung == on_rs2, f"{len(hung)} of {len(on_rs2)}")
