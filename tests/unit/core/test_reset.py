"""Resets, judged by RFC 9293 §3.10.7.1 as it is written, and by scapy's checksums."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from lb.core.packet import Packet, read
from lb.core.reset import datagram, reset_for, segment

from .dialogue import CLIENT, CLIENT6, PORT, packed, parsed, tcp, vip_of

FLAGS = ["".join(letters) for letters in product(("", "F"), ("", "S"), ("", "R"), ("", "P"), ("", "A"))]


def answer_to(flags: str, *, seq: int, ack: int, data: bytes, client: str = CLIENT) -> bytes | None:
    fields = read(bytes(tcp(flags, seq=seq, ack=ack, data=data, client=client)))
    assert isinstance(fields, Packet)
    return reset_for(fields)


def wanted_by_the_rfc(flags: str, seq: int, ack: int, data: bytes) -> tuple[str, int, int] | None:
    """ "CLOSED STATE": flags, sequence and acknowledgement numbers of the reset."""
    if "R" in flags:
        return None  # "An incoming segment containing a RST is discarded."
    if "A" in flags:
        return "R", ack, 0  # <SEQ=SEG.ACK><CTL=RST>
    seg_len = len(data) + flags.count("S") + flags.count("F")
    return "RA", 0, (seq + seg_len) % 2**32  # <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 1400], ids=len)
@pytest.mark.parametrize(("seq", "ack"), [(1000, 7000), (0, 0), (2**32 - 1, 2**32 - 1)])
@pytest.mark.parametrize("flags", FLAGS)
def test_reset_has_the_numbers_of_the_rfc(flags: str, seq: int, ack: int, data: bytes) -> None:
    answer = answer_to(flags, seq=seq, ack=ack, data=data)

    reset = parsed(answer)[TCP] if answer else None

    assert (reset and (str(reset.flags), reset.seq, reset.ack)) == wanted_by_the_rfc(flags, seq, ack, data)


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_reset_comes_from_the_vip_to_the_client(client: str) -> None:
    answer = answer_to("A", seq=1, ack=2, data=b"", client=client)

    assert answer
    reset = parsed(answer)
    assert (reset.src, reset[TCP].sport) == (vip_of(client), 80)
    assert (reset.dst, reset[TCP].dport) == (client, PORT)


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_reset_is_never_answered(client: str) -> None:
    """Two boxes that answer each other's resets would never stop."""
    for first in ("S", "A", "FA", ""):
        answer = answer_to(first, seq=5, ack=9, data=b"", client=client)
        assert answer
        fields = read(answer)
        assert isinstance(fields, Packet)
        assert reset_for(fields) is None


@given(
    st.sampled_from([CLIENT, CLIENT6]),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
)
def test_segment_is_byte_for_byte_scapys(
    client: str, source_port: int, port: int, seq: int, ack: int, flags: int
) -> None:
    vip = vip_of(client)
    head = IPv6(src=vip, dst=client, hlim=64) if ":" in vip else IP(src=vip, dst=client, id=0, flags="DF")
    wanted = head / TCP(sport=source_port, dport=port, seq=seq, ack=ack, flags=flags, window=0)

    made = segment(packed(vip), source_port, packed(client), port, seq=seq, ack=ack, flags=flags)

    assert made.hex(" ") == bytes(wanted).hex(" ")


@given(st.sampled_from([CLIENT, CLIENT6]), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_datagram_is_byte_for_byte_scapys(client: str, source_port: int, port: int) -> None:
    vip = vip_of(client)
    head = IPv6(src=client, dst=vip, hlim=64) if ":" in vip else IP(src=client, dst=vip, id=0, flags="DF")

    made = datagram(packed(client), source_port, packed(vip), port)

    assert made.hex(" ") == bytes(head / UDP(sport=source_port, dport=port)).hex(" ")
