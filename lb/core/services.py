"""The registry of virtual and real servers: configuration, times of checks, the administrator's say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf

from lb.core.events import Event, Probed, Reconfigured, ServerChanged
from lb.core.health import CHECKED, ProbeResult, ServerState, Signal
from lb.core.service import RealServer, ServerSettings, ServiceSettings, VirtualServer


@dataclass(frozen=True, slots=True)
class Probe:
    """A health check to make; it goes back with the result. `began`: box time."""

    server: int
    epoch: int
    began: float


class Services:
    """Virtual servers by name, real servers by id. `events` is where it reports; the box drains it."""

    def __init__(self, events: list[Event]) -> None:
        self.by_name: dict[str, VirtualServer] = {}
        self.servers: dict[int, RealServer] = {}
        self._places: dict[tuple[int, bytes, int], VirtualServer] = {}
        self._checks: list[tuple[float, int, int]] = []  # heap of time, server id, epoch
        self._due: list[tuple[int, int]] = []  # server id, epoch
        self._epoch = 0
        self._events = events

    def find(self, protocol: int, vip: bytes, port: int) -> VirtualServer | None:
        """The virtual server that packets to this place are for."""
        return self._places.get((protocol, vip, port))

    # Configuration

    def obsolete(self, services: Sequence[ServiceSettings]) -> Iterator[RealServer]:
        """The servers that `configure` would remove: gone, moved to another address, or under another VIP."""
        wanted = {service.name: service for service in services}
        for virtual in self.by_name.values():
            settings = wanted.get(virtual.name)
            kept = settings.servers if settings and settings.place == virtual.settings.place else ()
            addresses = {server.name: server.address for server in kept}
            for server in virtual.servers:
                if addresses.get(server.name) != server.settings.address:
                    yield server

    def configure(self, now: float, services: Sequence[ServiceSettings]) -> None:
        """Take a configuration; the sessions of obsolete servers have been removed."""
        for gone in list(self.obsolete(services)):
            gone.service.servers.remove(gone)
            del self.servers[gone.id]
        before, self.by_name = self.by_name, {}
        total = sum(len(settings.servers) for settings in services)
        place = 0
        for settings in services:
            virtual = before.get(settings.name) or VirtualServer(settings)
            virtual.reconfigure(settings)
            self.by_name[settings.name] = virtual
            known = {server.name: server for server in virtual.servers}
            virtual.servers = []
            for server_settings in settings.servers:
                place += 1
                server = known.get(server_settings.name)
                if server is None:
                    server = self._add(
                        now, virtual, server_settings, settings.check.interval_s * place / total
                    )
                server.reconfigure(server_settings)
                virtual.servers.append(server)
            virtual.rebind()
        self._places = {virtual.settings.place: virtual for virtual in self.by_name.values()}
        self._events.append(Reconfigured(now, tuple(self.by_name)))

    def _add(self, now: float, service: VirtualServer, settings: ServerSettings, phase: float) -> RealServer:
        server_id = next(number for number in count(1) if number not in self.servers)
        server = RealServer(server_id, service, settings, now + phase)
        self.servers[server_id] = server
        self._start_checks(now, server)
        return server

    # Health

    def handle_timer(self, now: float) -> None:
        """Start the checks that are due."""
        while self._checks and self._checks[0][0] <= now:
            _, server_id, epoch = heappop(self._checks)
            server = self._current(server_id, epoch)
            if server is not None:
                self._signal(now, server, Signal.CHECK, "first health check")
                self._due.append((server_id, epoch))
                heappush(self._checks, (server.next_check(now), server_id, epoch))

    def next_deadline(self) -> float:
        """When the next check is due, or infinity."""
        return self._checks[0][0] if self._checks else inf

    def take_probes(self, now: float) -> list[Probe]:
        """Health checks to start now."""
        due, self._due = self._due, []
        return [Probe(server_id, epoch, now) for server_id, epoch in due]

    def handle_probe(self, now: float, probe: Probe, result: ProbeResult) -> RealServer | None:
        """A check has ended; the server, if that made it FAILED.

        A check from before the server was disabled or removed says nothing any more.
        """
        server = self._current(probe.server, probe.epoch)
        if server is None:
            return None
        self._events.append(
            Probed(
                now,
                server.service.name,
                server.name,
                result.outcome,
                result.detail,
                result.status,
                probe.began,
            )
        )
        old = server.state
        if server.health.check_ended(result.outcome):
            self._changed(now, server, old, f"health check: {result.detail}")
            if server.state is ServerState.FAILED:
                return server
        return None

    def _current(self, server_id: int, epoch: int) -> RealServer | None:
        server = self.servers.get(server_id)
        return server if server is not None and server.epoch == epoch else None

    def _start_checks(self, now: float, server: RealServer) -> None:
        """The first check is made at once, the others each in the server's own phase of the interval."""
        self._epoch += 1
        server.epoch = self._epoch
        heappush(self._checks, (now, server.id, server.epoch))

    # The administrator

    def enable(self, now: float, server: RealServer) -> None:
        """Check the server again, beginning now; it gets new flows after the first success."""
        if self._signal(now, server, Signal.ENABLE, "enabled"):
            self._start_checks(now, server)

    def disable(self, now: float, server: RealServer) -> None:
        """No new flows and no checks; sessions stay."""
        self._signal(now, server, Signal.DISABLE, "disabled")

    def shut_down(self, now: float, server: RealServer) -> None:
        """No new flows and no checks; `Drained` is reported when the last session has gone."""
        self._signal(now, server, Signal.SHUT_DOWN, "shut down")

    def _signal(self, now: float, server: RealServer, signal: Signal, reason: str) -> bool:
        old = server.state
        changed = server.health.signal(signal)
        if changed:
            self._changed(now, server, old, reason)
        return changed

    def _changed(self, now: float, server: RealServer, old: ServerState, reason: str) -> None:
        if server.state not in CHECKED:
            server.epoch = 0  # no check runs under this number
        server.service.rebind()
        self._events.append(
            ServerChanged(
                now,
                server.service.name,
                server.name,
                old,
                server.state,
                server.bound,
                reason,
                server.sessions,
            )
        )
