"""A run that has begun: its lab, its clock, and what it notes of itself.

What a run does, looks at and expects are each a class of this one: acts.py, view.py, expect.py. The whole is
run.py.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from netns.analysis.wording import seconds, unit
from netns.lab.interface import Lab, Recorder, Say
from netns.observe import kernels
from netns.observe.box import BoxWatch
from netns.plan.topology import Role
from netns.play.clock import RunClock
from netns.record.recording import Expectation, Step

Span = tuple[float, float]
"""When an act began and ended, in the run's time."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run has to go by as it begins."""

    lab: Lab
    settings: Mapping[str, Any]
    say: Say
    captures: Mapping[str, Recorder]
    """By node."""
    at: datetime
    """UTC."""
    versions: Mapping[str, str]
    """Of what takes part, by name."""
    clock: RunClock
    counted: Mapping[str, Counter[str]]
    """What the kernels had counted by then, by node; the router's does not matter."""
    watch: BoxWatch

    @classmethod
    def now(
        cls, lab: Lab, settings: Mapping[str, Any], say: Say, captures: Mapping[str, Recorder]
    ) -> Beginning:
        """The captures run; the watch does not, yet."""
        at = datetime.now(UTC)
        versions = {
            "l4box": lab.box.stats()["version"],
            "Linux": platform.release(),
            "Python": platform.python_version(),
            **lab.versions,
        }
        clock = RunClock.start(lab)
        counted = {
            node.name: kernels.counters(lab, node.name)
            for node in lab.plan.nodes
            if node.role is not Role.ROUTER
        }
        watch = BoxWatch(lab, clock.monotonic, since=lab.box.stats()["last_event"])
        return cls(lab, settings, say, captures, at, versions, clock, counted, watch)


class Begun:
    """The lab of a run, its clock and its notes; times are box seconds since the run began."""

    def __init__(self, beginning: Beginning) -> None:
        self.lab = beginning.lab
        self.settings = beginning.settings
        self.clock = beginning.clock
        self.steps: list[Step] = []
        self.expectations: list[Expectation] = []
        self.figures: dict[str, Any] = {}
        """Whatever else was measured, by name."""
        self._say = beginning.say

    def now(self) -> float:
        return self.clock.now()

    @property
    def speed(self) -> float:
        return self.clock.speed

    @property
    def unit(self) -> str:
        """Of the run's times, for texts: "s" at speed 1, else "box s"."""
        return unit(self.speed)

    def seconds(self, time_s: float) -> str:
        """A time of the run in words, with its unit."""
        return seconds(time_s, self.speed)

    def tell(self, text: str, at: float | None = None) -> None:
        """Say what happens, with its time in the run: now, unless told otherwise."""
        time_s = self.now() if at is None else at
        self._say(f"{time_s:8.1f} {self.unit}  {text}")

    def note(self, text: str, node: str = "", at: float | None = None) -> float:
        """Record a step of the run at that time, now unless told otherwise; the time."""
        time_s = self.now() if at is None else at
        self.steps.append(Step(time_s, text, node))
        self.tell(f"{f'{node}: ' if node else ''}{text}", time_s)
        return time_s
