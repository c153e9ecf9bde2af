"""The L3DSR rewrite against scapy: the packet that it builds anew with another destination and DSCP."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    PadN,
    RouterAlert,
)
from scapy.packet import Packet, Raw

from lb.core.rewrite import Rewriter

from .dialogue import CLIENT, CLIENT6, VIP, VIP6, packed, tcp, udp

ports = st.integers(0, 0xFFFF)
words32 = st.integers(0, 0xFFFFFFFF)
data = st.binary(max_size=70)
ipv4_addresses = st.ip_addresses(v=4).map(str)
ipv6_addresses = st.ip_addresses(v=6).map(str)
dscps = st.integers(1, 63)

tcp_options = st.lists(
    st.sampled_from(
        [
            ("MSS", 1460),
            ("SAckOK", b""),
            ("Timestamp", (7, 9)),
            ("NOP", None),
            ("WScale", 7),
            ("SAck", (5, 9)),
        ]
    ),
    max_size=4,
)
ipv4_options = st.lists(
    st.sampled_from([IPOption_NOP(), IPOption_Router_Alert(), IPOption_Timestamp()]), max_size=3
)
ipv6_extensions = st.lists(
    st.sampled_from(
        [
            IPv6ExtHdrHopByHop(options=[RouterAlert()]),
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 20)]),
        ]
    ),
    max_size=3,
)
tcp_segments = st.builds(
    TCP, sport=ports, dport=ports, seq=words32, ack=words32, flags=st.integers(0, 255), options=tcp_options
)
udp_datagrams = st.builds(UDP, sport=ports, dport=ports, chksum=st.sampled_from([None, None, 0]))
ipv4_headers = st.builds(
    IP,
    src=ipv4_addresses,
    dst=st.just(VIP),
    tos=st.integers(0, 255),
    ttl=st.integers(1, 255),
    id=st.integers(0, 0xFFFF),
    flags=st.sampled_from(["", "DF"]),
    options=ipv4_options,
)
ipv6_headers = st.builds(
    IPv6,
    src=ipv6_addresses,
    dst=st.just(VIP6),
    tc=st.integers(0, 255),
    fl=st.integers(0, 0xFFFFF),
    hlim=st.integers(1, 255),
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """TCP, UDP and ICMP packets to the VIP, of either family, with whatever headers may carry."""
    head: Packet
    transport: Packet
    if draw(st.booleans()):
        head = draw(ipv4_headers)
        transport = draw(
            st.one_of(tcp_segments, udp_datagrams, st.just(ICMP(type=3, code=4, nexthopmtu=1400)))
        )
    else:
        head = draw(ipv6_headers)
        for extension in draw(ipv6_extensions):
            head = head / extension.copy()
        transport = draw(st.one_of(tcp_segments, udp_datagrams, st.just(ICMPv6PacketTooBig(mtu=1400))))
    payload = draw(data)
    packet: Packet = head / transport / Raw(payload) if payload else head / transport
    return packet


def transport_of(packet: Packet) -> Packet:
    for layer in (TCP, UDP, ICMP, ICMPv6PacketTooBig, ICMPv6EchoRequest):
        found: Packet | None = packet.getlayer(layer)
        if found is not None:
            return found
    raise AssertionError(packet.command())


def rewritten(packet: Packet, address: str, dscp: int) -> bytes:
    return Rewriter(packed(packet.dst), packed(address), dscp).rewrite(bytes(packet))


def built_by_scapy(packet: Packet, address: str, dscp: int) -> bytes:
    """The same packet with another destination and DSCP; a UDP sender's "no checksum" stays."""
    wanted = packet.copy()
    wanted.dst = address
    if wanted.version == 4:
        wanted.tos = dscp << 2 | packet.tos & 3
    else:
        wanted.tc = dscp << 2 | packet.tc & 3
    return bytes(wanted)


def assert_rewritten_as_by_scapy(packet: Packet, address: str, dscp: int) -> None:
    result = rewritten(packet, address, dscp)
    wanted = built_by_scapy(packet, address, dscp)
    assert result.hex(" ") == wanted.hex(" "), f"of {packet.command()}"


@given(packets(), ipv4_addresses, ipv6_addresses, dscps)
def test_rewritten_packet_is_the_one_that_scapy_builds(packet: Packet, v4: str, v6: str, dscp: int) -> None:
    assert_rewritten_as_by_scapy(packet, v4 if packet.version == 4 else v6, dscp)


