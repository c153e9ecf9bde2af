"""A rehearsal being played: clients at work, the user's command, and what was seen meanwhile."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lb.client import BoxError
from netns.analysis import baseline, busy
from netns.analysis.causes import SLOW_S
from netns.analysis.effect import unchanged, unfelt
from netns.analysis.evidence import actors, named, under_way
from netns.analysis.judge import judge
from netns.analysis.outage import LATE_S
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.verdict import Circumstances
from netns.analysis.wording import plural
from netns.clients.spec import MAX_TIME_S
from netns.errors import LabError
from netns.lab import program
from netns.lab.interface import Lab, Recorder, Say
from netns.observe import kernels
from netns.observe.servers import ServerWatch
from netns.play.run import GaveUp, Run, begin
from netns.record.recording import Deploy, Expectation, Outcome, Wait
from netns.record.segments import Captures
from netns.rehearsal.commands import Actions, outside_s
from netns.rehearsal.controls import Controls
from netns.rehearsal.fleet import hand_out
from netns.rehearsal.hold import adopting, alone
from netns.rehearsal.script import Script, environment, surroundings
from netns.rehearsal.spec import RehearsalSpec
from netns.rehearsal.tls import speaks_tls
from netns.rehearsal.touches import TouchWatch

POLL_S = 0.02

BACK_S: Final = 60.0
"""Box seconds, beyond the health check's own, that servers get to be back and clients to settle."""

BOX_STOP_S: Final = 5.0
"""Real seconds in which a box that stops has ended, once its API is gone."""

Progress = Callable[[str], None]
"""Takes what to show of a rehearsal that is under way, several times a second."""


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
            playing = _Playing(lab, spec, run, say, progress)
            playing.play()
            playing.end()
        say("reading the captures")
        kept = _keep(captures, report, say) if report is not None else False
        return playing.result(captures=kept)


