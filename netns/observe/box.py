"""Watches a lab while a scenario plays: the box's events as they come, samples of the servers in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from netns.errors import LabError
from netns.lab.interface import Lab
from netns.observe import kernels
from netns.record.recording import ServerSample

SAMPLE_S = 0.2
"""Real seconds between two samples; more where taking one takes long, so that it stays a small load."""
SHARE = 5


class BoxWatch:
    """Runs from start() to stop(). The lists only grow, so they may be read meanwhile."""

    def __init__(self, lab: Lab, at: Callable[[float], float], *, since: int) -> None:
        """`at` turns CLOCK_MONOTONIC seconds into the run's time; `since` is the number of the box's last
        event before the run."""
        self.events: list[dict[str, Any]] = []
        self.samples: list[ServerSample] = []
        self._lab = lab
        self._at = at
        self._since = since
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(task,), name=task.__name__, daemon=True)
            for task in (self._follow, self._sample)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself: what it has seen until then is all there is."""
        return self._failure is not None

    def check(self) -> None:
        """Raise LabError when the watch has ended by itself."""
        if self._failure is not None:
            raise LabError(f"the lab can't be watched any more: {self._failure}") from self._failure

    def catch_up(self, last_event: int, timeout_s: float = 10.0) -> None:
        """Wait until the box's event of that number is here; at once where the watch was stopped."""
        deadline = time.monotonic() + timeout_s
        while last_event > self._since and (not self.events or self.events[-1]["id"] < last_event):
            self.check()
            if self._over.is_set():
                return
            if time.monotonic() > deadline:
                raise LabError(f"the box's event {last_event} has not come in {timeout_s:g} s")
            time.sleep(0.01)

    def stop(self) -> None:
        """Take no more samples, and no more events: their reader ends with the next one, or with the box."""
        self._over.set()
        if self._threads[1].ident is not None:
            self._threads[1].join()

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - check() raises it where the scenario is played
            if not self._over.is_set():
                self._failure = error

    def _follow(self) -> None:
        for event in self._lab.box.events(since=self._since, follow=True):
            if self._over.is_set():
                return
            self.events.append(event)

    def _sample(self) -> None:
        pause_s = 0.0
        while not self._over.wait(pause_s):
            began = time.monotonic()
            self.samples += kernels.sample(self._lab, self._at(began))
            took_s = time.monotonic() - began
            pause_s = SAMPLE_S - took_s if took_s < SAMPLE_S / SHARE else (SHARE - 1) * took_s
