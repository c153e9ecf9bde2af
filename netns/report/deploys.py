"""What the report says of a rehearsal: why requests were lost, and each server's way out and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from netns.findings import seconds
from netns.rehearsal.deploy import Deploy
from netns.rehearsal.result import Rehearsal
from netns.rehearsal.window import Window
from netns.stop_pattern import Fates
from netns.stop_words import fates_in_words, gone_in_words, idle_in_words


@dataclass(frozen=True, slots=True)
class DeployRow:
    """A server's deploy; texts, "–" for what did not happen."""

    server: str
    verdict: str
    failed: bool
    took: str
    health_off: str
    stopped: str
    unbound: str
    restarted: str
    bound: str
    output: str


def rows(rehearsal: Rehearsal) -> list[DeployRow]:
    windows = {window.server: window for window in rehearsal.windows}
    return [_row(deploy, windows.get(deploy.server)) for deploy in rehearsal.deploys]


def _row(deploy: Deploy, window: Window | None) -> DeployRow:
    """Its moments, each with how long after the one before that matters."""

    def at(time: float | None, since: float | None = None, what: str = "") -> str:
        if time is None:
            return "–"
        after = f", {seconds(time - since)} {what}" if since is not None and time > since else ""
        return f"{seconds(time)}{after}"

    never = "–"
    return DeployRow(
        server=deploy.server,
        verdict=deploy.verdict,
        failed=not deploy.succeeded,
        took=seconds(deploy.ended - deploy.began),
        health_off=at(window.health_off) if window else never,
        stopped=at(window.stopped, window.failing, "after it began to fail its check") if window else never,
        unbound=at(window.unbound, window.failing, "after that") if window else never,
        restarted=at(window.restarted, window.stopped, "after its stop") if window else never,
        bound=at(window.bound, window.restarted, "after that") if window else never,
        output=deploy.output,
    )


@dataclass(frozen=True, slots=True)
class StopRow:
    """How a server stopped; a cell for each column."""

    server: str
    kind: str
    cells: tuple[str, ...]


def stop_rows(rehearsal: Rehearsal) -> list[StopRow]:
    return [
        StopRow(
            stop.server,
            f"{stop.kind}{f', {stop.how}' if stop.how else ''}",
            (
                f"{stop.pattern.idle.total}: {idle_in_words(stop.pattern)}",
                _fates(stop.pattern.in_hand, "finished"),
                _fates(stop.pattern.later),
                _fates(stop.pattern.new),
                gone_in_words(stop.pattern.listener_gone_s),
                gone_in_words(stop.pattern.ended_s) if stop.pattern.ended_s is not None else "not told",
            ),
        )
        for stop in rehearsal.stops
    ]


def _fates(fates: Fates, finished: str = "answered") -> str:
    return f"{fates.total}: {fates_in_words(fates, finished)}" if fates.total else "none"
