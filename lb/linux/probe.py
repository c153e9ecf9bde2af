"""One health check of one real server, over a real TCP connection (SPEC §4)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import h11

from lb.core.health import Outcome, ProbeResult

MAX_HEAD = 16 * 1024
"""Bytes read in search of a final status, 1xx responses included; below h11's own limit."""

_DETAIL_LIMIT = 120
_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


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
    timeout_s: float
    """Real seconds for the whole check: connection, request and head of the response."""


async def check(request: Request) -> ProbeResult:
    """How the server answers; raises nothing but CancelledError.

    The connection is closed as a client closes it, with a FIN: to the service a reset would be an error to
    log, every interval. The price is TIME_WAIT on the box where it closes first, 60 s a probe: some 470
    probes/s to one VIP use up its 28,000 local ports. An L7 server that heeds `Connection: close` closes
    first. Only a check given up is reset: nobody is to wait for it, nor the kernel to retransmit to a server
    that is gone.
    """
    family = socket.AF_INET if request.address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            try:
                async with asyncio.timeout(request.timeout_s):
                    return await _check_over(connection, request)
            except (TimeoutError, asyncio.CancelledError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)
                raise
    except TimeoutError:
        return _miss("timeout")
    except OSError as error:
        number = error.errno or 0
        return _miss(_REASONS.get(number, os.strerror(number)))
    except h11.ProtocolError as error:
        return _miss(f"not HTTP: {error}")


async def _check_over(connection: socket.socket, request: Request) -> ProbeResult:
    if request.mark is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, request.mark)
    await asyncio.get_running_loop().sock_connect(connection, (str(request.address), request.port))
    if request.kind == "l4":
        return ProbeResult(Outcome.SUCCESS, "connected")
    return await _get(connection, request)


async def _get(connection: socket.socket, request: Request) -> ProbeResult:
    loop = asyncio.get_running_loop()
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", request.host), ("User-Agent", "l4box"), ("Connection", "close")]
    await loop.sock_sendall(
        connection, http.send(h11.Request(method="GET", target=request.url, headers=headers)) or b""
    )
    received = 0
    while not isinstance(event := http.next_event(), h11.Response):
        if event is not h11.NEED_DATA:  # a 1xx response
            continue
        data = await loop.sock_recv(connection, MAX_HEAD - received)
        received += len(data)
        if not data and not received:
            return _miss("closed without an answer")
        if not data:
            return _miss("not HTTP: closed before the end of a response's head")
        if received >= MAX_HEAD:
            return _miss(f"not HTTP: no status within {MAX_HEAD} bytes")
        http.receive_data(data)
    outcome = Outcome.SUCCESS if event.status_code in request.expect else Outcome.BAD_STATUS
    return ProbeResult(outcome, str(event.status_code))


def _miss(detail: str) -> ProbeResult:
    return ProbeResult(Outcome.MISS, detail[:_DETAIL_LIMIT])
