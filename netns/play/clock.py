"""The time of a run: box seconds since it began, from this machine's clocks and the box's."""

from __future__ import annotations

import time
from dataclasses import dataclass

from netns.lab.interface import Lab


@dataclass(frozen=True, slots=True)
class RunClock:
    """Turns the clocks of this machine and of the box into the run's time."""

    speed: float
    monotonic_s: float
    unix_s: float
    box_s: float

    @classmethod
    def start(cls, lab: Lab) -> RunClock:
        """The run begins now. The box's clock is read five times: the quickest answer is the most exact."""
        readings = []
        for _ in range(5):
            before = time.monotonic()
            box_s = lab.box.stats()["box_time"]
            after = time.monotonic()
            readings.append((after - before, (before + after) / 2, box_s))
        _, monotonic_s, box_s = min(readings)
        unix_s = time.time() - (time.monotonic() - monotonic_s)
        return cls(lab.config.speed, monotonic_s, unix_s, box_s)

    def now(self) -> float:
        return self.monotonic(time.monotonic())

    def monotonic(self, seconds: float) -> float:
        return (seconds - self.monotonic_s) * self.speed

    def unix(self, seconds: float) -> float:
        return (seconds - self.unix_s) * self.speed

    def box(self, box_time: float) -> float:
        return box_time - self.box_s
