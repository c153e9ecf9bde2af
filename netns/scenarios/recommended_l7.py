"""Deploy behind an L7 health check without losing a request: the recommended way.

Rename the health file, wait until the box has found the server FAILED (at most 20 box s): no new connection
comes any more. Then stop the web server: its kernel sends every client a FIN, the clients close, and the box
forgets the sessions. Deploy, start, put the health file back: the first 200 binds the server again.
"""

from __future__ import annotations

from netns.play.run import Run
from netns.record.recording import Outcome

SETTINGS = {"stop": ("graceful", "abrupt", "kill")}
CLIENTS = "curl:20,curl-new:5"


def play(run: Run) -> None:
    run.start_clients()
    run.wait_until_all_answered()
    run.wait_for_random_phase("rs2")

    renaming = renamed, _ = run.health_off("rs2")
    failed = run.wait_for_state("rs2", "FAILED", within_s=25, since=renamed)
    run.expect_found("rs2", "FAILED", "its health file was renamed", renaming, failed, 10, 20)

    connected = run.connections("rs2")
    stop_began, stopped = run.stop("rs2")
    left = run.wait_until_drained("rs2")
    drained = run.now()
    run.deploy("rs2")
    run.start("rs2")
    putting = back, _ = run.health_on("rs2")
    bound = run.wait_for_state("rs2", "ACTIVE", within_s=15, since=back)
    run.expect_found("rs2", "ACTIVE", "its health file was put back", putting, bound, 0, 10)
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
    run.figures["drained after the stop, box s"] = round(drained - stop_began, 1)
    run.figures["sessions left whose client was reset by rs2, which the box can't see"] = len(left)
    reset = {segment.destination for segment in run.segments("client") if segment.rst}
    run.expect_none("the box has no other session of rs2 left than of clients that rs2 reset", left - reset)
    run.expect_none("no request is lost", [r for r in run.requests if r.outcome is not Outcome.OK])
    at_rs2 = [s for s in run.segments("rs2") if s.is_request and stopped < s.time < bound]
    run.expect_none("no request reaches rs2 between its stop and its re-binding (capture at rs2)", at_rs2)
    served = [row for row in run.served("rs2") if stopped < row.time < bound - run.slack_s]
    run.expect_none("rs2 answers none between the two (its access log)", served)
    checks = run.events("probe", server="rs2", outcome="success")
    first = min((event["at"] for event in checks if event["at"] > back), default=0.0)
    run.expect(
        "rs2 is bound at its first good health check",
        abs(first - bound) < 0.01,
        f"bound {bound - back:.2f} and checked well {first - back:.2f} {run.unit} after the file was back",
    )
