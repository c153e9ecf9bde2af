"""Forwarding by L3DSR (SPEC §2), judged by captures at every hop."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP

from tests.integration.conftest import VIP, MakeLab, events, eventually, nstat, packets, wait_for_state

pytestmark = pytest.mark.integration

CURL = ["curl", "--silent", "--show-error", "--max-time", "5"]


def test_new_connections_get_pages_from_all_three_servers_in_turn(make_lab: MakeLab) -> None:
    lab = make_lab()
    pages = [lab.run("client", [*CURL, f"http://{VIP}/"], check=True).stdout.strip() for _ in range(6)]
    assert pages[:3] == pages[3:]
    assert sorted(pages[:3]) == ["rs1", "rs2", "rs3"]


def test_keep_alive_curl_stays_on_one_server_over_one_connection(make_lab: MakeLab) -> None:
    lab = make_lab()
    got = lab.run(
        "client", [*CURL, "--rate", "20/s", "-w", "%{num_connects}\n", f"http://{VIP}/?[1-12]"], check=True
    ).stdout.split()
    pages, connects = got[0::2], got[1::2]
    assert len(pages) == 12
    assert len(set(pages)) == 1
    assert connects == ["1"] + ["0"] * 11


def test_box_changes_destination_and_dscp_and_nothing_else(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab()
    with lab.capture(
        ["client", "box", "router:box", "rs1", "rs2", "rs3"], tmp_path / "seen.pcapng"
    ) as capture:
        page = lab.run("client", [*CURL, f"http://{VIP}/"], check=True).stdout.strip()
    seen = packets(capture.path)
    server = str(lab.node(page).address)
    seen = [(point, packet) for point, packet in seen if packet.src == str(lab.node("client").address)]
    client = [packet for point, packet in seen if point == "client" and packet.dst == VIP]
    into_box = [packet for point, packet in seen if point == "box" and packet.dst == VIP]
    out_of_box = [packet for point, packet in seen if point == "box" and packet.dst == server]
    at_server = [packet for point, packet in seen if point == page and packet.dst == server]
    assert len(client) == len(into_box) == len(out_of_box) == len(at_server) >= 5
    for sent, arrived, left, delivered in zip(client, into_box, out_of_box, at_server, strict=True):
        assert (sent.ttl, arrived.ttl, left.ttl, delivered.ttl) == (64, 63, 62, 61)
        assert left.tos == 10 << 2
        assert bytes(left) == _rewritten(arrived, server, dscp=10)
        for packet in (sent, arrived, left, delivered):
            assert bytes(packet) == _with_fresh_checksums(packet)


def test_no_packet_from_a_server_to_the_client_crosses_the_box(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab()
    with lab.capture(["client", "box", "router:box"], tmp_path / "seen.pcapng") as capture:
        for _ in range(3):
            lab.run("client", [*CURL, f"http://{VIP}/"], check=True)
    seen = packets(capture.path)
    client = str(lab.node("client").address)
    replies = [point for point, packet in seen if packet.src == VIP and packet.dst == client]
    assert set(replies) == {"client"}
    assert len(replies) >= 12


def test_ecn_bits_are_kept_and_a_dscp_of_the_clients_own_is_replaced(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab()
    client = str(lab.node("client").address)
    with lab.capture(["box"], tmp_path / "seen.pcapng", expression="tcp") as capture:
        for ecn in range(4):
            port = 4000 + ecn
            syn = IP(src=client, dst=VIP, tos=0x2E << 2 | ecn) / TCP(sport=port, dport=80, flags="S", seq=7)
            lab.run("client", ["python3", "-c", SEND_RAW, bytes(syn).hex(), VIP], check=True)
            eventually(partial(events, lab, "session_opened", client=f"{client}:{port}"), "a session")
    out = [packet for _, packet in packets(capture.path) if packet.dst != VIP and packet[TCP].flags == "S"]
    assert [packet.tos for packet in out if packet.src == client] == [10 << 2 | ecn for ecn in range(4)]


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("rewrite", ["userspace", "kernel"])
def test_an_upload_and_a_download_arrive_whole(
    make_lab: MakeLab, tmp_path: Path, rewrite: str, offload: bool
) -> None:
    """With offload a sender hands over up to 64 KiB at a time; rewriting in the kernel takes that whole."""
    one_server = {"server": [{"name": "rs1"}], "offload": offload, "box": {"rewrite": rewrite}}
    lab = make_lab(lab=one_server, health_check={"kind": "l4"})
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(range(256)) * 3_500)
    (lab.web("rs1").root / "large").write_bytes(bytes(range(256)) * 40_000)
    got = tmp_path / "got"
    lab.run("client", [*CURL, "-o", str(got), f"http://{VIP}/large"], check=True)
    assert got.read_bytes() == bytes(range(256)) * 40_000
    lab.stop("rs1")
    with lab.popen("rs1", [sys.executable, "-c", SINK], stdout=subprocess.PIPE) as sink:
        assert sink.stdout is not None
        try:
            assert sink.stdout.readline() == "listening\n"
            wait_for_state(lab, "rs1", "ACTIVE")  # two checks may have come before the sink
            lab.run("client", [sys.executable, "-c", SEND, VIP, str(sent)], check=True)
            assert sink.stdout.readline().strip() == hashlib.sha256(sent.read_bytes()).hexdigest()
        finally:
            sink.kill()
    [session] = [row for row in lab.box.sessions() if row["bytes"] > sent.stat().st_size]
    mean = session["bytes"] / session["packets"]
    assert (mean > 1500) == (offload and rewrite == "kernel"), "super-packets come whole, or not at all"
    assert nstat(lab, "rs1", "TcpInCsumErrors") == 0


SINK = """
import hashlib, socket
with socket.create_server(("", 80)) as listener:
    print("listening", flush=True)
    received = b""
    while len(received) < 100_000:  # health checks come too
        with listener.accept()[0] as connection:
            received = b"".join(iter(lambda: connection.recv(65536), b""))
    print(hashlib.sha256(received).hexdigest(), flush=True)
"""

SEND = """
import pathlib, socket, sys
with socket.create_connection((sys.argv[1], 80)) as connection:
    connection.sendall(pathlib.Path(sys.argv[2]).read_bytes())
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
"""

SEND_RAW = """
import socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 0))
"""


def _rewritten(packet: IP, destination: str, *, dscp: int) -> bytes:
    """What L3DSR makes of a packet, by scapy: destination, DSCP, one hop, fresh checksums."""
    copy = IP(bytes(packet))
    copy.dst, copy.tos, copy.ttl = destination, dscp << 2 | copy.tos & 3, copy.ttl - 1
    return _with_fresh_checksums(copy)


def _with_fresh_checksums(packet: IP) -> bytes:
    copy = packet.copy()
    del copy.chksum, copy[TCP].chksum
    return bytes(copy)
