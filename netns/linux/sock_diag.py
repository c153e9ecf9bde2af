"""Which TCP ports are listened on in the caller's network namespace, by the kernel: sock_diag(7).

Asked so often during a run that what a library or `ss` costs would show in what is measured.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, NamedTuple

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST_DUMP: Final = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
TCP_LISTEN: Final = 10

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
"""inet_diag_req_v2: family, protocol, extensions, states; the socket's own name is not asked for."""
_MESSAGE = struct.Struct("=4x2s2x16s44xI")
"""inet_diag_msg: local port (network byte order), local address (IPv4: its first 4 bytes), inode number."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address is in IPv6 begins with."""


class Listener(NamedTuple):
    """A socket that listens."""

    address: bytes
    """The local one, 4 or 16 bytes; zeros for any."""
    port: int
    inode: int
    """As in /proc/PID/fd."""


class Listeners:
    """Asks about the namespace that it was made in, from any thread."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)

    def ports(self) -> frozenset[int]:
        """The local ports of sockets that listen, IPv4 and IPv6; OSError when the kernel does not say."""
        return frozenset(one.port for one in self.sockets())

    def ports_at(self, address: IPv4Address) -> frozenset[int]:
        """Those at which a connection to that address is taken: of sockets bound to it, or to any."""
        taken = (bytes(4), address.packed, bytes(16), _MAPPED + address.packed)
        return frozenset(one.port for one in self.sockets() if one.address in taken)

    def sockets(self) -> Iterator[Listener]:
        """Each of them."""
        for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            for port, address, inode in self._of(family):
                yield Listener(address[:length], int.from_bytes(port, "big"), inode)

    def close(self) -> None:
        self._socket.close()

    def _of(self, family: int) -> list[tuple[bytes, bytes, int]]:
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
        head = _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 0, 0)
        self._socket.send(head + body)
        found: list[tuple[bytes, bytes, int]] = []
        while True:
            data = self._socket.recv(65536)
            place = 0
            while place < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, place)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", data, place + _HEADER.size)
                    raise OSError(-number, "sock_diag refused")
                found.append(_MESSAGE.unpack_from(data, place + _HEADER.size))
                place += (length + 3) & ~3


def listening() -> dict[int, list[int]]:
    """TCP sockets that listen in the caller's network namespace: inode numbers by port."""
    listeners = Listeners()
    found: dict[int, list[int]] = {}
    try:
        for one in listeners.sockets():
            found.setdefault(one.port, []).append(one.inode)
    finally:
        listeners.close()
    return found


def listens(ports: frozenset[int]) -> bool:
    """Whether something listens on each of these ports, in the caller's network namespace."""
    return ports <= listening().keys()
