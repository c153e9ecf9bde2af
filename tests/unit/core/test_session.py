"""The session table against a plain dict, and its aging to the tick."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lb.core.packet import join
from lb.core.session import HOT, LAYOUT, NONE, ROW, TICK_S, SessionState, SessionTable

FIN_S = 8.0
SYN_S = {1: 60.0, 2: 5.0, 3: 120.0}
AGING_S = {1: 600.0, 2: 120.0, 3: 130.5}
LIMIT = 6
TCP, UDP = 6, 17


class CountingTable(SessionTable):
    """Counts the sessions that `sweep` looks at."""

    looks = 0

    def expired(self, slot: int, now: float) -> bool:
        self.looks += 1
        return super().expired(slot, now)


def new_table(limit: int = LIMIT) -> CountingTable:
    table = CountingTable(limit)
    for server in AGING_S:
        set_timeouts(table, server)
    return table


def set_timeouts(
    table: SessionTable, server: int, *, syn_s: float = 0.0, aging_s: float = 0.0, fin_s: float = FIN_S
) -> None:
    """The timeouts given, the others as in SYN_S, AGING_S and FIN_S."""
    table.set_timeouts(server, syn_s=syn_s or SYN_S[server], aging_s=aging_s or AGING_S[server], fin_s=fin_s)


def key(number: int) -> bytes:
    if number % 2:
        return join(b"\xc6\x33\x64\x07", 40000 + number, b"\xc0\x00\x02\x0a", 80)
    return join(bytes(15) + b"\x07", 40000 + number, bytes(15) + b"\x0a", 80)


def opened(
    table: SessionTable,
    number: int = 0,
    *,
    now: float = 1000.0,
    server: int = 1,
    seq: int = 5,
    state: SessionState = SessionState.ESTABLISHED,
) -> int:
    return table.insert(now, TCP, key(number), server, state, seq, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """What the model knows of an entry."""

    slot: int
    server: int
    state: SessionState
    created: float
    last_seen: float
    seq: int

    @property
    def is_session(self) -> bool:
        return self.state < SessionState.RESET

    @property
    def expires(self) -> float:
        if self.state is SessionState.FIN:
            return self.last_seen + FIN_S
        if self.state is SessionState.SYN:
            return self.last_seen + SYN_S[self.server]
        return self.last_seen + (AGING_S[self.server] if self.is_session else 60.0)


flows = st.tuples(st.sampled_from([TCP, UDP]), st.integers(0, 5).map(key))
waits = st.floats(0, 700) | st.sampled_from(
    [0.0, 0.1, 0.25, 5.0, 7.75, 8.0, 8.25, 60.0, 119.75, 120.0, 599.0, 600.0]
)


class TableAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 5000.0
        self.table = new_table()
        self.model: dict[tuple[int, bytes], Row] = {}
        self.most = 0
        self.walk: int | None = None
        self.stable: set[bytes] = set()
        self.seen: list[bytes] = []

    def sessions(self) -> dict[tuple[int, bytes], Row]:
        return {flow: row for flow, row in self.model.items() if row.is_session}

    @rule(flow=flows, server=st.sampled_from([1, 2, 3]), seq=st.integers(0, 2**32 - 1))
    def open(self, flow: tuple[int, bytes], server: int, seq: int) -> None:
        if flow in self.model or len(self.sessions()) == LIMIT:
            return
        state = SessionState.SYN if flow[0] == TCP else SessionState.UDP
        slot = self.table.insert(self.now, *flow, server, state, seq, 0)
        assert slot != NONE
        assert slot not in {row.slot for row in self.model.values()}
        self.model[flow] = Row(slot, server, state, self.now, self.now, seq)
        self.most = max(self.most, len(self.model))

    @rule(flow=flows)
    def packet(self, flow: tuple[int, bytes]) -> None:
        if flow in self.sessions():
            self.table.last_seen[self.model[flow].slot] = self.now
            self.model[flow] = replace(self.model[flow], last_seen=self.now)

    @rule(flow=flows)
    def acknowledge(self, flow: tuple[int, bytes]) -> None:
        """As the box does, and the module in C: the row says ESTABLISHED, the chains know nothing of it."""
        if flow in self.sessions() and self.model[flow].state is SessionState.SYN:
            slot = self.model[flow].slot
            self.table.state[slot] = SessionState.ESTABLISHED
            self.table.last_seen[slot] = self.now
            self.model[flow] = replace(self.model[flow], state=SessionState.ESTABLISHED, last_seen=self.now)

    @rule(flow=flows)
    def close(self, flow: tuple[int, bytes]) -> None:
        if flow in self.sessions() and flow[0] == TCP:
            self.table.close(self.model[flow].slot, self.now)
            self.model[flow] = replace(self.model[flow], state=SessionState.FIN, last_seen=self.now)

    @rule(flow=flows, seq=st.integers(0, 2**32 - 1))
    def reopen(self, flow: tuple[int, bytes], seq: int) -> None:
        if flow in self.sessions() and flow[0] == TCP:
            self.table.reopen(self.model[flow].slot, self.now, seq)
            self.model[flow] = replace(self.model[flow], state=SessionState.SYN, last_seen=self.now, seq=seq)

    @rule(flow=flows)
    def bury(self, flow: tuple[int, bytes]) -> None:
        if flow in self.sessions() and flow[0] == TCP:
            self.table.bury(self.model[flow].slot, self.now)
            self.model[flow] = replace(self.model[flow], state=SessionState.RESET, last_seen=self.now)
            self.stable.discard(flow[1])

    @rule(flow=flows)
    def remove(self, flow: tuple[int, bytes]) -> None:
        if flow in self.model:
            self.table.remove(self.model.pop(flow).slot)
            self.stable.discard(flow[1])

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(budget=st.integers(1, 4))
    def sweep(self, budget: int) -> None:
        before = self.table.looks

        found = self.table.sweep(self.now, budget)

        looks = self.table.looks - before
        assert looks <= budget
        rows = {row.slot: flow for flow, row in self.model.items()}
        for slot in found:
            flow = rows[slot]
            assert self.now >= self.model[flow].expires
            self.remove(flow)
        if looks < budget:
            late = [row for row in self.model.values() if row.expires + TICK_S <= self.now]
            assert late == []

    @precondition(lambda self: self.walk is None)
    @rule()
    def begin_walk(self) -> None:
        self.walk, self.seen = 0, []
        self.stable = {key for protocol, key in self.sessions() if protocol == TCP}

    @precondition(lambda self: self.walk is not None)
    @rule(look=st.integers(1, 4))
    def walk_on(self, look: int) -> None:
        assert self.walk is not None
        rows, self.walk = self.table.page(self.walk, look)
        assert len(rows) <= look
        self.seen += [row.key for row in rows if row.protocol == TCP]
        if self.walk == 0:
            assert sorted(key for key in self.seen if key in self.stable) == sorted(self.stable)
            self.walk = None

    @invariant()
    def same_entries(self) -> None:
        for protocol in (TCP, UDP):
            for number in range(6):
                flow = protocol, key(number)
                row = self.model.get(flow)
                assert self.table.find(*flow) == (row.slot if row else NONE)
                if row:
                    entry = self.table.get(row.slot)
                    assert (entry.protocol, entry.key) == flow
                    assert (entry.server, entry.state) == (row.server, row.state)
                    assert (entry.created, entry.last_seen) == (row.created, row.last_seen)
                    assert (entry.expires, entry.seq) == (row.expires, row.seq)

    @invariant()
    def same_sessions_in_every_view(self) -> None:
        slots = {row.slot for row in self.sessions().values()}
        assert len(self.table) == len(slots)
        assert self.table.full() == (len(slots) == LIMIT)
        assert {row.slot for row in self.table.page(0, 100)[0]} == slots
        for server in AGING_S:
            of_server = list(self.table.of_server(server))
            assert sorted(of_server) == sorted(
                row.slot for row in self.sessions().values() if row.server == server
            )

    @invariant()
    def deadline_is_never_late(self) -> None:
        if self.model:
            assert self.table.next_deadline() < min(row.expires for row in self.model.values()) + TICK_S

    def teardown(self) -> None:
        for flow in list(self.model):
            self.remove(flow)
        self.same_sessions_in_every_view()
        assert len(self.table.key) == self.most + 1, "a free slot was not used again"
        assert self.table.sweep(math.inf, 1) == []
        assert self.table.next_deadline() == math.inf


TestTableAgainstDict = TableAgainstDict.TestCase
TestTableAgainstDict.settings = settings(max_examples=60, stateful_step_count=40)


# Aging, to the tick


@pytest.mark.parametrize("last_seen", [1000.0, 1000.1, 1000.25, 1000.3333, 86_400_000.7])
def test_idle_session_is_there_at_599_s_and_gone_at_601(last_seen: float) -> None:
    table = new_table()
    slot = opened(table, now=last_seen)

    assert table.sweep(last_seen + 599, 10) == []
    assert not table.expired(slot, last_seen + 599)
    assert table.sweep(last_seen + 601, 10) == [slot]


@given(st.floats(0, 1e6), st.sampled_from(sorted(AGING_S)))
def test_idle_session_is_swept_at_most_one_tick_late_and_never_early(opened_at: float, server: int) -> None:
    table = new_table()
    slot = opened(table, now=opened_at, server=server)

    assert table.sweep(math.nextafter(opened_at + AGING_S[server], 0) - 1e-6, 10) == []
    assert table.sweep(opened_at + AGING_S[server] + TICK_S, 10) == [slot]


def test_packet_put_off_aging_although_the_tick_it_was_due_at_has_come() -> None:
    table = new_table()
    slot = opened(table, now=1000)
    table.last_seen[slot] = 1599.9

    assert table.sweep(1600, 10) == []
    assert table.sweep(1600 + 599.75, 10) == []
    assert table.sweep(1600 + 600, 10) == [slot]


def test_sweep_looks_at_its_budget_and_reaches_every_session_in_the_end() -> None:
    table = new_table(limit=1000)
    slots = [opened(table, number, now=1000 + number % 7) for number in range(100)]
    found: list[int] = []
    for _ in range(15):
        before = table.looks
        chunk = table.sweep(10_000, 7)
        assert table.looks - before == len(chunk) == min(7, 100 - len(found))
        found += chunk
        for slot in chunk:
            table.remove(slot)

    assert sorted(found) == sorted(slots)
    assert table.next_deadline() == math.inf


def test_sessions_that_expire_first_are_found_first() -> None:
    table = new_table(limit=1000)
    times = [1000 + number * 31 % 100 for number in range(100)]
    expiries = {opened(table, number, now=time): time for number, time in enumerate(times)}

    found = [table.sweep(10_000, 1)[0] for _ in range(100)]

    assert all(expiries[one] <= expiries[next_one] for one, next_one in pairwise(found))


def test_busy_session_is_looked_at_once_in_its_idle_timeout() -> None:
    table = new_table()
    slot = opened(table, now=1000)
    for second in range(1000, 4600):
        table.last_seen[slot] = second
        assert table.sweep(second, 10) == []

    assert table.looks <= 3600 / 600 + 1


def test_deadline_of_an_empty_table_is_never() -> None:
    assert new_table().next_deadline() == math.inf


def test_sweep_gives_an_expired_session_only_once_even_if_it_is_not_removed_yet() -> None:
    table = new_table()
    slot = opened(table)

    assert table.sweep(2000, 10) == [slot]
    assert table.sweep(2000, 10) == []
    table.remove(slot)
    assert len(table) == 0


def test_flows_that_come_and_go_in_one_tick_leave_nothing_behind() -> None:
    """A client that opens and resets all day must not make the box grow."""
    table = new_table()
    for _ in range(1000):
        table.remove(opened(table, now=1000.0))

    assert len(table._ticks) <= 1
    assert len(table.key) == 2


def test_sessions_stay_what_they_are_while_the_columns_grow() -> None:
    """Their memory moves, and whoever has it in his hands keeps it."""
    table = new_table(limit=5000)
    rows = table.rows
    slots = [opened(table, number, now=1000.0 + number, seq=number) for number in range(5000)]

    assert table.rows is rows
    assert len(rows) >= 5000 * ROW
    assert [table.seq[slot] for slot in slots] == list(range(5000))
    assert [table.created[slot] for slot in slots] == [1000.0 + number for number in range(5000)]
    assert [table.find(TCP, key(number)) for number in range(5000)] == slots


def test_shorter_aging_ages_out_what_is_idle_for_longer_already() -> None:
    table = new_table()
    slot = opened(table, now=1000)

    set_timeouts(table, 1, aging_s=120)

    assert table.next_deadline() <= 1120.25
    assert table.sweep(1121, 10) == [slot]


@pytest.mark.parametrize("state", [SessionState.SYN, SessionState.FIN])
def test_shorter_timeout_of_half_open_and_closed_sessions_holds_for_those_that_are_there(
    state: SessionState,
) -> None:
    table = new_table()
    slot = opened(table, now=1000, state=state)

    set_timeouts(table, 1, syn_s=3.0, fin_s=3.0)

    assert table.sweep(1002.9, 10) == []
    assert table.sweep(1003.25, 10) == [slot]


def test_half_open_session_goes_at_its_own_timeout() -> None:
    table = new_table()
    half_open = opened(table, 0, now=1000, state=SessionState.SYN)
    opened(table, 1, now=1000)

    assert table.next_deadline() == 1060
    assert table.sweep(1059.9, 10) == []
    assert table.sweep(1060, 10) == [half_open]


def test_session_acknowledged_in_time_has_the_whole_aging_time() -> None:
    table = new_table()
    slot = opened(table, now=1000, state=SessionState.SYN)
    table.state[slot] = SessionState.ESTABLISHED
    table.last_seen[slot] = 1059.9

    assert table.sweep(1060, 10) == []
    assert table.sweep(1059.9 + 599, 10) == []
    assert table.sweep(1060 + 600, 10) == [slot]
    assert table.looks == 2, "once at the SYN's timeout, once at the aging time's"


def test_longer_aging_keeps_sessions_for_longer() -> None:
    table = new_table()
    slot = opened(table, now=1000)

    set_timeouts(table, 1, aging_s=3600)

    assert table.sweep(1000 + 3599, 10) == []
    assert table.sweep(1000 + 3601, 10) == [slot]


# Rows


def test_fields_of_a_row_follow_each_other_and_none_is_beyond_its_end() -> None:
    end = 0
    for name, (offset, size) in LAYOUT.items():
        assert offset >= end, name
        assert offset % size == ROW % size == 0, f"{name} has no column"
        end = offset + size
    assert end <= ROW


def test_what_a_packet_writes_is_in_the_columns_that_it_is_named_after() -> None:
    table = new_table()
    slot = table.insert(1000.5, TCP, key(0), 2, SessionState.SYN, 7, 8)

    assert (table.created[slot], table.last_seen[slot], table.isn[slot]) == (1000.5, 1000.5, 7)
    assert (table.protocol[slot], table.server[slot], table.state[slot]) == (TCP, 2, SessionState.SYN)
    HOT.pack_into(table.rows, slot * ROW, 1001.5, 3, 4, 5, 6, 1, SessionState.ESTABLISHED)
    assert (table.last_seen[slot], table.packets[slot], table.bytes[slot]) == (1001.5, 3, 4)
    assert (table.seq[slot], table.ack[slot]) == (5, 6)
    assert (table.server[slot], table.state[slot]) == (1, SessionState.ESTABLISHED)
    assert (table.created[slot], table.isn[slot], table.tag[slot]) == (1000.5, 7, 0)


# Views


def test_sessions_of_a_server_may_be_removed_while_they_are_walked() -> None:
    table = new_table(limit=100)
    for number in range(30):
        opened(table, number, server=1 + number % 2)

    for slot in table.of_server(1):
        table.remove(slot)

    assert list(table.of_server(1)) == []
    assert len(list(table.of_server(2))) == len(table) == 15


def test_oldest_session_of_a_server() -> None:
    table = new_table()
    first, second, third = (opened(table, number, now=1000 + number) for number in range(3))

    assert table.oldest(2) == NONE
    for slot in (first, second, third):
        assert table.oldest(1) == slot
        table.remove(slot)
    assert table.oldest(1) == NONE


def test_pages_end_with_cursor_zero_wherever_they_start() -> None:
    table = new_table(limit=100)
    for number in range(5):
        opened(table, number)

    assert [len(table.page(cursor, 2)[0]) for cursor in (0, 3, 5, 6, 1000)] == [2, 2, 1, 0, 0]
    assert [table.page(cursor, 2)[1] for cursor in (0, 3, 5, 6, 1000)] == [3, 5, 0, 0, 0]


def test_slots_are_used_again_last_freed_first() -> None:
    table = new_table(limit=100)
    slots = [opened(table, number) for number in range(10)]
    for slot in slots[2:5]:
        table.remove(slot)

    assert [opened(table, 10 + number) for number in range(4)] == [*reversed(slots[2:5]), 11]