@given(packets(), ipv4_addresses, ipv6_addresses, dscps)
def test_nothing_but_destination_dscp_and_checksums_changes(
    packet: Packet, v4: str, v6: str, dscp: int
) -> None:
    before = bytes(packet)
    after = rewritten(packet, v4 if packet.version == 4 else v6, dscp)
    start = len(before) - len(bytes(transport_of(packet)))
    may_change = {1, 10, 11, *range(16, 20)} if packet.version == 4 else {0, 1, *range(24, 40)}
    if TCP in packet:
        may_change |= {start + 16, start + 17}
    if UDP in packet:
        may_change |= {start + 6, start + 7}
    if packet.version == 6 and TCP not in packet and UDP not in packet:
        may_change |= {start + 2, start + 3}

    assert len(after) == len(before)
    assert {place for place in range(len(before)) if before[place] != after[place]} <= may_change


PACKETS = [
    tcp("S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]),
    tcp("PA", seq=0xFFFFFFF0, ack=0xFFFFFFFF, data=b"GET / HTTP/1.1\r\n\r\n", ttl=1),
    tcp("PA", data=b"odd", tos=0b101110_11),
    tcp("A", tos=0b001010_01),
    tcp("A", options=[("NOP", None)] * 40, data=b"x"),
    udp(b"query"),
    udp(b""),
    IP(src=CLIENT, dst=VIP) / ICMP(type=3, code=4) / Raw(b"quoted packet"),
    tcp("S", client=CLIENT6),
    tcp("PA", client=CLIENT6, data=b"odd", tc=0b101110_11, fl=0xFFFFF, hlim=1),
    udp(b"query", client=CLIENT6),
    IPv6(src=CLIENT6, dst=VIP6) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / TCP(flags="A"),
    IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoRequest(data=b"ping"),
]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: packet.summary())
def test_rewriting_of_everyday_packets(packet: Packet) -> None:
    assert_rewritten_as_by_scapy(packet, "10.0.1.2" if packet.version == 4 else "fd00:1::2", 10)


@pytest.mark.parametrize("ecn", range(4))
@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_ecn_survives_and_an_earlier_dscp_does_not(client: str, ecn: int) -> None:
    field = "tc" if ":" in client else "tos"
    header: dict[str, Any] = {field: 46 << 2 | ecn}
    packet = tcp("A", client=client, **header)

    result = type(packet)(rewritten(packet, "fd00:1::2" if ":" in client else "10.0.1.2", 10))

    assert getattr(result, field) == 10 << 2 | ecn


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_time_to_live_is_left_to_the_kernel(client: str) -> None:
    field = "hlim" if ":" in client else "ttl"
    header: dict[str, Any] = {field: 3}
    packet = tcp("A", client=client, **header)

    result = type(packet)(rewritten(packet, "fd00:1::2" if ":" in client else "10.0.1.2", 10))

    assert getattr(result, field) == 3


@given(st.binary(max_size=40).map(lambda text: text[: len(text) // 2 * 2]), ipv4_addresses, ipv6_addresses)
@example(b"", "10.0.1.2", "fd00:1::2")
def test_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff(text: bytes, v4: str, v6: str) -> None:
    for client, address in ((CLIENT, v4), (CLIENT6, v6)):
        # The checksum over data that ends in zeros, put in their place, makes the sum come out as 0xFFFF.
        trial = udp(text + b"\0\0", client=client)
        trial.dst = address
        word = type(trial)(bytes(trial))[UDP].chksum
        packet = udp(text + word.to_bytes(2, "big"), client=client)

        result = type(packet)(rewritten(packet, address, 10))

        assert result[UDP].chksum == 0xFFFF
        assert_rewritten_as_by_scapy(packet, address, 10)


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_udp_without_checksum_stays_without(client: str) -> None:
    packet = udp(b"query", client=client)
    packet[UDP].chksum = 0

    result = type(packet)(rewritten(packet, "fd00:1::2" if ":" in client else "10.0.1.2", 10))

    assert result[UDP].chksum == 0


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "truncated"),
        (bytes(tcp("A"))[:19], "truncated"),
        (bytes(tcp("A", client=CLIENT6))[:39], "truncated"),
        (bytes(tcp("A", frag=1)), "fragment"),
        (b"\x75" + bytes(40), "malformed"),
    ],
)
def test_what_the_box_refuses_is_not_rewritten(packet: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Rewriter(packed(VIP), packed("10.0.1.2"), 10).rewrite(packet)
