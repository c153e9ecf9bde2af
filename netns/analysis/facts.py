"""What a run's recording says of one server at one moment: asked by those who give advice. Pure.

Times are the run's, box seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import Final

from netns.analysis.causes import Explained
from netns.analysis.findings import Lack, connections, resets
from netns.analysis.health_window import Sign, Window
from netns.analysis.keep_alive import Closed, idle_timeout
from netns.analysis.outage import LATE_S, lost_facts, unbound
from netns.analysis.wording import seconds
from netns.plan.config import LabConfig, LabVirtualServer
from netns.record.recording import TOLD_TO_STOP, Deploy, Fact, Outcome, Recording, Request

EARLY_S: Final = 1.0
"""Real seconds before the listener is gone in which a server that stops may already close connections."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """A stretch in which a web server stopped, and nothing listened."""

    began: float
    """When it was told to stop; where that is not known, EARLY_S before nothing listened."""
    ended: float
    how: str
    """In what way it was told: "graceful: QUIT"; "" where that is not known."""


class Facts:
    """Of one run."""

    def __init__(
        self,
        recording: Recording,
        windows: Sequence[Window],
        deploys: Sequence[Deploy],
        config: LabConfig,
        box_ended: float | None,
    ) -> None:
        self.speed = recording.speed
        self.box_ended = box_ended
        self._recording = recording
        self._windows = windows
        self._deploys = deploys
        self._config = config
        self._lost = {server: lost_facts(recording, server) for server in recording.servers}
        self._stops = {server: tuple(_stops(recording, server, lost)) for server, lost in self._lost.items()}
        self._backs = {
            server: [(lack.ended, _answered(recording, server, lack.ended)) for lack in lost]
            for server, lost in self._lost.items()
        }

    def seconds(self, time_s: float) -> str:
        """A moment or a duration of the run."""
        return seconds(time_s, self.speed)

    def real(self, time_s: float) -> str:
        """A duration that is the server's own: real seconds, which pass `speed` times slower."""
        return seconds(time_s / self.speed)

    def setting(self, time_s: float) -> str:
        """A duration that the box's configuration sets: "20 s"."""
        return f"{time_s:g} {'s' if self.speed == 1 else 'box s'}"

    def window(self, lost: Explained) -> Window | None:
        """The outage in which a request was lost that went to a server while the box bound it."""
        slack_s = LATE_S * self.speed
        asked = self.asked(lost).name
        begun = [
            one
            for one in self._windows
            if (one.server, one.virtual_server) == (lost.server, asked)
            and min(one.failing, one.health_off or inf) - slack_s <= lost.at
        ]
        bound = [one for one in begun if one.unbound is None or lost.at <= one.unbound + slack_s]
        return max(bound or begun, key=lambda one: one.failing, default=None)

    def asked(self, lost: Explained) -> LabVirtualServer:
        """The virtual server that the request's client asks."""
        name = self._recording.service_of(lost.request.client)
        services = self._config.virtual_server
        return next((one for one in services if one.name == name), services[0])

    def service(self, window: Window) -> LabVirtualServer:
        return next(one for one in self._config.virtual_server if one.name == window.virtual_server)

    def services_of(self, server: str) -> tuple[LabVirtualServer, ...]:
        return self._config.services_of(server)

    def servers_of(self, service: LabVirtualServer) -> tuple[str, ...]:
        return self._config.server_names(service)

    def health_file_decides(self, virtual_server: str) -> bool:
        """In this run a check failed while the server served without its health file, and none passed."""
        return not self.health_file_ignored(virtual_server) and any(
            one.virtual_server == virtual_server
            and one.sign is Sign.HEALTH_FILE
            and one.failed_check_at is not None
            and (one.stopped is None or one.failed_check_at < one.stopped)
            for one in self._windows
        )

    def health_file_ignored(self, virtual_server: str) -> bool:
        """In this run a check of a server without its health file passed."""
        return any(one.passed for one in self._windows if one.virtual_server == virtual_server)

    def stop(self, server: str, at: float) -> Stopping | None:
        """The stop of its web server, or the end of its container, that was under way at that time."""
        found = self.last_stop(server, at)
        return found if found is not None and at <= found.ended else None

    def stop_during(self, one: Explained) -> Stopping | None:
        """The first stop that was under way while the request was. A long one may have begun before it."""
        until = one.request.ended
        return next(
            (
                stop
                for stop in self._stops.get(one.server, ())
                if stop.began <= until and one.at <= stop.ended
            ),
            None,
        )

    def last_stop(self, server: str, at: float) -> Stopping | None:
        """The last that began before that time."""
        begun = [one for one in self._stops.get(server, ()) if one.began <= at]
        return begun[-1] if begun else None

    def back(self, server: str, at: float) -> float | None:
        """When the server last came back before that time, if it answered nothing well in between."""
        back, well = max((one for one in self._backs.get(server, ()) if one[0] <= at), default=(inf, -inf))
        return back if well >= at else None

    def had_its_health_file_back(self, server: str, at: float) -> bool:
        return any(lack.ended <= at for lack in self._lost[server] if lack.fact is Fact.HEALTH_FILE)

    def had_a_route(self, server: str, at: float) -> bool:
        """Whether nothing says that the server had no route to its clients then."""
        slack_s = LATE_S * self.speed
        lacks = (lack for lack in self._lost[server] if lack.fact is Fact.ROUTE)
        return not any(lack.began - slack_s <= at <= lack.ended for lack in lacks)

    def command(self, lost: Sequence[Explained]) -> str:
        """ "the command ran for rs1", where it did during each; "" where it did not."""
        running = [
            {
                deploy.server
                for deploy in self._deploys
                if deploy.began <= one.request.ended and one.at <= deploy.ended
            }
            for one in lost
        ]
        if not all(running):
            return ""
        servers = ", ".join(sorted(set().union(*running) - {""}))
        return f"the command ran for {servers}" if servers else "the command ran"

    def idle_timeout(self, server: str, lost: Iterable[Explained]) -> tuple[float, float] | None:
        """The server's keep-alive timeout as seen, least and most; real seconds.

        None where the connections that were closed under the lost requests do not show one.
        """
        idle = self._idle
        closed = [
            Closed(one.at / self.speed, max(0.0, one.at - idle[one.request]) / self.speed)
            for one in lost
            if one.request in idle
        ]
        kept = [
            (request.started - since) / self.speed
            for request, since in idle.items()
            if request.outcome is Outcome.OK and request.server == server
        ]
        return idle_timeout(closed, kept)

    @cached_property
    def _idle(self) -> dict[Request, float]:
        """Of each request over a connection that the client's library shows, since when that was idle."""
        return {
            request: before.ended
            for held in connections(self._recording).values()
            for one in held
            for before, request in pairwise(one.requests)
        }

    def reset_reasons(self, server: str, lost: Iterable[Explained]) -> set[str]:
        """Why the box was resetting the server's sessions when the requests were lost."""
        slack_s = LATE_S * self.speed
        made = [one for one in resets(self._recording) if one.server == server]
        return {
            one.reason
            for one in made
            for request in lost
            if one.started - slack_s <= request.request.ended <= one.ended + slack_s
            or one.started <= request.at <= one.ended
        }

    def bound_again(self, service: LabVirtualServer, at: float) -> dict[str, float]:
        """When each of its servers that was out of the binding list then was bound again; infinity: never."""
        found: dict[str, float] = {}
        for server in self._config.server_names(service):
            for band in unbound(self._recording, server, service):
                if band.holds(at) or band.started == found.get(server):  # from one state out into another
                    found[server] = band.ended
        return {server: time if time < self._recording.ended else inf for server, time in found.items()}


def _stops(recording: Recording, server: str, lost: Iterable[Lack]) -> Iterator[Stopping]:
    over = -inf
    for lack in lost:
        if lack.fact not in (Fact.LISTENING, Fact.CONTAINER):
            continue
        told = [
            step
            for step in recording.steps
            if step.node == server and step.text.startswith(TOLD_TO_STOP) and over < step.time <= lack.began
        ]
        how = told[-1].text.removeprefix(TOLD_TO_STOP).strip(" ()") if told else ""
        began = told[-1].time if told else lack.began - EARLY_S * recording.speed
        yield Stopping(max(began, over), lack.ended + LATE_S * recording.speed, how)
        over = lack.ended


def _answered(recording: Recording, server: str, since: float) -> float:
    """When the server had first answered well what was asked of it since then; infinity for never."""
    well = (one for one in recording.requests if one.outcome is Outcome.OK and one.server == server)
    return min((one.ended for one in well if one.started > since), default=inf)
