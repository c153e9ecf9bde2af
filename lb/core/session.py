"""The session table: one entry per connection, in columns, with aging that costs what expires.

A session is a slot number. Its fields are a row in one block of memory, like a struct in C, so that a packet
touches one line of the processor's cache; to Python they are columns, a strided view each. So a million
sessions are a few dozen objects to the garbage collector and some 220 bytes apiece. Slot 0 is never used and
means "none".

Sessions that may expire at the same tick are chained together. A packet only notes its time; when a tick
comes, the sessions of its chain either have expired or move to the tick at which they might. So a session is
looked at once per idle timeout, and once when it is no longer half-open; a packet costs nothing here.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from struct import Struct, calcsize
from typing import Final, Literal

from lb.core.packet import TCP, UDP

TICK_S: Final = 0.25
"""Grain of aging in box seconds: an idle session is removed at most this late."""

REAL_FLOOR_S: Final = 4.0
"""Real seconds that a timer for packets of the TCP stacks lasts at least: no `speed` makes the stacks faster.

Linux retransmits after 0.2, 0.6, 1.4 and 3.0 s, a SYN after 1 and 3 s (RFC 6298, tcp(7)).
"""

NONE: Final = 0

SHARD: Final = -3
"""Where in a key the low byte of the client's port is."""


ROW: Final = 64
"""Bytes of a session's row, a line of the processor's cache."""

_COLUMNS: Final[tuple[tuple[str, Literal["d", "Q", "I", "H", "B"]], ...]] = (
    ("last_seen", "d"),
    ("packets", "Q"),
    ("bytes", "Q"),
    ("seq", "I"),
    ("ack", "I"),
    ("server", "H"),
    ("state", "B"),
    ("protocol", "B"),
    ("isn", "I"),
    ("created", "d"),
    ("tag", "B"),
)
"""The fields of a row in their order, each with its type as in the module struct, aligned as in C."""


def _up_to(last: str) -> Struct:
    """What reads and writes the fields of a row from the first to this one."""
    names = [name for name, _ in _COLUMNS]
    return Struct("@" + "".join(kind for _, kind in _COLUMNS[: names.index(last) + 1]))


LAYOUT: Final[Mapping[str, tuple[int, int]]] = {
    name: (_up_to(name).size - calcsize(kind), calcsize(kind)) for name, kind in _COLUMNS
}
"""Where in a row each field is: offset and size in bytes. lb/linux/batch.c is held to it."""

HOT: Final = _up_to("state")
"""What a packet of a known session reads and writes, the beginning of its row: last_seen, packets, bytes,
seq, ack, server, state."""

_NEW: Final = _up_to("created").pack_into
"""What is written for a new session: HOT, protocol, isn, created."""

_CHUNK: Final = 1024
"""Rows that the block of memory grows by."""


class SessionState(IntEnum):
    """What the box can tell from the client's side alone."""

    SYN = 1
    """Half-open: no ACK of the client seen yet. It has a timeout of its own."""
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


# As plain numbers: the attribute of an Enum costs more than all else in `timeout_s`.
_SYN: Final = int(SessionState.SYN)
_FIN: Final = int(SessionState.FIN)
_RESET: Final = int(SessionState.RESET)


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
        if after:
            self.previous[after] = before
        elif before:
            self.tails[self.of[slot]] = before
        if before:
            self.next[before] = after
        elif after:
            self.heads[self.of[slot]] = after
        else:
            del self.heads[self.of[slot]], self.tails[self.of[slot]]


