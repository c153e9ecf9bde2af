"""Reset On Port Fail (SPEC §5): a server's sessions are reset, at a pace, and so that it is accepted.

The box knows the sequence number that a client expects only from the client's last ACK; data may be on
its way that the box never sees. Linux takes a reset at exactly that number and nowhere else (RFC 5961
§3.2): one that is a little off draws a challenge ACK, which passes through the box and carries the right
number; one that is far off is ignored. So a session that was reset leaves a tombstone for a while.
Whatever still comes from its client is answered with the exact reset. A client that was not idle and says
nothing is sent a SYN: a connection that lives answers it with a challenge ACK (RFC 5961 §4.2), one that
is gone with a RST.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from lb.core.events import Event, Removal, ResetEnded, ResetReason, ResetStarted
from lb.core.health import ServerState
from lb.core.packet import ACK, RST, SYN, TCP, Packet, split
from lb.core.reset import reset_for, segment
from lb.core.service import RealServer
from lb.core.session import NONE, REAL_FLOOR_S, SessionState, SessionTable

BUDGET: Final = 256
"""Sessions reset, or probed, in one `handle_timer`, so that other packets never wait for long."""

CHALLENGE_INTERVAL_S: Final = 0.5
"""Real seconds between two challenge ACKs of one connection (Linux tcp_invalid_ratelimit)."""

QUIET_S: Final = 1.0
"""Real seconds without a packet after which a client has acknowledged all it got: delayed ACKs take 0.2."""

PROBES: Final = 3

RETENTION_S: Final = 60.0
"""Box seconds that a tombstone is kept; at least REAL_FLOOR_S of real time."""


class Outcome(Enum):
    """What became of a session's reset, as far as the box can tell."""

    ACCEPTED = "accepted"
    """Nothing more came."""
    CHALLENGED = "challenged"
    """Something came, a challenge ACK or data, and was answered with the exact reset."""
    PROBED = "probed"
    """A SYN drew the challenge ACK, which was answered with the exact reset."""
    SILENT = "silent"
    """Nothing came, not even in answer to SYNs: the client is gone, or cut off."""


_OUTCOMES: Final = {
    SessionState.RESET: Outcome.ACCEPTED,
    SessionState.CHALLENGED: Outcome.CHALLENGED,
    SessionState.PROBED: Outcome.SILENT,
    SessionState.DRAWN: Outcome.PROBED,
}
_REASONS: Final = tuple(ResetReason)


@dataclass(slots=True)
class _Job:
    """The sessions that `server` had at `started`, to be reset."""

    server: RealServer
    reason: ResetReason
    started: float
    paced_from: float = 0.0
    sessions: int = 0
    packets: int = 0


