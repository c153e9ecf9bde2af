"""What the box reads in a packet, each row printable as the scapy line that made it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from lb.core.packet import Drop, Packet, join, read, read_icmp, split, transport

from .dialogue import CLIENT, CLIENT6, PORT, VIP, VIP6, packed, tcp, udp, vip_of

ROUTER, ROUTER6 = "198.18.0.1", "2001:db8:ff::1"


def key(client: str, vip_port: int = 80) -> bytes:
    return join(packed(client), PORT, packed(vip_of(client)), vip_port)


def v6(*extensions: Scapy) -> Scapy:
    packet = IPv6(src=CLIENT6, dst=VIP6)
    for extension in extensions:
        packet = packet / extension
    return packet / TCP(sport=PORT, dport=80, seq=1, ack=2, flags="A") / Raw(b"abc")


def padding(length: int = 4) -> Scapy:
    return IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * length)])


def by_summary(value: object) -> str | None:
    return value.summary() if isinstance(value, Scapy) else None


READABLE = [
    (tcp("S", seq=7), Packet(6, key(CLIENT), 40, 7, 0, 0x02, 0)),
    (tcp("PA", seq=7, ack=9, data=b"abc"), Packet(6, key(CLIENT), 43, 7, 9, 0x18, 3)),
    (tcp("SEC", seq=7), Packet(6, key(CLIENT), 40, 7, 0, 0xC2, 0)),
    (
        tcp("A", seq=2**32 - 1, ack=2**32 - 1, options=[("Timestamp", (1, 2))], data=b"abc"),
        Packet(6, key(CLIENT), 55, 2**32 - 1, 2**32 - 1, 0x10, 3),
    ),
    (
        tcp("A", options=[("NOP", None)] * 40, data=b"abc"),
        Packet(6, key(CLIENT), 83, 1000, 0, 0x10, 3),
    ),
    (
        tcp("S", seq=7, options=[("NOP", None)] * 4) / Raw(b"abc"),
        Packet(6, key(CLIENT), 47, 7, 0, 0x02, 3),
    ),
    (
        IP(src=CLIENT, dst=VIP, options=[IPOption_Router_Alert()])
        / TCP(sport=PORT, dport=80, seq=7, ack=9, flags="A"),
        Packet(6, key(CLIENT), 44, 7, 9, 0x10, 0),
    ),
    (udp(), Packet(17, key(CLIENT, 53), 28, 0, 0, 0, 0)),
    (udp(b"abc"), Packet(17, key(CLIENT, 53), 31, 0, 0, 0, 3)),
    (IP(src=CLIENT, dst=VIP) / ICMP() / Raw(b"ping"), Packet(1, b"", 32, 0, 0, 0, 12)),
    (tcp("S", seq=7, client=CLIENT6), Packet(6, key(CLIENT6), 60, 7, 0, 0x02, 0)),
    (udp(b"abc", client=CLIENT6), Packet(17, key(CLIENT6, 53), 51, 0, 0, 0, 3)),
    (v6(), Packet(6, key(CLIENT6), 63, 1, 2, 0x10, 3)),
    (v6(padding()), Packet(6, key(CLIENT6), 71, 1, 2, 0x10, 3)),
    (v6(IPv6ExtHdrHopByHop(), padding(20)), Packet(6, key(CLIENT6), 95, 1, 2, 0x10, 3)),
    (v6(*[padding()] * 7), Packet(6, key(CLIENT6), 119, 1, 2, 0x10, 3)),
    (
        IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoRequest(data=b"ping"),
        Packet(58, b"", 52, 0, 0, 0, 12),
    ),
]


@pytest.mark.parametrize(("packet", "fields"), READABLE, ids=by_summary)
def test_fields_of(packet: Scapy, fields: Packet) -> None:
    assert read(bytes(packet)) == fields


@pytest.mark.parametrize(("packet", "fields"), READABLE, ids=by_summary)
def test_every_truncation_reads_the_same_or_not_at_all(packet: Scapy, fields: Packet) -> None:
    """The kernel copies a packet's beginning; headers that are not all there must not be guessed."""
    whole = bytes(packet)
    readable = [isinstance(read(whole[:length]), Packet) for length in range(len(whole) + 1)]
    shortest = readable.index(True)

    assert all(readable[shortest:])
    assert {read(whole[:length]) for length in range(shortest, len(whole) + 1)} == {fields}
    assert {read(whole[:length]) for length in range(shortest)} == {Drop.TRUNCATED}


