"""What a deploy script may ask for: `$L4LAB_WEB stop`, `$L4LAB_WAIT FAILED`, `$L4LAB_SLEEP 20`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lb.client import BoxError
from netns.errors import LabError
from netns.play.run import Run
from netns.record.recording import Wait
from netns.rehearsal.controls import Action
from netns.web import StopSignal

POLL_S: Final = 0.02

PATIENCE_S: Final = 60.0
"""Box seconds that a wait for a state lasts unless told otherwise."""

STATES: Final = ("FAILED", "ACTIVE", "SUSPECT")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a script waits for now; box seconds of the run."""

    what: str
    since: float
    until: float


class Actions:
    """Of one run; each may be called from a thread of its own."""

    def __init__(self, run: Run, over: threading.Event) -> None:
        """`over` is set when nobody is to wait any more."""
        self.waits: dict[str, list[Wait]] = defaultdict(list)
        """Those that have ended, by server."""
        self.asking: dict[str, Asking] = {}
        """What is being waited for, by server."""
        self._run = run
        self._over = over

    @property
    def by_name(self) -> Mapping[str, Action]:
        return {"web": self._web, "wait": self._wait, "sleep": self._sleep}

    def _web(self, server: str, words: Sequence[str]) -> str:
        match words:
            case ["stop"]:
                self._run.stop(server)
            case ["stop", how] if how in {one.value for one in StopSignal}:
                self._run.stop(server, how)
            case ["start"]:
                self._run.start(server)
            case ["restart"]:
                self._run.stop(server)
                self._run.start(server)
            case _:
                ways = "|".join(one.value for one in StopSignal)
                raise LabError(f"L4LAB_WEB: stop [{ways}], start or restart is allowed")
        return ""

    def _wait(self, server: str, words: Sequence[str]) -> str:
        if len(words) not in (1, 2) or words[0] not in STATES:
            raise LabError(f"L4LAB_WAIT: {'|'.join(STATES)} [SECONDS] is allowed")
        wanted = words[0]
        within_s = _number("L4LAB_WAIT", words[1]) if len(words) == 2 else PATIENCE_S
        with self._asked(server, f"wait {wanted}", within_s) as asking:
            while True:
                states = self._states(server)
                if all(state == wanted for state in states):
                    self._run.note(f"the script was told that the box says {wanted}", server)
                    return ""
                if self._run.now() > asking.until or self._over.wait(POLL_S):
                    now, waited = ", ".join(states), f"{within_s:g} {self._run.unit}"
                    raise LabError(f"L4LAB_WAIT: {server} is {now}, not {wanted}, after {waited}")

    def _states(self, server: str) -> list[str]:
        """Of the server, one for each virtual server that it is behind: at least one."""
        try:
            rows = self._run.lab.box.servers()
        except BoxError as error:
            raise LabError(f"L4LAB_WAIT: {error}") from error
        found = [row["state"] for row in rows if row["name"] == server]
        if not found:
            known = ", ".join(dict.fromkeys(row["name"] for row in rows)) or "no server"
            raise LabError(f"L4LAB_WAIT: the box has no server {server!r}: it has {known}")
        return found

    def _sleep(self, server: str, words: Sequence[str]) -> str:
        if len(words) != 1:
            raise LabError("L4LAB_SLEEP: a number of box seconds is allowed")
        span_s = _number("L4LAB_SLEEP", words[0])
        with self._asked(server, f"sleep {span_s:g}", span_s):
            self._over.wait(span_s / self._run.speed)
        return ""

    @contextmanager
    def _asked(self, server: str, what: str, within_s: float) -> Iterator[Asking]:
        began = self._run.now()
        asking = self.asking[server] = Asking(what, began, began + within_s)
        try:
            yield asking
        finally:
            self.asking.pop(server, None)
            self.waits[server].append(Wait(what, began, self._run.now()))


def outside_s(began: float, ended: float, waits: Iterable[Wait]) -> float:
    """How much of that time is covered by no wait; waits may overlap."""
    covered, until = 0.0, began
    for wait in sorted(waits, key=lambda one: one.began):
        first, last = max(wait.began, until), min(wait.ended, ended)
        covered += max(0.0, last - first)
        until = max(until, last)
    return ended - began - covered


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise LabError(f"{name}: {text!r} is no number of seconds")
    return number
