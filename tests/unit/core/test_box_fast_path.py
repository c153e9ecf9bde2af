"""The short way for an everyday segment does what the long way does, and allocates nothing."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, IPOption_NOP

from lb.core.box import Box

from .dialogue import CLIENT, CLIENT6, ISN, PORT, VIP, VIP6, Dialogue, service, tcp

numbers = st.integers(-70_000, 70_000).map(lambda step: (ISN + step) % 2**32) | st.integers(0, 2**32 - 1)


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """A client's segments, mostly of one connection and mostly well-formed, but not in any sensible order."""
    fields: dict[str, Any] = {}
    if draw(st.integers(0, 9)) == 0:
        fields = draw(
            st.sampled_from(
                [
                    {"frag": 1},
                    {"flags": "MF"},
                    {"flags": "evil"},
                    {"options": [IPOption_NOP()] * 4},
                    {"len": 39},
                ]
            )
        )
    transport = TCP(
        sport=draw(st.sampled_from([PORT, PORT, PORT, PORT + 1])),
        dport=80,
        seq=draw(numbers),
        ack=draw(numbers),
        flags=draw(
            st.sampled_from(["A", "A", "A", "PA", "UA", "EA", "S", "SA", "FA", "R", "RA", "", "P", "SEC"])
        ),
        options=draw(st.sampled_from([[], [("Timestamp", (1, 2))], [("NOP", None)] * 40])),
        dataofs=draw(st.sampled_from([None, None, None, None, 4, 6, 15])),
    )
    data = draw(st.sampled_from([b"", b"x", b"x" * 21, b"x" * 1460]))
    whole = bytes(IP(src=CLIENT, dst=VIP, **fields) / transport / data)
    return whole[: draw(st.sampled_from([64, 41, 40, 39]))] if draw(st.booleans()) else whole


def state_of(box: Box) -> tuple[object, ...]:
    servers = [(server.id, server.sessions, server.flows) for server in box.services.servers.values()]
    return box.table.page(0, 100), box.forwarded, box.dropped, box.resets, servers, box.take_packets()


pauses = st.sampled_from([0.0, 0.3, 7.9, 8.0, 59.9, 60.0, 119.9, 120.0, 600.0])
arrivals = st.lists(st.tuples(pauses, st.booleans(), segments()), min_size=1, max_size=12)


@settings(max_examples=200)
@given(arrivals)
@example([(120.0, True, bytes(tcp("A", seq=ISN + 1, ack=501)))])
@example([(119.9, True, bytes(tcp("A", seq=ISN + 1, ack=501)))])
def test_fast_path_and_general_path_agree_on_every_packet(arrivals: list[tuple[float, bool, bytes]]) -> None:
    """Also when the timer is late, and a session has expired that is still in the table."""
    short, long = Dialogue(service(aging_s=120)), Dialogue(service(aging_s=120))
    for talk in (short, long):
        talk.send(tcp("S"))
        talk.send(tcp("A", seq=ISN + 1, ack=501))

    for seconds, timer_is_late, packet in arrivals:
        for talk in (short, long):
            if timer_is_late:
                talk.now += seconds
            else:
                talk.wait(seconds)
        verdict = short.box.handle_packet(short.now, packet)

        assert verdict == long.box._handle_any(long.now, packet), packet.hex(" ")
        assert state_of(short.box) == state_of(long.box), packet.hex(" ")


def test_everyday_segment_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare the general path with itself."""
    talk = Dialogue()
    talk.send(tcp("S"))
    talk.send(tcp("A", seq=ISN + 1, ack=501))
    monkeypatch.setattr(talk.box, "_handle_any", None)

    assert talk.send(tcp("PA", seq=ISN + 1, ack=501, data=b"GET /")) == "rs1"
    assert talk.send(tcp("A", seq=ISN + 6, ack=900, options=[("Timestamp", (1, 2))])) == "rs1"


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_packet_of_a_known_session_leaves_nothing_allocated(client: str) -> None:
    talk = Dialogue(service(), service("six", vip=VIP6))
    talk.send(tcp("S", client=client))
    packet = bytes(tcp("PA", seq=ISN + 1, ack=501, data=b"x" * 100, client=client))
    handle, now = talk.box.handle_packet, talk.now
    times = [now + place / 100 for place in range(10_000)]
    for time in times[:1000]:
        handle(time, packet)

    gc.collect()
    before = sys.getallocatedblocks()
    for time in times:
        handle(time, packet)
    gc.collect()
    kept = sys.getallocatedblocks() - before

    assert kept < 100, f"{kept} blocks kept after {len(times)} packets"
    assert talk.box.forwarded == 11_001
