"""Several pcap files as one pcapng file, with the name of the interface that each packet was seen on.

pcap: https://www.tcpdump.org/manpages/pcap-savefile.5.html; pcapng: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PCAP_NANOSECONDS = 0xA1B23C4D
"""The magic number of `tcpdump --time-stamp-precision=nano`, as this machine's byte order writes it."""

SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
OPTION_NAME, OPTION_RESOLUTION = 2, 9
ETHERNET, SNAP_LENGTH = 1, 262144
"""The link type of every interface here, and tcpdump's own limit."""

_SECTION = struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1)


@dataclass(frozen=True, slots=True)
class Trace:
    """A pcap file and the name its interface gets."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True, order=True)
class _Packet:
    time_ns: int
    interface: int
    length: int
    data: bytes


def merge(traces: Sequence[Trace], target: Path) -> None:
    """Write the packets of all `traces` to `target` in the order of their time."""
    with ExitStack() as files:
        out = files.enter_context(target.open("wb"))
        out.write(_block(SECTION_HEADER, _SECTION))
        packets = []
        for index, trace in enumerate(traces):
            pcap = files.enter_context(trace.path.open("rb"))
            out.write(_interface(trace.name, *_read_header(pcap, trace.path)))
            packets.append(_read_packets(pcap, index))
        for packet in heapq.merge(*packets):
            high, low = divmod(packet.time_ns, 1 << 32)
            head = struct.pack("=IIIII", packet.interface, high, low, len(packet.data), packet.length)
            out.write(_block(ENHANCED_PACKET, head + _padded(packet.data)))


def split(source: Path, owner: Callable[[bytes], str | None], targets: Mapping[str, Path]) -> dict[str, int]:
    """Write each frame of a file of `merge` to the target of its owner, as of an interface of that name.

    `owner` is asked about each frame, in the order of time; None: it is nobody's. How many each got.
    """
    counts = dict.fromkeys(targets, 0)
    with ExitStack() as files:
        outs = {name: files.enter_context(path.open("wb")) for name, path in targets.items()}
        for name, out in outs.items():
            out.write(_block(SECTION_HEADER, _SECTION) + _interface(name, SNAP_LENGTH, ETHERNET))
        for kind, body in blocks(source):
            if kind != ENHANCED_PACKET:
                continue
            _, high, low, captured, length = struct.unpack_from("=IIIII", body)
            frame = body[20 : 20 + captured]
            chosen = owner(frame)
            if chosen is not None:
                head = struct.pack("=IIIII", 0, high, low, captured, length)
                outs[chosen].write(_block(ENHANCED_PACKET, head + _padded(frame)))
                counts[chosen] += 1
    return counts


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block of a file that `merge` wrote, as far as its blocks are whole."""
    data = path.read_bytes()
    place = 0
    while place + 12 <= len(data):
        kind, length = struct.unpack_from("=II", data, place)
        if length < 12 or place + length > len(data):
            return
        yield kind, data[place + 8 : place + length - 4]
        place += length


def _interface(name: str, snap_length: int, link_type: int) -> bytes:
    options = _option(OPTION_NAME, name.encode()) + _option(OPTION_RESOLUTION, b"\x09")
    body = struct.pack("=HHI", link_type, 0, snap_length) + options + _option(0, b"")
    return _block(INTERFACE_DESCRIPTION, body)


def _read_header(pcap: BinaryIO, path: Path) -> tuple[int, int]:
    """Snap length and link type."""
    header = pcap.read(24)
    if len(header) < 24 or struct.unpack_from("=I", header)[0] != PCAP_NANOSECONDS:
        raise ValueError(f"{path} is not a capture with nanoseconds")
    snap_length, link_type = struct.unpack_from("=II", header, 16)
    return snap_length, link_type & 0xFFFF


def _read_packets(pcap: BinaryIO, interface: int) -> Iterator[_Packet]:
    while len(head := pcap.read(16)) == 16:
        seconds, nanoseconds, captured, length = struct.unpack("=IIII", head)
        data = pcap.read(captured)
        if len(data) < captured:
            return  # tcpdump was killed in the middle of a packet
        yield _Packet(seconds * 1_000_000_000 + nanoseconds, interface, length, data)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)
