"""What would have saved the requests: computed from what was measured of each server's deploy. Pure.

Every figure is of this run, or a setting of the health check; nothing is advised that cost no request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netns.config import LabConfig
from netns.findings import plural, seconds, were
from netns.recording import Fact
from netns.rehearsal.causes import Cause, Explained
from netns.rehearsal.history import History
from netns.rehearsal.window import Window, misses, worst_s

_STEPS: Final = {
    Cause.STUCK_SESSION: (
        "{count} went to {server} over sessions that the box keeps whatever {server}'s health. Stop the web "
        "server gracefully before anything of it changes: its kernel tells the clients by FIN, they go "
        "elsewhere and their sessions end"
    ),
    Cause.VIP_DOWN: (
        "{count} hung because {server}'s VIP was down: nobody tells the clients. Leave the VIP up, and stop "
        "the web server once the box says FAILED"
    ),
    Cause.UNREACHABLE: (
        "{count} got lost on the way to {server}, which was off the network: nobody tells its clients. "
        "Have the box say FAILED first, and stop the web server, before the machine goes"
    ),
    Cause.STOPPED_IN_HAND: (
        "{server} was stopped with {count} in hand. Stop it gracefully, by the signal that has it finish "
        "them, and give it time: the longest had been under way for {longest}"
    ),
    Cause.CLOSED_UNDER_WAY: (
        "{count} ({methods}) on the wire when {server} closed the connection under them. No wait avoids "
        "that: the client has to repeat them, or the server to announce it, by answering with "
        '"Connection: close" for as long as it drains, before it stops'
    ),
    Cause.BOX_RESET: (
        "the box reset {server}'s sessions with {count} under way. Drain them before {server} is FAILED, or "
        "deploy without Reset On Port Fail"
    ),
    Cause.BOX_DOWN: "{count} met a box whose daemon had ended: no order of the deploy's steps helps",
}
"""What to do, where it does not depend on times."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A step that would have avoided losses."""

    server: str
    """"" for what concerns no one server."""
    cause: str
    lost: int
    """The requests that it would have saved."""
    text: str
    wait_s: float | None = None
    """Where waiting is the step: from when the server begins to fail its check, box seconds."""


def advise(
    explained: Sequence[Explained], windows: Sequence[Window], history: History, config: LabConfig
) -> tuple[Advice, ...]:
    """For each server and cause that lost requests, what to do; the costliest first."""
    grouped: dict[tuple[str, Cause], list[Explained]] = defaultdict(list)
    for one in explained:
        if one.lost:
            grouped[one.server, one.cause].append(one)
    of = {window.server: window for window in windows}
    found = []
    for (server, cause), lost in grouped.items():
        wait_s = None
        if cause is Cause.HEALTH_WINDOW and server in of:
            wait_s = worst_s(config.services_of(server)[0])
            text = _wait(of[server], lost, wait_s, config)
        else:
            text = _step(server, cause, lost, history)
        found.append(Advice(server, cause.name.lower(), len(lost), text, wait_s))
    return tuple(sorted(found, key=lambda one: (-one.lost, one.server)))


def _wait(window: Window, lost: Sequence[Explained], worst: float, config: LabConfig) -> str:
    """The health window: how long the deploy waited, how long it had to, and how to."""
    server = window.server
    service = config.services_of(server)[0]
    check = service.health_check
    flows = plural(len(lost), "new connection")
    if window.unbound is not None and window.stopped is not None and window.unbound > window.stopped:
        still = f"the box still bound it for {seconds(window.unbound - window.stopped)} more"
    elif window.unbound is None:
        still = "the box never took it out of the binding list meanwhile"
    else:
        still = "the box still bound it"
    said = f"{still} and gave it {flows} that {were(len(lost))} lost"
    checks = f"{plural(misses(service), 'check')}, {check.interval_s:g} s apart"
    if window.health_off is not None and window.waited_s is not None and window.health_off <= window.failing:
        return (
            f"{server} was stopped {seconds(window.waited_s)} after its health file went; {said}. "
            f"Wait at least {worst:g} s ({checks}) between the two, or until the box says FAILED"
        )
    if check.kind == "l4":
        return (
            f"{server} was stopped while it was bound; {said}. A check of its port finds out only then: "
            f"have the server refuse the box's checks first, which come from the box's own address, wait at "
            f"least {worst:g} s ({checks}) or until the box says FAILED, and stop it then"
        )
    return (
        f"{server} was taken out of service while it was bound; {said}. Rename its health file first, wait "
        f"at least {worst:g} s ({checks}) or until the box says FAILED, and stop it then"
    )


def _step(server: str, cause: Cause, lost: Sequence[Explained], history: History) -> str:
    if cause is Cause.NO_SERVER:
        return _overlap(lost, history)
    if cause in (Cause.SERVER_ERROR, Cause.SERVER_HUNG, Cause.SERVER_SLOW):
        return _ready(server, cause, lost, history)
    return _STEPS.get(cause, "{count} can't be explained: please report this, with the captures").format(
        server=server,
        count=plural(len(lost), "request"),
        methods=", ".join(sorted({one.request.method for one in lost})),
        longest=seconds(max(one.request.ended - one.request.started for one in lost)),
    )


def _overlap(lost: Sequence[Explained], history: History) -> str:
    """No server was bound: who was out at the same time, and when the first came back."""
    time = lost[0].at
    backs = {
        server: next(
            (band.ended for band in history.bands(server) if not band.bound and band.holds(time)), None
        )
        for server in history.servers
    }
    known = [back for back in backs.values() if back is not None]
    first = f"; the first was bound again {seconds(min(known) - time)} later" if known else ""
    return (
        f"{plural(len(lost), 'request')} found no server bound: {', '.join(backs)} were all out at "
        f"{seconds(time)}{first}. Deploy fewer at a time, and wait until the box says ACTIVE before the next"
    )


def _ready(server: str, cause: Cause, lost: Sequence[Explained], history: History) -> str:
    """In service and not fit for it: how long after its start or its health file's return."""
    did = "answered with an error" if cause is Cause.SERVER_ERROR else "did not answer in time"
    text = f"{server} {did} {plural(len(lost), 'time')} while it was in service"
    ends = [
        lack.ended
        for fact in (Fact.HEALTH_FILE, Fact.LISTENING)
        for lack in history.lacks(server, fact)
        if lack.ended <= lost[-1].at
    ]
    if not ends:
        return text + ", with nothing done to it before"
    return (
        f"{text}, until {seconds(lost[-1].at - max(ends))} after it was put back. Put its health file back "
        "only when it answers as it should"
    )


def headline(advice: Sequence[Advice]) -> str:
    """What to do first, in a sentence; "" where there is no advice."""
    return f"{advice[0].text}." if advice else ""
