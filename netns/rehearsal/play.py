"""A rehearsal being played: clients at work, the user's command for each server in turn, and the verdict."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from netns.errors import LabError
from netns.findings import plural
from netns.place import Place, Say
from netns.recording import Outcome
from netns.rehearsal.actions import Actions
from netns.rehearsal.causes import SLOW_S
from netns.rehearsal.controls import Controls
from netns.rehearsal.deploy import Deploy, Script, environment
from netns.rehearsal.evidence import named
from netns.rehearsal.judge import judge
from netns.rehearsal.order import Order
from netns.rehearsal.result import Rehearsal
from netns.run import GaveUp, Run
from netns.server_watch import ServerWatch

POLL_S = 0.02
BACK_S: Final = 60.0
"""Box seconds, beyond the health check's own, that servers get to be back and clients to settle."""

PR_SET_CHILD_SUBREAPER: Final = 36
"""prctl(2): what descendants leave behind becomes a child of this process, and not of init."""

Progress = Callable[[str], None]
"""Takes what to show of a rehearsal that is under way, several times a second."""


def rehearse(
    lab: Place, order: Order, *, report: Path | None, ours: bool, say: Say, progress: Progress
) -> Rehearsal:
    """Play it in a lab that is up.

    `ours`: the lab goes down afterwards, and what the command left running on its nodes is ended. With
    `report`, the captures are left there. LabError when the lab fails; what the deploy does to itself, to its
    servers or to the box is in the result.
    """
    with ExitStack() as held:
        directory = report or Path(held.enter_context(TemporaryDirectory(prefix="l4lab-")))
        directory.mkdir(parents=True, exist_ok=True)
        if ours:
            held.enter_context(_adopting(lab))
        captures = lab.captures(directory, "tcp or icmp", router=report is not None)
        run = Run(lab, {}, clients=order.clients, say=say, seed=order.seed, captures=captures)
        playing = _Playing(lab, order, run, say, progress)
        try:
            playing.play()
        finally:
            run.finish()
        say("reading the captures")
        return playing.result(captures=report is not None)


