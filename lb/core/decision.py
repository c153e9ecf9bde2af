"""What is to become of a TCP or UDP packet: decided here, carried out by the box.

`decide` changes nothing, so that the same decision serves `Box.handle_packet` and `Box.preview`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from lb.core.packet import ACK, FIN, RST, SYN, TCP, UDP, Drop, Packet, split
from lb.core.reset import reset_for
from lb.core.service import Policy, PortReuse, RealServer, VirtualServer
from lb.core.services import Services
from lb.core.session import NONE, SessionState, SessionTable


class Forward(Enum):
    """Why a packet goes to a real server."""

    SESSION = "session"
    KEPT = "port_reused"
    """It opens another connection on a session that is there, and the session is kept."""
    NEW_FLOW = "new_flow"
    ICMP = "icmp_error"
    """It is an error about a packet that the server sent as the VIP."""


class Stale(Enum):
    """Why the entry of the table that a packet belongs to goes first."""

    EXPIRED = "expired"
    REUSED = "port_reused"
    FORGOTTEN = "tombstone"


class Decision(NamedTuple):
    """What is to become of a packet, and the entry of the table that goes first."""

    why: Forward | Drop
    service: VirtualServer | None = None
    """Of a new flow, which one of its servers gets."""
    policy: Policy = Policy.DROP
    """Of a packet that is dropped."""
    state: SessionState = SessionState.ESTABLISHED
    """Of a new flow."""
    stale: Stale | None = None
    leaving: RealServer | None = None
    """The server of the session that goes first."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What `Box.handle_packet` would do with a packet now."""

    verdict: int
    """The id of the real server that gets the packet, or DROPPED."""
    why: Forward | Drop
    answered: bool = False
    """Whether a RST goes back."""
    among: tuple[RealServer, ...] = ()
    """The servers that a new flow can be given to, in the order of the configuration."""


_OPENS: Final = SYN | ACK


def decide(now: float, table: SessionTable, services: Services, slot: int, packet: Packet) -> Decision:
    """For a packet and the entry of the table that it belongs to, or NONE."""
    if packet.flags & SYN and packet.flags & (FIN | RST):
        return Decision(Drop.FLAGS)
    if slot == NONE:
        return _unknown(table, services, packet)
    opens = packet.flags & _OPENS == SYN
    if table.is_tombstone(slot):
        if table.expired(slot, now):
            return _unknown(table, services, packet, Stale.EXPIRED)
        if opens:
            return _unknown(table, services, packet, Stale.FORGOTTEN)
        return Decision(Drop.RESET, policy=Policy.RESET)
    server = services.servers[table.server[slot]]
    if table.expired(slot, now):
        return _unknown(table, services, packet, Stale.EXPIRED, server)
    if opens and packet.seq != table.isn[slot]:  # the same number: the first SYN, retransmitted
        if server.service.settings.on_port_reuse is PortReuse.SCHEDULE:
            return _open(table, server.service, SessionState.SYN, Stale.REUSED, server)
        return Decision(Forward.KEPT)
    return Decision(Forward.SESSION)


def answer(decision: Decision, packet: Packet) -> bytes | None:
    """The RST that goes back for a packet that is dropped, if any does."""
    if packet.protocol == TCP and decision.policy is Policy.RESET:
        return reset_for(packet)
    return None


def _unknown(
    table: SessionTable,
    services: Services,
    packet: Packet,
    stale: Stale | None = None,
    leaving: RealServer | None = None,
) -> Decision:
    """For a packet that has no session, or none any more."""
    client, _, vip, port = split(packet.key)
    service = services.find(packet.protocol, vip, port)
    if service is None:
        return Decision(Drop.NO_SERVICE, stale=stale, leaving=leaving)
    if client == vip or not _is_unicast(client):
        return Decision(Drop.SOURCE, stale=stale, leaving=leaving)
    if packet.protocol == UDP:
        return _open(table, service, SessionState.UDP, stale, leaving)
    if packet.flags & _OPENS == SYN:
        return _open(table, service, SessionState.SYN, stale, leaving)
    policy = service.settings.on_no_entry
    if policy is Policy.FORWARD and not packet.flags & RST:
        state = SessionState.FIN if packet.flags & FIN else SessionState.ESTABLISHED
        return _open(table, service, state, stale, leaving)
    return Decision(Drop.NO_ENTRY, policy=policy, stale=stale, leaving=leaving)


def _open(
    table: SessionTable,
    service: VirtualServer,
    state: SessionState,
    stale: Stale | None,
    leaving: RealServer | None,
) -> Decision:
    """For a new flow."""
    settings = service.settings
    if not service.binding:
        return Decision(Drop.NO_SERVER, policy=settings.on_no_server, stale=stale, leaving=leaving)
    if leaving is None and table.full():
        return Decision(Drop.TABLE_FULL, policy=settings.on_table_full, stale=stale)
    return Decision(Forward.NEW_FLOW, service, state=state, stale=stale, leaving=leaving)


def _is_unicast(address: bytes) -> bool:
    """Whether a packet from this address may be answered (RFC 1122 §3.2.1.3, RFC 4291 §2.7)."""
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return address[0] != 0xFF and any(address[:-1])