@pytest.mark.parametrize(("packet", "fields"), READABLE, ids=by_summary)
def test_bytes_after_the_packets_own_length_are_not_its_payload(packet: Scapy, fields: Packet) -> None:
    """Ethernet pads short frames."""
    assert read(bytes(packet) + b"\0" * 6) == fields


UNUSABLE = [
    ("nothing", b"", Drop.TRUNCATED),
    ("version 0", bytes(40), Drop.MALFORMED),
    ("version 5", b"\x55" + bytes(39), Drop.MALFORMED),
    ("half an IPv4 header", bytes(tcp("A"))[:19], Drop.TRUNCATED),
    ("half an IPv6 header", bytes(tcp("A", client=CLIENT6))[:39], Drop.TRUNCATED),
    ("IPv4 header length under 20", tcp("A", ihl=4), Drop.MALFORMED),
    ("IPv4 header longer than the packet", tcp("A", ihl=15), Drop.MALFORMED),
    (
        "IPv4 options that are not there",
        bytes(IP(src=CLIENT, dst=VIP, options=[IPOption_Router_Alert()]) / TCP())[:22],
        Drop.TRUNCATED,
    ),
    ("IPv4 total length under its header's", tcp("A", len=19), Drop.MALFORMED),
    ("IPv4 total length without room for TCP", tcp("A", len=39), Drop.MALFORMED),
    ("first fragment", IP(src=CLIENT, dst=VIP, flags="MF") / TCP(), Drop.FRAGMENT),
    ("later fragment", tcp("A", frag=3), Drop.FRAGMENT),
    ("IPv6 fragment", v6(IPv6ExtHdrFragment()), Drop.FRAGMENT),
    ("IPv6 fragment after an extension", v6(padding(), IPv6ExtHdrFragment()), Drop.FRAGMENT),
    ("IPv6 source routing", v6(IPv6ExtHdrRouting(addresses=["::1"])), Drop.PROTOCOL),
    ("IPv6 extension that is not there", bytes(v6(padding()))[:47], Drop.TRUNCATED),
    ("eight IPv6 extensions", v6(*[padding()] * 8), Drop.MALFORMED),
    ("IPv6 payload length 0", tcp("A", client=CLIENT6, plen=0), Drop.MALFORMED),
    ("TCP header cut off", bytes(tcp("A"))[:39], Drop.TRUNCATED),
    ("TCP data offset under 5", IP(src=CLIENT, dst=VIP) / TCP(dataofs=4), Drop.MALFORMED),
    ("TCP data offset beyond the packet", IP(src=CLIENT, dst=VIP) / TCP(dataofs=6), Drop.MALFORMED),
    ("UDP header cut off", bytes(udp())[:27], Drop.TRUNCATED),
    ("UDP length under 8", IP(src=CLIENT, dst=VIP) / UDP(len=7), Drop.MALFORMED),
    ("UDP length beyond the packet", IP(src=CLIENT, dst=VIP) / UDP(len=9), Drop.MALFORMED),
    ("another protocol", IP(src=CLIENT, dst=VIP, proto=132) / Raw(bytes(20)), Drop.PROTOCOL),
]


@pytest.mark.parametrize(
    ("packet", "reason"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE]
)
def test_no_fields_of(packet: Scapy | bytes, reason: Drop) -> None:
    assert read(bytes(packet)) is reason


heads = st.sampled_from([b"", b"\x45", b"\x46", b"\x4f", b"\x60", b"\x6f"])


@given(heads, st.binary(max_size=120))
def test_whatever_comes_is_read_without_an_exception(head: bytes, rest: bytes) -> None:
    packet = head + rest

    assert isinstance(read(packet), Packet | Drop)
    assert isinstance(read_icmp(packet), tuple | Drop)
    assert isinstance(transport(packet), tuple | Drop)


@given(
    st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
)
def test_a_session_key_splits_into_what_it_was_joined_of(client: bytes, client_port: int, port: int) -> None:
    vip = bytes(reversed(client))

    assert split(join(client, client_port, vip, port)) == (client, client_port, vip, port)


# ICMP. A server's segment to the client, sent as the VIP, met an error on its way; a router tells the VIP.


def sent_by_server(client: str = CLIENT, **fields: Any) -> Scapy:
    layer = IPv6 if ":" in client else IP
    return (
        layer(src=vip_of(client), dst=client, **fields) / TCP(sport=80, dport=PORT, flags="A") / Raw(b"data")
    )


