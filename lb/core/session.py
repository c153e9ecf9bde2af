"""The session table: one entry per connection, in columns, with aging that costs what expires.

A session is a slot number; its fields lie in one array each, so a million sessions are a few dozen objects to
the garbage collector and some 230 bytes apiece. Slot 0 is never used and means "none".

Sessions that may expire at the same tick are chained together. A packet only notes its time; when a tick
comes, the sessions of its chain either have expired or move to the tick at which they might. So a session is
looked at once per idle timeout, and a packet costs nothing here.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from typing import Final

from lb.core.packet import TCP, UDP

TICK_S: Final = 0.25
"""Grain of aging in box seconds: an idle session is removed at most this late."""

NONE: Final = 0

SHARD: Final = -3
"""Where in a key the low byte of the client's port is."""


class SessionState(IntEnum):
    """What the box can tell from the client's side alone."""

    SYN = 1
    """Opened, no acknowledgement of the server's SYN seen yet."""
    ESTABLISHED = 2
    FIN = 3
    """The client has closed; kept a little so that its last ACKs reach the same server."""
    UDP = 4
    RESET = 5
    """From here on a tombstone: no session, but the memory of one whose client was sent a reset."""
    CHALLENGED = 6
    """The client was heard of since."""
    PROBED = 7
    """The client was asked, and has not answered yet."""
    DRAWN = 8
    """The client was asked, and its connection was alive."""


@dataclass(frozen=True, slots=True)
class Session:
    """A copy of one entry, for reading. Times are box seconds; `expires` is when it goes if nothing comes."""

    slot: int
    protocol: int
    key: bytes
    server: int
    state: SessionState
    created: float
    last_seen: float
    expires: float
    packets: int
    bytes: int
    seq: int
    ack: int


class _Chains:
    """Doubly linked lists threaded through the slots; each slot is in one list, named by a number."""

    __slots__ = ("heads", "next", "of", "previous", "tails")

    def __init__(self) -> None:
        self.heads: dict[int, int] = {}
        self.tails: dict[int, int] = {}
        self.of = array("I", [0])
        self.next = array("I", [NONE])
        self.previous = array("I", [NONE])

    def grow(self) -> None:
        self.of.append(0)
        self.next.append(NONE)
        self.previous.append(NONE)

    def join(self, chain: int, slot: int) -> None:
        head = self.heads.get(chain, NONE)
        self.of[slot] = chain
        self.next[slot] = head
        self.previous[slot] = NONE
        if head:
            self.previous[head] = slot
        else:
            self.tails[chain] = slot
        self.heads[chain] = slot

    def leave(self, slot: int) -> None:
        before, after = self.previous[slot], self.next[slot]
        chain = self.of[slot]
        if after:
            self.previous[after] = before
        elif before:
            self.tails[chain] = before
        if before:
            self.next[before] = after
        elif after:
            self.heads[chain] = after
        else:
            del self.heads[chain], self.tails[chain]


