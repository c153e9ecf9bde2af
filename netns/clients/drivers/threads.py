"""Clients of a library that blocks: a thread for each."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from netns.clients.drivers.asking import Asking, Connections
from netns.clients.order import Order
from netns.record.recording import Outcome


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
    user = make(order)
    asked = 0
    if not order.on_demand:
        time.sleep(order.delay_s(number))
    while True:
        asked += 1
        began = time.monotonic()
        method = told.get() if order.on_demand else order.method(asked)
        asking = Asking(order, number, asked, method, user.connections)
        try:
            asking.answered(*user.ask(method, asking.url, asking.body))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is what its caller sees
            asking.failed(error, user.outcome(error))
        if not order.on_demand:
            time.sleep(max(0.0, began + 1 / order.rate - time.monotonic()))
