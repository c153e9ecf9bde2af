"""The processes of a lab by what they are, "box" or "web rs1", as its state file has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from signal import Signals
from typing import Final

from netns.errors import LabError
from netns.lab import state
from netns.lab.state import Ledger
from netns.linux import process
from netns.linux.process import Process, Record
from netns.web import ServerKind, StopSignal

STOP_S: Final = 5.0
"""How long a process may take to end by SIGTERM before it gets SIGKILL."""


class Processes:
    """Of one lab that is up. Whatever is noted here `down` ends."""

    def __init__(self, lab: str) -> None:
        self._lab = lab

    def keep(self, role: str, started: Process) -> None:
        """Note a process where `down` will find it."""
        with state.lock(self._lab):
            self._ledger().process(role, started)

    def drop(self, role: str) -> None:
        """Take the note back: the process has ended."""
        with state.lock(self._lab):
            if state.read(self._lab) is not None:
                self._ledger().process_gone(role)

    def started(self, role: str) -> Process | None:
        """What was started for that and is alive, be it what its dead main process has left."""
        made = state.read(self._lab)
        started = made.processes.get(role) if made is not None else None
        return started if started is not None and process.members(started) else None

    def running(self, role: str) -> list[int]:
        """The pids that are alive, the main process first."""
        started = self.started(role)
        return process.members(started) if started is not None else []

    def left_behind(self, inodes: Collection[int]) -> list[int]:
        """This process's own children in those network namespaces that are noted nowhere: process.adopted."""
        made = state.read(self._lab)
        noted = made.processes.values() if made is not None else ()
        known = {pid for one in noted for pid in process.members(one)}
        return [pid for pid in process.adopted(inodes) if pid not in known]

    def start(self, role: str, start: Callable[[Record], Process], serves: Callable[[Process], bool]) -> bool:
        """Have `start` start it and note it; whether it was stopped.

        LabError when it runs and does not serve, as after a stop that timed out.
        """
        with state.lock(self._lab):
            ledger = self._ledger()
            started = ledger.state.processes.get(role)
            alive = process.members(started) if started is not None else []
            if started is not None and started.pid in alive:
                if serves(started):
                    return False
                raise LabError(
                    f"{role} runs (pid {started.pid}) and does not listen: its stop may not have ended; "
                    "wait for that or kill it, then start it"
                )
            if alive:
                raise LabError(f"{role} is dead, but processes it left still run: {alive}; kill it first")
            start(lambda one: ledger.process(role, one))
        return True

    def tell_to_stop(self, role: str, kind: ServerKind, how: StopSignal) -> float | None:
        """Send a web server its signal; when that was, CLOCK_MONOTONIC seconds, None if it does not run."""
        number = kind.signal(how)
        started = self.started(role)
        if started is None or (how is StopSignal.KILL_MAIN and started.pid not in process.members(started)):
            return None
        to_all = number is Signals.SIGKILL and how is not StopSignal.KILL_MAIN
        return process.send(started, number, to_all=to_all)

    def wait_until_stopped(self, role: str, how: StopSignal, timeout_s: float) -> None:
        """Return when a web server, having been told, has ended; LabError when it has not in time."""
        wait = process.wait_for_leader if how is StopSignal.KILL_MAIN else process.wait
        self.wait_until_ended(role, wait, timeout_s, f"being told to stop ({how.value})")

    def wait_until_ended(
        self, role: str, wait: Callable[[Process, float], bool], timeout_s: float, after: str
    ) -> None:
        """Return when it has ended by `wait`'s reckoning; LabError when it has not in time."""
        started = self.started(role)
        if started is not None and not wait(started, timeout_s):
            pids = ", ".join(str(pid) for pid in process.members(started))
            raise LabError(f"{role} still runs {timeout_s:g} s after {after} (pid {pids})")
        if not self.running(role):
            self.drop(role)  # stopped on purpose: `status` tells that from one that died

    def _ledger(self) -> Ledger:
        made = state.read(self._lab)
        if made is None:
            raise LabError(f"the lab {self._lab!r} was taken down meanwhile")
        return Ledger(made)


def end_all(ledger: Ledger) -> None:
    """End every process that the state has, and note that they are gone; LabError when one does not end."""
    started = ledger.state.processes
    for one in started.values():
        process.send(one, Signals.SIGTERM)
    deadline = time.monotonic() + STOP_S
    for role, one in started.items():
        if not process.wait(one, max(0.0, deadline - time.monotonic())):
            process.send(one, Signals.SIGKILL, to_all=True)
            if not process.wait(one, STOP_S):
                raise LabError(f"{role} (pid {one.pid}) does not end, not even by SIGKILL")
        ledger.process_gone(role)
