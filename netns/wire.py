"""What was on the wire: the TCP segments of a capture that the lab made (netns/capture.py).

pcapng: draft-ietf-opsawg-pcapng; only what netns/pcapng.py writes is read, of it TCP over IPv4. Decoding by
hand is what makes a run of 100,000 packets readable in a second.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from netns.pcapng import ENHANCED_PACKET, INTERFACE_DESCRIPTION, OPTION_NAME

ETHERNET, IPV4, TCP = 1, 0x0800, 6
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


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
        """The name that its client gave the request, as the query of the URL: "curl-3.17"; "" for none."""
        query = self.payload.partition(b" /?")[2]
        return query.partition(b" ")[0].decode(errors="replace")

    def __str__(self) -> str:
        names = [
            name for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")) if self.flags & bit
        ]
        data = f", {self.length} bytes" if self.length else ""
        where = f"{self.source} → {self.destination} at {self.point}"
        return f"{'+'.join(names)} {where} {self.time:.2f} s{data}"


def port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def read(path: Path, box_time: Callable[[float], float]) -> list[Segment]:
    """The segments of a capture file, oldest first; `box_time` turns Unix seconds into the run's."""
    return list(segments(path, box_time))


def segments(path: Path, box_time: Callable[[float], float]) -> Iterator[Segment]:
    """The same, one at a time, for who keeps few of many."""
    names: list[str] = []
    for kind, body in _blocks(path.read_bytes()):
        if kind == INTERFACE_DESCRIPTION:
            names.append(_name(body))
        elif kind == ENHANCED_PACKET:
            interface, high, low, length = struct.unpack_from("=IIII", body)
            unix_s = (high << 32 | low) / 1e9
            segment = _segment(body[20 : 20 + length], names[interface], box_time(unix_s))
            if segment is not None:
                yield segment


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 12 <= len(data):
        kind, length = struct.unpack_from("=II", data, place)
        yield kind, data[place + 8 : place + length - 4]
        place += length


def _name(body: bytes) -> str:
    """An interface's name: the first option, after link type and snap length."""
    code, length = struct.unpack_from("=HH", body, 8)
    return body[12 : 12 + length].decode() if code == OPTION_NAME else ""


def _segment(frame: bytes, point: str, time: float) -> Segment | None:
    if len(frame) < 54 or struct.unpack_from("!H", frame, 12)[0] != IPV4:
        return None
    header = frame[14:]
    words, tos, total, _, fragment, _, protocol = struct.unpack_from("!BBHHHBB", header)
    if protocol != TCP or fragment & 0x1FFF:
        return None
    at = (words & 15) * 4
    sport, dport, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", header, at)
    data = at + (offset >> 4) * 4
    # A total length of 0 is a segment too large for the field, which only offloading makes.
    length = (total or len(header)) - data
    return Segment(
        time=time,
        point=point,
        source=f"{IPv4Address(header[12:16])}:{sport}",
        destination=f"{IPv4Address(header[16:20])}:{dport}",
        dscp=tos >> 2,
        flags=flags,
        seq=seq,
        ack=ack,
        length=length,
        payload=header[data : data + min(length, 64)],
    )
