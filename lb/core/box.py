"""The box: packets, check results and time go in; verdicts come out, and effects to be drained.

    verdict = box.handle_packet(now, packet)      # a real server's id, or DROPPED
    box.handle_probe(now, probe, result)          # a health check has ended
    box.handle_timer(now)                         # when next_deadline() has come

After each, the shell injects `take_packets()`, publishes `take_events()`, starts `take_probes()`, and
re-arms its timer at `next_deadline()`. Time is box seconds from any origin and never goes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from lb.core.decision import Decision, Forward, Preview, Stale, answer, decide
from lb.core.events import Drained, Event, Removal, ResetReason, SessionOpened, SessionRemoved
from lb.core.health import ProbeResult
from lb.core.packet import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    RST,
    SYN,
    TCP,
    V4_TCP,
    V4_TCP_LENGTH,
    Drop,
    Packet,
    read,
    read_icmp,
    split,
)
from lb.core.service import RealServer, ServiceSettings, VirtualServer
from lb.core.services import Probe, Services
from lb.core.session import HOT, LAYOUT, NONE, REAL_FLOOR_S, ROW, SHARD, SessionState, SessionTable
from lb.core.session_resets import SessionResets

DROPPED: Final = 0
"""The verdict for a packet that goes nowhere. Servers have ids from 1 on."""

FIN_TIMEOUT_S: Final = 8.0
"""Box seconds that a session outlives the last packet after the client's FIN (SPEC §3).

