"""`rewrite = "kernel"` and `"userspace"` are the same on the wire, byte for byte."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.packet import Packet

from netns import lifecycle
from tests.integration.conftest import NAME, VIP, MakeLab, eventually, packets

pytestmark = pytest.mark.integration

FIRST_ID = 20_000
"""The packets are told from those of the kernels by their IPv4 identification."""

SEND_ALL = """
import json, socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for packet in json.load(sys.stdin):
    raw.sendto(bytes.fromhex(packet), (sys.argv[1], 0))
"""


def sent(client: str) -> Iterator[Packet]:
    """Packets of every kind that there is a rewriting for; a SYN first where a session is needed."""
    head = {"src": client, "dst": VIP}
    options = [
        [],
        [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (12345, 0)), ("NOP", None), ("WScale", 7)],
        [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))],
        [("NOP", None), ("NOP", None), ("SAck", (1000, 2000, 3000, 4000, 5000, 6000))],
    ]
    flags = ["A", "PA", "UA", "PAU", "FA", "AE", "AC", "RA", ""]
    port = 5000
    for flag in flags:
        for option in options:
            port += 1
            yield IP(**head) / TCP(sport=port, dport=80, flags="S", seq=port, options=options[1])
            tcp = TCP(sport=port, dport=80, flags=flag, seq=port + 1, ack=77, urgptr=3, options=option)
            yield IP(**head) / tcp / b"x"
    port += 1
    yield IP(**head) / TCP(sport=port, dport=80, flags="S", seq=1)
    for size in (0, 1, 2, 3, 63, 64, 65, 535, 1000, 1459, 1460):
        yield IP(**head) / TCP(sport=port, dport=80, flags="PA", seq=2, ack=1) / bytes(range(256))[:size]
    for tos in (*range(4), 0x2E << 2 | 1, 10 << 2, 0xFF):
        yield IP(**head, tos=tos, ttl=33) / TCP(sport=port, dport=80, flags="A", seq=2, ack=1) / b"tos"
    with_options = IP(**head, options=[IPOption_NOP()] * 4)
    yield with_options / TCP(sport=port, dport=80, flags="A", seq=2, ack=1) / b"options"
    # A checksum that is wrong stays as wrong as it was: it is the receiver's to judge.
    yield IP(**head) / TCP(sport=port, dport=80, flags="A", seq=2, ack=1, chksum=0x1234) / b"wrong"
    for size in (0, 1, 2, 511, 1472):
        yield IP(**head) / UDP(sport=port, dport=5353) / bytes(size)
        yield IP(**head) / UDP(sport=port, dport=5353, chksum=0) / bytes(size)
    yield IP(**head) / UDP(sport=port, dport=5353) / _that_sums_to_zero(client, port)


def _that_sums_to_zero(client: str, port: int) -> bytes:
    """Data that makes the UDP checksum 0 after rewriting, which is to be sent as 0xFFFF (RFC 768)."""
    rewritten = IP(src=client, dst="10.80.1.2") / UDP(sport=port, dport=5353) / b"\0\0"
    return bytes(IP(bytes(rewritten)))[26:28]


def test_both_ways_of_rewriting_give_the_same_bytes(make_lab: MakeLab, tmp_path: Path) -> None:
    seen: dict[str, dict[int, bytes]] = {}
    for rewrite in ("userspace", "kernel"):
        udp = {"name": "dns", "address": VIP, "port": 5353, "protocol": "udp", "dscp": 10}
        web = {"name": "web", "address": VIP, "port": 80, "dscp": 10}
        checked = {"health_check": {"kind": "l4", "path": "direct"}}
        lab = make_lab(
            lab={
                "server": [{"name": "rs1"}],
                "virtual_server": [web | checked, udp | checked],
                "box": {"rewrite": rewrite},
            }
        )
        lab.vip_down("rs1")  # no answer: the client's kernel knows nothing of these connections
        wanted = list(sent(str(lab.node("client").address)))
        for number, packet in enumerate(wanted):
            packet.id = FIRST_ID + number
        last = FIRST_ID + len(wanted) - 1
        server = str(lab.node("rs1").address)
        with lab.capture(["box"], tmp_path / f"{rewrite}.pcapng", expression=f"dst host {server}") as capture:
            text = json.dumps([bytes(packet).hex() for packet in wanted])
            lab.run("client", [sys.executable, "-c", SEND_ALL, VIP], input=text, check=True)
            eventually(
                lambda lab=lab, last=last: lab.box.stats()["forwarded"] >= last - FIRST_ID, "all forwarded"
            )
        seen[rewrite] = {
            packet.id: bytes(packet) for _, packet in packets(capture.path) if FIRST_ID <= packet.id <= last
        }
        lab.close()
        lifecycle.down(NAME)
        assert len(seen[rewrite]) == len(wanted)
    for number, packet in seen["userspace"].items():
        assert packet.hex() == seen["kernel"][number].hex(), IP(packet).summary()
