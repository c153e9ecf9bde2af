"""Box time: seconds since the box started, `speed` times as fast as the wall clock (SPEC §7)."""

from __future__ import annotations

import time


class Clock:
    """The one place where box seconds and real seconds meet."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._origin = time.monotonic()
        self._wall_origin = time.time()

    def now(self) -> float:
        """Box seconds since the start."""
        return (time.monotonic() - self._origin) * self.speed

    def real(self, box_s: float) -> float:
        """A span of box seconds as real seconds."""
        return box_s / self.speed

    def wall(self, box_time: float) -> float:
        """The Unix time at that box time."""
        return self._wall_origin + box_time / self.speed
