"""Repeats a rehearsal, begun at other moments of the health interval each time (netns/analysis/sweep.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from netns import labs
from netns.analysis.findings import LACKS, lacks
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.sweep import Combination, Repetition, Sweep, Varied, phases, variations, worst_of
from netns.analysis.verdict import Verdict
from netns.analysis.wording import unit
from netns.errors import LabError
from netns.lab.interface import Lab, Say
from netns.lab.restore import Restorable, restore
from netns.plan.config import LabConfig, with_settings
from netns.record.recording import Fact
from netns.rehearsal.play import rehearse
from netns.rehearsal.progress import Progress
from netns.rehearsal.spec import RehearsalSpec

RESTORED: Final = frozenset({Fact.HEALTH_FILE, Fact.LISTENING, Fact.VIP})
"""What `restore` gives back to a server that lacks it."""

Keep = Callable[[Rehearsal, Path], bool]
"""Writes a rehearsal's report to a directory, where its captures are; whether it could."""


class Labs(Protocol):
    """Where the rehearsals of a sweep take place."""

    def next(self, config: LabConfig, last: Rehearsal | None) -> Lab:
        """A lab of these settings for the next rehearsal; `last`: the one before with the same settings."""


class OneLab:
    """A lab that is up, and stays as each rehearsal leaves it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def next(self, config: LabConfig, last: Rehearsal | None) -> Lab:  # noqa: ARG002
        return self._lab


class OwnLabs:
    """Labs of one's own: one for all rehearsals with the same settings, as long as it can be made whole."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._held = ExitStack()
        self._lab: Restorable | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def next(self, config: LabConfig, last: Rehearsal | None) -> Lab:
        if self._lab is not None and last is not None:
            why = beyond_repair(last) or self._restore(self._lab)
            if not why:
                return self._lab
            self._say(f"a new lab for the next rehearsal: {why}")
        self._held.close()
        self._lab = self._held.enter_context(labs.own(config, say=self._say))
        return self._lab

    def _restore(self, lab: Restorable) -> str:
        """Why the lab can't be made whole; "" when it is whole."""
        try:
            restore(lab)
        except LabError as error:
            return str(error)
        return ""


def beyond_repair(last: Rehearsal) -> str:
    """Why a lab is not to be used again after a rehearsal, "" when it is only to be restored."""
    left = [
        f"{server}: {LACKS[lack.fact]}"
        for server in last.recording.servers
        for lack in lacks(last.recording, server)
        if lack.ended == inf and lack.fact not in RESTORED
    ]
    circumstances = last.circumstances
    if circumstances.box_ended is not None:
        return "the box's daemon ended"
    if left:
        return f"the last one left {', '.join(left)}"
    if circumstances.broken:
        return circumstances.broken
    if last.judgement.verdict in (Verdict.FAILED, Verdict.ILL):
        return "the last one did not come to its end"
    if circumstances.left_running:
        return f"the last one left {', '.join(circumstances.left_running)} running"
    return ""


def varied(config: LabConfig, vary: Sequence[str]) -> list[tuple[Varied, LabConfig]]:
    """Each combination of the settings in "retries=1,2", …, and the lab with it.

    ValueError with what is allowed, ConfigError for what the lab can't be.
    """
    return [(chosen, with_settings(config, chosen)) for chosen in variations(vary)]


def sweep(
    where: Labs,
    spec: RehearsalSpec,
    settings: Sequence[tuple[Varied, LabConfig]],
    count: int,
    *,
    report: Path | None,
    keep: Keep,
    say: Say,
    progress: Progress,
) -> Sweep:
    """Rehearse at `count` moments of the health interval with each of the settings (`varied`).

    With `report`, `keep` writes the report of each rehearsal to a directory in it.
    """
    combinations = []
    for chosen, config in settings:
        words = " ".join(f"{key}={value}" for key, value in chosen.items())
        interval_s = config.services_of(spec.servers[0])[0].health_check.interval_s
        repetitions: list[Repetition] = []
        last = None
        for number, phase_s in enumerate(phases(interval_s, count), 1):
            lost = sum(one.lost for one in repetitions)
            place = f"{words} {number} of {count}, lost so far {lost:,}".lstrip()
            say(f"\n{place}: begins {phase_s:.1f} {unit(config.speed)} after a check of {spec.servers[0]}")
            name = f"{words.replace(' ', ',') or 'run'}-{number:02}"
            directory = report / name if report is not None else None
            last = rehearse(
                where.next(config, last),
                replace(spec, phase_s=phase_s),
                report=directory,
                ours=True,
                say=say,
                progress=partial(_show, progress, place),
            )
            kept = directory is not None and keep(last, directory)
            repetitions.append(Repetition.of(last, phase_s, name if kept else ""))
        worst_s = worst_of(config, spec.servers)
        combinations.append(Combination(chosen, interval_s, worst_s, tuple(repetitions)))
    return Sweep(spec.command, settings[0][1].speed, tuple(combinations))


def _show(progress: Progress, place: str, text: str) -> None:
    progress(f"{place}  {text}")
