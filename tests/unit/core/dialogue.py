"""Tests of the core as a dialogue: packets, time and the answers to health checks go in; out come the server
that gets each packet or the reason of its drop, packets that the box sends itself, and events.

    talk = Dialogue()
    assert talk.send(tcp("S")) == "rs1"
    talk.wait(601)
    assert talk.send(tcp("A", ack=7)) == "no_entry"
    assert talk.reply()[TCP].seq == 7

Packets are scapy's, so that the box's parsing, checksums and resets meet an independent judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from ipaddress import ip_address
from itertools import count
from math import inf
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from lb.core.box import DROPPED, Box
from lb.core.events import Event, ServerChanged
from lb.core.health import Outcome, ProbeResult, ServerState
from lb.core.packet import TCP as TCP_NUMBER
from lb.core.packet import UDP as UDP_NUMBER
from lb.core.packet import join
from lb.core.service import RealServer, ServerSettings, ServiceSettings
from lb.core.services import Probe
from lb.core.session import Session

CLIENT = "198.51.100.7"
OTHER_CLIENT = "203.0.113.248"
CLIENT6 = "2001:db8:c1::7"
VIP = "192.0.2.10"
VIP6 = "2001:db8:10::10"
PORT = 40000
ISN = 1000

SERVERS = {"rs1": "10.0.1.2", "rs2": "10.0.2.2", "rs3": "10.0.3.2", "rs4": "10.0.4.2"}
SERVERS6 = {"six1": "fd00:1::2", "six2": "fd00:2::2"}


def packed(address: str) -> bytes:
    return ip_address(address).packed


# Packets


def _ip(source: str, destination: str, **fields: Any) -> Packet:
    layer = IPv6 if ":" in source else IP
    return layer(src=source, dst=destination, **fields)


def _with_data(packet: Packet, data: bytes) -> Packet:
    return packet / Raw(data) if data else packet


def tcp(
    flags: str,
    *,
    seq: int = ISN,
    ack: int = 0,
    data: bytes = b"",
    client: str = CLIENT,
    port: int = PORT,
    vip: str = "",
    vip_port: int = 80,
    options: Iterable[tuple[str, Any]] = (),
    **ip_fields: Any,
) -> Packet:
    """A segment from a client to a VIP; scapy's letters for the flags."""
    segment = TCP(sport=port, dport=vip_port, seq=seq, ack=ack, flags=flags, options=list(options))
    return _with_data(_ip(client, vip or vip_of(client), **ip_fields) / segment, data)


def udp(
    data: bytes = b"", *, client: str = CLIENT, port: int = PORT, vip: str = "", vip_port: int = 53
) -> Packet:
    return _with_data(_ip(client, vip or vip_of(client)) / UDP(sport=port, dport=vip_port), data)


def vip_of(client: str) -> str:
    return VIP6 if ":" in client else VIP


def parsed(packet: bytes) -> Packet:
    """What scapy reads in a packet's bytes; the checksums must be the ones that scapy would have written."""
    seen = IPv6(packet) if packet[0] >> 4 == 6 else IP(packet)
    fresh = seen.copy()
    for layer in (IP, TCP, UDP):
        if layer in fresh:
            del fresh[layer].chksum
    assert bytes(fresh) == packet, f"wrong checksum in {seen.command()}"
    return seen


# Configuration


def service(
    name: str = "web",
    *,
    vip: str = VIP,
    port: int = 80,
    servers: Iterable[str | ServerSettings] = (),
    **rest: Any,
) -> ServiceSettings:
    """A virtual server. Real servers by name (their addresses are in SERVERS), three if none is given."""
    chosen = tuple(servers) or (tuple(SERVERS6) if ":" in vip else ("rs1", "rs2", "rs3"))
    return ServiceSettings(
        name=name,
        vip=packed(vip),
        port=port,
        dscp=rest.pop("dscp", 10),
        servers=tuple(real_server(server) if isinstance(server, str) else server for server in chosen),
        **rest,
    )


def real_server(name: str, address: str = "", weight: int = 1) -> ServerSettings:
    return ServerSettings(name, packed(address or {**SERVERS, **SERVERS6}[name]), weight)


def changed(settings: ServiceSettings, **values: Any) -> ServiceSettings:
    return replace(settings, **values)


# Health checks


@dataclass(frozen=True, slots=True)
class Answer:
    """How a server answers its health checks, and after how long."""

    outcome: Outcome
    detail: str
    after_s: float = 0.0


OK = Answer(Outcome.SUCCESS, "200")
NOT_FOUND = Answer(Outcome.BAD_STATUS, "404")
REFUSED = Answer(Outcome.MISS, "refused")
SILENT = Answer(Outcome.MISS, "timeout", 1.0)


