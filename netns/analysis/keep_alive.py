"""A server's keep-alive timeout, by the connections that it closed and kept. Pure; real seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

ALIKE: Final = 0.2
"""Idle times that differ from their median by less than this part of it are one timeout."""

MOST: Final = 0.75
"""The part of the closed connections that has to agree: clients see an answer late on a busy machine."""

FEW: Final = 0.05
"""The part of the kept connections that may seem to have been idle for longer, for the same reason."""

APART_S: Final = 0.5
"""Closes that are nearer in time may be one event, as a reload."""

TIMES: Final = 3
"""A timeout closes connections again and again, at least so often."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection that the server closed."""

    at_s: float
    idle_s: float


def idle_timeout(closed: Sequence[Closed], kept_s: Sequence[float]) -> tuple[float, float] | None:
    """The shortest and the longest time after which the server closed an idle connection.

    `kept_s`: how long connections had been idle that then carried a request. None where no timeout explains
    the closes: idle times that differ, connections kept that had been idle longer, closes all at once.
    """
    if not closed:
        return None
    middle = median(one.idle_s for one in closed)
    alike = [one.idle_s for one in closed if abs(one.idle_s - middle) < ALIKE * middle]
    if len(alike) < MOST * len(closed):
        return None
    if sum(kept > max(alike) for kept in kept_s) > FEW * len(kept_s):
        return None
    times = sorted(one.at_s for one in closed)
    events = 1 + sum(later - earlier > APART_S for earlier, later in pairwise(times))
    return (min(alike), max(alike)) if events >= TIMES else None
