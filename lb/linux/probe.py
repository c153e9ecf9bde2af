"""One health check of one real server, over a real TCP connection (SPEC §4)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from lb.core.health import Outcome, ProbeResult
from lb.linux.status_line import NotHttp, final_status

MAX_HEAD: Final = 16 * 1024
"""Bytes read in search of a final status: interim responses and one status line."""

READ_ON_S: Final = 2.0
READ_ON_BYTES: Final = 1 << 20
"""Real seconds, and bytes, for which the rest of an answer is read. A page of 300 kB takes a few ms."""

_CHUNK: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_FIN_ON_CLOSE: Final = struct.pack("ii", 0, 0)
READ_ON_LIMIT: Final = 256
"""Checks that may read on at the same time: each has a descriptor of the daemon's, and most a local port."""

_SHORTAGES: Final = frozenset(
    {
        errno.EMFILE,  # descriptors of the process
        errno.ENFILE,  # descriptors of the machine
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,  # local ports, or the box's own address
        errno.EPERM,  # the mark without CAP_NET_ADMIN, or a policy of the box's own
    }
)
_REASONS: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


class NotMade(Exception):
    """The box lacks something of its own to make the check: no word about the server. The errno(3) name."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to check, and how."""

    kind: Literal["l7", "l4"]
    address: IPv4Address | IPv6Address
    """The VIP, if there is a mark; the server's own address on the direct path."""
    port: int
    mark: int | None
    """SO_MARK, by which the rules send the connection to one real server; None on the direct path."""
    url: str
    expect: tuple[int, ...]
    host: str
    """The value of the Host header field; see `authority`."""
    timeout_s: float
    """Real seconds for connection, request and status line."""


def authority(address: IPv4Address | IPv6Address, port: int) -> str:
    """The Host header field for a server at this place (RFC 9110 §7.2, RFC 3986 §3.2).

    An IPv6 address is in brackets. The port is there unless it is 80, the default of "http".
    """
    host = str(address) if address.version == 4 else f"[{address}]"
    return host if port == 80 else f"{host}:{port}"


async def check(request: Request, report: Callable[[ProbeResult], None]) -> None:
    """Report how the server answers, then end the connection; raises NotMade and CancelledError only.

    `report` is called once, as soon as the status is known; never when the check is not made or cancelled.

    The connection ends with a FIN: a service logs a reset as an error, every interval. The kernel sends a
    reset in place of a FIN while bytes are unread, so the check reads on until the service closes, for
    READ_ON_S and READ_ON_BYTES at most. A service that sends more can get a reset.

    The side that closes first keeps TIME_WAIT, 60 s a connection: an L7 server that heeds `Connection:
    close`; the box after an L4 check. Some 470 such checks/s to one VIP use up the box's 28,000 local ports;
    the checks beyond are not made.

    A check that times out, or is cancelled before its result, ends with a reset: the kernel does not
    retransmit to a server that is gone.
    """
    family = socket.AF_INET if request.address.version == 4 else socket.AF_INET6
    with ExitStack() as held:
        try:
            connection = held.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            async with asyncio.timeout(request.timeout_s):
                result = await _ask(connection, request)
        except TimeoutError:
            report(_miss("timeout"))
            return
        except OSError as error:
            number = error.errno or 0
            if number in _SHORTAGES:
                raise NotMade(errno.errorcode[number]) from error
            report(_miss(_REASONS.get(number, os.strerror(number))))
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FIN_ON_CLOSE)
        report(result)
        with suppress(OSError):
            if request.kind == "l4":  # the box has asked for nothing: it can close first
                connection.shutdown(socket.SHUT_WR)
            await _read_on(connection)


class ReadingOn:
    """The checks that have their result and read on: the newest of each server, READ_ON_LIMIT in all.

    A check that is ended here closes its connection at once. That is a FIN, unless bytes are unread.
    """

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """By server id, the oldest first."""

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, server: int, task: asyncio.Task[None]) -> None:
        """Note that `task`, the check of that server, reads on; the oldest ends when they are too many."""
        self.end(server)
        if len(self._tasks) == READ_ON_LIMIT:
            self.end(next(iter(self._tasks)))
        self._tasks[server] = task
        task.add_done_callback(lambda _: self._forget(server, task))

    def end(self, server: int) -> None:
        """End the check of that server that reads on, if there is one."""
        task = self._tasks.pop(server, None)
        if task is not None:
            task.cancel()

    def _forget(self, server: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(server) is task:
            del self._tasks[server]


async def _ask(connection: socket.socket, request: Request) -> ProbeResult:
    """How the server answers; raises OSError, TimeoutError among them."""
    if request.mark is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, request.mark)
    await asyncio.get_running_loop().sock_connect(connection, (str(request.address), request.port))
    if request.kind == "l4":
        return ProbeResult(Outcome.SUCCESS, "connected")
    try:
        return await _get(connection, request)
    except NotHttp as error:
        return _miss(str(error))


async def _get(connection: socket.socket, request: Request) -> ProbeResult:
    """Ask for the page and read up to its status line; raises NotHttp as well."""
    loop = asyncio.get_running_loop()
    head = (
        f"GET {request.url} HTTP/1.1",
        f"Host: {request.host}",
        "User-Agent: l4box",
        "Connection: close",
        "\r\n",
    )
    await loop.sock_sendall(connection, "\r\n".join(head).encode("ascii"))
    received = b""
    while (status := final_status(received)) is None:
        if len(received) >= MAX_HEAD:
            return _miss(f"no status within {MAX_HEAD} bytes")
        data = await loop.sock_recv(connection, MAX_HEAD - len(received))
        if not data:
            return _miss("closed before the status" if received else "closed without an answer")
        received += data
    outcome = Outcome.SUCCESS if status in request.expect else Outcome.BAD_STATUS
    return ProbeResult(outcome, str(status), status)


async def _read_on(connection: socket.socket) -> None:
    """Read until the server closes, within the bounds; raises OSError, TimeoutError among them."""
    loop = asyncio.get_running_loop()
    left = READ_ON_BYTES
    async with asyncio.timeout(READ_ON_S):
        while left > 0 and (data := await loop.sock_recv(connection, _CHUNK)):
            left -= len(data)
            await asyncio.sleep(0)  # packets keep their turn while a server sends as fast as it can


def _miss(detail: str) -> ProbeResult:
    return ProbeResult(Outcome.MISS, detail)
