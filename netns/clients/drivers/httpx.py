"""Clients of httpx, each a Client."""

from __future__ import annotations

import sys
from typing import Any

from httpx import Client, RemoteProtocolError, TimeoutException

from netns.clients.drivers.asking import Connections
from netns.clients.drivers.outcomes import outcome
from netns.clients.drivers.threads import drive
from netns.clients.spec import ClientSpec, read
from netns.record.recording import Outcome


class User:
    def __init__(self, spec: ClientSpec) -> None:
        self.connections = Connections()
        self._client = Client(timeout=spec.max_time_s) if spec.max_time_s else Client()

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, str]:
        response = self._client.request(method, url, content=body, extensions={"trace": self._trace})
        return response.status_code, response.text

    def outcome(self, error: Exception) -> Outcome:
        return outcome(error, closed=(RemoteProtocolError,), timeout=(TimeoutException,))

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        """What httpcore does meanwhile (httpx, Extensions: "trace")."""
        if name == "connection.connect_tcp.started":
            self.connections.opening()
        elif name == "connection.connect_tcp.complete":
            self.connections.opened(info["return_value"].get_extra_info("client_addr")[1])


if __name__ == "__main__":
    drive(read(sys.argv[1:]), User)
