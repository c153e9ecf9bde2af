"""The netfilter queue: packets come from the kernel, verdicts go back.

The binding's rules (NetfilterQueue 1.1): an exception in the callback leaves `run()` and its packet without a
verdict, so the verdict is always given first; `run(block=False)` goes on until the queue is empty, so an
exception is also what ends a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netfilterqueue import NetfilterQueue, Packet

BATCH = 64
"""Packets handled before timers, probes and the API get their turn."""

COPY_RANGE = 4016
"""Bytes of a packet that the binding can copy; a longer one would lose its end when written back."""

_SOCKET_BUFFER = 8 << 20

_STATISTICS = Path("/proc/net/netfilter/nfnetlink_queue")


class QueueTaken(Exception):  # noqa: N818 (reads as what happened)
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


class _BatchDone(Exception):  # noqa: N818 (not an error)
    pass


class PacketQueue:
    """Hands each packet of the queue to `handle`, which gives its verdict and does not raise."""

    def __init__(self, number: int, length: int, handle: Callable[[Packet], None]) -> None:
        """Raises QueueTaken. Packets arrive from here on, as soon as a rule sends them."""
        self._number = number
        self._handle = handle
        self._left = 0
        self._queue = NetfilterQueue()
        try:
            self._queue.bind(number, self._one, length, range=COPY_RANGE, sock_len=_SOCKET_BUFFER)
        except OSError as error:
            raise QueueTaken(f"netfilter queue {number} is in use by another program") from error

    def fileno(self) -> int:
        return int(self._queue.get_fd())

    def drain(self) -> None:
        """Handle what has arrived, a batch at most; whatever is left makes the descriptor readable again."""
        self._left = BATCH
        with suppress(_BatchDone):
            self._queue.run(block=False)

    def statistics(self) -> Statistics:
        """What the kernel counts; the columns are those of nfnetlink_queue.c, seq_show."""
        for line in _STATISTICS.read_text().splitlines():
            number, _, waiting, _, _, full, unsent, received, _ = map(int, line.split())
            if number == self._number:
                return Statistics(waiting, full, unsent, received)
        return Statistics(0, 0, 0, 0)

    def close(self) -> None:
        """Give the queue back; packets still in it are dropped."""
        self._queue.unbind()

    def _one(self, packet: Packet) -> None:
        self._handle(packet)
        self._left -= 1
        if not self._left:
            raise _BatchDone
