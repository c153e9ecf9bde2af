"""An application server for the corpus, with the habits that a lab.toml gives it by its environment.

| variable | |
| --- | --- |
| `START_S` | seconds from its start until it listens |
| `WARM_S` | seconds from a start for which its pages are 503 and its health check is 200; never the first |
| `PAGE_S` | seconds that a page takes |
| `IDLE_S` | seconds after which it closes an idle connection; 3600 by default |
| `DRAIN_S` | seconds from SIGTERM for which it serves on and answers the health check with 503 |
| `ANNOUNCE` | 1: while it drains, it answers with `Connection: close` |
| `REUSEPORT` | 1: a second process may listen on its port |

SIGTERM ends it when the requests in hand are answered. A file `status` in its root holds the status that
pages get instead of 200. Of its health checks /ready is no file; any other path is answered by whether its
file is there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

ROOT = Path(os.environ["L4LAB_ROOT"])


def setting(name: str, default: float = 0.0) -> float:
    return float(os.environ.get(name, default))


class App:
    def __init__(self) -> None:
        self.began = time.monotonic()
        started = ROOT / "started"
        self.warm_s = setting("WARM_S") if started.exists() else 0.0
        started.touch()
        self.draining = False
        self.closing = False
        self.in_hand = 0
        self.done = asyncio.Event()
        self.done.set()

    def status(self, path: str) -> int:
        if path == "/ready":
            return 503 if self.draining else 200
        if path != "/":
            return 200 if (ROOT / path.lstrip("/")).is_file() else 404
        if time.monotonic() - self.began < self.warm_s:
            return 503
        chosen = ROOT / "status"
        return int(chosen.read_text()) if chosen.exists() else 200

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, EOFError, TimeoutError):
            pass  # the client or its patience has gone
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection is kept."""
        async with asyncio.timeout(setting("IDLE_S", 3600)):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.in_hand += 1
        self.done.clear()
        try:
            lines = head.lower().splitlines()
            fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            await reader.readexactly(int(fields.get("content-length", 0)))
            path = lines[0].split()[1].partition("?")[0]
            if path == "/":
                await asyncio.sleep(setting("PAGE_S"))
            announced = self.draining and setting("ANNOUNCE") > 0
            close = fields.get("connection") == "close" or announced or self.closing
            body = f"{os.environ['L4LAB_SERVER']}\n"
            writer.write(
                f"HTTP/1.1 {self.status(path)} As-Told\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n"
                f"{body}".encode()
            )
            await writer.drain()
        finally:
            self.in_hand -= 1
            if not self.in_hand:
                self.done.set()
        return not close

    async def run(self) -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        await asyncio.sleep(setting("START_S"))
        servers = [
            await asyncio.start_server(self.serve, sock=listener(int(port)), backlog=4096)
            for port in os.environ["L4LAB_PORT"].split(",")
        ]
        await told.wait()
        self.draining = True
        await asyncio.sleep(setting("DRAIN_S"))
        self.closing = True
        for server in servers:
            server.close()
        await self.done.wait()


def listener(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if setting("REUSEPORT"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("0.0.0.0", port))
    return made


if __name__ == "__main__":
    asyncio.run(App().run())
