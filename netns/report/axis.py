"""The common time axis: where a moment is, in per cent of the drawing's width, and what fits there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from netns.analysis.wording import seconds, unit

WIDE_PX: Final = 720
"""The drawing is at least this wide where the window has 900 px (the style sheet's one breakpoint)."""
NARROW_PX: Final = 230
"""… and at least this wide in a window of 360 px."""
CHARACTER_PX: Final = 6.6
"""A character of the drawing's text: 11 px sans serif."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 to `ended` box seconds."""

    ended: float
    speed: float
    began: datetime

    def x(self, time: float) -> float:
        """Per cent of the width; what is beyond the run is at its edge."""
        return round(100 * min(max(time / self.ended, 0.0), 1.0), 2) if self.ended else 0.0

    def width(self, started: float, ended: float) -> float:
        return round(self.x(ended) - self.x(started), 2)

    @property
    def unit(self) -> str:
        """Of its times: "s" at speed 1, else "box s"."""
        return unit(self.speed)

    def seconds(self, time: float) -> str:
        """A time in words, with its unit."""
        return seconds(time, self.speed)

    def span(self, started: float, ended: float) -> str:
        """A stretch in words: "20.0 s to 45.0 s"."""
        return f"{self.seconds(started)} to {self.seconds(ended)}"

    def wall_clock(self, time: float) -> str:
        """ "04:31:07.25", UTC."""
        moment = self.began + timedelta(seconds=time / self.speed)
        return f"{moment:%H:%M:%S}.{moment.microsecond // 10_000:02}"

    def ticks(self) -> list[float]:
        """Round times, about ten."""
        step = round_step(self.ended / 10) if self.ended else 1.0
        return [step * index for index in range(math.floor(self.ended / step * (1 + 1e-9)) + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ, and of clock steps from 60 on, that is not under `least`."""
    for clock in (60.0, 120.0, 300.0, 600.0):
        if 50 < least <= clock:
            return clock
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least * (1 - 1e-9))


def fit(texts: Sequence[str], percent: float) -> tuple[tuple[str, str], ...]:
    """What to write on a box so many per cent wide, of texts for the same, the longest first: (class, text).

    The class says in which drawings it is shown: "" all, "wide" or "narrow".
    """

    def longest(drawing_px: int) -> str:
        room = drawing_px * percent / 100
        return next((text for text in texts if len(text) * CHARACTER_PX + 8 <= room), "")

    wide, narrow = longest(WIDE_PX), longest(NARROW_PX)
    if wide == narrow:
        return (("", wide),) if wide else ()
    return (("wide", wide), ("narrow", narrow)) if narrow else (("wide", wide),)


def stack(boxes: Sequence[tuple[float, float]]) -> list[int]:
    """The row of each (start, width), both in per cent, so that no two of a row overlap; lowest row first."""
    ends: list[float] = []
    rows = []
    for start, width in boxes:
        row = next((index for index, end in enumerate(ends) if end <= start), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = start + width
        rows.append(row)
    return rows
