"""`rewrite = "kernel"` and `"userspace"` are the same on the wire, byte for byte."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import (
    IP,
    TCP,
    UDP,
    IPOption,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
)
from scapy.packet import Packet

from netns import labs
from netns.linux import namespace
from netns.linux.interfaces import turn_off_offload
from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import NAME, VIP, MakeLab, eventually, packets

pytestmark = pytest.mark.integration

FIRST_ID = 20_000
"""The packets are told from those of the kernels by their IPv4 identification."""

SEGMENTS = 64
"""Identifications that a super-packet takes at most: its segments are numbered from its own on."""

SEND_ALL = """
import json, socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for packet in json.load(sys.stdin):
    raw.sendto(bytes.fromhex(packet), (sys.argv[1], 0))
"""

# packet(7), PACKET_VNET_HDR: with the header of linux/virtio_net.h a frame is sent as one packet, of any
# length. The checksum field has the sum of the pseudo-header; the rest is for whoever cuts the packet up.
SEND_SUPER_PACKETS = """
import json, socket, struct, sys
NEEDS_CSUM, TCPV4, ECN = 1, 1, 0x80
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.setsockopt(263, 15, 1)
raw.bind(("eth0", 0))
ether = bytes.fromhex(sys.argv[1].replace(":", "")) + raw.getsockname()[4] + bytes((8, 0))
for size, packet in json.load(sys.stdin):
    packet = bytearray.fromhex(packet)
    ip = (packet[0] & 15) * 4
    tcp = (packet[ip + 12] >> 4) * 4
    total = sum(struct.unpack("!4H", packet[12:20])) + 6 + len(packet) - ip
    packet[ip + 16 : ip + 18] = struct.pack("!H", total % 0xFFFF)
    kind = TCPV4 | (ECN if packet[ip + 13] & 0x80 else 0)
    header = struct.pack("=BBHHHH", NEEDS_CSUM, kind, 14 + ip + tcp, size, 14 + ip, 16)
    raw.send(header + ether + packet)
"""

TIMESTAMP = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
TCP_OPTIONS: list[Sequence[tuple[object, object]]] = [
    [],
    [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (12345, 0)), ("NOP", None), ("WScale", 7)],
    TIMESTAMP,
    [("NOP", None), ("NOP", None), ("SAck", (1000, 2000, 3000, 4000, 5000, 6000))],
    *([(kind, bytes(range(size)))] for kind, size in ((0, 0), (1, 0), (8, 8), (14, 1), (19, 16), (28, 2))),
    *([(kind, bytes(range(size)))] for kind, size in ((29, 14), (30, 18), (34, 8), (253, 2), (254, 38))),
    [("EOL", None), ("NOP", None), ("NOP", None), ("NOP", None)],
    [("NOP", None)] * 40,
]
"""Each kind that a stack may send: the usual ones, 14 (alternate checksum), 19 (MD5), 28 (user timeout),
29 (TCP-AO), 30 (MPTCP), 34 (fast open), 253 and 254 (experiments); none, and as many as there is room for."""

IP_OPTIONS = [
    [IPOption_NOP()] * 4,
    [IPOption_NOP()] * 40,
    [IPOption_RR(length=39, pointer=4, routers=["0.0.0.0"] * 9)],
    [IPOption(optclass=2, option=4, value=bytes((37, 0)) + bytes(32))],
    [IPOption_Router_Alert()],
    [IPOption(option=30, value=b"ab")],
]
"""Padding, record route, timestamps (no room is left: a time would be another in each run), router alert, an
experiment's; routers write into two of them."""


def _has_forwarded(lab: NamespaceLab, count: int) -> bool:
    return bool(lab.box.stats()["forwarded"] >= count)


def flags() -> Iterator[str]:
    """Every combination of the nine flags that is not dropped: SYN with FIN or with RST is."""
    for count in range(10):
        for chosen in combinations("FSRPAUECN", count):
            if not ("S" in chosen and {"F", "R"} & set(chosen)):
                yield "".join(chosen)


