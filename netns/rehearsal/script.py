"""The user's command, run for one server on the host, with an environment by which it reaches the server.

It leads a session of its own that the lab's state knows before it runs, so it ends with the rehearsal, or by
`l4lab down`, whatever became of whoever started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netns.errors import LabError
from netns.lab import program
from netns.lab.interface import Lab
from netns.linux import process, programs
from netns.linux.programs import installed

STOP_S = 5.0
"""How long a script that is stopped may take to end by SIGTERM before it gets SIGKILL."""

SERVER = "{server}"
"""What stands for the server's name in the command."""

_GATE = 'read -r go && exec "$@" </dev/null'
"""Wait for word that the process is recorded, become the program; at end of file nobody knows it: end."""


def environment(lab: Lab, server: str, commands: Mapping[str, str]) -> dict[str, str]:
    """What is said of one server: L4LAB_SERVER, L4LAB_ROOT, … and the commands that act on it."""
    node = lab.plan.node(server)
    return {
        "L4LAB_SERVER": server,
        "L4LAB_ADDRESS": str(node.address),
        "L4LAB_VIP": ",".join(str(entry.address) for entry in node.vips),
        "L4LAB_PORT": ",".join(map(str, lab.config.ports_of(server))),
        **lab.environment(server),
        **{f"L4LAB_{name.upper()}": path for name, path in commands.items()},
    }


def surroundings(lab: Lab) -> dict[str, str]:
    """What every command finds: the environment that l4lab was started in, and what is said of the lab."""
    inherited = programs.environment()
    return {
        **inherited,
        "PATH": f"{inherited['PATH']}:{Path(sys.executable).parent}",  # l4lab and l4box may be in a venv
        "L4LAB_NAME": lab.name,
        "L4LAB_SPEED": f"{lab.config.speed:g}",
        "L4LAB_BOX": str(lab.plan.box.address),
    }


@dataclass(frozen=True, slots=True)
class Script:
    """One run of the command that is to be; server "" is all of them."""

    server: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    """Gets what the command writes."""

    @classmethod
    def of(cls, server: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> Self:
        """`command` has SERVER in place of the server's name."""
        return cls(server, tuple(word.replace(SERVER, server) for word in command), env, log)

    def start(self, lab: Lab) -> RunningScript:
        """LabError when there is no such program."""
        with self.log.open("wb") as log:
            popen = subprocess.Popen(
                ["env", "--default-signal", "sh", "-c", _GATE, "sh", *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )
        running = RunningScript(lab, self, popen)
        assert popen.stdin is not None  # noqa: S101 - it is a pipe
        with popen.stdin as gate:
            gate.write(b"go\n")
        return running


class RunningScript:
    """One run of the command, until it has ended or was stopped."""

    def __init__(self, lab: Lab, script: Script, popen: subprocess.Popen[bytes]) -> None:
        """Note it in the lab's state."""
        self.server = script.server
        self.command = script.command
        self._lab = lab
        self._log = script.log
        self._popen = popen
        self._process = process.leader(popen.pid, script.log)
        self._read = 0
        lab.keep(self._role, self._process)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def lines(self) -> list[str]:
        """The whole lines that it has written since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._read += end
        return text[:end].decode(errors="replace").splitlines()

    def forget(self) -> None:
        """It has ended: what it left running in its session, on purpose, runs on."""
        self._lab.drop(self._role)

    def left_running(self) -> list[str]:
        """The programs that it has left running outside of the lab's nodes, by name."""
        here = process.network(os.getpid())
        return [
            f"{process.name(pid)} (pid {pid})"
            for pid in process.members(self._process)
            if process.network(pid) == here
        ]

    def stop(self) -> None:
        """End it, if it has not ended, and what it left behind in its session."""
        deadline = time.monotonic() + STOP_S
        process.send(self._process, signal.SIGTERM, to_all=True)
        while process.members(self._process) and time.monotonic() < deadline:
            self._popen.poll()
            time.sleep(process.POLL_S)
        process.send(self._process, signal.SIGKILL, to_all=True)
        self._popen.wait(STOP_S)
        self._lab.drop(self._role)

    @property
    def output(self) -> str:
        return process.last_lines(self._log, 40)

    @property
    def _role(self) -> str:
        return program.owned(f"deploy {self.server}".rstrip())


def find(command: Sequence[str]) -> None:
    """LabError when the command's program is not there, before anything is made."""
    program = command[0]
    if SERVER in program:
        return
    exists = Path(program).is_file() if os.sep in program else installed(program) is not None
    if not exists:
        raise LabError(f"{program}: no such program")
    if os.sep in program and not os.access(program, os.X_OK):
        raise LabError(f"{program} can't be run: `chmod +x {program}`")
