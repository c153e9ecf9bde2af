"""What was measured, a line of JSON as soon as it is known: a run can be broken off and taken up."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from netns.linux.programs import SYSTEM_PATH
from tests.bench.work import Figures

ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Result:
    """One piece of work of one contender in one round; `contender` is ALONE for what l4box does by itself."""

    round: int
    work: str
    contender: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float
    rounds: int


@dataclass(slots=True)
class Run:
    """The results of one run, and what it was run with and on."""

    settings: dict[str, Any]
    machine: dict[str, str]
    results: list[Result] = field(default_factory=list)

    def of(self, work: str, contender: str) -> dict[int, Figures]:
        """By round."""
        return {r.round: r.figures for r in self.results if (r.work, r.contender) == (work, contender)}

    def figure(self, work: str, contender: str, name: str) -> Spread | None:
        """A figure over the rounds, None when it was not measured."""
        return _spread(figures[name] for figures in self.of(work, contender).values() if name in figures)

    def ratio(self, work: str, contender: str, to: str, name: str) -> Spread | None:
        """A figure relative to another contender's in the same round."""
        base = self.of(work, to)
        return _spread(
            figures[name] / base[number][name]
            for number, figures in self.of(work, contender).items()
            if base.get(number, {}).get(name)
        )

    def alone(self, work: str, name: str) -> Spread | None:
        return self.figure(work, ALONE, name)


def _spread(values: Iterable[float]) -> Spread | None:
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1], len(found)) if found else None


class Store:
    """The file of a run."""

    def __init__(self, path: Path, settings: dict[str, Any], *, fresh: bool) -> None:
        """Takes up the run that is there; ValueError if it was made with other settings."""
        self._path = path
        if fresh or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            head = {"settings": settings, "machine": machine()}
            path.write_text(json.dumps(head) + "\n")
        self.run = read(path)
        different = [key for key in settings if self.run.settings.get(key) != settings[key]]
        if different:
            raise ValueError(f"{path} is of a run with another {', '.join(different)}: --fresh starts anew")

    def add(self, number: int, kind: str, contender: str, figures: Figures) -> None:
        result = Result(number, kind, contender, figures)
        self.run.results.append(result)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def read(path: Path) -> Run:
    head, *lines = path.read_text().splitlines()
    return Run(**json.loads(head), results=[Result(**json.loads(line)) for line in lines])


def machine() -> dict[str, str]:
    """What it ran on and with, as far as it matters to the figures."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "processor": cpu,
        "processors": str(len(os.sched_getaffinity(0))),
        "kernel": f"Linux {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
        "HAProxy": _version("haproxy", "-v"),
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
    }


def _version(name: str, option: str) -> str:
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        return "not installed"
    done = subprocess.run([found, option], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace("/", " ").split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")
