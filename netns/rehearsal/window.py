"""A server's way out of service and back, as it was measured, and the wait that would have kept it harmless.

Between the moment a server begins to fail its check and the moment the box takes it out of the binding list,
new flows go to it: the health window (SPEC §4). A deploy that stops the server inside of it loses them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netns.config import LabConfig, LabVirtualServer
from netns.recording import Fact, Recording
from netns.rehearsal.history import History


@dataclass(frozen=True, slots=True)
class Window:
    """One server's, in one run; times are the run's, None for what did not happen."""

    server: str
    failing: float
    """When it began to fail its check: its health file went, or nothing listened, or its VIP was down. Where
    the box had found it FAILED before any of these, its last good check."""
    health_off: float | None
    stopped: float | None
    """When it stopped taking connections: nothing listened, or its VIP was down."""
    unbound: float | None
    """When the box took it out of the binding list."""
    restarted: float | None
    """When it took connections again."""
    bound: float | None
    """When the box bound it again."""
    needed_s: float
    """From `failing` until the box had, or would have, taken it out: a wait that long loses nothing here."""
    measured: bool
    """The box did take it out; else `needed_s` is from its next check and the health check's settings."""

    together: tuple[str, ...] = ()
    """The other servers that were out of service at the same time."""

    @property
    def waited_s(self) -> float | None:
        """How long the deploy left it serving after it began to fail its check; None if it never stopped."""
        return None if self.stopped is None else self.stopped - self.failing


def worst_s(service: LabVirtualServer) -> float:
    """The longest that `needed_s` can be for a server that answers its check wrongly (SPEC §4)."""
    return misses(service) * service.health_check.interval_s


def misses(service: LabVirtualServer) -> int:
    """How many checks in a row a server that answers them wrongly has to miss to be FAILED."""
    check = service.health_check
    immediate = check.kind == "l7" and check.on_bad_status == "immediate"
    return 1 if immediate else check.retries + 1


def window(server: str, recording: Recording, history: History, config: LabConfig) -> Window | None:
    """The server's first way out of service; None when it never began one."""
    health = history.lacks(server, Fact.HEALTH_FILE)
    stops = sorted(
        (*history.lacks(server, Fact.LISTENING), *history.lacks(server, Fact.VIP)), key=lambda one: one.began
    )
    service = config.services_of(server)[0]
    counts = [*health, *stops] if service.health_check.kind == "l7" else stops
    failing = min((one.began for one in counts), default=None)
    if failing is None:
        return None
    stop = stops[0] if stops else None
    out = next((band for band in history.bands(server) if not band.bound and band.ended > failing), None)
    if out is not None and out.started < failing:
        # Its checks failed before it lacked anything: from some moment on after its last good one.
        good = (event["at"] for event in _checks(recording.events, server, service.name) if _well(event))
        failing = max((at for at in good if at < out.started), default=out.started)
    unbound = out.started if out is not None else None
    needed_s = unbound - failing if unbound is not None else _computed(server, failing, recording, service)
    back = next(
        (band for band in history.bands(server) if band.bound and out and band.started >= out.ended), None
    )
    return Window(
        server=server,
        failing=failing,
        health_off=health[0].began if health else None,
        stopped=stop.began if stop else None,
        unbound=unbound,
        restarted=stop.ended if stop and stop.ended < recording.ended else None,
        bound=back.started if back else None,
        needed_s=needed_s,
        measured=unbound is not None,
    )


def _computed(server: str, failing: float, recording: Recording, service: LabVirtualServer) -> float:
    """From the server's next check, which would have been the first miss; a retry takes an interval more."""
    check = service.health_check
    later = (one["at"] for one in _checks(recording.events, server, service.name) if one["at"] >= failing)
    following = float(min(later, default=failing + check.interval_s))
    return following - failing + (misses(service) - 1) * check.interval_s


def _checks(events: Iterable[dict[str, Any]], server: str, service: str) -> Iterable[dict[str, Any]]:
    return (
        event
        for event in events
        if event["kind"] == "probe" and event["server"] == server and event["virtual_server"] == service
    )


def _well(event: Mapping[str, Any]) -> bool:
    return bool(event["outcome"] == "success")
