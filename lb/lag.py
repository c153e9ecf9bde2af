"""Measures how late the daemon's event loop runs what is due: its lag, in real seconds.

A loop that is late answers packets, health checks and the API late. The cause is a busy machine, or the box
itself. Percentiles of a span of time come from the difference of two readings.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

UPPER_BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram's buckets, real seconds, included."""

BEAT_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class LoopLag:
    """A cumulative histogram of the heartbeat's lateness since the daemon started, in real seconds.

    `counts[n]`: beats that were at most `upper_bounds_s[n]` late; `beats`: all of them; `sum_s`: their
    lateness together; `worst_s`: the greatest.
    """

    upper_bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    beats: int
    sum_s: float
    worst_s: float


class Heartbeat:
    """Ten beats a second on the running loop, and how late they were."""

    def __init__(self) -> None:
        self._in_bucket = [0] * (len(UPPER_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._worst_s = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat until `stop`."""
        self._due = loop.time() + BEAT_S
        self._timer = loop.call_at(self._due, self._beat, loop)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def reading(self) -> LoopLag:
        """The histogram as it is now."""
        *counts, beats = accumulate(self._in_bucket)
        return LoopLag(UPPER_BOUNDS_S, tuple(counts), beats, round(self._sum_s, 6), round(self._worst_s, 6))

    def note(self, now: float) -> None:
        """Count every beat that was due by `now`, seconds of the loop's clock.

        A loop that stands still for 1 s misses ten beats, which would have been 1.0, 0.9 … 0.1 s late. So a
        share of the beats is a share of the time.
        """
        while self._due <= now:
            late_s = now - self._due
            self._in_bucket[bisect_left(UPPER_BOUNDS_S, late_s)] += 1
            self._sum_s += late_s
            self._worst_s = max(self._worst_s, late_s)
            self._due += BEAT_S

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self.note(loop.time())
        self._timer = loop.call_at(self._due, self._beat, loop)
