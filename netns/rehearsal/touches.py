"""Watches for what a deploy changes of a server that no other look shows: its processes and its files.

A reload replaces workers, a release changes files: the listener, the VIP and the health file stay.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from netns.errors import LabError
from netns.lab.interface import Lab
from netns.record.recording import Touch

EVERY_S: Final = 0.5
"""Real seconds between two looks."""

PAGE: Final = "index.html"


class TouchWatch:
    """`seen` has a Touch for each look at which a server was another one than before."""

    def __init__(self, lab: Lab) -> None:
        self.seen: list[Touch] = []
        self._lab = lab
        self._known: dict[tuple[str, str], object] = {}
        self._looked = 0.0

    def look(self, now: float) -> None:
        """Look at every server, unless that was just done; `now` is the run's time."""
        if time.monotonic() - self._looked >= EVERY_S:
            self.look_now(now)

    def look_now(self, now: float) -> None:
        """Look at every server."""
        for node in self._lab.plan.servers:
            with suppress(LabError):  # it is gone, which others see
                self._compare(now, node.name, "processes", tuple(self._lab.running(f"web {node.name}")))
            with suppress(LabError):  # where its files are is not known
                self._compare(now, node.name, "files", self._files(node.name))
        self._looked = time.monotonic()

    def _files(self, server: str) -> object:
        root = self._lab.root(server)
        with suppress(OSError):
            return (root / PAGE).stat().st_mtime_ns, root.stat().st_mtime_ns, root.resolve()
        return None

    def _compare(self, now: float, server: str, what: str, state: object) -> None:
        key = server, what
        if key in self._known and self._known[key] != state:
            self.seen.append(Touch(now, server, what))
        self._known[key] = state