class _Playing:
    def __init__(self, lab: Lab, spec: RehearsalSpec, run: Run, say: Say, progress: Progress) -> None:
        self._lab = lab
        self._spec = spec
        self._run = run
        self._say = say
        self._progress = progress
        self._deploys: list[Deploy] = []
        self._began: dict[Script, float] = {}
        self._over = threading.Event()
        self._actions = Actions(run, self._over)
        self._touches = TouchWatch(lab)
        self._ill = ""
        self._not_back = ""
        self._left_running: list[str] = []
        self._unfinished = 0
        self._broken = ""
        self._box_ended: float | None = None
        self._played = 0.0
        self._closing: frozenset[str] = frozenset()
        self._shown = 0.0

    def play(self) -> None:
        self._box = self._lab.running("box")[:1]
        self._loop_before = self._lab.box.stats().get("loop_lag", {})
        self._cpu_before = kernels.cpu_waited_s()
        self._watch = ServerWatch(self._lab, self._run.clock.monotonic)
        with (
            Controls(self._lab.directory / "deploy", self._actions.by_name) as controls,
            ExitStack() as held,
        ):
            held.callback(self._watch.stop)
            held.callback(self._end_scripts)
            held.callback(self._over.set)
            self._watch.start()
            try:
                self._ill = self._prepare()
                if not self._ill:
                    self._deploy_all(controls)
            except (LabError, BoxError):
                if not self._box_has_ended():
                    raise
                self._box_ended = self._run.now()
                self._run.tell("the box's daemon has ended: the rehearsal ends here", self._box_ended)
        if self._lab.config.delay_ms and not self._lab.running("delay"):
            self._broken = "The process that delays the clients' packets ended during the run"
        self._loop_after = self._loop()
        self._cpu_after = kernels.cpu_waited_s()

    def _box_has_ended(self) -> bool:
        """Whether the daemon that the run began with is gone, or goes now: its API ends before it does."""
        deadline = time.monotonic() + BOX_STOP_S
        while self._box and self._lab.running("box")[:1] == self._box:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def end(self) -> None:
        """Look once more at the connections before the clients are told to stop.

        Where the box has ended, the requests that met it have the time to time out first.
        """
        if self._box_ended is not None:
            time.sleep(MAX_TIME_S)
        if ended := [name for name, capture in self._run.captures.items() if capture.finished]:
            self._broken = f"The captures at {', '.join(ended)} ended during the run"
        self._closing = kernels.closed_by_server(self._lab)
        self._played = self._run.now()

    def _loop(self) -> Mapping[str, Any]:
        """The box's own account of its event loop; nothing of one that has ended."""
        try:
            return dict(self._lab.box.stats().get("loop_lag", {})) if self._box_ended is None else {}
        except BoxError:
            return {}

    # Before the deploy

    def _prepare(self) -> str:
        """Have the clients at work; what is wrong before anything was done, "" for nothing."""
        run, spec = self._run, self._spec
        run.start_clients()
        began = run.now()
        try:
            run.wait_until_all_answered(baseline.WITHIN_S * run.speed)
        except GaveUp:
            silent = ", ".join(sorted(run.silent()))
            return self._lost() or f"Before the deploy began, no answer came to {silent}"
        if not (lost := self._lost()):
            span_s = baseline.LASTS_S * run.speed
            run.watch_for_s(span_s, "see that nothing is lost before the deploy")
            lost = self._lost()
        if lost:
            return lost
        run.note(f"baseline: {len(run.requests)} requests answered, none lost, since {run.seconds(began)}")
        self._touches.look_now(run.now())
        if spec.phase_s is not None:
            run.wait_for_phase(spec.servers[0], spec.phase_s)
        rows = self._lab.box.servers()
        others = [node.name for node in self._lab.plan.servers if node.name not in spec.servers]
        if out := baseline.not_bound(rows, others):
            run.note(out)
        return baseline.not_bound(rows, spec.servers)

    def _lost(self) -> str:
        """What was lost until now, and what the clients can't speak."""
        text = baseline.loss(self._run.requests, self._run.groups)
        if not text:
            return ""
        encrypted = [group.service for group in self._run.groups if speaks_tls(self._lab, group.service)]
        for name in dict.fromkeys(encrypted):
            text += f". The servers of {name} speak TLS, and the lab's clients speak HTTP in clear only"
        return text

    # The deploy

    def _deploy_all(self, controls: Controls) -> None:
        spec = self._spec
        step = 1 if spec.fleet else spec.parallel
        servers = [""] if spec.fleet else list(spec.servers)
        for first in range(0, len(servers), step):
            self._deploy([self._script(server, controls) for server in servers[first : first + step]])
            if not all(deploy.succeeded for deploy in self._deploys):
                self._touches.look_now(self._run.now())
                self._not_back = self._left_out()
                self._say("the command failed: the rehearsal ends here")
                return
        try:
            self._settle()
        except GaveUp:
            self._not_back = self._left_out() or "The deploy left clients without an answer"
        self._touches.look_now(self._run.now())
        self._left_running = [name for script in self._began for name in script.left_running()]

    def _script(self, server: str, controls: Controls) -> Script:
        directory = self._lab.directory / "deploy"
        if server:
            commands = controls.commands(server)
            env = {**surroundings(self._lab), **environment(self._lab, server, commands)}
        else:
            env = hand_out(self._lab, controls, directory, self._spec.servers)
        log = directory / server / "output.log"
        return Script(self._lab, server, self._spec.command, env, log)

    def _deploy(self, scripts: Sequence[Script]) -> None:
        """Run the scripts side by side until each has ended, or has taken too long and was ended."""
        for script in scripts:
            text = f"deploy begins: {' '.join(script.command)}"
            self._began[script] = self._run.note(text, script.server)
            script.start()
        deadline = time.monotonic() + self._spec.timeout_s
        waiting = list(scripts)
        while waiting:
            self._look([script.server for script in waiting])
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
        asked = self._waits(script.server)
        deploy = Deploy(
            script.server,
            script.command,
            began,
            now,
            exit_code,
            script.output,
            real_s=(now - began) / self._run.speed,
            outside_s=outside_s(began, now, asked) / self._run.speed,
            waits=tuple(asked),
        )
        self._deploys.append(deploy)
        self._run.note(f"deploy has ended: {deploy.verdict}", script.server)

    def _waits(self, server: str) -> list[Wait]:
        """The waits that the command for a server asked for.

        Of one for the whole fleet those count in which no other server changed: what it did beside them it
        did by its own clock.
        """
        waits = self._actions.waits
        if server:
            return list(waits[server])
        late_s = LATE_S * self._run.speed
        return [
            wait
            for waiting, held in waits.items()
            for wait in held
            if not any(
                change.server != waiting and wait.began + late_s < change.time < wait.ended
                for change in self._watch.changes
            )
        ]

    def _repeat(self, script: Script) -> None:
        for line in script.lines():
            self._run.tell(f"{f'{script.server} | ' if script.server else '| '}{line}")

    def _settle(self) -> None:
        """Go on until each server has been found well after the deploys, and then each client answered."""
        run = self._run
        ended = self._deploys[-1].ended
        services = self._lab.config.virtual_server
        check = max(one.health_check.interval_s + one.health_check.timeout_s for one in services)
        asked = 0.0

        def back() -> bool:
            nonlocal asked
            self._look()
            if time.monotonic() - asked < 5 * POLL_S:
                return False
            asked = time.monotonic()
            since = run.now() - ended
            rows = [row for row in self._lab.box.servers() if row["name"] in self._spec.servers]
            return {row["name"] for row in rows} == set(self._spec.servers) and all(
                row["state"] == "ACTIVE" and (row["last_check_age_s"] or 0.0) < since for row in rows
            )

        run.wait_until("every server is ACTIVE again", back, 2 * check + BACK_S)
        run.note("every server is ACTIVE again", "box")
        run.wait_until_settled(BACK_S)

    def _left_out(self) -> str:
        """Which of the servers to deploy the box does not find ACTIVE now; "" for none."""
        rows = [row for row in self._lab.box.servers() if row["name"] in self._spec.servers]
        out = [
            f"{row['name']} {row['state']} on {row['virtual_server']} (last check: {row['last_check']})"
            for row in rows
            if row["state"] != "ACTIVE"
        ]
        known = {row["name"] for row in rows}
        out += [f"{server} unknown to the box" for server in self._spec.servers if server not in known]
        return f"The deploy left {', '.join(out)}" if out else ""

    def _look(self, deploying: Sequence[str] = ()) -> None:
        self._run.look()
        self._watch.check()
        self._touches.look(self._run.now())
        self._show(deploying)

    def _show(self, deploying: Sequence[str]) -> None:
        """What is going on, and what is waited for how long, for who waits."""
        if time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        now, requests = self._run.now(), self._run.requests
        lost = sum(request.outcome is not Outcome.OK for request in requests)
        latest = {sample.server: sample for sample in self._run.samples[-len(self._lab.plan.servers) :]}
        servers = "  ".join(f"{server} {sample.state}" for server, sample in sorted(latest.items()))
        unit = self._run.unit
        waits = [
            f"{server}: {asking.what}, {max(0.0, asking.until - now):.0f} {unit} left"
            for server, asking in sorted(self._actions.asking.items())
        ]
        doing = "; ".join(waits) or (
            f"deploying {', '.join(deploying) or 'the fleet'}" if deploying else "waiting for servers"
        )
        self._progress(
            f"{now:.0f} {unit}  {plural(len(requests), 'request')}, {lost} lost  {servers}  {doing}"
        )

    def _end_scripts(self) -> None:
        for script in self._began:
            if script.exit_code is None:
                script.stop()
                self._ended(script, None)
            else:
                script.forget()

    # What came of it

    def result(self, *, captures: bool) -> Rehearsal:
        run, lab = self._run, self._lab
        where = actors(lab.plan, lab.config)
        taken = Captures({node: one.path for node, one in run.captures.items()}, run.clock.unix)
        left = under_way(
            run.requests,
            where,
            taken,
            groups={group.name for group in run.groups},
            speed=run.speed,
            ended=self._played,
            closed=self._closing,
        )
        run.requests += left.lost
        self._unfinished = left.unfinished
        run.figures["requests under way at the end"] = left.unfinished
        missed = sum(seen.dropped for capture in run.captures.values() for seen in capture.counted)
        if missed:
            self._say(f"warning: {missed} packets came too fast to be captured: a loss may go unexplained")
            run.figures["packets that the captures missed"] = missed
        run.figures["slow is more than, real s"] = SLOW_S
        run.requests = named(run.requests, where, taken)
        recording = run.recording(
            name="rehearsal",
            title=f"Rehearsal of {' '.join(self._spec.command)}",
            intent=self._intent(),
            settings=lab.config.model_dump(mode="json"),
            captures=captures,
            changes=tuple(self._watch.changes),
            touches=tuple(self._touches.seen),
        )
        if self._ill:
            found = Rehearsal(recording, (), (), (), (), (), circumstances=Circumstances(ill=self._ill))
        else:
            kinds = {server: lab.kind(server).name for server in recording.servers}
            found = judge(
                recording,
                self._deploys,
                lab.config,
                where,
                taken,
                kinds=kinds,
                box_ended=self._box_ended,
            )
            found = replace(found, terms=self._spec.terms, circumstances=self._circumstances(found))
        expectations = (*recording.expectations, *self._expectations(found))
        return replace(found, recording=replace(recording, expectations=expectations))

    def _expectations(self, found: Rehearsal) -> Iterator[Expectation]:
        """What a rehearsal must show, as a scenario's result has it."""
        what = found.circumstances
        yield Expectation(
            "nothing is lost before the deploy", not what.ill, what.ill or "every client was answered"
        )
        verdicts = [f"{one.server or 'the command'}: {one.verdict}" for one in found.deploys]
        if what.not_deployed:
            verdicts.append(f"not deployed: {', '.join(what.not_deployed)}")
        succeeded = all(one.succeeded for one in found.deploys) and not what.not_deployed
        yield Expectation(
            "the command succeeds", bool(found.deploys) and succeeded, "; ".join(verdicts) or "it was not run"
        )
        if what.box_ended is not None:
            said = self._lab.box_says(3)
            measured = f"it ended at {self._run.seconds(what.box_ended)}: {said}"
            yield Expectation("the box's daemon runs to the end", False, measured)
        beyond = found.terms.beyond(found.causes()) or (found.lost if what.ill else 0)
        measured = f"{found.lost:,} of {len(found.recording.requests):,}"
        yield Expectation("no request is lost beyond what is allowed", not beyond, measured)

    def _intent(self) -> str:
        spec = self._spec
        who = "Once for all" if spec.fleet else f"For {', '.join(spec.servers)}, {spec.parallel} at a time"
        speed = self._run.speed
        clock = "in real time" if speed == 1 else f"with the box's clock {speed:g} times as fast"
        return f"{who}, {clock}."

    def _circumstances(self, found: Rehearsal) -> Circumstances:
        recording, spec = found.recording, self._spec
        done = spec.servers if spec.fleet else tuple(deploy.server for deploy in self._deploys)
        measured = busy.measure(
            recording, (self._loop_before, self._loop_after), self._cpu_before, self._cpu_after
        )
        recording.figures["this machine, in real time"] = measured.figures()
        return Circumstances(
            not_deployed=() if spec.fleet else spec.servers[len(self._deploys) :],
            box_ended=self._box_ended,
            not_back=self._not_back,
            left_running=tuple(self._left_running),
            unfelt=unfelt(found, done),
            unchanged=unchanged(found, done, whole=spec.fleet),
            unfinished=self._unfinished,
            broken=self._broken,
            busy=measured.words,
        )


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
