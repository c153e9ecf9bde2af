"""An HTTP server that fails its clients: `python -m netns.measure.failing_server NAME PORT`.

It answers its name until SIGUSR1. By that, each connection that is open and has carried an answer ends as is
due to its client, known by its number in the requests' names ("/?node-3.2" is of client 3): at once, if that
is between two requests, or else in place of the next answer, once the request has come whole.

A line of stdout is a JSON object: {"id": …, "port": the client's, "server": NAME} for each request that has
come whole, {"ending": how many connections} for SIGUSR1.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import struct
import sys

from netns.measure.deaths import BYSTANDER, Ending, ending_of

AT_ONCE = struct.pack("ii", 1, 0)
"""struct linger: to close is to reset (socket(7), SO_LINGER)."""

_REQUEST = re.compile(rb"[A-Z]+ /\?(?P<id>\S*-(?P<number>\d+)\.\d+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def say(**row: object) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


class ServedConnection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, name: str, open_ones: set[ServedConnection]) -> None:
        self._name = name
        self._open = open_ones
        self._received = b""
        self._client = 0
        """Its number, once it has been answered."""
        self._due: Ending | None = None
        self._transport: asyncio.Transport | None = None

    def end_as_due(self) -> None:
        """Have the connection end as its client's are to."""
        if self._client > BYSTANDER:
            self._due = ending_of(self._client)
            if self._due.idle:
                self._end(self._due)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP socket it is
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if gap and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._request(head + b"\r\n")

    def _request(self, head: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - it has just received
        asked = _REQUEST.match(head)
        if asked is not None:
            port = self._transport.get_extra_info("peername")[1]
            say(id=asked["id"].decode(), port=port, server=self._name)
            if self._due is not None and self._due.busy:
                self._end(self._due)
                return
            self._client = int(asked["number"])
        page = f"{self._name}\n".encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))

    def _end(self, ending: Ending) -> None:
        assert self._transport is not None  # noqa: S101 - it is open
        if ending.reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._transport.abort()


async def serve(name: str, port: int) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    open_ones: set[ServedConnection] = set()
    over = asyncio.Event()

    def end_as_due() -> None:
        for connection in list(open_ones):
            connection.end_as_due()
        say(ending=len(open_ones))

    loop.add_signal_handler(signal.SIGUSR1, end_as_due)
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await loop.create_server(
        lambda: ServedConnection(name, open_ones), "", port, backlog=4096, family=socket.AF_INET
    )
    await over.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
