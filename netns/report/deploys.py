"""What the report says of a rehearsal: why requests were lost, and each server's way out and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netns.findings import seconds
from netns.rehearsal.causes import Explained
from netns.rehearsal.deploy import Deploy
from netns.rehearsal.result import Rehearsal
from netns.rehearsal.window import Window

EXPLAINED_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class LossTable:
    """Lost requests by cause, and by kind of client and method."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], int], ...]
    """Cause, a number for each column, all."""


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


def loss_table(rehearsal: Rehearsal) -> LossTable:
    losses = rehearsal.losses()
    names = sorted({name for counted in losses.values() for name in counted})
    return LossTable(
        tuple(f"{kind} {method}" for kind, method in names),
        tuple(
            (cause.value, tuple(counted[name] for name in names), counted.total())
            for cause, counted in losses.items()
        ),
    )


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


def explained_rows(rehearsal: Rehearsal) -> tuple[Explained, ...]:
    return rehearsal.explained[:EXPLAINED_ROWS]
