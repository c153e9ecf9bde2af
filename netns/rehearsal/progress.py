"""A line for the person who waits: the time, the requests, the servers, and what is being waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from netns.analysis.wording import plural
from netns.play.run import Run
from netns.record.recording import Outcome
from netns.rehearsal.commands import Actions

EVERY_S: Final = 0.2
"""Real seconds between two lines."""

Progress = Callable[[str], None]
"""Takes what to show of a rehearsal that is under way, several times a second."""


class ProgressLine:
    """Shows where the run is, at most every EVERY_S."""

    def __init__(self, run: Run, actions: Actions, progress: Progress) -> None:
        self._run = run
        self._actions = actions
        self._progress = progress
        self._shown = 0.0

    def show(self, deploying: Sequence[str]) -> None:
        """`deploying`: the servers whose command runs, "" for the fleet's; none when it is over."""
        if time.monotonic() - self._shown < EVERY_S:
            return
        self._shown = time.monotonic()
        run = self._run
        now, requests = run.now(), run.requests
        lost = sum(request.outcome is not Outcome.OK for request in requests)
        latest = {sample.server: sample for sample in run.samples[-len(run.lab.plan.servers) :]}
        servers = "  ".join(f"{server} {sample.state}" for server, sample in sorted(latest.items()))
        waits = [
            f"{server}: {wait.what}, {max(0.0, wait.until - now):.0f} {run.unit} left"
            for server, wait in sorted(self._actions.pending.items())
        ]
        doing = "; ".join(waits) or (
            f"deploying {', '.join(deploying) or 'the fleet'}" if deploying else "waiting for servers"
        )
        self._progress(
            f"{now:.0f} {run.unit}  {plural(len(requests), 'request')}, {lost} lost  {servers}  {doing}"
        )