class SessionTable:
    """Sessions by key, by server and by the time they expire.

    The columns are public: the box reads and writes those of a known session directly, once per packet.
    """

    def __init__(self, limit: int, fin_timeout_s: float) -> None:
        self.limit = limit
        self.fin_timeout_s = fin_timeout_s
        self.tombstone_s = 60.0
        self.tombstones = 0
        self._entries = 0
        self.aging_s: list[float] = [0.0]
        """Idle timeout of each server's sessions, by server id; see `set_aging`."""
        self.index: dict[int, list[dict[bytes, int]]] = {
            protocol: [{} for _ in range(256)] for protocol in (TCP, UDP)
        }
        """Slot by key, for each protocol and low byte of the client's port (`SHARD`).

        A dict of a million keys takes 30 ms to grow, in the middle of a packet; one of a 256th takes 0.1 ms.
        """
        self.key: list[bytes] = [b""]
        self.protocol = array("B", [0])
        self.state = array("B", [0])
        self.server = array("H", [0])
        self.created = array("d", [0.0])
        self.last_seen = array("d", [0.0])
        self.packets = array("Q", [0])
        self.bytes = array("Q", [0])
        self.isn = array("I", [0])
        self.seq = array("I", [0])
        """The sequence number after the highest byte forwarded: what the server expects next."""
        self.ack = array("I", [0])
        """The highest acknowledgement seen: what the client expects next, for all that the box knows."""
        self.tag = array("B", [0])
        """Of a tombstone: a number that means something to who made it."""
        self._by_server = _Chains()
        self._by_tick = _Chains()
        self._ticks: list[int] = []  # a heap of the ticks that have, or had, a chain
        self._known_ticks: set[int] = set()  # the same
        self._rescan = NONE  # the next slot to be scheduled anew, after an idle timeout became shorter
        self._free = NONE  # free slots are linked through _by_server.next

    def __len__(self) -> int:
        """Sessions; tombstones are none."""
        return self._entries - self.tombstones

    def set_aging(self, server: int, aging_s: float) -> None:
        """The idle timeout of this server's sessions, those that are there included."""
        self.aging_s.extend([0.0] * (server + 1 - len(self.aging_s)))
        if aging_s < self.aging_s[server]:
            self._rescan = 1
        self.aging_s[server] = aging_s

    def full(self) -> bool:
        return len(self) >= self.limit

    def timeout_s(self, slot: int) -> float:
        """The idle timeout of the session in box seconds."""
        state = self.state[slot]
        if state == SessionState.FIN:
            return self.fin_timeout_s
        if state >= SessionState.RESET:
            return self.tombstone_s
        return self.aging_s[self.server[slot]]

    def expired(self, slot: int, now: float) -> bool:
        return now - self.last_seen[slot] >= self.timeout_s(slot)

    def find(self, protocol: int, key: bytes) -> int:
        """The slot of the flow's session, or NONE."""
        shards = self.index.get(protocol)
        return shards[key[SHARD]].get(key, NONE) if shards else NONE

    def insert(
        self, now: float, protocol: int, key: bytes, server: int, state: SessionState, seq: int, ack: int
    ) -> int:
        """A new session; the caller has seen that the key is not there and that the table is not full."""
        slot = self._free or self._grow()
        self._free = self._by_server.next[slot]
        self.index[protocol][key[SHARD]][key] = slot
        self._entries += 1
        self.key[slot] = key
        self.protocol[slot] = protocol
        self.state[slot] = state
        self.server[slot] = server
        self.created[slot] = self.last_seen[slot] = now
        self.packets[slot] = self.bytes[slot] = 0
        self.isn[slot] = self.seq[slot] = seq
        self.ack[slot] = ack
        self._by_server.join(server, slot)
        self._schedule(slot)
        return slot

    def remove(self, slot: int) -> None:
        key = self.key[slot]
        del self.index[self.protocol[slot]][key[SHARD]][key]
        self._entries -= 1
        self._by_tick.leave(slot)
        if self.state[slot] >= SessionState.RESET:
            self.tombstones -= 1
        else:
            self._by_server.leave(slot)
        self.key[slot] = b""
        self.server[slot] = 0
        self._by_server.next[slot] = self._free
        self._free = slot

    def bury(self, slot: int, now: float) -> None:
        """Make a tombstone of a session: `find` finds it, but it is no server's, and not on any page."""
        self._by_server.leave(slot)
        self.tombstones += 1
        self._restate(slot, now, SessionState.RESET)

    def close(self, slot: int, now: float) -> None:
        """The client has sent its FIN: from here on the session has the short timeout."""
        self._restate(slot, now, SessionState.FIN)

    def reopen(self, slot: int, now: float, seq: int) -> None:
        """Another connection takes the entry over, server and counters and all."""
        self.isn[slot] = self.seq[slot] = seq
        self._restate(slot, now, SessionState.SYN)

    def _restate(self, slot: int, now: float, state: SessionState) -> None:
        self.state[slot] = state
        self.last_seen[slot] = now
        self._by_tick.leave(slot)
        self._schedule(slot)

    def next_deadline(self) -> float:
        """When `sweep` has something to look at, or infinity."""
        if self._rescan:
            return -math.inf
        return self._ticks[0] * TICK_S if self._ticks else math.inf

    def sweep(self, now: float, budget: int) -> list[int]:
        """The slots, still in the table, that have expired by `now`; looks at `budget` sessions at most."""
        found: list[int] = []
        heads = self._by_tick.heads
        while budget and self._rescan:
            budget -= 1
            self._reschedule_next()
        while budget and self._ticks and self._ticks[0] * TICK_S <= now:
            slot = heads.get(self._ticks[0], NONE)
            if not slot:
                self._known_ticks.remove(heappop(self._ticks))
                continue
            budget -= 1
            self._by_tick.leave(slot)
            if self.expired(slot, now):
                found.append(slot)
                self._by_tick.join(_EXPIRED, slot)
            else:
                self._schedule(slot)
        return found

    def of_server(self, server: int) -> Iterator[int]:
        """Slots of the server's sessions, newest first; the one just given may be removed meanwhile."""
        slot = self._by_server.heads.get(server, NONE)
        while slot:
            following = self._by_server.next[slot]
            yield slot
            slot = following

    def oldest(self, server: int) -> int:
        """The slot of the server's session that was made first, or NONE."""
        return self._by_server.tails.get(server, NONE)

    def page(self, cursor: int, look: int) -> tuple[list[Session], int]:
        """The sessions among the `look` slots from `cursor` on, and the next cursor (0 at the end).

        Slots are reused, so a walk over the pages while sessions come and go sees every session that stays,
        and may or may not see the others.
        """
        start = max(cursor, 1)
        end = min(start + look, len(self.key))
        rows = [
            self.get(slot)
            for slot in range(start, end)
            if self.server[slot] and self.state[slot] < SessionState.RESET
        ]
        return rows, end if end < len(self.key) else 0

    def get(self, slot: int) -> Session:
        return Session(
            slot=slot,
            protocol=self.protocol[slot],
            key=self.key[slot],
            server=self.server[slot],
            state=SessionState(self.state[slot]),
            created=self.created[slot],
            last_seen=self.last_seen[slot],
            expires=self.last_seen[slot] + self.timeout_s(slot),
            packets=self.packets[slot],
            bytes=self.bytes[slot],
            seq=self.seq[slot],
            ack=self.ack[slot],
        )

    def _schedule(self, slot: int) -> None:
        tick = math.ceil((self.last_seen[slot] + self.timeout_s(slot)) / TICK_S)
        if tick not in self._known_ticks:
            self._known_ticks.add(tick)
            heappush(self._ticks, tick)
        self._by_tick.join(tick, slot)

    def _reschedule_next(self) -> None:
        slot = self._rescan
        self._rescan = slot + 1 if slot + 1 < len(self.key) else NONE
        if slot < len(self.key) and self.server[slot]:
            self._by_tick.leave(slot)
            self._schedule(slot)

    def _grow(self) -> int:
        """One more slot in every column; it is free and linked to no other."""
        slot = len(self.key)
        self.key.append(b"")
        for column in (
            self.protocol,
            self.state,
            self.server,
            self.packets,
            self.bytes,
            self.isn,
            self.seq,
            self.ack,
            self.tag,
        ):
            column.append(0)
        self.created.append(0.0)
        self.last_seen.append(0.0)
        self._by_server.grow()
        self._by_tick.grow()
        return slot


_EXPIRED: Final = 0
"""The chain of what `sweep` has given out and the box has not removed yet; no tick has this number."""