def icmp4(kind: int, code: int, inside: Scapy | bytes) -> Scapy:
    return IP(src=ROUTER, dst=VIP) / ICMP(type=kind, code=code) / Raw(bytes(inside))


def icmp6(head: Scapy, inside: Scapy | bytes) -> Scapy:
    return IPv6(src=ROUTER6, dst=VIP6) / head / Raw(bytes(inside))


OF_A_SESSION = [
    (icmp4(3, 4, sent_by_server()), (6, key(CLIENT))),
    (icmp4(3, 1, bytes(sent_by_server())[:28]), (6, key(CLIENT))),  # RFC 792: header and 8 bytes
    (icmp4(11, 0, sent_by_server()), (6, key(CLIENT))),
    (icmp4(12, 0, sent_by_server(options=[IPOption_Router_Alert()])), (6, key(CLIENT))),
    (icmp4(3, 3, IP(src=VIP, dst=CLIENT) / UDP(sport=53, dport=PORT)), (17, key(CLIENT, 53))),
    (icmp4(3, 4, sent_by_server(len=0)), (6, key(CLIENT))),  # some routers quote it so; the ports are there
    (icmp6(ICMPv6DestUnreach(), sent_by_server(CLIENT6)), (6, key(CLIENT6))),
    (icmp6(ICMPv6PacketTooBig(mtu=1280), sent_by_server(CLIENT6)), (6, key(CLIENT6))),
    (icmp6(ICMPv6TimeExceeded(), sent_by_server(CLIENT6)), (6, key(CLIENT6))),
    (icmp6(ICMPv6ParamProblem(), sent_by_server(CLIENT6)), (6, key(CLIENT6))),
]


@pytest.mark.parametrize(("packet", "session"), OF_A_SESSION, ids=by_summary)
def test_icmp_error_names_the_session_of_the_packet_it_quotes(
    packet: Scapy, session: tuple[int, bytes]
) -> None:
    assert read_icmp(bytes(packet)) == session


NOT_OF_A_SESSION = [
    ("nothing", b"", Drop.TRUNCATED),
    ("ICMP header cut off", bytes(icmp4(3, 4, b""))[:27], Drop.TRUNCATED),
    ("IPv4 header malformed", b"\x44" + bytes(40), Drop.MALFORMED),
    ("echo request", IP(src=CLIENT, dst=VIP) / ICMP(type=8), Drop.ICMP),
    ("echo reply", IP(src=CLIENT, dst=VIP) / ICMP(type=0), Drop.ICMP),
    ("redirect", icmp4(5, 1, sent_by_server()), Drop.ICMP),
    ("source quench", icmp4(4, 0, sent_by_server()), Drop.ICMP),
    ("ICMPv6 echo request", IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoRequest(), Drop.ICMP),
    ("ICMPv6 echo reply", IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoReply(), Drop.ICMP),
    ("error without a packet", icmp4(3, 4, b""), Drop.ICMP),
    ("error with half a header", icmp4(3, 4, bytes(sent_by_server())[:19]), Drop.ICMP),
    ("error without ports", icmp4(3, 4, bytes(sent_by_server())[:23]), Drop.ICMP),
    ("error about a fragment", icmp4(3, 4, sent_by_server(frag=9)), Drop.ICMP),
    ("error about a client's own packet", icmp4(3, 4, tcp("A")), Drop.ICMP),
    ("error about another VIP", icmp4(3, 4, IP(src="192.0.2.11", dst=CLIENT) / TCP()), Drop.ICMP),
    ("ICMPv4 error about an IPv6 packet", icmp4(3, 4, sent_by_server(CLIENT6)), Drop.ICMP),
    ("ICMPv6 error about an IPv4 packet", icmp6(ICMPv6DestUnreach(), sent_by_server()), Drop.ICMP),
]


@pytest.mark.parametrize(
    ("packet", "reason"), [row[1:] for row in NOT_OF_A_SESSION], ids=[row[0] for row in NOT_OF_A_SESSION]
)
def test_no_session_is_named_by(packet: Scapy | bytes, reason: Drop) -> None:
    assert read_icmp(bytes(packet)) is reason


def test_transport_header_starts_after_the_ip_headers() -> None:
    assert transport(bytes(tcp("A"))) == (6, 20)
    assert transport(bytes(IP(options=[IPOption_Router_Alert()]) / UDP())) == (17, 24)
    assert transport(bytes(v6(padding(), padding(20)))) == (6, 72)
    assert transport(b"") is Drop.TRUNCATED
