"""What came of a rehearsal: its recording, what its captures add to that, and the judgement of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netns.analysis import busy
from netns.analysis.attempts import Actors
from netns.analysis.busy import Busy
from netns.analysis.causes import SLOW_S
from netns.analysis.effect import unchanged, unfelt
from netns.analysis.evidence import actors, named, under_way
from netns.analysis.expected import with_expectations
from netns.analysis.judge import judge
from netns.analysis.rehearsal import NAME, Rehearsal
from netns.analysis.verdict import Circumstances
from netns.lab.interface import Say
from netns.play.run import Run
from netns.record.recording import Change, Deploy, Recording, Touch
from netns.record.segments import Captures
from netns.rehearsal.deploying import Aftermath
from netns.rehearsal.spec import RehearsalSpec


@dataclass(frozen=True, slots=True)
class Load:
    """How busy this machine and the box were until now."""

    loop: Mapping[str, Any]
    """The box's own account of its event loop: `loop_lag` in docs/json.md."""
    cpu_waited_s: float | None
    """For how long some task had waited for a CPU since boot; None where that is not counted."""


@dataclass(frozen=True, slots=True)
class Played:
    """What is known of a run that was played, beside what the run itself has recorded."""

    ill: str
    """What was wrong before the deploy, "" for nothing."""
    deploys: Sequence[Deploy]
    aftermath: Aftermath
    box_ended: float | None
    """When the box's daemon ended, if it did."""
    broken: str
    """What of the lab failed, other than the box."""
    changes: Sequence[Change]
    touches: Sequence[Touch]
    before: Load
    after: Load
    ended: float
    """When the clients were told to stop, or earlier."""
    closed: frozenset[str]
    """The clients' ends of connections that a server had closed then."""


def result(run: Run, spec: RehearsalSpec, played: Played, *, captures: bool, say: Say) -> Rehearsal:
    """The rehearsal, judged. `captures`: their files are kept."""
    lab = run.lab
    where = actors(lab.plan, lab.config)
    taken = Captures({node: capture.path for node, capture in run.captures.items()}, run.clock.unix)
    recorded = run.recording(
        name=NAME,
        title=f"Rehearsal of {' '.join(spec.command)}",
        intent=_intent(spec, run.speed),
        settings=lab.config.model_dump(mode="json"),
        captures=captures,
        changes=tuple(played.changes),
        touches=tuple(played.touches),
    )
    recording, unfinished = _completed(recorded, where, taken, played)
    if missed := sum(point.dropped for capture in run.captures.values() for point in capture.counted):
        say(f"warning: {missed} packets came too fast to be captured: a loss may go unexplained")
        recording = _with_figures(recording, {"packets that the captures missed": missed})
    recording = _with_figures(recording, {"slow is more than, real s": SLOW_S})
    kinds = {server: lab.kind(server).name for server in recording.servers}
    if played.ill:
        ill = Circumstances(ill=played.ill)
        rehearsal = Rehearsal(recording, (), (), (), (), (), where, kinds, circumstances=ill)
    else:
        before, after = played.before, played.after
        load = busy.measure(recording, (before.loop, after.loop), before.cpu_waited_s, after.cpu_waited_s)
        judged = judge(
            _with_figures(recording, {"this machine, in real time": load.figures()}),
            played.deploys,
            lab.config,
            where,
            taken,
            kinds=kinds,
            box_ended=played.box_ended,
        )
        said = lab.box_says(3) if played.box_ended is not None else ""
        circumstances = _circumstances(judged, spec, played, unfinished, load, said)
        rehearsal = replace(judged, terms=spec.terms, circumstances=circumstances)
    return with_expectations(rehearsal)


def _completed(
    recorded: Recording, where: Actors, captures: Captures, played: Played
) -> tuple[Recording, int]:
    """The recording with what only the captures know of its requests; how many had not ended with the run."""
    left = under_way(
        recorded.requests,
        where,
        captures,
        groups={group.name for group in recorded.groups},
        speed=recorded.speed,
        ended=played.ended,
        closed=played.closed,
    )
    requests = named([*recorded.requests, *left.lost], where, captures)
    in_order = tuple(sorted(requests, key=lambda request: request.started))
    recording = _with_figures(recorded, {"requests under way at the end": left.unfinished})
    return replace(recording, requests=in_order), left.unfinished


def _with_figures(recording: Recording, figures: Mapping[str, Any]) -> Recording:
    return replace(recording, figures={**recording.figures, **figures})


def _intent(spec: RehearsalSpec, speed: float) -> str:
    who = "Once for all" if spec.fleet else f"For {', '.join(spec.servers)}, {spec.parallel} at a time"
    clock = "in real time" if speed == 1 else f"with the box's clock {speed:g} times as fast"
    return f"{who}, {clock}."


def _circumstances(
    judged: Rehearsal, spec: RehearsalSpec, played: Played, unfinished: int, load: Busy, box_said: str
) -> Circumstances:
    deployed = spec.servers if spec.fleet else tuple(deploy.server for deploy in played.deploys)
    return Circumstances(
        not_deployed=() if spec.fleet else spec.servers[len(played.deploys) :],
        box_ended=played.box_ended,
        not_back=played.aftermath.not_back,
        left_running=played.aftermath.left_running,
        unfelt=unfelt(judged, deployed),
        unchanged=unchanged(judged, deployed, whole=spec.fleet),
        unfinished=unfinished,
        broken=played.broken,
        busy=load.words,
        box_said=box_said,
    )
