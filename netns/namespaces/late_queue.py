"""A netfilter queue that accepts each packet a fixed time after it came, in order: the delay of a link.

    python -m netns.namespaces.late_queue NUMBER SECONDS

It runs until it is ended; what waits then is dropped. Only packets' numbers come to this process: the packets
stay in the kernel, super-packets (GSO) whole. All packets wait for the same time, so one verdict takes every
packet up to the last that is due (linux/netfilter/nfnetlink_queue.h, NFQNL_MSG_VERDICT_BATCH).
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Final

NETLINK_NETFILTER: Final = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5  # linux/netlink.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 1, 4, 2

_PR_SET_TIMERSLACK = 29  # linux/prctl.h

_SUBSYSTEM: Final = 3 << 8  # NFNL_SUBSYS_QUEUE
_PACKET, _CONFIG, _VERDICT_BATCH = _SUBSYSTEM, _SUBSYSTEM | 2, _SUBSYSTEM | 3
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND: Final = 1  # NFQNL_CFG_CMD_BIND
_COPY_META: Final = 1
_TAKE_SUPER_PACKETS: Final = 1 << 2  # NFQA_CFG_F_GSO
_VERDICT_HDR: Final = 2
_ACCEPT: Final = 1  # NF_ACCEPT

_MESSAGE = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
_ABOUT = struct.Struct("!BBH")
"""nfgenmsg: family, version, queue."""
_NUMBER = struct.Struct("!I")
_NUMBER_AT: Final = 24
"""Where a packet's number is: behind both headers and its attribute's, which the kernel puts first."""

LENGTH: Final = 65536
"""Packets that may wait: at 1500 bytes each and a delay of 100 ms that is 7.8 Gbit/s."""
BATCH: Final = 256
"""Packets taken before those that are due get their verdict."""
_SOCKET_BUFFER: Final = 16 << 20


class LateQueue:
    """A queue of the caller's network namespace; OSError when another program has it."""

    def __init__(self, number: int, delay_s: float) -> None:
        self._number = number
        self._delay_s = delay_s
        self._waiting: deque[tuple[float, int]] = deque()
        """When each is due (CLOCK_MONOTONIC, seconds), and its number, in the order in which they came."""
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._netlink.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        self._netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BUFFER)
        self._configure(_CFG_CMD, struct.pack("!BxH", _BIND, 0))
        self._configure(_CFG_PARAMS, struct.pack("!IB", 0, _COPY_META))
        self._configure(_CFG_MAXLEN, _NUMBER.pack(LENGTH))
        flags = _NUMBER.pack(_TAKE_SUPER_PACKETS)
        self._send(_CONFIG, _attribute(_CFG_FLAGS, flags) + _attribute(_CFG_MASK, flags), _NLM_F_ACK)
        self._acknowledged()
        self._netlink.setblocking(False)

    def run(self) -> None:
        """Hold packets, for ever."""
        while True:
            left_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            select.select([self._netlink], [], [], left_s)
            self._take()
            self._release()

    def _take(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(BATCH):
                message = self._netlink.recv(4096)
                due = time.monotonic() + self._delay_s
                _, kind, *_ = _MESSAGE.unpack_from(message)
                if kind == _PACKET:
                    (number,) = _NUMBER.unpack_from(message, _NUMBER_AT)
                    self._waiting.append((due, number))

    def _release(self) -> None:
        now = time.monotonic()
        last = None
        while self._waiting and self._waiting[0][0] <= now:
            _, last = self._waiting.popleft()
        if last is not None:
            self._send(_VERDICT_BATCH, _attribute(_VERDICT_HDR, struct.pack("!II", _ACCEPT, last)))

    def _configure(self, kind: int, value: bytes) -> None:
        self._send(_CONFIG, _attribute(kind, value), _NLM_F_ACK)
        self._acknowledged()

    def _send(self, kind: int, attributes: bytes, flags: int = 0) -> None:
        body = _ABOUT.pack(socket.AF_UNSPEC, 0, self._number) + attributes
        head = _MESSAGE.pack(_MESSAGE.size + len(body), kind, _NLM_F_REQUEST | flags, 0, 0)
        self._netlink.sendto(head + body, (0, 0))

    def _acknowledged(self) -> None:
        """Read the answer to the message just sent: no rule sends packets yet."""
        answer = self._netlink.recv(4096)
        _, kind, *_ = _MESSAGE.unpack_from(answer)
        (error,) = struct.unpack_from("=i", answer, _MESSAGE.size)
        if kind != _NLMSG_ERROR or error != 0:
            raise OSError(-error, f"the kernel refused netfilter queue {self._number}")


def _attribute(kind: int, value: bytes) -> bytes:
    """nlattr: length, type, and the value, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def main() -> None:
    """Delay the packets of the queue that the command line names."""
    number, delay_s = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # else a wait is up to 50 µs longer
    LateQueue(int(number), float(delay_s)).run()


if __name__ == "__main__":
    main()
