"""Take the VIP off lo:0 and deploy: worse than the trap.

The box finds the server failed, but keeps its sessions, and nobody tells their clients anything: no FIN, no
RST. Each client's TCP retransmits into silence until the client itself gives up. A new connection that the
box gives to the server before it has found it failed is lost the same way; after that they are fine.
"""

from __future__ import annotations

from netns.play.run import Run
from netns.record.recording import Outcome
from netns.record.segments import port

CLIENTS = "curl:20,curl-new:5"


def play(run: Run) -> None:
    run.start_clients()
    run.wait_until_all_answered()
    run.wait_for_random_phase("rs2")

    connected = run.connections("rs2")
    taken = down, _ = run.vip_down("rs2")
    failed = run.wait_for_state("rs2", "FAILED", within_s=26, since=down)
    run.expect_found("rs2", "FAILED", "its lo:0 was taken down", taken, failed, 11, 21)

    last = {request.client: request for request in run.requests_of("curl") if request.ended < down}
    on_rs2 = {client for client, request in last.items() if request.server == "rs2"}
    run.wait_until(
        "every keep-alive client of rs2 has given up",
        lambda: {request.client for request in run.lost("curl")} >= on_rs2,
        within_s=60,
    )
    run.watch_for_s(20, "see how new requests do")
    run.finish()

    hung = {r.client: r for r in run.lost("curl") if r.outcome is Outcome.TIMEOUT and r.reused}
    run.expect(
        "every keep-alive client of rs2 hangs until its own timeout, and no other does",
        on_rs2 and hung.keys() == on_rs2,
        f"{len(hung)} of {len(on_rs2)}",
    )
    gave_up = {request.local_port: request.ended for request in hung.values()}
    theirs = {end for end in connected if port(end) in gave_up}
    notices = [
        segment
        for segment in run.segments("client")
        if segment.destination in theirs
        and (segment.rst or segment.fin)
        and down < segment.time < gave_up[port(segment.destination)]
    ]
    run.expect_none("none of them gets a RST or a FIN before it gives up (capture at the client)", notices)
    requests = [s for s in run.segments("client") if s.source in theirs and s.is_request and s.time > down]
    repeated = len(requests) - len({(segment.source, segment.seq) for segment in requests})
    run.expect(
        "their kernel sends each request again, more than once",
        repeated > len(theirs),
        f"{repeated} retransmissions of {len(theirs)} requests",
    )

    black_holed = [r for r in run.lost("curl") + run.lost("curl-new") if not r.reused]
    run.figures["new connections black-holed before detection"] = len(black_holed)
    run.expect(
        "new connections that rs2 gets before it is found failed are black-holed",
        black_holed and {request.outcome for request in black_holed} == {Outcome.TIMEOUT},
        f"{len(black_holed)} time out",
    )
    run.expect_none(
        "no new connection fails that was not begun between the two moments",
        [r for r in black_holed if not down - run.slack_s < r.started < failed + run.slack_s],
    )
    late = [r for r in run.requests if r.started > failed + run.slack_s and not r.reused]
    fine = [r for r in late if r.outcome is Outcome.OK and r.server != "rs2"]
    run.expect(
        "every new connection begun after FAILED is answered, and by another server",
        late and len(fine) == len(late),
        f"{len(fine)} of {len(late)}",
    )
