"""Watches what happens to the servers while something else acts on them: a deploy's own commands, say.

Whoever renames a health file, stops a web server or takes a VIP down need not tell: it is looked at every
POLL_S, and each change is noted with its time.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from netns.errors import LabError
from netns.lab import Lab
from netns.listeners import Listeners
from netns.recording import Change, Fact

POLL_S = 0.01
"""Real seconds between two looks at a server: by so much a change's time may be late."""


class ServerWatch:
    """Runs from start() to stop(). `changes` only grows, so it may be read meanwhile.

    It begins with what held at the start: a change per server and fact.
    """

    def __init__(self, lab: Lab, at: Callable[[float], float]) -> None:
        """`at` turns CLOCK_MONOTONIC seconds into the run's time."""
        self.changes: list[Change] = []
        self._at = at
        self._over = threading.Event()
        self._begun = threading.Barrier(len(lab.plan.servers) + 1)
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._watch, args=(lab, node.name), daemon=True)
            for node in lab.plan.servers
        ]

    def start(self) -> None:
        """Return when each server has been looked at once."""
        for thread in self._threads:
            thread.start()
        try:
            self._begun.wait()
        except threading.BrokenBarrierError:
            self.check()

    def check(self) -> None:
        """Raise LabError when the watch has ended by itself."""
        if self._failure is not None:
            raise LabError(f"the servers can't be watched any more: {self._failure}") from self._failure

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _watch(self, lab: Lab, server: str) -> None:
        try:
            lab.inside(server, partial(self._look_on, lab, server))
        except Exception as error:  # noqa: BLE001 - check() raises it where the run is
            self._failure = error
            self._begun.abort()

    def _look_on(self, lab: Lab, server: str) -> None:
        """Look at the server, in its own namespace, until it is over."""
        web = lab.web(server)
        vips = [entry.address for entry in lab.node(server).vips]
        ports = frozenset(web.ports)
        known: dict[Fact, bool] = {}
        listeners = Listeners()
        try:
            while True:
                found = {
                    Fact.HEALTH_FILE: web.healthy,
                    Fact.LISTENING: ports <= listeners.ports(),
                    Fact.VIP: all(map(_is_local, vips)),
                }
                now = self._at(time.monotonic())  # after the look: a change is never dated before it was
                for fact, holds in found.items():
                    if known.get(fact) is not holds:
                        self.changes.append(Change(now, server, fact, holds))
                if not known:
                    self._begun.wait()
                known = found
                if self._over.wait(POLL_S):
                    return
        finally:
            listeners.close()


def _is_local(address: IPv4Address) -> bool:
    """Whether the address is one of this namespace's: only then can a socket have it for its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True
