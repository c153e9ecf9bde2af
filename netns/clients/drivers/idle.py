"""Connections that do what a browser's or a gateway's do and libraries' do not.

    python -m netns.clients.drivers.idle host=192.0.2.10 … [--first N] [--half-closed] [--source-port PORT]

Each client opens one connection, makes one request and then leaves the connection open, idle. It logs its
requests, and the end of its connection, when that comes.

SIGUSR1  every client makes another request, on its connection or, where that has ended, on a new one
SIGUSR2  every client vanishes, as one behind a NAT gateway that restarts: no FIN and no RST is sent
SIGTERM  the program ends, and so do the connections
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import time
from contextlib import suppress

from netns.clients import log
from netns.clients.log import Ended
from netns.clients.spec import ClientSpec, read
from netns.record.recording import Outcome, Request

AT_ONCE = 64
"""Requests under way at a time: more would be a flood of SYNs, not clients."""

POLL_S = 0.02

TCP_REPAIR = 19
"""linux/tcp.h: a socket closed in repair mode goes without a word to its peer (CAP_NET_ADMIN)."""


class Client(asyncio.Protocol):
    """One client and its connection, of which it has one at a time."""

    def __init__(self, name: str, spec: ClientSpec, *, source_port: int, half_closed: bool) -> None:
        self._name = name
        self._spec = spec
        self._source_port = source_port
        self._half_closed = half_closed
        self._asked = 0
        self._transport: asyncio.Transport | None = None
        self._port = 0
        self._received = b""
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._ended = ""  # how the connection ended, as far as it is known

    async def request(self) -> None:
        """Make one request and log how it went."""
        self._asked += 1
        name = f"{self._name}.{self._asked}"
        started = time.monotonic()
        reused = self._transport is not None
        status, server, error = 0, "", ""
        try:
            async with asyncio.timeout(self._spec.max_time_s or None):
                if self._transport is None:
                    await self._connect()
                status, server = await self._ask(name)
            outcome = Outcome.OK if status < 400 else Outcome.HTTP_ERROR
        except TimeoutError:
            outcome, error = Outcome.TIMEOUT, f"no answer within {self._spec.max_time_s:g} s"
            self._drop()
        except ConnectionRefusedError as problem:
            outcome, error = Outcome.REFUSED, str(problem)
        except (ConnectionResetError, BrokenPipeError) as problem:
            outcome, error = Outcome.RESET, str(problem)
        except (EOFError, ValueError) as problem:
            outcome, error = Outcome.CLOSED, str(problem)
        except OSError as problem:
            outcome, error = Outcome.OTHER, str(problem)
        log.write(
            Request(
                client=self._name,
                started=started,
                ended=time.monotonic(),
                outcome=outcome,
                status=status,
                server=server,
                reused=reused,
                local_port=self._port,
                error=error,
                id=name,
            )
        )

    def vanish(self) -> None:
        """Be gone without a word."""
        if self._transport is None:
            return
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        self._ended = "vanished"
        self._transport.abort()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        try:
            connection.setblocking(False)
            if self._source_port:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind(("", self._source_port))
            self._port = 0
            await loop.sock_connect(connection, (self._spec.host, self._spec.port))
        except BaseException:
            connection.close()
            raise
        self._port = connection.getsockname()[1]
        await loop.create_connection(lambda: self, sock=connection)

    async def _ask(self, name: str) -> tuple[int, str]:
        assert self._transport is not None  # noqa: S101 - it has just been made, or was there
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        host = self._spec.host
        self._transport.write(f"GET /?{name} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            while self._ended == "fin" and not self._answer.done():
                # asyncio looks at a socket no more once its peer has closed: a reset goes by unseen.
                self._look_for_reset()
                await asyncio.wait([self._answer], timeout=POLL_S)
            return await self._answer
        finally:
            self._answer = None

    def _look_for_reset(self) -> None:
        if self._transport is None:
            raise ConnectionResetError("the connection has ended")
        number = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._ended = "reset"
            self._transport.abort()
            raise ConnectionResetError(os.strerror(number))

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP socket it is
        self._transport = transport
        self._ended = ""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer is None or self._answer.done():
            return
        try:
            answer = parse(self._received)
        except ValueError as error:
            self._answer.set_exception(error)
        else:
            if answer is not None:
                self._answer.set_result(answer)

    def eof_received(self) -> bool:
        self._ended = "fin"
        log.write_end(Ended(self._name, "fin", time.monotonic(), self._port))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(EOFError("closed by the server before its answer was whole"))
        return self._half_closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if isinstance(exc, ConnectionResetError | BrokenPipeError):
            self._ended = "reset"
        if self._ended in ("reset", "vanished"):
            log.write_end(Ended(self._name, self._ended, time.monotonic(), self._port))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the connection has ended"))


def parse(received: bytes) -> tuple[int, str] | None:
    """Status and first line of a whole HTTP/1.1 response with a Content-Length; None while it is not whole.

    ValueError when it is no such response.
    """
    head, gap, body = received.partition(b"\r\n\r\n")
    if not gap:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP response: {first[:40]!r}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if len(body) < int(headers.get("content-length", "no Content-Length")):
        return None
    status = int(rest.split()[0])
    return status, body.decode(errors="replace").partition("\n")[0] if status < 400 else ""


async def run(spec: ClientSpec, options: argparse.Namespace) -> None:
    """Open the connections, then do as the signals say until SIGTERM or the end of the lifetime."""
    clients = [
        Client(
            spec.named(options.first + n),
            spec,
            source_port=options.source_port and options.source_port + n,
            half_closed=options.half_closed,
        )
        for n in range(spec.count)
    ]
    slots = asyncio.Semaphore(AT_ONCE)
    under_way: set[asyncio.Task[None]] = set()

    async def one(client: Client) -> None:
        async with slots:
            await client.request()

    def ask() -> None:
        for client in clients:
            task = asyncio.create_task(one(client))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    def vanish() -> None:
        for client in clients:
            client.vanish()

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGUSR1, ask)
    loop.add_signal_handler(signal.SIGUSR2, vanish)
    ask()
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), spec.lifetime_s)
    for task in under_way:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="netns.clients.drivers.idle", description=__doc__)
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="the clients: netns/clients/spec.py")
    parser.add_argument("--first", type=int, default=1, help="the number of the first client")
    parser.add_argument("--half-closed", action="store_true", help="answer a FIN with nothing but an ACK")
    parser.add_argument("--source-port", type=int, default=0, help="of the first client; the next, the next")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(run(read(options.words), options))


if __name__ == "__main__":
    main()