class SessionTable:
    """Sessions by key, by server and by the time they expire.

    The columns are public: the box reads and writes those of a known session directly, once per packet.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tombstone_s = 60.0
        self.tombstones = 0
        self._entries = 0
        self.aging_s: list[float] = [0.0]
        """Idle timeout of each server's established sessions, by server id; see `set_timeouts`."""
        self.timeouts_s = ([0.0], self.aging_s, [0.0], self.aging_s)
        """Idle timeouts in the order of SessionState: SYN, ESTABLISHED, FIN, UDP; each by server id."""
        self.index: dict[int, list[dict[bytes, int]]] = {
            protocol: [{} for _ in range(256)] for protocol in (TCP, UDP)
        }
        """Slot by key, for each protocol and low byte of the client's port (`SHARD`).

        A dict of a million keys takes 30 ms to grow, in the middle of a packet; one of a 256th takes 0.1 ms.
        """
        self.key: list[bytes] = [b""]
        self.rows = bytearray()
        """The columns' memory, ROW bytes a slot: the same object for ever, though it grows and may move."""
        self.last_seen: memoryview[float]
        self.packets: memoryview[int]
        self.bytes: memoryview[int]
        self.seq: memoryview[int]
        """The sequence number after the highest byte forwarded: what the server expects next."""
        self.ack: memoryview[int]
        """The highest acknowledgement seen: what the client expects next, for all that the box knows."""
        self.server: memoryview[int]
        self.state: memoryview[int]
        self.protocol: memoryview[int]
        self.isn: memoryview[int]
        self.created: memoryview[float]
        self.tag: memoryview[int]
        """Of a tombstone: a number that means something to who made it."""
        self._views: list[memoryview[int] | memoryview[float]] = []
        self._extend()
        self._by_server = _Chains()
        self._by_tick = _Chains()
        self._ticks: list[int] = []  # a heap of the ticks that have, or had, a chain
        self._known_ticks: set[int] = set()  # the same
        self._rescan = NONE  # the next slot to be scheduled anew, after an idle timeout became shorter
        self._free = NONE  # free slots are linked through _by_server.next

    def __len__(self) -> int:
        """Sessions; tombstones are none."""
        return self._entries - self.tombstones

    def set_timeouts(self, server: int, *, syn_s: float, aging_s: float, fin_s: float) -> None:
        """Box seconds without a packet after which this server's sessions go; sessions in the table included.

        `syn_s` is for half-open sessions, `fin_s` for those whose client has closed, `aging_s` for others.
        """
        for by_server, timeout_s in zip(self.timeouts_s, (syn_s, aging_s, fin_s, aging_s), strict=True):
            by_server.extend([0.0] * (server + 1 - len(by_server)))
            if timeout_s < by_server[server]:
                self._rescan = 1
            by_server[server] = timeout_s

    def full(self) -> bool:
        return len(self) >= self.limit

    def is_tombstone(self, slot: int) -> bool:
        """Whether the entry is no session, but the memory of one whose client was sent a reset."""
        return self.state[slot] >= _RESET

    def timeout_s(self, slot: int) -> float:
        """The idle timeout of the session in box seconds."""
        if self.is_tombstone(slot):
            return self.tombstone_s
        return self.timeouts_s[self.state[slot] - _SYN][self.server[slot]]

    def expired(self, slot: int, now: float) -> bool:
        return now - self.last_seen[slot] >= self.timeout_s(slot)

    def find(self, protocol: int, key: bytes) -> int:
        """The slot of the flow's session, or NONE."""
        shards = self.index.get(protocol)
        return shards[key[SHARD]].get(key, NONE) if shards else NONE

    def insert(
        self, now: float, protocol: int, key: bytes, server: int, state: int, seq: int, ack: int
    ) -> int:
        """A new session; the caller has seen that the key is not there and that the table is not full."""
        slot = self._free or self._grow()
        self._free = self._by_server.next[slot]
        self.index[protocol][key[SHARD]][key] = slot
        self._entries += 1
        self.key[slot] = key
        _NEW(self.rows, slot * ROW, now, 0, 0, seq, ack, server, state, protocol, seq, now)
        self._by_server.join(server, slot)
        self._schedule(slot)
        return slot

    def remove(self, slot: int) -> None:
        key = self.key[slot]
        del self.index[self.protocol[slot]][key[SHARD]][key]
        self._entries -= 1
        self._by_tick.leave(slot)
        if self.is_tombstone(slot):
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
        self._restate(slot, now, _RESET)

    def close(self, slot: int, now: float) -> None:
        """The client has sent its FIN: from here on the session has the short timeout."""
        self._restate(slot, now, _FIN)

    def reopen(self, slot: int, now: float, seq: int) -> None:
        """Another connection takes the entry over, server and counters and all."""
        self.isn[slot] = self.seq[slot] = seq
        self._restate(slot, now, _SYN)

    def _restate(self, slot: int, now: float, state: int) -> None:
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
            self.get(slot) for slot in range(start, end) if self.server[slot] and not self.is_tombstone(slot)
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
        if slot * ROW == len(self.rows):
            self._extend()
        self.key.append(b"")
        self._by_server.grow()
        self._by_tick.grow()
        return slot

    def _extend(self) -> None:
        """More rows, and the columns anew: memory does not grow while somebody has a view of it."""
        for view in self._views:
            view.release()
        self.rows.extend(bytes(_CHUNK * ROW))
        self._views = []
        for name, kind in _COLUMNS:
            offset, _ = LAYOUT[name]
            every = memoryview(self.rows).cast(kind)
            column = every[offset // every.itemsize :: ROW // every.itemsize]
            self._views += every, column
            setattr(self, name, column)


_EXPIRED: Final = 0
"""The chain of what `sweep` has given out and the box has not removed yet; no tick has this number."""
