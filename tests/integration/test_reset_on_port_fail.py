"""Reset On Port Fail (SPEC §5): what the kernels of clients and servers make of the box's resets."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import (
    VIP,
    MakeLab,
    events,
    eventually,
    nstat,
    packets,
    row,
    wait_for_state,
)
from tests.integration.many_connections import (
    DOWNLOAD,
    HALF_CLOSED,
    IDLE,
    LINGERING,
    STALLED,
    UPLOAD,
    ManyConnections,
    make_large_file,
)

pytestmark = pytest.mark.integration

NAME = "ropf"
COUNTERS = ("TcpEstabResets", "TcpAttemptFails", "TcpExtTCPChallengeACK", "TcpInCsumErrors")
SOON_S = 2.0
"""Real seconds from FAILED within which a precise reset is accepted, whatever the client is doing."""


def lab_with_resets(
    make_lab: MakeLab,
    *,
    servers: int = 3,
    web: str | None = None,
    on_no_entry: str = "drop",
    **reset: Any,
) -> NamespaceLab:
    """`on_no_entry` is not the default, so that what answers late packets is the memory of the reset."""
    lab = make_lab(
        lab={"name": NAME, "server": [{"name": f"rs{one}", "web": web} for one in range(1, servers + 1)]},
        reset_on_port_fail={"enabled": True, **reset},
        on_no_entry=on_no_entry,
    )
    make_large_file(lab)
    return lab


def counted(lab: NamespaceLab, node: str) -> Counter[str]:
    return Counter({name: nstat(lab, node, name) for name in COUNTERS})


def fail(lab: NamespaceLab, server: str) -> float:
    """Take the server out as people do; the Unix time at which the box found it FAILED."""
    lab.health_off(server)
    wait_for_state(lab, server, "FAILED")
    failed = events(lab, "server_state", server=server, new="FAILED")[-1]["time"]
    return datetime.fromisoformat(failed).timestamp()


def reset_in_time(clients: ManyConnections, kind: str, failed: float, count: int) -> list[float]:
    """Seconds from `failed` to the end of each connection of the kind that ended within SOON_S, in order.

    Returns when that many have ended, or when the time is over.
    """
    eventually(
        lambda: sum(clients.ended(kind).values()) == count or time.time() > failed + SOON_S,
        "the end of the connections, or of the time",
    )
    ended = [row["ended"] - failed for row in clients.report() if row["kind"] == kind and row["ended"]]
    return sorted(after_s for after_s in ended if after_s <= SOON_S)


def established(lab: NamespaceLab, server: str) -> int:
    """Connections of the client that the server's kernel holds; the box's checks are not among them."""
    client = str(lab.node("client").address)
    ss = ["ss", "-Htn", "state", "established", "src", VIP, "dst", client]
    listed = lab.run(server, ss, check=True).stdout
    return len(listed.splitlines())


def sessions(lab: NamespaceLab, server: str) -> int:
    listed = sum(1 for _ in lab.box.sessions(server=server))
    assert row(lab, server)["sessions"] == listed
    return listed


def _all_ended(clients: ManyConnections, kind: str, count: int) -> bool:
    return sum(clients.ended(kind).values()) == count


def make_link_slow(lab: NamespaceLab) -> None:
    """Downloads wait in a queue before the link to the client; a reset waits behind their data."""
    shape = "tc qdisc add dev client root tbf rate 50mbit burst 16kb latency 300ms"
    lab.run("router", shape.split(), check=True)


def lose_first_reset_of_each(lab: NamespaceLab) -> None:
    """Have the router lose one RST to each client's port."""
    rules = f"""
    table ip lossy {{
        set met {{
            type ipv4_addr . inet_service
            size 65535
            flags dynamic
        }}
        chain forward {{
            type filter hook forward priority 0
            ip saddr {VIP} tcp flags & rst == rst ip daddr . tcp dport != @met \\
                add @met {{ ip daddr . tcp dport }} counter drop
        }}
    }}
    """
    lab.run("router", ["nft", "-f", "-"], input=rules, check=True)


def lose_syns_of_clients(lab: NamespaceLab, server: str) -> None:
    """Have the server's kernel say nothing to clients, though it answers health checks."""
    rules = f"""
    table ip deaf {{
        chain input {{
            type filter hook input priority 0
            ip saddr {lab.node("client").address} tcp flags & syn == syn drop
        }}
    }}
    """
    lab.run(server, ["nft", "-f", "-"], input=rules, check=True)