class SessionResets:
    """Resets sessions and keeps their tombstones.

    `remove(now, slot, reason, bury)` takes a session out of the table, leaving a tombstone if `bury`.
    """

    def __init__(
        self,
        table: SessionTable,
        packets: list[bytes],
        events: list[Event],
        servers: Mapping[int, RealServer],
        remove: Callable[[float, int, Removal, bool], None],
        real_second: float,
    ) -> None:
        """`real_second`: box seconds in a second of the TCP stacks, which no `speed` makes faster."""
        self.sent: Counter[tuple[ResetReason, str]] = Counter()
        """RSTs by reason and by whom they went to, "client" or "server"."""
        self.outcomes: Counter[tuple[ResetReason, Outcome]] = Counter()
        self.probes = 0
        """SYNs sent to draw a challenge ACK."""
        self._table = table
        self._packets = packets
        self._events = events
        self._servers = servers
        self._remove = remove
        self._real_second = real_second
        self._jobs: dict[str, deque[_Job]] = {}  # by virtual server: each has a pace of its own
        self._due: dict[str, float] = {}
        self._unheard: deque[tuple[float, int, bytes, int]] = deque()  # due, slot, key, probes left
        self._draining: dict[RealServer, float] = {}  # when it is to be reset
        table.tombstone_s = max(RETENTION_S, REAL_FLOOR_S * real_second)

    # Whole servers

    def reset_server(self, now: float, server: RealServer, reason: ResetReason) -> None:
        """Reset the sessions that the server has now; they go in the next `handle_timer`s."""
        jobs = self._jobs.setdefault(server.service.name, deque())
        jobs.append(_Job(server, reason, now, now))
        if len(jobs) == 1:
            self._due[server.service.name] = now
        self._events.append(ResetStarted(now, server.service.name, server.name, reason, server.sessions))

    def resetting(self, server: RealServer) -> bool:
        """Whether sessions of the server are still to be reset."""
        return any(job.server is server for job in self._jobs.get(server.service.name, ()))

    def drain(self, now: float, server: RealServer, timeout_s: float) -> None:
        """Reset what the server, which is shut down, still has after `timeout_s`; 0 for never."""
        self._draining.pop(server, None)
        if timeout_s:
            self._draining[server] = now + timeout_s

    def handle_timer(self, now: float) -> None:
        """Do what is due, a bounded part of it."""
        for server in [server for server, due in self._draining.items() if due <= now]:
            del self._draining[server]
            if server.state is ServerState.SHUTDOWN and self._has(server):
                self.reset_server(now, server, ResetReason.DRAIN)
        for name in [name for name, due in self._due.items() if due <= now]:
            self._work(now, name)
        self._probe_unheard(now)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do, or infinity."""
        return min(
            min(self._due.values(), default=inf),
            self._unheard[0][0] if self._unheard else inf,
            min(self._draining.values(), default=inf),
        )

    def _work(self, now: float, name: str) -> None:
        """Reset some of the sessions of the first job of a virtual server."""
        job = self._jobs[name][0]
        pace = job.server.service.settings.reset.pace
        allowed = (now - job.paced_from) * pace + 1 if pace else inf
        for _ in range(BUDGET):
            slot = self._table.oldest(job.server.id)
            if slot == NONE or self._table.created[slot] > job.started or not self._has(job.server):
                self._end(now, name, job)
                return
            if job.packets >= allowed:
                break
            job.packets += self.reset_session(now, slot, job.reason)
            job.sessions += 1
        self._due[name] = max(now, job.paced_from + job.packets / pace) if pace else now

    def _has(self, server: RealServer) -> bool:
        """Whether the server is still configured; another may have its number by now."""
        return self._servers.get(server.id) is server

    def _end(self, now: float, name: str, job: _Job) -> None:
        jobs = self._jobs[name]
        jobs.popleft()
        if jobs:
            jobs[0].paced_from = self._due[name] = now
        else:
            del self._jobs[name], self._due[name]
        self._events.append(
            ResetEnded(now, name, job.server.name, job.reason, job.sessions, job.packets, now - job.started)
        )

    # Single sessions

    def reset_session(self, now: float, slot: int, reason: ResetReason) -> int:
        """Reset one session at once, on the sides that its virtual server's settings say; RSTs sent."""
        table = self._table
        if table.protocol[slot] != TCP:
            self._remove(now, slot, Removal.RESET, False)
            return 0
        server = self._servers[table.server[slot]]
        settings = server.service.settings.reset
        client, client_port, vip, port = split(table.key[slot])
        opening = table.state[slot] == SessionState.SYN
        count = 0
        if settings.client:
            # A client that has not seen the server's SYN takes a reset that acknowledges its own (RFC 9293
            # §3.10.7.3).
            seq, ack, flags = (0, table.seq[slot], RST | ACK) if opening else (table.ack[slot], 0, RST)
            self._packets.append(segment(vip, port, client, client_port, seq=seq, ack=ack, flags=flags))
            self.sent[reason, "client"] += 1
            count += 1
        if settings.server:
            to, dscp = server.settings.address, server.service.settings.dscp
            seq = table.seq[slot]
            self._packets.append(segment(client, client_port, to, port, seq=seq, ack=0, flags=RST, dscp=dscp))
            self.sent[reason, "server"] += 1
            count += 1
        bury = settings.client and settings.precise
        heard = now - table.last_seen[slot] < QUIET_S * self._real_second
        self._remove(now, slot, Removal.RESET, bury)
        if bury:
            table.tag[slot] = _REASONS.index(reason)
            if heard and not opening:  # to one that is opening, a SYN would be a simultaneous open
                self._unheard.append((self._next_probe(now), slot, table.key[slot], PROBES))
        return count

    def reset_aged(self, slot: int) -> None:
        """Tell the client of a session that is about to age out; nothing is kept of it."""
        if self._table.protocol[slot] != TCP:
            return
        client, client_port, vip, port = split(self._table.key[slot])
        seq = self._table.ack[slot]
        self._packets.append(segment(vip, port, client, client_port, seq=seq, ack=0, flags=RST))
        self.sent[ResetReason.AGED, "client"] += 1

    # Tombstones

    def handle_packet(self, now: float, slot: int, packet: Packet) -> None:
        """A packet, not a new connection's, came for a session that was reset."""
        table = self._table
        answer = reset_for(packet)
        if answer is None:  # a RST, the answer to a SYN: the reset had been accepted
            if table.state[slot] == SessionState.PROBED:
                table.state[slot] = SessionState.RESET
            self.forget(slot)
            return
        self._packets.append(answer)
        self.sent[_REASONS[table.tag[slot]], "client"] += 1
        table.last_seen[slot] = now
        if table.state[slot] == SessionState.RESET:
            table.state[slot] = SessionState.CHALLENGED
        elif table.state[slot] == SessionState.PROBED:
            table.state[slot] = SessionState.DRAWN

    def tombstone(self, slot: int) -> tuple[ResetReason, Outcome]:
        """Why the session was reset, and what has become of that so far."""
        return _REASONS[self._table.tag[slot]], _OUTCOMES[SessionState(self._table.state[slot])]

    def forget(self, slot: int) -> None:
        """Remove a tombstone: its time is over, or its client is gone or opens a new connection."""
        self.outcomes[self.tombstone(slot)] += 1
        self._table.remove(slot)

    def _probe_unheard(self, now: float) -> None:
        table = self._table
        for _ in range(BUDGET):
            if not self._unheard or self._unheard[0][0] > now:
                return
            _, slot, key, left = self._unheard.popleft()
            if table.key[slot] is not key or not table.is_tombstone(slot):
                continue
            if now - table.last_seen[slot] >= CHALLENGE_INTERVAL_S * self._real_second:
                client, client_port, vip, port = split(key)
                seq = table.ack[slot]
                self._packets.append(segment(vip, port, client, client_port, seq=seq, ack=0, flags=SYN))
                self.probes += 1
                if table.state[slot] == SessionState.RESET:
                    table.state[slot] = SessionState.PROBED
                left -= 1
            if left:
                self._unheard.append((self._next_probe(now), slot, key, left))

    def _next_probe(self, now: float) -> float:
        return now + CHALLENGE_INTERVAL_S * self._real_second
