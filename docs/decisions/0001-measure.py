"""Measures decision 0001: 200,000 sessions in columns, and as slotted objects.

    PYTHONPATH=. .venv/bin/python docs/decisions/0001-measure.py

Each way runs in a process of its own, in turns, and the same packets go through both. Prints the best of
each figure in processor time, and its ratio to that of the columns.
"""

from __future__ import annotations

import gc
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time_ns

from lb.core.box import Box
from lb.core.packet import ACK, TCP, V4_TCP, V4_TCP_LENGTH, join
from lb.core.reset import segment
from lb.core.service import ServerSettings, ServiceSettings
from lb.core.session import TICK_S, SessionState

SESSIONS = 200_000
PACKETS = 100_000
ROUNDS = 5
AGING_S = 600.0
FIGURES = (
    "bytes a session, each having had a packet",
    "ms a full garbage collection",
    "ns a packet, to 1,000 of the sessions",
    "ns a packet, to all of them at random",
)
VIP, PORT = bytes([192, 0, 2, 10]), 80

Handle = Callable[[float, bytes], int]


class Entry:
    """A session as an object, with the fields and the two chains that the columns have."""

    __slots__ = (
        "ack", "bytes", "created", "isn", "key", "last_seen", "next_by_server", "next_by_tick", "packets",
        "previous_by_server", "previous_by_tick", "protocol", "seq", "server", "state", "tag", "tick",
    )  # fmt: skip


class Objects:
    """The part of `Box` that 200,000 known sessions use, on objects."""

    def __init__(self) -> None:
        self.index: dict[bytes, Entry] = {}
        self.heads: dict[int, Entry] = {}
        self.by_server: dict[int, Entry] = {}
        self.forwarded = 0

    def insert(self, now: float, key: bytes, server: int) -> None:
        entry = Entry()
        entry.key, entry.server, entry.protocol, entry.tag = key, server, TCP, 0
        entry.state = int(SessionState.ESTABLISHED)
        entry.created = entry.last_seen = now
        entry.packets = entry.bytes = entry.isn = entry.seq = entry.ack = 0
        entry.tick = math.ceil((now + AGING_S) / TICK_S)
        for heads, chain, after, before in (
            (self.heads, entry.tick, "next_by_tick", "previous_by_tick"),
            (self.by_server, server, "next_by_server", "previous_by_server"),
        ):
            head = heads.get(chain)
            setattr(entry, after, head)
            setattr(entry, before, None)
            if head is not None:
                setattr(head, before, entry)
            heads[chain] = entry
        self.index[key] = entry

    def handle_packet(self, now: float, packet: bytes) -> int:
        """As Box.handle_packet's common case, line by line."""
        if len(packet) >= V4_TCP_LENGTH:
            head, length, fragment, protocol, key, seq, ack, offset, flags = V4_TCP(packet)
            if head == 0x45 and protocol == TCP and flags & 0x17 == ACK and not fragment & 0x3FFF:
                entry = self.index.get(key)
                payload = length - 20 - (offset >> 2 & 0x3C)
                plain = payload >= 0 and offset >= 0x50
                if entry and plain and entry.state == 2 and now - entry.last_seen < AGING_S:
                    entry.last_seen = now
                    entry.packets += 1
                    entry.bytes += length
                    end = seq + payload & 0xFFFFFFFF
                    if end - entry.seq & 0xFFFFFFFF < 0x80000000:
                        entry.seq = end
                    if ack - entry.ack & 0xFFFFFFFF < 0x80000000:
                        entry.ack = ack
                    self.forwarded += 1
                    return entry.server
        raise AssertionError("not the common case")


def client(number: int) -> tuple[bytes, int]:
    return bytes([10, 0, number >> 14, number >> 6 & 0xFF]), 1024 + (number & 0x3F)


def columns() -> Handle:
    box = Box()
    servers = tuple(ServerSettings(f"rs{n}", bytes([10, 80, n, 2])) for n in (1, 2, 3))
    box.configure(0.0, [ServiceSettings("web", VIP, PORT, 10, servers)])
    for number in range(SESSIONS):
        key = join(*client(number), VIP, PORT)
        box.table.insert(number / 1000, TCP, key, 1 + number % 3, SessionState.ESTABLISHED, 0, 0)
    return box.handle_packet


def objects() -> Handle:
    box = Objects()
    for number in range(SESSIONS):
        box.insert(number / 1000, join(*client(number), VIP, PORT), 1 + number % 3)
    return box.handle_packet


def resident() -> int:
    """Bytes of this process in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def packet_of(number: int, segments: int) -> bytes:
    """An ACK of a session that has exchanged this many segments of data."""
    seq, ack = 1_000_000 + 77 * segments, 1_500_000_000 + 1448 * segments
    return segment(*client(number), VIP, PORT, seq=seq, ack=ack, flags=ACK)


def ns_a_packet(handle: Handle, packets: list[bytes]) -> float:
    gc.disable()
    began = process_time_ns()
    for at, packet in enumerate(packets):
        handle(300.0 + at / 1e6, packet)
    return (process_time_ns() - began) / len(packets)


def measure(make: Callable[[], Handle]) -> list[float]:
    """The figures of one way, in the order of FIGURES."""
    gc.collect()
    before = resident()
    handle = make()
    for number in range(SESSIONS):
        handle(250.0 + number / 1e6, packet_of(number, number % 1000))
    size = (resident() - before) / SESSIONS
    gc.collect()
    began = process_time_ns()
    gc.collect()
    collection_ms = (process_time_ns() - began) / 1e6

    some = random.Random(1)  # noqa: S311 - the same packets every time
    few = [packet_of(some.randrange(1000), 2000 + at) for at in range(PACKETS)]
    all_over = [packet_of(some.randrange(SESSIONS), 2000 + at) for at in range(PACKETS)]
    return [size, collection_ms, ns_a_packet(handle, few), ns_a_packet(handle, all_over)]


def main() -> None:
    if len(sys.argv) > 1:
        print(*measure({"columns": columns, "objects": objects}[sys.argv[1]]))  # noqa: T201
        return
    figures: dict[str, list[list[float]]] = {"columns": [], "objects": []}
    for _ in range(ROUNDS):
        for way, rows in figures.items():
            done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
            rows.append([float(word) for word in done.stdout.split()])
    best = {way: [min(column) for column in zip(*rows, strict=True)] for way, rows in figures.items()}
    for what, column, entry in zip(FIGURES, *best.values(), strict=True):
        print(f"{what:48} columns {column:8.1f}   objects {entry:8.1f}   ratio {entry / column:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
