"""Reset On Port Fail: the box resets a failed server's sessions.

The same as the trap, with the option on. When the server is FAILED the box sends a RST for each of its
sessions and forgets them; the clients, idle ones and those in the middle of a download, connect anew and get
another server. With `sides = "client"`, which is what the hardware was seen to do, the failed server is not
told: its connections stay as zombies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netns.analysis.wording import real_seconds
from netns.play.run import Run
from netns.play.scenario import web
from netns.record.recording import Outcome
from netns.record.segments import port

SETTINGS = {"sides": ("client", "both"), "mode": ("precise", "naive")}
CLIENTS = "curl:20,idle:30"
DOWNLOADS = 6
"""They start when the others have their connections, so that round-robin gives every server some."""


def lab(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"virtual_server": [web(reset_on_port_fail={"enabled": True, **settings})]}


def play(run: Run) -> None:
    run.start_clients()
    run.wait_until_all_answered()
    run.start_group("curl-download", DOWNLOADS)
    run.wait_until_connected()
    run.wait_for_random_phase("rs2")

    renaming = renamed, _ = run.health_off("rs2")
    run.wait_for_state("rs2", "SUSPECT", within_s=15, since=renamed)
    held = run.connections("rs2")
    failed = run.wait_for_state("rs2", "FAILED", within_s=15, since=renamed)
    run.expect_found("rs2", "FAILED", "its health file was renamed", renaming, failed, 10, 20)
    brief = {request.local_port for request in run.requests_of("curl-new")}
    held = {end for end in held if port(end) not in brief}
    ports = {request.local_port for request in run.requests_of("curl") + run.requests_of("idle")}
    downloads = {end for end in held if port(end) not in ports}
    quiet = held - downloads

    run.wait_until("rs2's sessions are reset", lambda: run.events("reset_ended", server="rs2"), within_s=10)
    # A busy one may take a challenge ACK or a SYN probe: those go by the TCP stacks' time, not the box's.
    must = held if run.settings["mode"] == "precise" else quiet
    run.wait_until("its clients' connections are gone", lambda: not run.open_ends() & must, 3 * run.speed)
    run.wait_until("so do the downloads", lambda: len(run.lost("curl-download")) >= len(downloads & must), 60)
    run.watch_for_s(10, "see where the clients' requests go")

    run.expect_none("the box has no session of rs2 left", run.table("rs2"))
    counted = run.counted("client")
    run.expect(
        "the clients' kernel accepts a reset for each connection to rs2 (nstat: TcpEstabResets)",
        held and len(must) <= counted["TcpEstabResets"] <= len(held),
        f"{counted['TcpEstabResets']} of {len(held)}, {len(downloads)} of them downloads",
    )
    run.figures["challenge ACKs"] = counted["TcpExtTCPChallengeACK"]
    run.expect_equal("bad checksums (nstat: TcpInCsumErrors)", counted["TcpInCsumErrors"], 0)
    zombies = run.server_sockets("rs2")["ESTAB"]
    if run.settings["sides"] == "client":
        run.expect_equal("zombies that rs2's kernel holds (ss)", zombies, len(held))
    else:
        run.expect_equal("zombies that rs2's kernel holds (ss)", zombies, 0)
    ended = run.now()
    run.finish()

    # Until the clients are ended: what is said to the last packets of those is another matter.
    resets = [s for s in run.segments("client") if s.rst and s.source.endswith(":80")]
    resets = [segment for segment in resets if renamed < segment.time < ended]
    reached = {segment.destination for segment in resets}
    of_rs2 = {event["client"] for event in run.events("session_removed", server="rs2", reason="reset")}
    run.expect_equal("connections to rs2 whose client gets a RST", len(reached & held), len(held))
    run.expect_none("no client of another server gets one", reached - of_rs2)
    took_s = (max((segment.time for segment in resets), default=failed) - failed) / run.speed
    run.figures["RSTs to clients"] = len(resets)
    took = real_seconds(took_s, run.speed)
    run.expect("the last RST goes within 2 real seconds of FAILED", took_s <= 2, took)
    to_rs2 = {segment.source for segment in run.segments("rs2") if segment.rst and segment.source in held}
    if run.settings["sides"] == "client":
        run.expect_none("rs2 gets no RST (capture at rs2)", to_rs2)
    else:
        run.expect_equal("connections for which rs2 gets a RST", len(to_rs2), len(held))

    idle = {request.local_port for request in run.requests_of("idle")}
    reset = [end for end in run.ends if end.how == "reset"]
    run.expect_equal(
        "idle clients of rs2 that see their connection reset",
        len(reset),
        len([e for e in held if port(e) in idle]),
    )
    cut = [request for request in run.lost("curl-download") if request.outcome is Outcome.RESET]
    run.figures["share of downloads from rs2 that were reset"] = (
        len(cut) / len(downloads) if downloads else None
    )
    if run.settings["mode"] == "precise":
        run.expect(
            "every download from rs2 is reset",
            downloads and len(cut) == len(downloads),
            f"{len(cut)} of {len(downloads)}",
        )
    after = [r for r in run.requests_of("curl") if r.started > failed + run.slack_s]
    elsewhere = [r for r in after if r.outcome is Outcome.OK and r.server != "rs2"]
    run.expect(
        "after that every keep-alive client is served by another server",
        after and len(elsewhere) == len(after),
        f"{len(elsewhere)} of {len(after)} requests",
    )
    run.expect_none("no keep-alive request is lost", run.lost("curl"))
