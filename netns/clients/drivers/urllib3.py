"""Clients of urllib3, each a PoolManager, which keeps one connection to a host."""

from __future__ import annotations

import sys
import threading

from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.util import Timeout

from netns.clients.drivers.asking import Connections
from netns.clients.drivers.outcomes import outcome
from netns.clients.drivers.threads import drive
from netns.clients.spec import ClientSpec, read
from netns.record.recording import Outcome

_of_thread = threading.local()


class NotedConnection(HTTPConnection):
    """Tells the client whose thread opens it."""

    def connect(self) -> None:
        connections: Connections = _of_thread.connections
        connections.opening()
        super().connect()
        connections.opened(self.sock.getsockname()[1])


def note() -> Connections:
    """Have the connections that this thread opens noted, and return the notes."""
    HTTPConnectionPool.ConnectionCls = NotedConnection
    connections = _of_thread.connections = Connections()
    return connections


class User:
    def __init__(self, spec: ClientSpec) -> None:
        self.connections = note()
        self._pools = PoolManager(timeout=Timeout(total=spec.max_time_s or None))

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, str]:
        response = self._pools.request(method, url, body=body)
        return response.status, response.data.decode(errors="replace")

    def outcome(self, error: Exception) -> Outcome:
        return outcome(error, timeout=(Urllib3Timeout,))


if __name__ == "__main__":
    drive(read(sys.argv[1:]), User)