def test_200_idle_clients_of_a_failed_server_each_accept_one_reset_and_go_elsewhere(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = lab_with_resets(make_lab)
    resets = "tcp[tcpflags] & tcp-rst != 0"
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(600) == {"rs1": 200, "rs2": 200, "rs3": 200}
        before = counted(lab, "client")
        with lab.capture(["client", "box", "rs2"], tmp_path / "resets.pcapng", expression=resets) as capture:
            fail(lab, "rs2")
            eventually(lambda: clients.ended(server="rs2") == {"ECONNRESET": 200}, "200 resets")
        assert counted(lab, "client") - before == {"TcpEstabResets": 200}
        assert sessions(lab, "rs2") == 0
        assert established(lab, "rs2") == 200, "zombies: nobody told the server"
        assert clients.ended() == {"ECONNRESET": 200}, "and no other server's client"
        again = clients.again()
        assert again.keys() == {"rs1", "rs3"}
        assert sum(again.values()) == 200
    seen = packets(capture.path)
    to_clients = Counter(point for point, packet in seen if packet.src == VIP and packet[TCP].sport == 80)
    assert to_clients == {"client": 200, "box": 200}
    assert not any(point == "rs2" for point, _ in seen)
    assert not any(point.dropped for point in capture.counted)


def test_clients_in_the_middle_of_a_download_are_all_reset_within_2_s(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab, servers=2)
    make_link_slow(lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(100, DOWNLOAD)["rs2"] == 50
        before = counted(lab, "client")
        after_s = reset_in_time(clients, DOWNLOAD, fail(lab, "rs2"), 50)
        assert len(after_s) == 50
        assert clients.ended(DOWNLOAD, "rs2") == {"ECONNRESET": 50}
        assert (counted(lab, "client") - before)["TcpEstabResets"] == 50
        assert all(row["bytes"] for row in clients.report() if row["server"] == "rs2")
    sys.stdout.write(f"precise: 50 of 50, median after {after_s[25]:.2f} s, last {after_s[-1]:.2f} s\n")


@pytest.mark.parametrize(("on_no_entry", "least", "most"), [("drop", 0, 49), ("reset", 25, 50)])
def test_naive_resets_miss_downloads_but_for_the_reset_of_what_has_no_entry(
    make_lab: MakeLab, on_no_entry: str, least: int, most: int
) -> None:
    lab = lab_with_resets(make_lab, servers=2, mode="naive", on_no_entry=on_no_entry)
    make_link_slow(lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(100, DOWNLOAD)["rs2"] == 50
        after_s = reset_in_time(clients, DOWNLOAD, fail(lab, "rs2"), 50)
        assert sessions(lab, "rs2") == 0, "as far as the box knows, all of them"
    sys.stdout.write(f'naive, on_no_entry = "{on_no_entry}": {len(after_s)} of 50 within {SOON_S:g} s\n')
    assert least <= len(after_s) <= most


def test_clients_that_upload_and_clients_whose_window_is_shut_are_all_reset(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60, UPLOAD)["rs2"] == 20
        assert clients.open(60, STALLED)["rs2"] == 20
        failed = fail(lab, "rs2")
        for kind in (UPLOAD, STALLED):
            assert len(reset_in_time(clients, kind, failed, 20)) == 20
            assert clients.ended(kind, "rs2") == clients.ended(kind) == {"ECONNRESET": 20}


def test_half_closed_clients_are_all_reset(make_lab: MakeLab) -> None:
    # nginx gives up a download whose client has sent its FIN; the standard library's server goes on.
    lab = lab_with_resets(make_lab, web="builtin")
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60, LINGERING)["rs2"] == 20
        eventually(lambda: clients.fins(LINGERING) == 60, "the servers' FINs")
        lab.health_off("rs2")
        wait_for_state(lab, "rs2", "SUSPECT")
        make_link_slow(lab)
        assert clients.open(30, HALF_CLOSED)["rs2"] == 10
        eventually(lambda: states(lab, "rs2") == {"FIN": 10, "ESTABLISHED": 20}, "the clients' FINs")
        before = counted(lab, "client")
        failed = fail(lab, "rs2")
        assert len(reset_in_time(clients, HALF_CLOSED, failed, 10)) == 10
        assert len(reset_in_time(clients, LINGERING, failed, 20)) == 20
        assert clients.ended(HALF_CLOSED, "rs2") == {"ECONNRESET": 10}
        assert clients.ended(LINGERING, "rs2") == {"EPIPE": 20}
        # The counter knows resets in CLOSE-WAIT and none in FIN-WAIT-2 (RFC 4022, tcpEstabResets).
        assert (counted(lab, "client") - before)["TcpEstabResets"] == 20


def states(lab: NamespaceLab, server: str) -> Counter[str]:
    return Counter(session["state"] for session in lab.box.sessions(server=server))


def test_clients_that_wait_for_a_silent_server_are_refused(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    lose_syns_of_clients(lab, "rs2")
    with ManyConnections(lab, VIP) as clients:
        clients.start(60)
        assert clients.wait(40, IDLE) == {"rs1": 20, "rs3": 20}
        assert states(lab, "rs2") == {"SYN": 20}
        before = counted(lab, "client")
        fail(lab, "rs2")
        eventually(lambda: clients.ended() == {"ECONNREFUSED": 20}, "20 refusals", SOON_S)
        assert counted(lab, "client") - before == {"TcpAttemptFails": 20}
        assert clients.again() == {"rs1": 10, "rs3": 10}


def test_client_just_heard_that_loses_its_reset_is_asked_by_a_syn(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    lose_first_reset_of_each(lab)
    with ManyConnections(lab, VIP) as clients:
        lab.health_off("rs2")
        wait_for_state(lab, "rs2", "SUSPECT")
        assert clients.open(60)["rs2"] == 20
        before = counted(lab, "client")
        assert len(reset_in_time(clients, IDLE, fail(lab, "rs2"), 20)) == 20
        assert counted(lab, "client") - before == {"TcpEstabResets": 20, "TcpExtTCPChallengeACK": 20}


def test_idle_client_that_loses_its_reset_gets_it_with_its_next_packet(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    lose_first_reset_of_each(lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60)["rs2"] == 20
        quiet_s = 1.5 * lab.config.speed
        eventually(
            lambda: all(session["idle_s"] > quiet_s for session in lab.box.sessions(server="rs2")),
            "clients that have been quiet",
        )
        before = counted(lab, "client")
        fail(lab, "rs2")
        eventually(lambda: sessions(lab, "rs2") == 0, "the end of the sessions")
        assert clients.ended() == {}
        clients.request()
        eventually(lambda: clients.ended() == {"ECONNRESET": 20}, "resets of those who asked")
        assert counted(lab, "client") - before == {"TcpEstabResets": 20}


@pytest.mark.parametrize("sides", ["both", "server"])
def test_servers_accept_their_resets_too_and_hold_no_zombies(make_lab: MakeLab, sides: str) -> None:
    lab = lab_with_resets(make_lab, sides=sides)
    make_link_slow(lab)
    kinds = (IDLE, DOWNLOAD, UPLOAD)
    with ManyConnections(lab, VIP) as clients:
        for kind in kinds:
            assert clients.open(60, kind)["rs2"] == 20
        assert established(lab, "rs2") == 60
        before, before_client = counted(lab, "rs2"), counted(lab, "client")
        fail(lab, "rs2")
        eventually(lambda: established(lab, "rs2") == 0, "no zombies", SOON_S)
        assert counted(lab, "rs2") - before == {"TcpEstabResets": 60}
        if sides == "both":
            # A queue full of downloads may drop an idle client's one reset: that client finds out by asking.
            for kind in (DOWNLOAD, UPLOAD, IDLE):
                if kind == IDLE:
                    clients.request()
                eventually(partial(_all_ended, clients, kind, 20), f"20 {kind} resets")
        else:
            assert all(clients.ended(kind) == {} for kind in kinds), "nobody told the clients"
            assert counted(lab, "client") == before_client


def test_administrator_disables_a_server_and_its_clients_are_reset(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60)["rs2"] == 20
        before = counted(lab, "client")
        lab.box.disable("rs2", reset=True)
        eventually(lambda: clients.ended() == {"ECONNRESET": 20}, "20 resets")
        assert counted(lab, "client") - before == {"TcpEstabResets": 20}
        assert row(lab, "rs2")["state"] == "DISABLED"
        assert clients.again() == {"rs1": 10, "rs3": 10}


def test_administrator_resets_a_servers_sessions_or_one_clients(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60)["rs2"] == 20
        before = counted(lab, "client")
        port = next(one["port"] for one in clients.report() if one["server"] == "rs1")
        assert lab.box.reset_sessions(client=f"{lab.node('client').address}:{port}") == 1
        eventually(lambda: clients.ended(server="rs1") == {"ECONNRESET": 1}, "the one")
        assert lab.box.reset_sessions(server="rs2") == 20
        eventually(lambda: clients.ended(server="rs2") == {"ECONNRESET": 20}, "20 more")
        assert counted(lab, "client") - before == {"TcpEstabResets": 21}
        assert sessions(lab, "rs2") == 0
        assert sum(clients.again().values()) == 21
        assert row(lab, "rs2")["sessions"] == 7, "it is in service as before"


def test_what_is_left_of_a_shut_down_server_is_reset_at_the_deadline(make_lab: MakeLab) -> None:
    lab = lab_with_resets(make_lab)
    with ManyConnections(lab, VIP) as clients:
        assert clients.open(60)["rs2"] == 20
        before = counted(lab, "client")
        lab.box.shutdown("rs2", drain_timeout_s=30)
        [shut_down] = events(lab, "server_state", server="rs2", new="SHUTDOWN")
        eventually(lambda: clients.ended() == {"ECONNRESET": 20}, "20 resets")
        [started] = events(lab, "reset_started", server="rs2", reason="drain_timeout")
        assert 30 <= started["box_time"] - shut_down["box_time"] < 30 + 0.25 * lab.config.speed
        assert counted(lab, "client") - before == {"TcpEstabResets": 20}


def test_client_of_an_aged_out_session_is_reset_where_that_is_set(make_lab: MakeLab) -> None:
    lab = make_lab(
        speed=60, lab={"name": NAME}, aging_s=120, reset_on_aging=True, health_check={"timeout_s": 10}
    )
    with ManyConnections(lab, VIP) as clients:
        clients.open(30)
        before = counted(lab, "client")
        eventually(lambda: clients.ended() == {"ECONNRESET": 30}, "30 resets")
        assert counted(lab, "client") - before == {"TcpEstabResets": 30}
        assert {event["reason"] for event in events(lab, "session_removed")} == {"aged_out"}
