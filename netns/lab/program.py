"""A program that runs on a node of a lab until it ends or is ended: clients, mostly.

It is in the lab's state before it runs, so that `down` ends it whatever became of whoever started it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from netns.lab import state
from netns.lab.interface import Lab
from netns.linux import process, programs
from netns.linux.process import Process

STOP_S = 5.0
"""How long a program may take to end by SIGTERM before it gets SIGKILL."""


class Program:
    """A program that was started, and the lines it has written so far."""

    def __init__(self, lab: Lab, role: str, running: Process) -> None:
        self.role = role
        self._lab = lab
        self._process = running
        self._read = 0

    @property
    def running(self) -> bool:
        return bool(process.members(self._process))

    def send(self, number: signal.Signals) -> None:
        """Signal the program; nothing happens when it has ended."""
        process.send(self._process, number)

    def lines(self) -> list[str]:
        """The whole lines it has written since the last call, stderr among them."""
        with Path(self._process.log).open("rb") as log:
            log.seek(self._read)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._read += end
        return text[:end].decode(errors="replace").splitlines()

    def stop(self) -> None:
        """End it and all it has started."""
        process.send(self._process, signal.SIGTERM)
        if not process.wait(self._process, STOP_S):
            process.send(self._process, signal.SIGKILL, to_all=True)
            process.wait(self._process, STOP_S)
        self._lab.drop(self.role)


_STARTER: Final = re.compile(r" of (\d+)$")


def owned(role: str) -> str:
    """The role of a program that this process is to end: no other's of that name is taken for it."""
    return f"{role} of {os.getpid()}"


def end_orphans(lab: Lab) -> None:
    """End the programs whose starter has ended without ending them, by SIGKILL for instance."""
    made = state.read(lab.name)
    for role, running in (made.processes if made is not None else {}).items():
        starter = _STARTER.search(role)
        if starter and not Path(f"/proc/{starter[1]}").exists():
            Program(lab, role, running).stop()


def start(lab: Lab, node: str, role: str, argv: Sequence[str]) -> Program:
    """Start `argv` on the node; `role`, with this process's pid, names it in the lab's state."""
    role = owned(role)
    directory = lab.directory / "programs"
    directory.mkdir(exist_ok=True)
    log = directory / f"{role.replace(' ', '-')}.log"
    log.write_bytes(b"")  # an earlier run's program of that name is none of this one's business

    where, record = lab.network(node).path, partial(lab.keep, role)
    running = process.spawn(where, argv, log=log, record=record, env=programs.environment())
    return Program(lab, role, running)
