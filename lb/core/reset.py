"""Packets that the box makes itself: resets in the name of a VIP, and packets to be previewed.

Sequence numbers follow RFC 9293 §3.10.7.1: the reset of a segment that carries an ACK takes its sequence
number from that ACK, so that the sender's stack accepts it; the reset of any other acknowledges the segment.
"""

from __future__ import annotations

from struct import pack

from lb.core.checksum import checksum
from lb.core.packet import ACK, FIN, RST, SYN, TCP, UDP, Packet, split

TTL = 64
_DONT_FRAGMENT = 0x4000


def reset_for(packet: Packet) -> bytes | None:
    """The RST that answers a segment to which no connection belongs; None for a RST, which gets no answer."""
    if packet.flags & RST:
        return None
    client, client_port, vip, port = split(packet.key)
    if packet.flags & ACK:
        return segment(vip, port, client, client_port, seq=packet.ack, ack=0, flags=RST)
    length = packet.payload + bool(packet.flags & SYN) + bool(packet.flags & FIN)
    ack = (packet.seq + length) & 0xFFFFFFFF
    return segment(vip, port, client, client_port, seq=0, ack=ack, flags=RST | ACK)


def segment(
    source: bytes,
    source_port: int,
    destination: bytes,
    destination_port: int,
    *,
    seq: int,
    ack: int,
    flags: int,
    dscp: int = 0,
) -> bytes:
    """A whole IP packet with a TCP segment that has no options and no data; addresses of 4 or 16 bytes."""
    tcp = pack("!HHIIBBHHH", source_port, destination_port, seq, ack, 5 << 4, flags, 0, 0, 0)
    pseudo = _pseudo_header(source, destination, TCP, len(tcp))
    tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]
    return _with_header(source, destination, TCP, dscp, tcp)


def datagram(source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
    """A whole IP packet with a UDP datagram that has no data; addresses of 4 or 16 bytes."""
    udp = pack("!HHHH", source_port, destination_port, 8, 0)
    # A checksum of zero is written as its other form (RFC 768).
    value = checksum(_pseudo_header(source, destination, UDP, len(udp)) + udp) or 0xFFFF
    return _with_header(source, destination, UDP, 0, udp[:6] + value.to_bytes(2, "big"))


def _pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What a checksum covers beside the segment (RFC 8200 §8.1); for IPv4 the same words in another order."""
    return source + destination + pack("!II", length, protocol)


def _with_header(source: bytes, destination: bytes, protocol: int, dscp: int, segment: bytes) -> bytes:
    if len(source) == 16:
        header = pack("!IHBB", 6 << 28 | dscp << 22, len(segment), protocol, TTL) + source + destination
        return header + segment
    header = (
        pack("!BBHHHBBH", 0x45, dscp << 2, 20 + len(segment), 0, _DONT_FRAGMENT, TTL, protocol, 0)
        + source
        + destination
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + segment