class _Playing:
    def __init__(self, lab: Place, order: Order, run: Run, say: Say, progress: Progress) -> None:
        self._lab = lab
        self._order = order
        self._run = run
        self._say = say
        self._progress = progress
        self._deploys: list[Deploy] = []
        self._began: dict[Script, float] = {}
        self._over = threading.Event()
        self._box_ended: float | None = None
        self._shown = 0.0

    def play(self) -> None:
        self._run.begin()
        self._watch = ServerWatch(self._lab, self._run.clock.monotonic)
        actions = Actions(self._run, self._over)
        with Controls(self._lab.directory / "deploy", actions.by_name) as controls, ExitStack() as held:
            held.callback(self._watch.stop)
            held.callback(self._end_scripts)
            held.callback(self._over.set)
            self._watch.start()
            try:
                self._deploy_all(controls)
            except GaveUp:
                pass  # the expectation that failed says why
            except LabError:
                if self._lab.running("box"):
                    raise
                self._box_ended = self._run.now()
                self._say(f"{self._box_ended:8.1f} s  the box's daemon has ended")

    def _deploy_all(self, controls: Controls) -> None:
        run, order = self._run, self._order
        run.start_clients()
        run.wait_until_all_answered()
        if order.phase_s is not None:
            run.wait_for_phase(order.servers[0], order.phase_s)
        for first in range(0, len(order.servers), order.parallel):
            group = order.servers[first : first + order.parallel]
            self._deploy([self._script(server, controls) for server in group])
            if not all(deploy.succeeded for deploy in self._deploys):
                self._say("the command failed: the rehearsal ends here")
                return
        self._settle()

    def _script(self, server: str, controls: Controls) -> Script:
        env = environment(self._lab, server, controls.commands(server))
        log = self._lab.directory / "deploy" / server / "output.log"
        return Script(self._lab, server, self._order.command, env, log)

    def _deploy(self, scripts: Sequence[Script]) -> None:
        """Run the scripts side by side until each has ended, or has taken too long and was ended."""
        for script in scripts:
            text = f"deploy begins: {' '.join(script.command)}"
            self._began[script] = self._run.note(text, script.server)
            script.start()
        deadline = time.monotonic() + self._order.timeout_s
        waiting = list(scripts)
        while waiting:
            self._look()
            for script in list(waiting):
                self._repeat(script)
                late = time.monotonic() > deadline
                if script.exit_code is None and not late:
                    continue
                exit_code = script.exit_code
                if late:
                    script.stop()
                self._repeat(script)
                waiting.remove(script)
                self._ended(script, exit_code)
            time.sleep(POLL_S)

    def _ended(self, script: Script, exit_code: int | None) -> None:
        began, now = self._began[script], self._run.now()
        deploy = Deploy(script.server, script.command, began, now, exit_code, script.output)
        self._deploys.append(deploy)
        self._run.note(f"deploy has ended: {deploy.verdict}", script.server)

    def _repeat(self, script: Script) -> None:
        for line in script.lines():
            self._say(f"{self._run.now():8.1f} s  {script.server} | {line}")

    def _settle(self) -> None:
        """Go on until each server has been found well after its deploy, and then each client answered."""
        run = self._run
        ended = self._deploys[-1].ended
        services = self._lab.config.virtual_server
        check = max(one.health_check.interval_s + one.health_check.timeout_s for one in services)
        asked = 0.0

        def back() -> bool:
            nonlocal asked
            self._show()
            if time.monotonic() - asked < 5 * POLL_S:
                return False
            asked = time.monotonic()
            since = run.now() - ended
            return all(
                row["state"] == "ACTIVE" and (row["last_check_age_s"] or 0.0) < since
                for row in self._lab.box.servers()
                if row["name"] in self._order.servers
            )

        run.wait_until("every server is ACTIVE again", back, 2 * check + BACK_S)
        run.note("every server is ACTIVE again", "box")
        run.wait_until_settled(BACK_S)

    def _look(self) -> None:
        self._run.look()
        self._watch.check()
        self._show()

    def _show(self) -> None:
        """What is going on, for who waits."""
        if time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        requests = self._run.requests
        lost = sum(request.outcome is not Outcome.OK for request in requests)
        latest = {sample.server: sample for sample in self._run.samples[-len(self._lab.plan.servers) :]}
        servers = "  ".join(f"{server} {sample.state}" for server, sample in sorted(latest.items()))
        self._progress(f"{self._run.now():.0f} s  {plural(len(requests), 'request')}, {lost} lost  {servers}")

    def _end_scripts(self) -> None:
        for script in self._began:
            if script.exit_code is None:
                script.stop()
                self._ended(script, None)
            else:
                script.forget()

    # What came of it

    def result(self, *, captures: bool) -> Rehearsal:
        run, order, lab = self._run, self._order, self._lab
        self._expect()
        run.figures["slow is more than, real s"] = SLOW_S
        missed = sum(seen.dropped for capture in run.captures.values() for seen in capture.counted)
        if missed:
            self._say(f"warning: {missed} packets came too fast to be captured: a loss may go unexplained")
            run.figures["packets that the captures missed"] = missed
        run.requests = named(run.requests, lab, run.captures, run.clock)
        recording = run.recording(
            name="rehearsal",
            title=f"Rehearsal of {' '.join(order.command)}",
            intent=f"For {', '.join(order.servers)}, {order.parallel} at a time.",
            settings=lab.config.model_dump(mode="json"),
            captures=captures,
            changes=tuple(self._watch.changes),
        )
        return judge(recording, self._deploys, lab, run.captures, run.clock, box_ended=self._box_ended)

    def _expect(self) -> None:
        run, order = self._run, self._order
        verdicts = [f"{deploy.server}: {deploy.verdict}" for deploy in self._deploys]
        missing = len(order.servers) - len(self._deploys)
        run.expect(
            "the command succeeds for each server",
            not missing and all(deploy.succeeded for deploy in self._deploys),
            ", ".join(verdicts)
            + (f"; not deployed: {', '.join(order.servers[-missing:])}" if missing else ""),
        )
        if self._box_ended is not None:
            said = self._lab.box_says(3)
            run.expect(
                "the box's daemon runs to the end", False, f"it ended at {self._box_ended:.1f} s: {said}"
            )
        lost = sum(request.outcome is not Outcome.OK for request in run.requests)
        allowed = (
            f"at most {plural(order.allow_lost, 'request')} of them" if order.allow_lost else "no request"
        )
        run.expect(f"{allowed} is lost", lost <= order.allow_lost, f"{lost:,} of {len(run.requests):,}")


@contextmanager
def _adopting(lab: Place) -> Iterator[None]:
    """Whatever the command's descendants leave running on the lab's nodes is ours, and ended at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for pid in lab.left_behind():
            os.kill(pid, signal.SIGKILL)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
