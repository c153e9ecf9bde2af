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
from netns.clients.spec import ClientSpec
from netns.record.recording import Outcome


class User(Protocol):
    """One client of a library."""

    connections: Connections

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, str]:
        """Make a request; status and text of the response, or the library's own exception."""

    def outcome(self, error: Exception) -> Outcome:
        """What that exception means."""


def drive(spec: ClientSpec, user: Callable[[ClientSpec], User]) -> None:
    """Have the clients live until SIGTERM, the end of their lifetime or, on demand, of stdin."""
    signal.alarm(spec.lifetime_s)
    told: dict[int, SimpleQueue[str]] = {number: SimpleQueue() for number in range(1, spec.count + 1)}
    for number, methods in told.items():
        arguments = (spec, number, user, methods)
        threading.Thread(target=_live, args=arguments, daemon=True).start()
    if spec.on_demand:
        for line in sys.stdin:
            method, client = line.split()
            told[int(client)].put(method)
    else:
        signal.pause()


def _live(spec: ClientSpec, number: int, make: Callable[[ClientSpec], User], told: SimpleQueue[str]) -> None:
    user = make(spec)
    asked = 0
    if not spec.on_demand:
        time.sleep(spec.delay_s(number))
    while True:
        asked += 1
        began = time.monotonic()
        method = told.get() if spec.on_demand else spec.method(asked)
        asking = Asking(spec, number, asked, method, user.connections)
        try:
            asking.answered(*user.ask(method, asking.url, asking.body))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is what its caller sees
            asking.failed(error, user.outcome(error))
        if not spec.on_demand:
            time.sleep(max(0.0, began + 1 / spec.rate - time.monotonic()))
