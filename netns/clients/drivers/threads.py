"""Clients of a library that blocks: a thread for each."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from netns.clients import log
from netns.clients.order import Order
from netns.recording import Outcome, Request


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


class User(Protocol):
    """One client of a library."""

    connections: Connections

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, str]:
        """Make a request; status and text of the response, or the library's own exception."""

    def outcome(self, error: Exception) -> Outcome:
        """What that exception means."""


def drive(order: Order, user: Callable[[Order], User]) -> None:
    """Have the clients live until SIGTERM, the end of their lifetime or, on demand, of stdin."""
    signal.alarm(order.lifetime_s)
    told: dict[int, SimpleQueue[str]] = {number: SimpleQueue() for number in range(1, order.count + 1)}
    for number, methods in told.items():
        arguments = (order, number, user, methods)
        threading.Thread(target=_live, args=arguments, daemon=True).start()
    if order.on_demand:
        for line in sys.stdin:
            method, client = line.split()
            told[int(client)].put(method)
    else:
        signal.pause()


def _live(order: Order, number: int, make: Callable[[Order], User], told: SimpleQueue[str]) -> None:
    name, user = order.named(number), make(order)
    asked = 0
    if not order.on_demand:
        time.sleep(order.delay_s(number))
    while True:
        asked += 1
        began = time.monotonic()
        method = told.get() if order.on_demand else order.method(asked)
        log.write(_ask(user, order, name, f"{name}.{asked}", method))
        if not order.on_demand:
            time.sleep(max(0.0, began + 1 / order.rate - time.monotonic()))


def _ask(user: User, order: Order, client: str, request: str, method: str) -> Request:
    before = user.connections.count
    status, server, error = 0, "", ""
    started = time.monotonic()
    try:
        status, text = user.ask(method, order.url(request), request.encode() if method == "POST" else None)
        outcome = Outcome.OK if status < 400 else Outcome.HTTP_ERROR
        server = text.partition("\n")[0] if outcome is Outcome.OK else ""
    except Exception as problem:  # noqa: BLE001 - whatever a library raises is what its caller sees
        outcome, error = user.outcome(problem), f"{type(problem).__name__}: {problem}"
    ended = time.monotonic()
    return Request(
        client=client,
        started=started,
        ended=ended,
        outcome=outcome,
        status=status,
        server=server,
        reused=user.connections.count == before,
        local_port=user.connections.port,
        error=error,
        method=method,
        id=request,
    )
