"""Views of IPv4, IPv6, TCP, UDP and ICMP headers: what the box needs of a packet, and nothing else.

`read` takes a packet from its IP header on; a truncated copy is enough as long as it holds the headers. It
never raises: what can't be used is a `Drop` reason.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10


class Drop(Enum):
    """Why a packet was not forwarded. Each is counted; the values are metric labels."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    PROTOCOL = "unknown_protocol"
    FLAGS = "bad_flags"
    SOURCE = "bad_source"
    NO_SERVICE = "no_virtual_server"
    NO_ENTRY = "no_entry"
    NO_SERVER = "no_server"
    TABLE_FULL = "table_full"
    ICMP = "icmp_unrelated"
    OVERSIZE = "too_long_to_rewrite"
    RESET = "session_reset"
    INTERNAL = "internal_error"


class Packet(NamedTuple):
    """The fields of one packet. `seq`, `ack`, `flags` are 0 where the protocol has none."""

    protocol: int
    key: bytes
    """Client address, VIP, client port, VIP port as on the wire: 12 bytes for IPv4, 36 for IPv6."""
    length: int
    """Of the whole packet in bytes, by its IP header."""
    seq: int
    ack: int
    flags: int
    payload: int
    """Bytes of data after the TCP or UDP header, by the IP header's length."""


V4_TCP: Final = Struct("!BxHxxHxBxx12sIIBB").unpack_from
"""IPv4 without options, and TCP: version and header length, total length, fragment field, protocol, key
(addresses and ports are neighbours on the wire), sequence, acknowledgement, data offset, flags."""
V4_TCP_LENGTH: Final = 40

_V4_FRAGMENT: Final = 0x3FFF  # more-fragments bit and offset (RFC 791 §3.1)
_V6_EXTENSIONS: Final = frozenset({0, 60})  # hop-by-hop and destination options (RFC 8200 §4)
_V6_FRAGMENT: Final = 44
_V6_EXTENSIONS_MAX: Final = 8


def read(packet: bytes) -> Packet | Drop:
    """The fields of a TCP, UDP or ICMP packet of either IP version. For ICMP errors, see `read_icmp`."""
    found = _read_network(packet)
    if isinstance(found, Drop):
        return found
    protocol, addresses, start, length = found
    if protocol == TCP:
        if len(packet) < start + 20:
            return Drop.TRUNCATED
        header = (packet[start + 12] >> 4) * 4
        if header < 20 or start + header > length:
            return Drop.MALFORMED
        return Packet(
            TCP,
            addresses + packet[start : start + 4],
            length,
            int.from_bytes(packet[start + 4 : start + 8], "big"),
            int.from_bytes(packet[start + 8 : start + 12], "big"),
            packet[start + 13],
            length - start - header,
        )
    if protocol == UDP:
        if len(packet) < start + 8:
            return Drop.TRUNCATED
        udp_length = int.from_bytes(packet[start + 4 : start + 6], "big")
        if udp_length < 8 or start + udp_length > length:
            return Drop.MALFORMED
        return Packet(UDP, addresses + packet[start : start + 4], length, 0, 0, 0, udp_length - 8)
    if protocol in (ICMP, ICMPV6):
        return Packet(protocol, b"", length, 0, 0, 0, length - start)
    return Drop.PROTOCOL


def read_icmp(packet: bytes) -> tuple[int, bytes] | Drop:
    """Of an ICMP error about a packet that a real server sent as the VIP: protocol and session key.

    The packet it carries went from the VIP to the client, so its key is built the other way round. Other ICMP
    is `Drop.ICMP`.
    """
    found = _read_network(packet)
    if isinstance(found, Drop):
        return found
    protocol, addresses, start, _ = found
    # Destination unreachable, time exceeded, parameter problem (RFC 792); too big as well (RFC 4443).
    errors = (3, 11, 12) if protocol == ICMP else (1, 2, 3, 4)
    if len(packet) < start + 8:
        return Drop.TRUNCATED
    if packet[start] not in errors:
        return Drop.ICMP
    inner = packet[start + 8 :]
    inside = _read_network(inner, quoted=True)
    if isinstance(inside, Drop):
        return Drop.ICMP
    inner_protocol, inner_addresses, inner_start, _ = inside
    size = len(inner_addresses) // 2
    vip, client = inner_addresses[:size], inner_addresses[size:]
    if vip != addresses[len(addresses) // 2 :] or len(inner) < inner_start + 4:
        return Drop.ICMP
    ports = inner[inner_start + 2 : inner_start + 4] + inner[inner_start : inner_start + 2]
    return inner_protocol, client + vip + ports


def transport(packet: bytes) -> tuple[int, int] | Drop:
    """The protocol after the IP header or headers, and where its header starts."""
    found = _read_network(packet)
    return found if isinstance(found, Drop) else (found[0], found[2])


def _read_network(packet: bytes, *, quoted: bool = False) -> tuple[int, bytes, int, int] | Drop:
    """Protocol, both addresses, start of the next header, total length. `quoted` inside an ICMP error, where
    the length may be that of a packet of which only the beginning is there."""
    if not packet:
        return Drop.TRUNCATED
    version = packet[0] >> 4
    if version == 4:
        if len(packet) < 20:
            return Drop.TRUNCATED
        start = (packet[0] & 0x0F) * 4
        length = int.from_bytes(packet[2:4], "big")
        if start < 20 or (length < start and not quoted):
            return Drop.MALFORMED
        if len(packet) < start:
            return Drop.TRUNCATED
        if int.from_bytes(packet[6:8], "big") & _V4_FRAGMENT:
            return Drop.FRAGMENT
        return packet[9], packet[12:20], start, length
    if version == 6:
        return _read_network_v6(packet)
    return Drop.MALFORMED


def _read_network_v6(packet: bytes) -> tuple[int, bytes, int, int] | Drop:
    if len(packet) < 40:
        return Drop.TRUNCATED
    length = 40 + int.from_bytes(packet[4:6], "big")
    following, start = packet[6], 40
    for _ in range(_V6_EXTENSIONS_MAX):
        if following == _V6_FRAGMENT:
            return Drop.FRAGMENT
        if following not in _V6_EXTENSIONS:
            return following, packet[8:40], start, length
        if len(packet) < start + 8:
            return Drop.TRUNCATED
        following, start = packet[start], start + 8 + packet[start + 1] * 8
    return Drop.MALFORMED


def split(key: bytes) -> tuple[bytes, int, bytes, int]:
    """A session key's client address, client port, VIP and VIP port."""
    size = (len(key) - 4) // 2
    ports = int.from_bytes(key[2 * size :], "big")
    return key[:size], ports >> 16, key[size : 2 * size], ports & 0xFFFF


def join(client: bytes, client_port: int, vip: bytes, port: int) -> bytes:
    """The session key of a flow; `split`'s inverse."""
    return client + vip + (client_port << 16 | port).to_bytes(4, "big")