def sent(client: str) -> Iterator[Packet]:
    """Packets of every kind that there is a rewriting for; a SYN first where a session is needed."""
    head: dict[str, Any] = {"src": client, "dst": VIP}
    port = 5000
    for flag in flags():
        port += 1
        yield IP(**head) / TCP(sport=port, dport=80, flags="S", seq=port, options=TCP_OPTIONS[1])
        yield IP(**head) / TCP(sport=port, dport=80, flags=flag, seq=port + 1, ack=77, urgptr=3) / b"x"
    for option in TCP_OPTIONS:
        port += 1
        yield IP(**head) / TCP(sport=port, dport=80, flags="S", seq=port, options=option)
        yield IP(**head) / TCP(sport=port, dport=80, flags="PA", seq=port + 1, ack=7, options=option) / b"odd"
    port += 1
    yield IP(**head) / TCP(sport=port, dport=80, flags="S", seq=1)
    for size in (*range(70), 127, 535, 536, 537, 1000, 1447, 1448, 1459, 1460):
        yield IP(**head) / TCP(sport=port, dport=80, flags="PA", seq=2, ack=1) / bytes(range(256))[:size]
        yield IP(**head) / TCP(sport=port, dport=80, flags="PA", seq=2, ack=1) / (b"\xff" * size)
    for tos in range(256):  # every DSCP that may be there already, with each of the ECN bits
        yield IP(**head, tos=tos, ttl=33) / TCP(sport=port, dport=80, flags="A", seq=2, ack=1) / b"tos"
        yield IP(**head, tos=tos, flags="DF", ttl=255) / UDP(sport=port, dport=5353) / b"tos"
    for options in IP_OPTIONS:
        yield IP(**head, options=options) / TCP(sport=port, dport=80, flags="A", seq=2, ack=1) / b"options"
        yield IP(**head, options=options) / UDP(sport=port, dport=5353) / b"options"
    # A checksum that is wrong stays as wrong as it was: it is the receiver's to judge.
    yield IP(**head) / TCP(sport=port, dport=80, flags="A", seq=2, ack=1, chksum=0x1234) / b"wrong"
    yield IP(**head) / UDP(sport=port, dport=5353, chksum=0x1234) / b"wrong"
    for size in (*range(20), 511, 512, 1471, 1472):
        yield IP(**head) / UDP(sport=port, dport=5353) / bytes(size)
        yield IP(**head) / UDP(sport=port, dport=5353, chksum=0) / bytes(size)
    yield IP(**head) / UDP(sport=port, dport=5353) / _that_sums_to_zero(client, port)


def sent_whole(client: str) -> Iterator[tuple[int, Packet]]:
    """What an upload is made of: super-packets, and the bytes of data in each of their segments."""
    data = bytes(range(256)) * 256
    for size, options in ((1460, []), (1448, TIMESTAMP), (536, [])):
        for flag in ("A", "PA", "FPA", "PAC", "PAE", "PAU"):
            for length in (size + 1, 3 * size, min(SEGMENTS * size, 65_000) - 7):
                tcp = TCP(sport=4000, dport=80, flags=flag, seq=2, ack=1, options=options)
                yield size, IP(src=client, dst=VIP, tos=(length & 3), flags="DF") / tcp / data[:length]


def _that_sums_to_zero(client: str, port: int) -> bytes:
    """Data that makes the UDP checksum 0 after rewriting, which is to be sent as 0xFFFF (RFC 768)."""
    rewritten = IP(src=client, dst="10.80.1.2") / UDP(sport=port, dport=5353) / b"\0\0"
    return bytes(IP(bytes(rewritten)))[26:28]


