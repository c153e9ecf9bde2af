"""What was on the wire: the TCP segments of a capture that the lab made (netns/lab/capture.py).

pcapng: draft-ietf-opsawg-pcapng; only what netns/record/pcapng.py writes is read, of it TCP over IPv4, and
ICMP that quotes such a segment. Decoding by hand is what makes a run of 100,000 packets readable in a second.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from netns.record.pcapng import ENHANCED_PACKET, INTERFACE_DESCRIPTION, OPTION_NAME, blocks

IPV4, TCP, ICMP = b"\x08\x00", 6, 1
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
"""A type of ICMP, and the one code of it that refuses nothing (RFC 792)."""

KEPT: Final = 128
"""Bytes of a segment's payload that are kept: enough for a request's name (netns/clients/spec.py)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment as it was seen at one interface."""

    time: float
    point: str
    """The interface's name in the capture: the node's."""
    source: str
    """ "10.80.4.2:40000"."""
    destination: str
    dscp: int
    flags: int
    seq: int
    ack: int
    length: int
    """Bytes of payload."""
    payload: bytes
    """Its first bytes."""

    @property
    def rst(self) -> bool:
        return bool(self.flags & RST)

    @property
    def fin(self) -> bool:
        return bool(self.flags & FIN)

    @property
    def opens(self) -> bool:
        """A SYN that asks for a connection."""
        return self.flags & (SYN | ACK) == SYN

    @property
    def refuses(self) -> bool:
        """The RST that answers a SYN to a closed port (RFC 9293 §3.10.7.1)."""
        return self.flags & (RST | ACK) == RST | ACK and self.seq == 0

    @property
    def is_request(self) -> bool:
        return self.payload.startswith((b"GET ", b"POST "))

    @property
    def request_id(self) -> str:
        """The name that its client gave the request, the query of its URL: "curl-3.17" of "/?curl-3.17" or
        of "/large?curl-3.17"; "" for none."""
        target = self.payload.partition(b" ")[2].partition(b" ")[0]
        return target.partition(b"?")[2].decode(errors="replace")

    def __str__(self) -> str:
        names = [
            name for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")) if self.flags & bit
        ]
        data = f", {self.length} bytes" if self.length else ""
        where = f"{self.source} → {self.destination} at {self.point}"
        return f"{'+'.join(names)} {where} {self.time:.2f} s{data}"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An ICMP destination unreachable, as it was seen at one interface, by the TCP segment that it quotes."""

    time: float
    point: str
    source: str
    """Of the quoted segment, and so where the ICMP goes."""
    destination: str
    dscp: int
    code: int


def port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def read(path: Path, box_time: Callable[[float], float]) -> list[Segment]:
    """The segments of a capture file, oldest first; `box_time` turns Unix seconds into the run's."""
    return list(segments(path, box_time))


Glance = Callable[[bytes, int], bool]
"""Whether a packet is wanted, by its bytes from the IP header on and its TCP header's place in them."""


def begins_or_asks(packet: bytes, tcp: int) -> bool:
    """It is a client's first segment, or begins with a request's line."""
    if packet[tcp + 13] & (SYN | ACK) == SYN:
        return True
    data = tcp + (packet[tcp + 12] >> 4) * 4
    return packet.startswith((b"GET ", b"POST "), data)


def begins_asks_or_ends(packet: bytes, tcp: int) -> bool:
    """The same, or it is a FIN or a RST, of either side."""
    return bool(packet[tcp + 13] & (FIN | RST)) or begins_or_asks(packet, tcp)


def of_ends(ends: Iterable[str]) -> Glance:
    """It goes from or to one of these ends ("10.80.4.2:40000")."""
    wanted = {
        IPv4Address(address).packed + int(number).to_bytes(2) for address, _, number in map(_split, ends)
    }

    def glance(packet: bytes, tcp: int) -> bool:
        return (
            packet[12:16] + packet[tcp : tcp + 2] in wanted
            or packet[16:20] + packet[tcp + 2 : tcp + 4] in wanted
        )

    return glance


