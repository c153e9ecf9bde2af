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
from netns.record.recording import Change, Wait
from netns.rehearsal.controls import Action
from netns.web import StopSignal

POLL_S: Final = 0.02

PATIENCE_S: Final = 60.0
"""Box seconds that a wait for a state lasts unless told otherwise."""

STATES: Final = ("FAILED", "ACTIVE", "SUSPECT")


@dataclass(frozen=True, slots=True)
class Pending:
    """A wait that a script asked for and that has not ended; box seconds of the run."""

    what: str
    until: float


class Actions:
    """Of one run; each may be called from a thread of its own."""

    def __init__(self, run: Run, over: threading.Event) -> None:
        """`over` is set when nobody is to wait any more."""
        self.waits: dict[str, list[Wait]] = defaultdict(list)
        """The waits that have ended, by server."""
        self.pending: dict[str, Pending] = {}
        """Those that have not, by server."""
        self._run = run
        self._over = over

    @property
    def by_name(self) -> Mapping[str, Action]:
        return {"web": self._web, "wait": self._wait, "sleep": self._sleep}

    def _web(self, server: str, words: Sequence[str]) -> str:
        match words:
            case ["stop"]:
                self._run.stop(server)
            case ["stop", how] if how in {signal.value for signal in StopSignal}:
                self._run.stop(server, how)
            case ["start"]:
                self._run.start(server)
            case ["restart"]:
                self._run.stop(server)
                self._run.start(server)
            case _:
                ways = "|".join(signal.value for signal in StopSignal)
                raise LabError(f"L4LAB_WEB: stop [{ways}], start or restart is allowed")
        return ""

    def _wait(self, server: str, words: Sequence[str]) -> str:
        if len(words) not in (1, 2) or words[0] not in STATES:
            raise LabError(f"L4LAB_WAIT: {'|'.join(STATES)} [SECONDS] is allowed")
        wanted = words[0]
        within_s = _number("L4LAB_WAIT", words[1]) if len(words) == 2 else PATIENCE_S
        with self._waiting(server, f"wait {wanted}", within_s) as wait:
            while True:
                states = self._states(server)
                if all(state == wanted for state in states):
                    self._run.note(f"the script was told that the box says {wanted}", server)
                    return ""
                if self._run.now() > wait.until or self._over.wait(POLL_S):
                    now, waited = ", ".join(states), f"{within_s:g} {self._run.unit}"
                    raise LabError(f"L4LAB_WAIT: {server} is {now}, not {wanted}, after {waited}")

    def _states(self, server: str) -> list[str]:
        """Of the server, one for each virtual server that it is behind: at least one."""
        try:
            rows = self._run.lab.box.servers()
        except BoxError as error:
            raise LabError(f"L4LAB_WAIT: {error}") from error
        states = [row["state"] for row in rows if row["name"] == server]
        if not states:
            known = ", ".join(dict.fromkeys(row["name"] for row in rows)) or "no server"
            raise LabError(f"L4LAB_WAIT: the box has no server {server!r}: it has {known}")
        return states

    def _sleep(self, server: str, words: Sequence[str]) -> str:
        if len(words) != 1:
            raise LabError("L4LAB_SLEEP: a number of box seconds is allowed")
        span_s = _number("L4LAB_SLEEP", words[0])
        with self._waiting(server, f"sleep {span_s:g}", span_s):
            self._over.wait(span_s / self._run.speed)
        return ""

    @contextmanager
    def _waiting(self, server: str, what: str, within_s: float) -> Iterator[Pending]:
        began = self._run.now()
        wait = self.pending[server] = Pending(what, began + within_s)
        try:
            yield wait
        finally:
            self.pending.pop(server, None)
            self.waits[server].append(Wait(what, began, self._run.now()))


def outside_s(began: float, ended: float, waits: Iterable[Wait]) -> float:
    """How much of that time is covered by no wait; waits may overlap."""
    covered, until = 0.0, began
    for wait in sorted(waits, key=lambda wait: wait.began):
        first, last = max(wait.began, until), min(wait.ended, ended)
        covered += max(0.0, last - first)
        until = max(until, last)
    return ended - began - covered


def undisturbed(
    waits: Mapping[str, Sequence[Wait]], changes: Sequence[Change], *, late_s: float
) -> list[Wait]:
    """The waits, by server, during which no other server changed.

    One command for the whole fleet did what it did beside the others by its own clock. `late_s`: by so much a
    change that came before a wait may be dated into it.
    """
    return [
        wait
        for server, ended in waits.items()
        for wait in ended
        if not any(
            change.server != server and wait.began + late_s < change.time < wait.ended for change in changes
        )
    ]


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise LabError(f"{name}: {text!r} is no number of seconds")
    return number
