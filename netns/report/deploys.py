"""What the report says of a rehearsal: why requests were lost, and each server's way out and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from netns.findings import seconds
from netns.rehearsal.deploy import Deploy
from netns.rehearsal.result import Rehearsal
from netns.rehearsal.window import Window


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