def _split(end: str) -> tuple[str, str, str]:
    return end.rpartition(":")


def segments(
    path: Path, box_time: Callable[[float], float], wanted: Glance | None = None
) -> Iterator[Segment]:
    """The same, one at a time, for who keeps few of many: a glance costs a fifth of a segment."""
    for point, time, packet in _packets(path, TCP):
        tcp = (packet[0] & 15) * 4
        if wanted is None or wanted(packet, tcp):
            yield _segment(packet, tcp, point, box_time(time))


def unreachables(path: Path, box_time: Callable[[float], float]) -> Iterator[Unreachable]:
    """The ICMP destination unreachables that quote a TCP segment (RFC 1812 §4.3.2.3), oldest first.

    "Fragmentation needed" is none of them: it asks for smaller packets and ends nothing.
    """
    for point, time, packet in _packets(path, ICMP):
        kind, code = packet[(icmp := (packet[0] & 15) * 4) : icmp + 2]
        quoted = packet[icmp + 8 :]
        if kind != DESTINATION_UNREACHABLE or code == FRAGMENTATION_NEEDED:
            continue
        if len(quoted) < 28 or quoted[9] != TCP:
            continue
        source, destination = _ends(quoted, (quoted[0] & 15) * 4)
        yield Unreachable(box_time(time), point, source, destination, quoted[1] >> 2, code)


@dataclass(frozen=True, slots=True)
class Captures:
    """The capture files of a run, and its clock."""

    paths: Mapping[str, Path]
    """By node."""
    clock: Callable[[float], float]
    """Turns Unix seconds into the run's time."""

    def segments(self, node: str, wanted: Glance | None = None) -> Iterator[Segment]:
        """The node's, oldest first; none of a node without a capture."""
        path = self.paths.get(node)
        return segments(path, self.clock, wanted) if path is not None and path.exists() else iter(())

    def unreachables(self, node: str) -> Iterator[Unreachable]:
        """The same of its ICMP."""
        path = self.paths.get(node)
        return unreachables(path, self.clock) if path is not None and path.exists() else iter(())


def _packets(path: Path, protocol: int) -> Iterator[tuple[str, float, bytes]]:
    """Point, Unix seconds and bytes from the IP header on of each packet of that protocol over IPv4."""
    names: list[str] = []
    for kind, body in blocks(path):
        if kind == INTERFACE_DESCRIPTION:
            names.append(_name(body))
        elif kind == ENHANCED_PACKET:
            interface, high, low, length = struct.unpack_from("=IIII", body)
            packet = body[34 : 20 + length]  # after the Ethernet header
            if len(packet) < 40 or body[32:34] != IPV4 or packet[9] != protocol:
                continue
            if int.from_bytes(packet[6:8]) & 0x1FFF:
                continue  # a later fragment
            yield names[interface], (high << 32 | low) / 1e9, packet


def _name(body: bytes) -> str:
    """An interface's name: the first option, after link type and snap length."""
    code, length = struct.unpack_from("=HH", body, 8)
    return body[12 : 12 + length].decode() if code == OPTION_NAME else ""


def _segment(packet: bytes, tcp: int, point: str, time: float) -> Segment:
    total = int.from_bytes(packet[2:4])
    seq, ack, offset, flags = struct.unpack_from("!IIBB", packet, tcp + 4)
    source, destination = _ends(packet, tcp)
    data = tcp + (offset >> 4) * 4
    # A total length of 0 is a segment too large for the field, which only offloading makes.
    length = (total or len(packet)) - data
    return Segment(
        time=time,
        point=point,
        source=source,
        destination=destination,
        dscp=packet[1] >> 2,
        flags=flags,
        seq=seq,
        ack=ack,
        length=length,
        payload=packet[data : data + min(length, KEPT)],
    )


def _ends(packet: bytes, tcp: int) -> tuple[str, str]:
    """Source and destination, each with its port."""
    sport, dport = struct.unpack_from("!HH", packet, tcp)
    return f"{IPv4Address(packet[12:16])}:{sport}", f"{IPv4Address(packet[16:20])}:{dport}"