class Dialogue:
    """A Box, a clock that moves only by `wait`, and real servers that answer their health checks."""

    def __init__(
        self,
        *services: ServiceSettings,
        at: float = 10_000.0,
        answers: dict[str, Answer] | None = None,
        session_limit: int = 1000,
        session_events: bool = False,
        speed: float = 1.0,
    ) -> None:
        self.box = Box(session_limit=session_limit, session_events=session_events, real_second=speed)
        self.now = at
        self.answers = answers or {}
        """By server name; who is not in it answers OK."""
        self.checks: list[tuple[float, str]] = []
        """When which server was checked."""
        self.packets: list[bytes] = []
        self.events: list[Event] = []
        self._under_way: list[tuple[float, int, Probe, ProbeResult]] = []
        self._numbers = count()
        self.configure(*(services or (service(),)))

    def configure(self, *services: ServiceSettings) -> None:
        self.box.configure(self.now, services)
        self._drain()
        self.wait(0)

    # In

    def send(self, packet: Packet | bytes) -> str:
        """The name of the server that gets the packet, or the reason why none does.

        That the packet is counted, exactly once and as what became of it, is part of every dialogue.
        """
        box = self.box
        forwarded, dropped = box.forwarded, box.dropped.copy()
        verdict = box.handle_packet(self.now, bytes(packet))
        self._drain()
        reasons = [reason.value for reason in (box.dropped - dropped).elements()]
        if verdict == DROPPED:
            assert (len(reasons), box.forwarded) == (1, forwarded)
            return reasons[0]
        assert (reasons, box.forwarded) == ([], forwarded + 1)
        return box.services.servers[verdict].name

    def wait(self, seconds: float) -> None:
        """Let time pass: timers come when they are due, health checks are answered."""
        end = self.now + seconds
        for _ in range(1_000_000):
            due = min(self.box.next_deadline(), self._under_way[0][0] if self._under_way else inf)
            if due > end:
                self.now = end
                self._drain()
                return
            self.now = max(self.now, due)
            while self._under_way and self._under_way[0][0] <= self.now:
                _, _, probe, result = heappop(self._under_way)
                self.box.handle_probe(self.now, probe, result)
            self.box.handle_timer(self.now)
            self._drain()
        raise AssertionError(f"at {self.now} the box wants its timer again and again")

    # Out

    def replies(self) -> list[Packet]:
        """The packets that the box has sent since it was last asked."""
        packets, self.packets = self.packets, []
        return [parsed(packet) for packet in packets]

    def reply(self) -> Packet:
        """The one packet that the box has sent since it was last asked."""
        (packet,) = self.replies()
        return packet

    def take_events(self, *kinds: type[Event]) -> list[Event]:
        """The events since the last call, of these kinds if any is given."""
        taken = [event for event in self.events if not kinds or isinstance(event, kinds)]
        self.events.clear()
        return taken

    def state_changes(self) -> list[str]:
        """ "rs1 TESTING ACTIVE" for each change of a server's state since events were last taken."""
        changes = self.take_events(ServerChanged)
        return [
            f"{change.server} {change.old.value} {change.new.value}"
            for change in changes
            if isinstance(change, ServerChanged)
        ]

    def session(
        self, *, client: str = CLIENT, port: int = PORT, vip_port: int = 80, protocol: int = TCP_NUMBER
    ) -> Session | None:
        key = join(packed(client), port, packed(vip_of(client)), vip_port)
        slot = self.box.table.find(protocol, key)
        return self.box.table.get(slot) if slot else None

    def udp_session(self) -> Session | None:
        return self.session(vip_port=53, protocol=UDP_NUMBER)

    def sessions(self) -> list[Session]:
        return self.box.table.page(0, 1_000_000)[0]

    def server(self, name: str) -> RealServer:
        (found,) = [server for server in self.box.services.servers.values() if server.name == name]
        return found

    def states(self) -> dict[str, str]:
        return {server.name: server.state.value for server in self.box.services.servers.values()}

    def wait_for_state(self, name: str, state: ServerState, at_most_s: float = 100) -> float:
        """Wait until the server is in the state; how long that took, to a hundredth of a second."""
        for step in range(round(at_most_s * 100)):
            if self.server(name).state is state:
                return step / 100
            self.wait(0.01)
        raise AssertionError(f"{name} is {self.server(name).state.value} after {at_most_s} s")

    def _drain(self) -> None:
        self.packets += self.box.take_packets()
        self.events += self.box.take_events()
        for probe in self.box.take_probes(self.now):
            name = self.box.services.servers[probe.server].name
            answer = self.answers.get(name, OK)
            self.checks.append((self.now, name))
            heappush(
                self._under_way,
                (
                    self.now + answer.after_s,
                    next(self._numbers),
                    probe,
                    ProbeResult(answer.outcome, answer.detail),
                ),
            )
