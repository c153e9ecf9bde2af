"""A request that a driver in Python makes, from its begin to the line that logs it."""

from __future__ import annotations

import time

from netns.clients import log
from netns.clients.spec import ClientSpec
from netns.record.recording import Outcome, Request


class Connections:
    """A client's connections, as far as its library shows them: how many there were, the last one's port."""

    def __init__(self) -> None:
        self.count = 0
        self.port = 0
        """0: there is none, the last attempt to open one failed."""

    def opening(self) -> None:
        self.count += 1
        self.port = 0

    def opened(self, port: int) -> None:
        self.port = port


class Asking:
    """One request, which begins now; `answered` or `failed` ends it."""

    def __init__(
        self, spec: ClientSpec, number: int, asked: int, method: str, connections: Connections
    ) -> None:
        """It is the client's `asked`-th."""
        self._client = spec.named(number)
        self._id = f"{self._client}.{asked}"
        self._connections = connections
        self._before = connections.count
        self.method = method
        self.url = spec.url(self._id)
        self.body = self._id.encode() if method == "POST" else None
        self._started = time.monotonic()

    def answered(self, status: int, text: str) -> None:
        ok = status < 400
        server = text.partition("\n")[0] if ok else ""
        self._end(Outcome.OK if ok else Outcome.HTTP_ERROR, status=status, server=server)

    def failed(self, error: Exception, outcome: Outcome) -> None:
        self._end(outcome, error=f"{type(error).__name__}: {error}")

    def _end(self, outcome: Outcome, *, status: int = 0, server: str = "", error: str = "") -> None:
        log.write(
            Request(
                client=self._client,
                started=self._started,
                ended=time.monotonic(),
                outcome=outcome,
                status=status,
                server=server,
                reused=self._connections.count == self._before,
                local_port=self._connections.port,
                error=error,
                method=self.method,
                id=self._id,
            )
        )
