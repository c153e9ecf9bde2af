"""A rehearsal repeated, each time at another moment of the health interval: one pass can be luck.

What is swept is the one thing that a deploy can't see: where in the box's interval it begins (SPEC §4: "The
ten seconds of phase are real"). Settings of the box may be varied besides. Pure.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netns.analysis.health_window import Window, worst_s
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.verdict import Verdict
from netns.analysis.wording import plural, unit
from netns.plan.config import LabConfig
from netns.record.recording import VERSION

SWEEP: Final = "sweep"
"""By which a sweep's document is told from others."""

GRAVEST_FIRST: Final = (Verdict.LOST, Verdict.FAILED, Verdict.ILL, Verdict.INCONCLUSIVE, Verdict.OK)

Z: Final = 1.96
"""Of a 95 % interval."""

Varied = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Repetition:
    """One rehearsal of a sweep."""

    phase_s: float
    """After a health check of the first server, box seconds."""
    verdict: Verdict
    requests: int
    lost: int
    causes: Mapping[str, int]
    windows: tuple[Window, ...]
    directory: str = ""
    """Of its report, "" for none."""

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.OK

    @classmethod
    def of(cls, found: Rehearsal, phase_s: float, directory: str = "") -> Repetition:
        causes = {cause.value: count for cause, count in found.causes().items()}
        requests = len(found.requests)
        return cls(phase_s, found.judgement.verdict, requests, found.lost, causes, found.windows, directory)


@dataclass(frozen=True, slots=True)
class Combination:
    """The repetitions with the same settings."""

    varied: Varied
    interval_s: float
    """Of the health checks."""
    worst_s: float
    """The longest that the box can take to unbind a server, by these settings."""
    repetitions: tuple[Repetition, ...]

    @property
    def failures(self) -> int:
        return sum(one.verdict in (Verdict.LOST, Verdict.FAILED) for one in self.repetitions)

    @property
    def inconclusive(self) -> int:
        """Repetitions that can't tell: neither failures nor proof."""
        return len(self.repetitions) - self.failures - sum(one.passed for one in self.repetitions)

    @property
    def failure_interval(self) -> tuple[float, float]:
        """Bounds of the probability of a failure, with 95 % confidence (Wilson's score interval)."""
        n, p = len(self.repetitions), self.failures / len(self.repetitions)
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(window for one in self.repetitions for window in one.windows)

    @property
    def smallest_wait_s(self) -> float | None:
        """The smallest wait, from failing the check to the stop, that would have lost nothing in any run."""
        return max((window.needed_s for window in self.windows), default=None)

    @property
    def step_s(self) -> float:
        """How far apart the moments are: by so much the smallest wait may be too small."""
        return self.interval_s / len(self.repetitions)

    @property
    def waited_s(self) -> tuple[float, float] | None:
        """The shortest and the longest that the deploy did wait."""
        waits = [window.waited_s for window in self.windows if window.waited_s is not None]
        return (min(waits), max(waits)) if waits else None

    @property
    def causes(self) -> dict[str, int]:
        """Requests lost, by cause, in all repetitions."""
        total: Counter[str] = Counter()
        for one in self.repetitions:
            total.update(one.causes)
        return dict(total.most_common())


@dataclass(frozen=True, slots=True)
class Sweep:
    """A whole sweep."""

    command: tuple[str, ...]
    speed: float
    combinations: tuple[Combination, ...]

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.OK

    @property
    def verdict(self) -> Verdict:
        """The gravest of all repetitions."""
        found = {run.verdict for one in self.combinations for run in one.repetitions}
        return next(verdict for verdict in GRAVEST_FIRST if verdict in found)

    @property
    def text(self) -> str:
        """What a reader acts on, in one line."""
        runs = [run for one in self.combinations for run in one.repetitions]
        found = Counter(run.verdict for run in runs)
        verdicts = ", ".join(f"{found[one]} {one.value}" for one in GRAVEST_FIRST if found[one])
        lost = plural(sum(run.lost for run in runs), "request")
        return f"{plural(len(runs), 'rehearsal')}: {verdicts}. {lost} lost."

    def as_json(self) -> dict[str, Any]:
        """The document other programs read: docs/json.md."""
        return {
            "version": VERSION,
            "name": SWEEP,
            "verdict": self.verdict.value,
            "text": self.text,
            "passed": self.passed,
            "command": list(self.command),
            "speed": self.speed,
            "combinations": [_document(one) for one in self.combinations],
        }


def _document(one: Combination) -> dict[str, Any]:
    return {
        "varied": dict(one.varied),
        "repetitions": len(one.repetitions),
        "failures": one.failures,
        "inconclusive": one.inconclusive,
        "failure_probability": one.failures / len(one.repetitions),
        "failure_interval": [round(bound, 3) for bound in one.failure_interval],
        "smallest_wait_s": one.smallest_wait_s,
        "interval_s": one.interval_s,
        "step_s": one.step_s,
        "worst_s": one.worst_s,
        "waited_s": one.waited_s,
        "causes": one.causes,
        "runs": [
            {
                "phase_s": run.phase_s,
                "verdict": run.verdict.value,
                "passed": run.passed,
                "requests": run.requests,
                "lost": run.lost,
                "causes": dict(run.causes),
                "needed_s": _needed(run),
                "report": run.directory,
            }
            for run in one.repetitions
        ],
    }


def _needed(run: Repetition) -> dict[str, float]:
    """By server, the longest of its times out of service."""
    found: dict[str, float] = {}
    for window in run.windows:
        found[window.server] = max(window.needed_s, found.get(window.server, 0.0))
    return found


def phases(interval_s: float, count: int) -> list[float]:
    """Moments spread evenly over the interval."""
    return [interval_s * (number + 0.5) / count for number in range(count)]


def variations(given: Sequence[str]) -> Iterator[Varied]:
    """Every combination of "retries=1,2", …; ValueError with what is allowed."""
    choices: dict[str, list[Any]] = {}
    for text in given:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise ValueError(f"--vary {text}: KEY=VALUE,VALUE is allowed, as in retries=1,2")
        choices[key] = [_value(text, value) for value in values.split(",")]
    for chosen in itertools.product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def _value(text: str, value: str) -> Any:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise ValueError(f"--vary {text}: {value!r} is no number, no true and no false") from None


def worst_of(config: LabConfig, servers: Sequence[str]) -> float:
    return max(worst_s(service) for server in servers for service in config.services_of(server))


def sentence(one: Combination, speed: float) -> str:
    """What a combination's repetitions, at that speed, say of the wait before the stop."""
    s = unit(speed)
    settings = f"With {_words(one.varied)}: " if one.varied else ""
    smallest = one.smallest_wait_s
    if smallest is None:
        return f"{settings}no server went out of service: there is no wait to speak of"
    seen = sum(window.measured for window in one.windows)
    how = f"{seen} of {len(one.windows)} seen, the others computed from the moment of the next check"
    text = (
        f"{settings}A wait of {smallest:.1f} {s} before the stop is the smallest that would have lost nothing"
    )
    text += f", give or take the sweep's step of {one.step_s:.2g} {s} ({how})"
    if one.waited_s is not None:
        text += f"; the script waited {one.waited_s[0]:.1f} to {one.waited_s[1]:.1f} {s}"
    return f"{text}. By its settings the box needs at most {one.worst_s:g} {s}"


def _words(varied: Varied) -> str:
    return ", ".join(f"{key} = {value}" for key, value in varied.items()) or "its settings"
