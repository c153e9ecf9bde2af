"""A rehearsal: clients at work, the user's command, and what was seen meanwhile.

Its phases have a file each: the lab before (before.py), the deploying (deploying.py), what came of it
(result.py).
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lb.client import BoxError
from netns.analysis.rehearsal import Rehearsal
from netns.clients.spec import MAX_TIME_S
from netns.errors import LabError
from netns.lab import program
from netns.lab.interface import Lab, Recorder, Say
from netns.observe import kernels
from netns.observe.servers import ServerWatch
from netns.play.run import Run, begin
from netns.rehearsal.before import unanswered, unbound
from netns.rehearsal.commands import Actions
from netns.rehearsal.controls import Controls
from netns.rehearsal.deploying import POLL_S, Aftermath, Deploying
from netns.rehearsal.hold import adopting, alone
from netns.rehearsal.progress import Progress, ProgressLine
from netns.rehearsal.result import Load, Played, result
from netns.rehearsal.spec import RehearsalSpec
from netns.rehearsal.touches import TouchWatch

BOX_STOP_S: Final = 5.0
"""Real seconds in which a box that stops has ended, once its API is gone."""


def rehearse(
    lab: Lab, spec: RehearsalSpec, *, report: Path | None, ours: bool, say: Say, progress: Progress
) -> Rehearsal:
    """Play it in a lab that is up.

    `ours`: the lab goes down afterwards, and what the command left running on its nodes is ended. With
    `report`, the captures are left there. LabError when the lab fails; what the deploy does to itself, to its
    servers or to the box is in the result.
    """
    with ExitStack() as held:
        directory = Path(held.enter_context(TemporaryDirectory(prefix="l4lab-")))
        held.enter_context(alone(lab))
        program.end_orphans(lab)
        if ours:
            held.enter_context(adopting(lab))
        captures = lab.captures(directory, "tcp or icmp", router=report is not None)
        with begin(lab, {}, clients=spec.clients, say=say, seed=spec.seed, captures=captures) as run:
            played = _play(run, spec, say, progress)
        say("reading the captures")
        kept = _keep(captures, report, say) if report is not None else False
        return result(run, spec, played, captures=kept, say=say)


def _play(run: Run, spec: RehearsalSpec, say: Say, progress: Progress) -> Played:
    """From the clients' start until just before their end."""
    lab = run.lab
    box = lab.running("box")[:1]
    before = Load(lab.box.stats().get("loop_lag", {}), kernels.cpu_waited_s())
    watch, touches = ServerWatch(lab, run.clock.monotonic), TouchWatch(lab)
    over = threading.Event()
    actions = Actions(run, over)
    line = ProgressLine(run, actions, progress)
    with Controls(lab.directory / "deploy", actions.by_name) as controls, ExitStack() as held:
        deploying = Deploying(run, spec, controls, actions, line, watch, touches, say)
        held.callback(watch.stop)
        held.callback(deploying.end)
        held.callback(over.set)
        watch.start()
        box_ended = None
        try:
            ill = _ill(run, spec, touches)
            aftermath = Aftermath() if ill else deploying.deploy_all()
        except (LabError, BoxError):
            if not _has_ended(lab, box):
                raise
            ill, aftermath, box_ended = "", Aftermath(), run.now()
            run.tell("the box's daemon has ended: the rehearsal ends here", box_ended)
    after = Load(_loop(lab) if box_ended is None else {}, kernels.cpu_waited_s())
    if box_ended is not None:
        time.sleep(MAX_TIME_S)  # the requests that met its end have the time to time out
    return Played(
        ill=ill,
        deploys=deploying.deploys,
        aftermath=aftermath,
        box_ended=box_ended,
        broken=_broken(run),
        changes=watch.changes,
        touches=touches.seen,
        before=before,
        after=after,
        closed=kernels.closed_by_server(lab),
        ended=run.now(),
    )


def _ill(run: Run, spec: RehearsalSpec, touches: TouchWatch) -> str:
    """What is wrong before anything was done, "" for nothing."""
    if ill := unanswered(run):
        return ill
    touches.look_now(run.now())
    return unbound(run, spec)


def _has_ended(lab: Lab, box: Sequence[int]) -> bool:
    """Whether the daemon that the run began with is gone, or goes now: its API ends before it does."""
    deadline = time.monotonic() + BOX_STOP_S
    while box and lab.running("box")[:1] == box:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _loop(lab: Lab) -> Mapping[str, Any]:
    """The box's own account of its event loop; nothing of one that does not answer."""
    try:
        return dict(lab.box.stats().get("loop_lag", {}))
    except BoxError:
        return {}


def _broken(run: Run) -> str:
    """What of the lab has ended by itself during the run, other than the box; "" for nothing."""
    if ended := [name for name, capture in run.captures.items() if capture.finished]:
        return f"The captures at {', '.join(ended)} ended during the run"
    if run.lab.config.delay_ms and not run.lab.running("delay"):
        return "The process that delays the clients' packets ended during the run"
    return ""


def _keep(captures: Mapping[str, Recorder], report: Path, say: Say) -> bool:
    """Copy the captures to the report; whether all are there. A full disk is no reason for no verdict."""
    for capture in captures.values():
        copy = report / capture.path.name
        try:
            report.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(capture.path, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            say(f"warning: the captures are not in the report: {error}")
            return False
    return True
