"""What a deploy script may ask for: `$L4LAB_WEB stop`, `$L4LAB_WAIT FAILED`, `$L4LAB_SLEEP 20`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from lb.client import BoxError
from netns.errors import LabError
from netns.rehearsal.controls import Action
from netns.run import Run
from netns.web import StopSignal

POLL_S: Final = 0.02

PATIENCE_S: Final = 60.0
"""Box seconds that a wait for a state lasts unless told otherwise."""

STATES: Final = ("FAILED", "ACTIVE", "SUSPECT")


class Actions:
    """Of one run; each may be called from a thread of its own."""

    def __init__(self, run: Run, over: threading.Event) -> None:
        """`over` is set when nobody is to wait any more."""
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
        deadline = self._run.now() + within_s
        while True:
            try:
                rows = [row for row in self._run.lab.box.servers() if row["name"] == server]
            except BoxError as error:
                raise LabError(f"L4LAB_WAIT: {error}") from error
            if all(row["state"] == wanted for row in rows):
                self._run.note(f"the script was told that the box says {wanted}", server)
                return ""
            if self._run.now() > deadline or self._over.wait(POLL_S):
                now = ", ".join(row["state"] for row in rows)
                raise LabError(f"L4LAB_WAIT: {server} is {now}, not {wanted}, after {within_s:g} s")

    def _sleep(self, _: str, words: Sequence[str]) -> str:
        if len(words) != 1:
            raise LabError("L4LAB_SLEEP: a number of box seconds is allowed")
        self._over.wait(_number("L4LAB_SLEEP", words[0]) / self._run.speed)
        return ""


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise LabError(f"{name}: {text!r} is no number of seconds")
    return number