At least REAL_FLOOR_S of real time, at most the aging time.
"""

SWEEP_BUDGET: Final = 1000
"""Sessions looked at in one `handle_timer`, so that aging never keeps packets waiting for long."""

_M32: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000
_SEEN, _ACKED, _SERVER, _STATE = map(list(LAYOUT).index, ("last_seen", "ack", "server", "state"))
"""Places in what HOT gives."""
# As plain numbers: the attribute of an Enum costs more than what is done with it.
_SYN: Final = int(SessionState.SYN)
_ESTABLISHED: Final = int(SessionState.ESTABLISHED)
_FIN: Final = int(SessionState.FIN)


class Box:
    """One L4 box: virtual servers, their health, and the session table."""

    def __init__(
        self, *, session_limit: int = 1_000_000, session_events: bool = False, real_second: float = 1.0
    ) -> None:
        """`real_second`: box seconds in a second of the TCP stacks around it, the speed of its clock."""
        self._events: list[Event] = []
        self.services = Services(self._events)
        self.table = SessionTable(session_limit)
        self.session_events = session_events
        self.forwarded = 0
        self.dropped: Counter[Drop] = Counter()
        self.resets: Counter[Drop] = Counter()
        """RSTs sent in answer to a packet, by why it was dropped."""
        self._packets: list[bytes] = []
        self.session_resets = SessionResets(
            self.table, self._packets, self._events, self.services.servers, self._remove, real_second
        )
        self._tcp_shards = self.table.index[TCP]
        self._real_floor_s = REAL_FLOOR_S * real_second

    # Packets

    def handle_packet(self, now: float, packet: bytes) -> int:
        """The id of the real server that gets the packet, or DROPPED.

        `packet` starts at the IP header and may be cut off after the TCP, UDP or ICMP header.
        """
        # TCP over IPv4 is read here, and a plain segment of an established session is done with one call.
        if len(packet) >= V4_TCP_LENGTH:
            head, length, fragment, protocol, key, seq, ack, offset, flags = V4_TCP(packet)
            payload = length - 20 - (offset >> 2 & 0x3C)
            if head == 0x45 and protocol == TCP and not fragment & 0x3FFF and payload >= 0 and offset >= 0x50:
                slot = self._tcp_shards[key[SHARD]].get(key, NONE)
                if slot and flags & (ACK | SYN | RST | FIN) == ACK:
                    table = self.table
                    row = HOT.unpack_from(table.rows, slot * ROW)
                    if row[_STATE] == _ESTABLISHED and now - row[_SEEN] < table.aging_s[row[_SERVER]]:
                        return self._note(now, slot, row, length, seq + payload, ack)
                return self._handle_read(now, slot, Packet(TCP, key, length, seq, ack, flags, payload))
        return self._handle_any(now, packet)

    def _handle_any(self, now: float, packet: bytes) -> int:
        """A packet of any kind; `handle_packet` is the same, and quicker about TCP over IPv4."""
        fields = read(packet)
        if isinstance(fields, Drop):
            return self.count_drop(fields)
        if fields.protocol in (ICMP, ICMPV6):
            found = self._server_of_error(now, packet)
            if isinstance(found, Drop):
                return self.count_drop(found)
            self.forwarded += 1
            return found
        return self._handle_read(now, self.table.find(fields.protocol, fields.key), fields)

    def _handle_read(self, now: float, slot: int, packet: Packet) -> int:
        """A packet and the entry of the table that it belongs to, if there is one."""
        decision = decide(now, self.table, self.services, slot, packet)
        if decision.stale is Stale.EXPIRED:
            self._remove_expired(now, slot)
        elif decision.stale is Stale.REUSED:
            self._remove(now, slot, Removal.PORT_REUSE)
        elif decision.stale is Stale.FORGOTTEN:
            self.session_resets.forget(slot)
        if decision.service is not None:
            return self._open(now, decision.service, packet, decision.state)
        if decision.why is Drop.RESET:
            self.session_resets.handle_packet(now, slot, packet)
            return self.count_drop(Drop.RESET)
        if isinstance(decision.why, Drop):
            return self._refuse(decision, packet, decision.why)
        return self._handle_known(now, slot, packet, reopens=decision.why is Forward.KEPT)

    def preview(self, now: float, packet: bytes) -> Preview:
        """What `handle_packet` would do with the packet now. Nothing changes, and nothing is counted."""
        fields = read(packet)
        if isinstance(fields, Drop):
            return Preview(DROPPED, fields)
        if fields.protocol in (ICMP, ICMPV6):
            found = self._server_of_error(now, packet)
            return Preview(DROPPED, found) if isinstance(found, Drop) else Preview(found, Forward.ICMP)
        slot = self.table.find(fields.protocol, fields.key)
        decision = decide(now, self.table, self.services, slot, fields)
        if decision.service is not None:
            client, _, _, _ = split(fields.key)
            server = decision.service.scheduler.peek(client, decision.leaving)
            return Preview(server.id, decision.why, among=decision.service.binding)
        if isinstance(decision.why, Drop):
            return Preview(DROPPED, decision.why, answered=answer(decision, fields) is not None)
        return Preview(self.table.server[slot], decision.why)

    def _handle_known(self, now: float, slot: int, packet: Packet, *, reopens: bool) -> int:
        """A packet of a session goes to the session's server, whatever that server's health.

        `reopens`: it is the first of another connection, which takes the session over.
        """
        table = self.table
        if reopens:
            table.reopen(slot, now, packet.seq)
        if packet.flags & RST:
            server = self._forward(now, slot, packet)
            self._remove(now, slot, Removal.CLIENT_RST)
            return server
        if packet.flags & ACK and table.state[slot] == _SYN:
            table.state[slot] = _ESTABLISHED
            table.ack[slot] = packet.ack
        if packet.flags & FIN and table.state[slot] != _FIN:
            table.close(slot, now)
        return self._forward(now, slot, packet)

    def _server_of_error(self, now: float, packet: bytes) -> int | Drop:
        """The server that an ICMP error is for: it is about a packet that the server sent as the VIP."""
        found = read_icmp(packet)
        if isinstance(found, Drop):
            return found
        protocol, key = found
        slot = self.table.find(protocol, key)
        if not slot or self.table.is_tombstone(slot) or self.table.expired(slot, now):
            return Drop.ICMP
        return self.table.server[slot]

    def _open(self, now: float, service: VirtualServer, packet: Packet, state: int) -> int:
        """Give a new flow to a server; one is bound, and the table has room."""
        client = packet.key[: len(service.settings.vip)]
        server = service.scheduler.pick(client)
        slot = self.table.insert(now, packet.protocol, packet.key, server.id, state, packet.seq, packet.ack)
        server.sessions += 1
        server.flows += 1
        if self.session_events:
            self._events.append(SessionOpened(now, service.name, server.name, packet.protocol, packet.key))
        return self._forward(now, slot, packet)

    def _forward(self, now: float, slot: int, packet: Packet) -> int:
        """Note the packet in its session; the verdict is the session's server."""
        row = HOT.unpack_from(self.table.rows, slot * ROW)
        # SYN and FIN take a number each; data in a SYN may be refused.
        takes = 1 if packet.flags & SYN else packet.payload + (packet.flags & FIN)
        acked = packet.ack if packet.flags & ACK else row[_ACKED]
        return self._note(now, slot, row, packet.length, packet.seq + takes, acked)

    def _note(self, now: float, slot: int, row: tuple[Any, ...], length: int, end: int, acked: int) -> int:
        """Note a packet in its session, whose row is as HOT gives it; the session's server.

        `length`: of the whole packet in bytes. `end`: the sequence number that the server expects after it,
        if nothing is missing. `acked`: what the client expects next.
        """
        server: int
        _, packets, size, highest_end, highest_acked, server, state = row
        if end - highest_end & _M32 < _HALF:
            highest_end = end & _M32
        if acked - highest_acked & _M32 < _HALF:
            highest_acked = acked
        HOT.pack_into(
            self.table.rows,
            slot * ROW,
            now,
            packets + 1,
            size + length,
            highest_end,
            highest_acked,
            server,
            state,
        )
        self.forwarded += 1
        return server

    def _refuse(self, decision: Decision, packet: Packet, reason: Drop) -> int:
        reset = answer(decision, packet)
        if reset is not None:
            self._packets.append(reset)
            self.resets[reason] += 1
        return self.count_drop(reason)

    def count_drop(self, reason: Drop) -> int:
        """Count a packet that goes nowhere; the verdict for it."""
        self.dropped[reason] += 1
        return DROPPED

    # Health and the administrator

    def handle_probe(self, now: float, probe: Probe, result: ProbeResult) -> None:
        """A health check has ended."""
        failed = self.services.handle_probe(now, probe, result)
        if failed is not None and failed.service.settings.reset.on_port_fail:
            self.session_resets.reset_server(now, failed, ResetReason.PORT_FAIL)

    def handle_timer(self, now: float) -> None:
        """Start the checks that are due and remove expired sessions, a bounded number of them at a time."""
        self.services.handle_timer(now)
        self.session_resets.handle_timer(now)
        for slot in self.table.sweep(now, SWEEP_BUDGET):
            self._remove_expired(now, slot)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do, box seconds; infinity if never."""
        return min(
            self.services.next_deadline(), self.session_resets.next_deadline(), self.table.next_deadline()
        )

    def configure(self, now: float, services: Sequence[ServiceSettings]) -> None:
        """Take a configuration, the first or a new one. What is in both keeps its health and its sessions."""
        for server in self.services.obsolete(services):
            for slot in self.table.of_server(server.id):
                self._remove(now, slot, Removal.SERVER_GONE)
        self.services.configure(now, services)
        for server in self.services.servers.values():
            settings = server.service.settings
            self.table.set_timeouts(
                server.id,
                syn_s=min(max(settings.syn_timeout_s, self._real_floor_s), settings.aging_s),
                aging_s=settings.aging_s,
                fin_s=min(max(FIN_TIMEOUT_S, self._real_floor_s), settings.aging_s),
            )

    def enable(self, now: float, server: RealServer) -> None:
        """Check the server again, beginning now; it gets new flows after the first success."""
        self.services.enable(now, server)

    def disable(self, now: float, server: RealServer, *, reset: bool = False) -> None:
        """No new flows and no checks for the server; its sessions stay, unless they are to be reset."""
        self.services.disable(now, server)
        if reset:
            self.session_resets.reset_server(now, server, ResetReason.ADMINISTRATOR)

    def shut_down(self, now: float, server: RealServer, drain_timeout_s: float | None = None) -> None:
        """No new flows and no checks; `Drained` is reported when the last session has gone.

        What is left after the timeout, by default the virtual server's, is reset; 0 for never.
        """
        self.services.shut_down(now, server)
        if not server.sessions:
            self._events.append(Drained(now, server.service.name, server.name))
        timeout_s = server.service.settings.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        self.session_resets.drain(now, server, timeout_s)

    def clear_session(self, now: float, slot: int) -> None:
        """Remove a session without a word to anyone."""
        self._remove(now, slot, Removal.ADMINISTRATOR)

    def reset_session(self, now: float, slot: int) -> None:
        """Reset a session as its virtual server's settings say, and remove it."""
        self.session_resets.reset_session(now, slot, ResetReason.ADMINISTRATOR)

    # Effects

    def take_packets(self) -> list[bytes]:
        """Whole IP packets to be sent, in order; each is given once."""
        taken = self._packets[:]
        self._packets.clear()
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        taken = self._events[:]
        self._events.clear()
        return taken

    def take_probes(self, now: float) -> list[Probe]:
        """Health checks to start now."""
        return self.services.take_probes(now)

    # Removal

    def _remove_expired(self, now: float, slot: int) -> None:
        table = self.table
        if table.is_tombstone(slot):
            self.session_resets.forget(slot)
        elif table.state[slot] == _FIN:
            self._remove(now, slot, Removal.CLIENT_FIN)
        elif table.state[slot] == _SYN:
            self._remove(now, slot, Removal.SYN_TIMEOUT)
        else:
            if self.services.servers[table.server[slot]].service.settings.reset_on_aging:
                self.session_resets.reset_aged(slot)
            self._remove(now, slot, Removal.AGED)

    def _remove(self, now: float, slot: int, reason: Removal, bury: bool = False) -> None:
        """Take a session out of the table, leaving a tombstone if `bury`."""
        table = self.table
        server = self.services.servers[table.server[slot]]
        server.sessions -= 1
        if self.session_events:
            self._events.append(
                SessionRemoved(
                    now,
                    server.service.name,
                    server.name,
                    table.protocol[slot],
                    table.key[slot],
                    reason,
                    now - table.created[slot],
                    table.packets[slot],
                    table.bytes[slot],
                )
            )
        if bury:
            table.bury(slot, now)
        else:
            table.remove(slot)
        if not server.sessions and not server.bound:
            self._events.append(Drained(now, server.service.name, server.name))
