"""What the report says of a rehearsal: why requests were lost, and each server's way out and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netns.analysis.health_window import Window
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.stop_pattern import Fates
from netns.analysis.stop_wording import fates_in_words, gone_in_words, idle_in_words
from netns.analysis.verdict import Verdict
from netns.analysis.wording import real_seconds, seconds
from netns.record.recording import Deploy

_TONES: Final = {Verdict.OK: "passed", Verdict.INCONCLUSIVE: "doubtful"}


@dataclass(frozen=True, slots=True)
class DeployRow:
    """A run of the command."""

    server: str
    """"" where the command was for the whole fleet."""
    verdict: str
    failed: bool
    took: str
    output: str


@dataclass(frozen=True, slots=True)
class OutageRow:
    """A server's time out of service; texts, "–" for what did not happen."""

    server: str
    together: str
    health_off: str
    stopped: str
    unbound: str
    restarted: str
    bound: str


def tone(verdict: Verdict) -> str:
    """The style sheet's class for it: green, amber or red."""
    return _TONES.get(verdict, "failed")


def rows(rehearsal: Rehearsal) -> list[DeployRow]:
    speed = rehearsal.recording.speed
    return [
        DeployRow(
            server=deploy.server,
            verdict=deploy.verdict,
            failed=not deploy.succeeded,
            took=took(deploy, speed),
            output=deploy.output,
        )
        for deploy in rehearsal.deploys
    ]


def took(deploy: Deploy, speed: float) -> str:
    """How long the command took, and how much of that no speed shortens."""
    real = real_seconds(deploy.real_s, speed)
    if speed == 1:
        return real
    return (
        f"{real} ({seconds(deploy.ended - deploy.began, speed)}), of which "
        f"{real_seconds(deploy.outside_s, speed)} outside L4LAB_SLEEP and L4LAB_WAIT"
    )


def outages(rehearsal: Rehearsal) -> list[OutageRow]:
    """By server, each with its moments and how long they came after the one before that matters."""
    return [_outage(window, rehearsal.recording.speed) for window in rehearsal.windows]


def _outage(window: Window, speed: float) -> OutageRow:
    def at(time: float | None, since: float | None = None, what: str = "") -> str:
        if time is None:
            return "–"
        after = f", {seconds(time - since, speed)} {what}" if since is not None and time > since else ""
        return f"{seconds(time, speed)}{after}"

    return OutageRow(
        server=window.server,
        together=", ".join(window.together) or "–",
        health_off=at(window.health_off),
        stopped=at(window.stopped, window.failing, "after it began to fail its check"),
        unbound=at(window.unbound, window.failing, "after that"),
        restarted=at(window.restarted, window.stopped, "after its stop"),
        bound=at(window.bound, window.restarted, "after that"),
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
