"""Clients of aiohttp, each a ClientSession with a pool of one connection; all on one event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

from aiohttp import (
    AddrInfoType,
    ClientPayloadError,
    ClientSession,
    ClientTimeout,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
)
from aiohttp.client import DEFAULT_TIMEOUT

from netns.clients.drivers.asking import Asking, Connections
from netns.clients.drivers.outcomes import outcome
from netns.clients.spec import ClientSpec, read


class Noted:
    """A client's session, and what it shows of its connections."""

    def __init__(self, spec: ClientSpec) -> None:
        self.connections = Connections()
        self._socket: socket.socket | None = None
        trace = TraceConfig()
        trace.on_connection_create_end.append(self._opened)
        timeout = ClientTimeout(total=spec.max_time_s) if spec.max_time_s else DEFAULT_TIMEOUT
        connector = TCPConnector(limit=1, socket_factory=self._opening)
        self.session = ClientSession(connector=connector, trace_configs=[trace], timeout=timeout)

    def _opening(self, address: AddrInfoType) -> socket.socket:
        self.connections.opening()
        family, kind, protocol, *_ = address
        self._socket = socket.socket(family, kind, protocol)
        return self._socket

    async def _opened(self, _: ClientSession, __: SimpleNamespace, ___: Any) -> None:
        assert self._socket is not None  # noqa: S101 - it has just been connected
        self.connections.opened(self._socket.getsockname()[1])


async def live(spec: ClientSpec, number: int, told: asyncio.Queue[str]) -> None:
    noted = Noted(spec)
    asked = 0
    if not spec.on_demand:
        await asyncio.sleep(spec.delay_s(number))
    while True:
        asked += 1
        began = time.monotonic()
        method = await told.get() if spec.on_demand else spec.method(asked)
        asking = Asking(spec, number, asked, method, noted.connections)
        try:
            async with noted.session.request(method, asking.url, data=asking.body) as response:
                asking.answered(response.status, await response.text())
        except Exception as error:  # noqa: BLE001 - whatever a library raises is what its caller sees
            asking.failed(error, outcome(error, closed=(ServerDisconnectedError, ClientPayloadError)))
        if not spec.on_demand:
            await asyncio.sleep(max(0.0, began + 1 / spec.rate - time.monotonic()))


async def drive(spec: ClientSpec) -> None:
    """Have the clients live until SIGTERM, the end of their lifetime or, on demand, of stdin."""
    signal.alarm(spec.lifetime_s)
    told: dict[int, asyncio.Queue[str]] = {number: asyncio.Queue() for number in range(1, spec.count + 1)}
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            method, client = line.split()
            loop.call_soon_threadsafe(told[int(client)].put_nowait, method)
        loop.call_soon_threadsafe(over.set)

    if spec.on_demand:
        threading.Thread(target=listen, daemon=True).start()
    lives = [asyncio.create_task(live(spec, number, methods)) for number, methods in told.items()]
    await over.wait()
    for one in lives:
        one.cancel()
    await asyncio.gather(*lives, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(drive(read(sys.argv[1:])))
