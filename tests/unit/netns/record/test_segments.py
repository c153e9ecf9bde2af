"""Captures, decoded by hand, against what scapy put into them."""

from __future__ import annotations

import struct
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from netns.clients.spec import LONGEST_NAME
from netns.record.pcapng import Trace, merge
from netns.record.segments import (
    Glance,
    Segment,
    begins_asks_or_ends,
    begins_or_asks,
    of_ends,
    read,
    unreachables,
)
from netns.record.segments import segments as wire_segments

START_NS = 1_800_000_000_000_000_000


def capture(path: Path, *packets: Packet) -> Path:
    """A capture of the packets at a node "rs1", a millisecond apart."""
    data = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for number, packet in enumerate(packets):
        seconds, nanoseconds = divmod(START_NS + number * 1_000_000, 1_000_000_000)
        frame = bytes(packet)
        data += struct.pack("=IIII", seconds, nanoseconds, len(frame), len(frame)) + frame
    pcap = path / "rs1.pcap"
    pcap.write_bytes(data)
    merge([Trace("rs1", pcap)], path / "rs1.pcapng")
    return path / "rs1.pcapng"


def segments(path: Path, *packets: Packet) -> list[Segment]:
    """They as they are read, with times that begin at 100 and run 20 times as fast."""
    return read(capture(path, *packets), lambda unix_s: 100 + (unix_s - START_NS / 1e9) * 20)


def tcp(flags: str, payload: bytes = b"", **fields: int) -> Packet:
    segment = Ether() / IP(src="10.80.4.2", dst="10.80.1.2", tos=10 << 2)
    segment /= TCP(sport=40001, dport=80, flags=flags, **fields)
    return segment / Raw(payload) if payload else segment


def test_segment_has_its_ends_its_numbers_and_its_payload(tmp_path: Path) -> None:
    (segment,) = segments(tmp_path, tcp("PA", b"GET / HTTP/1.1\r\n", seq=1000, ack=2000))
    assert (segment.point, segment.source, segment.destination) == ("rs1", "10.80.4.2:40001", "10.80.1.2:80")
    assert (segment.seq, segment.ack, segment.dscp, segment.length) == (1000, 2000, 10, 16)
    assert segment.is_request
    assert (segment.rst, segment.fin, segment.opens) == (False, False, False)


def test_times_are_those_of_the_run(tmp_path: Path) -> None:
    found = segments(tmp_path, tcp("S"), tcp("A"))
    assert [round(segment.time, 3) for segment in found] == [100.0, 100.02]


def test_flags_are_told_apart(tmp_path: Path) -> None:
    syn, syn_ack, fin, rst = segments(tmp_path, tcp("S"), tcp("SA"), tcp("FA"), tcp("R", seq=5))
    assert (syn.opens, syn_ack.opens) == (True, False)
    assert (fin.fin, rst.fin) == (True, False)
    assert (rst.rst, rst.refuses) == (True, False)


def test_refusal_of_a_connection_is_told_from_a_reset_of_one(tmp_path: Path) -> None:
    refusal, reset = segments(tmp_path, tcp("RA", seq=0, ack=1), tcp("RA", seq=77, ack=1))
    assert (refusal.refuses, reset.refuses) == (True, False)


def test_ip_and_tcp_options_are_no_payload(tmp_path: Path) -> None:
    packet = Ether() / IP(src="10.80.4.2", dst="10.80.1.2", options=b"\x01\x01\x01\x00")
    packet /= TCP(sport=1, dport=80, flags="A", options=[("Timestamp", (1, 2))]) / Raw(b"hello")
    (segment,) = segments(tmp_path, packet)
    assert (segment.length, segment.payload[:5]) == (5, b"hello")


def test_ethernet_padding_is_no_payload(tmp_path: Path) -> None:
    (segment,) = segments(tmp_path, Ether(bytes(tcp("A")) + bytes(6)))
    assert (segment.length, segment.payload) == (0, b"")


def test_what_is_not_tcp_over_ipv4_is_passed_over(tmp_path: Path) -> None:
    ip = Ether() / IP(src="10.0.0.1", dst="10.0.0.2")
    later_fragment = Ether() / IP(src="10.0.0.1", dst="10.0.0.2", frag=10, proto=6) / Raw(bytes(64))
    others = [Ether() / ARP(), ip / UDP() / Raw(bytes(64)), ip / ICMP() / Raw(bytes(64)), later_fragment]
    assert segments(tmp_path, *others, Ether() / Raw(b"x")) == []


def test_who_keeps_few_of_many_gets_just_those(tmp_path: Path) -> None:
    other = Ether() / IP(src="10.80.4.2", dst="10.80.1.2") / TCP(sport=40002, dport=80, flags="A")
    back = Ether() / IP(src="192.0.2.10", dst="10.80.4.2") / TCP(sport=80, dport=40001, flags="SA")
    asks = tcp("PA", b"POST /?curl-post-1.3 HTTP/1.1\r\n")
    path = capture(tmp_path, tcp("S"), back, other, asks, tcp("PA", b"more"), tcp("FA"), tcp("R"))

    def kept(wanted: Glance) -> list[str]:
        return [str(one.flags) + one.request_id for one in wire_segments(path, float, wanted)]

    assert kept(of_ends(["10.80.4.2:40001"])) == ["2", "18", "24curl-post-1.3", "24", "17", "4"]
    assert kept(of_ends(["10.80.4.2:40002"])) == ["16"]
    assert kept(begins_or_asks) == ["2", "24curl-post-1.3"]
    assert kept(begins_asks_or_ends) == ["2", "24curl-post-1.3", "17", "4"]


def test_request_is_named_by_the_query_of_its_url_whatever_its_path(tmp_path: Path) -> None:
    lines = (
        b"GET /?curl-1.3 HTTP/1.1\r\n",
        b"GET /large?curl-download-1.1 HTTP/1.1\r\n",
        b"POST /?curl@api-3.17 HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: /?no\r\n",
    )
    found = segments(tmp_path, *(tcp("PA", line) for line in lines))
    assert [one.request_id for one in found] == ["curl-1.3", "curl-download-1.1", "curl@api-3.17", ""]


def test_the_longest_name_is_kept_whole(tmp_path: Path) -> None:
    name = "x" * LONGEST_NAME + ".123456"
    (found,) = segments(tmp_path, tcp("PA", f"POST /large?{name} HTTP/1.1\r\n".encode()))
    assert found.request_id == name


def test_icmp_unreachable_names_the_segment_that_it_quotes(tmp_path: Path) -> None:
    refused = IP(src="10.80.4.2", dst="192.0.2.10") / TCP(sport=40001, dport=80, flags="S")
    sent = Ether() / IP(src="192.0.2.10", dst="10.80.4.2")
    others = [sent / ICMP(type=11) / refused, sent / ICMP(type=3, code=4) / refused]
    others += [
        sent / ICMP(type=3) / Raw(bytes(refused)[:27]),
        sent / ICMP(type=3) / IP() / UDP() / Raw(bytes(9)),
    ]
    path = capture(tmp_path, *others, sent / ICMP(type=3, code=13) / refused, tcp("S"))
    (found,) = unreachables(path, float)
    assert (found.source, found.destination, found.code) == ("10.80.4.2:40001", "192.0.2.10:80", 13)
    assert found.point == "rs1"
