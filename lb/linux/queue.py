"""The netfilter queue: packets come from the kernel, verdicts go back.

What is copied of a packet is for its handler to choose: all of it, if it is to be written back, or only the
headers. Then a super-packet (GSO) may come as one, and the kernel need not split every upload for us.

The binding's rules (NetfilterQueue 1.1): an exception in the callback leaves `run()` and its packet without a
verdict, so the verdict is always given first; `run(block=False)` goes on until the queue is empty, so an
exception is also what ends a batch.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netfilterqueue import NetfilterQueue, Packet

BATCH = 64
"""Packets handled before timers, probes and the API get their turn."""

COPY_ALL = 4016
"""Bytes of a packet that the binding can copy; a longer one would lose its end when written back."""

COPY_HEADERS = 192
"""Room for IPv4 or TCP options in full, some IPv6 extension headers, or what an ICMP error quotes."""

_SOCKET_BUFFER = 8 << 20

_NFQNL_MSG_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_NLM_F_REQUEST = 1
_NFQA_CFG_MASK, _NFQA_CFG_FLAGS = 4, 5
_NFQA_CFG_F_GSO = 1 << 2

_STATISTICS = Path("/proc/net/netfilter/nfnetlink_queue")


class QueueTaken(Exception):
    """Another program has the queue."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The kernel's counters of a queue."""

    waiting: int
    dropped_full: int
    """Packets that found the queue full."""
    dropped_unsent: int
    """Packets that did not fit into the socket's buffer."""
    received: int


class _BatchDone(Exception):
    pass


class PacketQueue:
    """A netfilter queue of ours, until it is closed."""

    def __init__(self, number: int, length: int, copy: int) -> None:
        """Raises QueueTaken. Packets arrive from here on, as soon as a rule sends them.

        `copy`: COPY_ALL or COPY_HEADERS, with which super-packets come whole.
        """
        self.number = number
        self._handle: Callable[[Packet], None] = Packet.drop
        self._left = 0
        self._queue = NetfilterQueue()
        try:
            self._queue.bind(number, self._one, length, range=copy, sock_len=_SOCKET_BUFFER)
        except OSError as error:
            raise QueueTaken(f"netfilter queue {number} is in use by another program") from error
        if copy == COPY_HEADERS:
            self._take_super_packets()

    def fileno(self) -> int:
        return int(self._queue.get_fd())

    def drain(self, handle: Callable[[Packet], None]) -> None:
        """Hand over what has arrived, a batch at most: `handle` gives each its verdict and does not raise.

        Whatever is left makes the descriptor readable again.
        """
        self._handle = handle
        self._left = BATCH
        with suppress(_BatchDone):
            self._queue.run(block=False)

    def statistics(self) -> Statistics:
        """What the kernel counts; the columns are those of nfnetlink_queue.c, seq_show."""
        for line in _STATISTICS.read_text().splitlines():
            number, _, waiting, _, _, full, unsent, received, _ = map(int, line.split())
            if number == self.number:
                return Statistics(waiting, full, unsent, received)
        return Statistics(0, 0, 0, 0)

    def close(self) -> None:
        """Give the queue back; packets still in it are dropped."""
        self._queue.unbind()

    def _take_super_packets(self) -> None:
        """Set NFQA_CFG_F_GSO, which the binding does not know of, before any packet is queued.

        linux/netfilter/nfnetlink_queue.h: a configuration message with the flags and the mask of those meant.
        """
        flag = struct.pack("!I", _NFQA_CFG_F_GSO)
        attributes = b"".join(
            struct.pack("=HH", 8, kind) + flag for kind in (_NFQA_CFG_FLAGS, _NFQA_CFG_MASK)
        )
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.number) + attributes
        header = struct.pack("=IHHII", 16 + len(body), _NFQNL_MSG_CONFIG, _NLM_F_REQUEST, 0, 0)
        with socket.socket(fileno=os.dup(self.fileno())) as netlink:
            netlink.sendto(header + body, (0, 0))

    def _one(self, packet: Packet) -> None:
        self._handle(packet)
        self._left -= 1
        if not self._left:
            raise _BatchDone
