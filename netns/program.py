"""A program that runs on a node of a lab until it ends or is ended: clients, mostly.

It is in the lab's state before it runs, so that `down` ends it whatever became of whoever started it.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from netns import process, web
from netns.place import Place
from netns.process import Process

STOP_S = 5.0
"""How long a program may take to end by SIGTERM before it gets SIGKILL."""


class Program:
    """A program that was started, and the lines it has written so far."""

    def __init__(self, lab: Place, role: str, running: Process) -> None:
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


def start(lab: Place, node: str, role: str, argv: Sequence[str]) -> Program:
    """Start `argv` on the node; `role` names it in the lab's state and in `l4lab status`."""
    directory = lab.directory / "programs"
    directory.mkdir(exist_ok=True)
    log = directory / f"{role.replace(' ', '-')}.log"
    log.write_bytes(b"")  # an earlier run's program of that name is none of this one's business

    where, record = lab.network(node).path, partial(lab.keep, role)
    running = process.spawn(where, argv, log=log, record=record, env=web.environment())
    return Program(lab, role, running)