def test_both_ways_of_rewriting_give_the_same_bytes(make_lab: MakeLab, tmp_path: Path) -> None:
    seen: dict[str, dict[int, bytes]] = {}
    for rewrite in ("userspace", "kernel"):
        lab = make_lab(lab=_lab(rewrite))
        lab.vip_down("rs1")  # no answer: the client's kernel knows nothing of these connections
        wanted = list(sent(str(lab.node("client").address)))
        with lab.capture(["box"], tmp_path / f"{rewrite}.pcapng", expression=_on_their_way(lab)) as capture:
            last = _send(lab, wanted, FIRST_ID)
        seen[rewrite] = _by_identification(capture.path, last)
        lab.close()
        labs.down(NAME)
        assert len(seen[rewrite]) == len(wanted)
    _assert_same(seen)


def test_both_ways_send_an_upload_of_super_packets_as_the_same_segments(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    """In user space each segment is rewritten; in the kernel the whole of them, and cut up when it leaves."""
    seen: dict[str, dict[int, bytes]] = {}
    taken: dict[str, int] = {}
    for rewrite in ("userspace", "kernel"):
        lab = make_lab(lab={**_lab(rewrite), "offload": True})
        namespace.inside(lab.node("box").namespace, partial(turn_off_offload, "eth0"))
        lab.vip_down("rs1")
        client = str(lab.node("client").address)
        link = json.loads(lab.run("router", ["ip", "-json", "link", "show", "client"], check=True).stdout)
        wanted = list(sent_whole(client))
        with lab.capture(["box"], tmp_path / f"{rewrite}.pcapng", expression=_on_their_way(lab)) as capture:
            last = _send(lab, [IP(src=client, dst=VIP) / TCP(sport=4000, dport=80, flags="S", seq=1)], 1)
            before = lab.box.stats()["forwarded"]
            segments = 0
            for number, (size, packet) in enumerate(wanted):
                packet.id = last = FIRST_ID + number * SEGMENTS
                segments += -(-len(packet[TCP].payload) // size)
            text = json.dumps([(size, bytes(packet).hex()) for size, packet in wanted])
            command = [sys.executable, "-c", SEND_SUPER_PACKETS, link[0]["address"]]
            lab.run("client", command, input=text, check=True)
            expected = segments if rewrite == "userspace" else len(wanted)
            eventually(partial(_has_forwarded, lab, before + expected), "all")
        taken[rewrite] = lab.box.stats()["forwarded"] - before
        seen[rewrite] = _by_identification(capture.path, last + SEGMENTS)
        lab.close()
        labs.down(NAME)
        assert len(seen[rewrite]) == segments
    assert taken == {"userspace": segments, "kernel": len(wanted)}
    _assert_same(seen)


def _lab(rewrite: str) -> dict[str, object]:
    udp = {"name": "dns", "address": VIP, "port": 5353, "protocol": "udp", "dscp": 10}
    web = {"name": "web", "address": VIP, "port": 80, "dscp": 10}
    checked = {"health_check": {"kind": "l4", "path": "direct"}}
    return {
        "server": [{"name": "rs1"}],
        "virtual_server": [web | checked, udp | checked],
        "box": {"rewrite": rewrite},
    }


def _on_their_way(lab: NamespaceLab) -> str:
    return f"src host {lab.node('client').address} and dst host {lab.node('rs1').address}"


def _send(lab: NamespaceLab, wanted: list[Packet], first: int) -> int:
    """Send packets, numbered from `first` on, and return the last number when the box has forwarded all."""
    before = lab.box.stats()["forwarded"]
    for number, packet in enumerate(wanted):
        packet.id = first + number
    text = json.dumps([bytes(packet).hex() for packet in wanted])
    lab.run("client", [sys.executable, "-c", SEND_ALL, VIP], input=text, check=True)
    eventually(lambda: lab.box.stats()["forwarded"] >= before + len(wanted), "all forwarded")
    return first + len(wanted) - 1


def _by_identification(capture: Path, last: int) -> dict[int, bytes]:
    return {packet.id: bytes(packet) for _, packet in packets(capture) if FIRST_ID <= packet.id <= last}


def _assert_same(seen: dict[str, dict[int, bytes]]) -> None:
    for number, packet in seen["userspace"].items():
        assert packet.hex() == seen["kernel"][number].hex(), IP(packet).summary()
