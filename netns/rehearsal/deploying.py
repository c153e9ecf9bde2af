"""The deploying: the command runs for each server, and the rehearsal goes on until all of them are back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netns.analysis.outage import LATE_S
from netns.lab.interface import Say
from netns.observe.servers import ServerWatch
from netns.play.run import GaveUp, Run
from netns.record.recording import Deploy, Wait
from netns.rehearsal.commands import Actions, outside_s, undisturbed
from netns.rehearsal.controls import Controls
from netns.rehearsal.fleet import hand_out
from netns.rehearsal.progress import ProgressLine
from netns.rehearsal.script import RunningScript, Script, environment, surroundings
from netns.rehearsal.spec import RehearsalSpec
from netns.rehearsal.touches import TouchWatch

POLL_S: Final = 0.02

BACK_S: Final = 60.0
"""Box seconds, beyond the health check's own, that servers get to be back and clients to settle."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """How the deploys left the lab. The defaults are those of deploys that left it as it was."""

    not_back: str = ""
    """What did not come back: servers, or clients."""
    left_running: tuple[str, ...] = ()
    """Programs that the command left running outside of the lab's nodes."""


class Deploying:
    """The command's runs; `deploys` has those that have ended."""

    def __init__(
        self,
        run: Run,
        spec: RehearsalSpec,
        controls: Controls,
        actions: Actions,
        line: ProgressLine,
        watch: ServerWatch,
        touches: TouchWatch,
        say: Say,
    ) -> None:
        self.deploys: list[Deploy] = []
        self._run = run
        self._lab = run.lab
        self._spec = spec
        self._controls = controls
        self._actions = actions
        self._line = line
        self._watch = watch
        self._touches = touches
        self._say = say
        self._began: dict[RunningScript, float] = {}

    def deploy_all(self) -> Aftermath:
        """Deploy the servers, so many at a time; the first command that fails is the last that runs."""
        step = 1 if self._spec.fleet else self._spec.parallel
        servers = [""] if self._spec.fleet else list(self._spec.servers)
        for first in range(0, len(servers), step):
            self._deploy([self._script(server) for server in servers[first : first + step]])
            if not all(deploy.succeeded for deploy in self.deploys):
                self._touches.look_now(self._run.now())
                not_back = self._left_out()
                self._say("the command failed: the rehearsal ends here")
                return Aftermath(not_back)
        not_back = ""
        try:
            self._settle()
        except GaveUp:
            not_back = self._left_out() or "The deploy left clients without an answer"
        self._touches.look_now(self._run.now())
        return Aftermath(not_back, tuple(name for script in self._began for name in script.left_running()))

    def end(self) -> None:
        """Stop the commands that run; what one that has ended left running, on purpose, runs on."""
        for script in self._began:
            if script.exit_code is None:
                script.stop()
                self._ended(script, None)
            else:
                script.forget()

    def _script(self, server: str) -> Script:
        directory = self._lab.directory / "deploy"
        if server:
            commands = self._controls.commands(server)
            env = {**surroundings(self._lab), **environment(self._lab, server, commands)}
        else:
            env = hand_out(self._lab, self._controls, directory, self._spec.servers)
        return Script.of(server, self._spec.command, env, directory / server / "output.log")

    def _deploy(self, scripts: Sequence[Script]) -> None:
        """Run the scripts side by side until each has ended, or has taken too long and was ended."""
        waiting = []
        for script in scripts:
            began = self._run.note(f"deploy begins: {' '.join(script.command)}", script.server)
            running = script.start(self._lab)
            self._began[running] = began
            waiting.append(running)
        deadline = time.monotonic() + self._spec.timeout_s
        while waiting:
            self._look([script.server for script in waiting])
            for running in list(waiting):
                self._repeat(running)
                late = time.monotonic() > deadline
                if running.exit_code is None and not late:
                    continue
                exit_code = running.exit_code
                if late:
                    running.stop()
                self._repeat(running)
                waiting.remove(running)
                self._ended(running, exit_code)
            time.sleep(POLL_S)

    def _ended(self, script: RunningScript, exit_code: int | None) -> None:
        began, now = self._began[script], self._run.now()
        waits = self._waits(script.server)
        deploy = Deploy(
            script.server,
            script.command,
            began,
            now,
            exit_code,
            script.output,
            real_s=(now - began) / self._run.speed,
            outside_s=outside_s(began, now, waits) / self._run.speed,
            waits=tuple(waits),
        )
        self.deploys.append(deploy)
        self._run.note(f"deploy has ended: {deploy.verdict}", script.server)

    def _waits(self, server: str) -> list[Wait]:
        """The waits that shorten the own time of the server's command, or of the fleet's."""
        if server:
            return list(self._actions.waits[server])
        late_s = LATE_S * self._run.speed
        return undisturbed(self._actions.waits, self._watch.changes, late_s=late_s)

    def _repeat(self, script: RunningScript) -> None:
        for line in script.lines():
            self._run.tell(f"{f'{script.server} | ' if script.server else '| '}{line}")

    def _settle(self) -> None:
        """Go on until each server has been found well after the deploys, and then each client answered."""
        run = self._run
        ended = self.deploys[-1].ended
        checks = [service.health_check for service in self._lab.config.virtual_server]
        slowest_s = max(check.interval_s + check.timeout_s for check in checks)
        last_asked = 0.0

        def back() -> bool:
            nonlocal last_asked
            self._look()
            if time.monotonic() - last_asked < 5 * POLL_S:
                return False
            last_asked = time.monotonic()
            since = run.now() - ended
            rows = [row for row in self._lab.box.servers() if row["name"] in self._spec.servers]
            return {row["name"] for row in rows} == set(self._spec.servers) and all(
                row["state"] == "ACTIVE" and (row["last_check_age_s"] or 0.0) < since for row in rows
            )

        run.wait_until("every server is ACTIVE again", back, 2 * slowest_s + BACK_S)
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
        self._line.show(deploying)
