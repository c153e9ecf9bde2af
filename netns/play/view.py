"""What a run looks at: events, sessions, sockets, counters, requests, access logs and captures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from netns.clients.log import Ended
from netns.observe import kernels
from netns.observe.kernels import Served
from netns.plan.config import LabVirtualServer
from netns.plan.topology import Role
from netns.play.begun import Beginning, Begun
from netns.record import segments
from netns.record.recording import Outcome, Request, group_of
from netns.record.segments import Segment


class View(Begun):
    """The run as it is now, and what was seen of it until now."""

    def __init__(self, beginning: Beginning) -> None:
        super().__init__(beginning)
        self.requests: list[Request] = []
        """Those that have ended, in the order in which the clients' logs were read."""
        self.ends: list[Ended] = []
        self.captures = beginning.captures
        self._events = beginning.watch.events  # a list that grows
        self._counted = beginning.counted
        self._segments: dict[str, list[Segment]] = {}

    def events(self, kind: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The box's events of that kind with those values, each with `at`, its time in the run."""
        return [
            {**event, "at": self.clock.box(event["box_time"])}
            for event in list(self._events)
            if kind in (None, event["kind"])
            and all(event.get(name) == value for name, value in fields.items())
        ]

    def sockets(self, node: str) -> list[kernels.Socket]:
        """The node's TCP sockets, now, by its own kernel."""
        return kernels.sockets(self.lab, node)

    def table(self, server: str, service: str | None = None) -> list[dict[str, Any]]:
        """The box's sessions of the server, now."""
        return list(self.lab.box.sessions(server=server, virtual_server=service))

    def requests_of(self, name: str) -> list[Request]:
        """The requests of the clients of that name: "curl", "idle" or what they were started as."""
        return [request for request in self.requests if group_of(request.client) == name]

    def lost(self, name: str) -> list[Request]:
        """Of those, the ones that did not end well."""
        return [request for request in self.requests_of(name) if request.outcome is not Outcome.OK]

    def open_ends(self, service: str | None = None) -> set[str]:
        """The clients' ends ("10.80.4.2:40000") of connections to a virtual server, the first by default.

        Those that are established in the clients' kernel, now. Two connections of one client to two VIPs may
        have the same port.
        """
        vip = self._vip(service)
        return {
            socket.local
            for node in self.lab.plan.of(Role.CLIENT)
            for socket in kernels.sockets(self.lab, node.name)
            if socket.state == "ESTAB" and socket.peer == vip
        }

    def connections(self, server: str, service: str | None = None) -> set[str]:
        """Those of them that are established in the server's kernel, too."""
        vip = self._vip(service)
        return self.open_ends(service) & {
            socket.peer
            for socket in kernels.clients_sockets(self.lab, server)
            if socket.state == "ESTAB" and socket.local == vip
        }

    def server_sockets(self, server: str) -> Counter[str]:
        """The server's TCP connections with clients by state, now, by its own kernel."""
        return Counter(socket.state for socket in kernels.clients_sockets(self.lab, server))

    def counted(self, node: str) -> Counter[str]:
        """What the node's kernel has counted since the run began, by nstat's names."""
        now = kernels.counters(self.lab, node)
        return Counter({name: now[name] - self._counted[node][name] for name in now})

    def served(self, server: str) -> list[Served]:
        """What the server has answered to clients, by its access log, in the run's time."""
        rows = [replace(row, time=self.clock.unix(row.time)) for row in kernels.served(self.lab, server)]
        return [row for row in rows if row.time >= 0]  # its log may be older than the run

    def segments(self, node: str) -> list[Segment]:
        """The TCP segments captured at the node, but for the box's health checks; its capture has ended."""
        if node not in self._segments:
            box = str(self.lab.plan.box.address)
            self._segments[node] = [
                segment
                for segment in segments.read(self.captures[node].path, self.clock.unix)
                if box not in (segment.source.partition(":")[0], segment.destination.partition(":")[0])
            ]
        return self._segments[node]

    def _service(self, name: str | None) -> LabVirtualServer:
        """The virtual server of that name; the first where none is named."""
        services = self.lab.config.virtual_server
        return services[0] if name is None else next(service for service in services if service.name == name)

    def _vip(self, service: str | None) -> str:
        """Its address and port, as kernels and captures write them: "192.0.2.10:80"."""
        chosen = self._service(service)
        return f"{chosen.vip}:{chosen.port}"
