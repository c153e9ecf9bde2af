"""`preview` says of a packet what `handle_packet` then does with it, and changes nothing."""

from __future__ import annotations

from array import array
from collections import deque
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP

from lb.core.box import DROPPED, Box
from lb.core.decision import Forward, Preview
from lb.core.packet import Drop
from lb.core.scheduler import SCHEDULERS
from lb.core.service import Policy, PortReuse, RealServer, ServiceSettings

from .dialogue import CLIENT, ISN, PORT, VIP, Dialogue, service, tcp, udp
from .test_box_fast_path import pauses, segments


def snapshot(value: Any, seen: dict[int, tuple[int, Any]] | None = None) -> Any:
    """All that can be reached from a value, in plain lists; what was met before is a number."""
    seen = {} if seen is None else seen
    if value is None or isinstance(value, bool | int | float | str | bytes | Enum):
        return value
    if isinstance(value, memoryview) or callable(value):
        return None  # a view of the rows, which are seen themselves; a function
    if isinstance(value, bytearray | array):
        return bytes(value)
    if id(value) in seen:
        return seen[id(value)][0]
    seen[id(value)] = len(seen), value  # kept, so that no other gets its id
    if isinstance(value, dict):
        return [(snapshot(key, seen), snapshot(each, seen)) for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple | deque):
        return [snapshot(each, seen) for each in value]
    fields = getattr(value, "__dict__", None) or {
        name: getattr(value, name) for name in type(value).__slots__
    }
    return [type(value).__name__, snapshot(fields, seen)]


def previewed(box: Box, now: float, packet: bytes) -> Preview:
    """The preview of a packet that is then handled."""
    before = snapshot(box)
    preview = box.preview(now, packet)
    assert snapshot(box) == before, "the preview has changed something"

    dropped, forwarded, waiting = box.dropped.copy(), box.forwarded, len(box._packets)
    verdict = box.handle_packet(now, packet)

    assert preview.verdict == verdict
    assert preview.answered is (len(box._packets) > waiting)
    if verdict == DROPPED:
        assert list((box.dropped - dropped).elements()) == [preview.why]
    else:
        assert box.forwarded == forwarded + 1
        assert isinstance(preview.why, Forward)
        assert not preview.among or verdict in [server.id for server in preview.among]
    return preview


settings = st.builds(
    service,
    scheduler=st.sampled_from(sorted(SCHEDULERS)),
    on_port_reuse=st.sampled_from(PortReuse),
    on_no_entry=st.sampled_from(Policy),
    on_no_server=st.sampled_from([Policy.RESET, Policy.DROP]),
    on_table_full=st.sampled_from([Policy.RESET, Policy.DROP]),
    aging_s=st.just(120),
)
packets = (
    segments()
    | st.builds(tcp, st.just("S"), port=st.integers(PORT, PORT + 3), seq=st.integers(0, 3)).map(bytes)
    | st.builds(tcp, st.just("S"), client=st.sampled_from(["127.0.0.1", VIP]), vip=st.just(VIP)).map(bytes)
    | st.just(bytes(udp(b"x")))
)
actions = st.sampled_from(["none", "none", "none", "reset", "disable"])


@given(settings, st.integers(1, 3), st.lists(st.tuples(pauses, st.booleans(), actions, packets), max_size=12))
def test_preview_tells_the_verdict_and_the_reason_and_changes_nothing(
    web: ServiceSettings, limit: int, steps: list[tuple[float, bool, str, bytes]]
) -> None:
    """Also of sessions that have expired and are still in the table, and of those that were reset."""
    talk = Dialogue(web, service("dns", port=53, protocol=17), session_limit=limit)
    for seconds, timer_is_late, action, packet in steps:
        if timer_is_late:
            talk.now += seconds
        else:
            talk.wait(seconds)
        if action == "reset":
            for session in talk.sessions():
                talk.box.reset_session(talk.now, session.slot)
        elif action == "disable":
            talk.box.disable(talk.now, _next_bound(talk))
        previewed(talk.box, talk.now, packet)


def _next_bound(talk: Dialogue) -> RealServer:
    """A server that is still bound, if any is."""
    servers = list(talk.box.services.servers.values())
    return next((server for server in servers if server.bound), servers[0])


def opened(**rest: Any) -> Dialogue:
    talk = Dialogue(service(**rest), session_limit=1)
    talk.send(tcp("S"))
    talk.send(tcp("A", seq=ISN + 1, ack=501))
    return talk


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_preview_of_a_flow_names_the_server_that_it_then_gets_and_those_it_could_get(scheduler: str) -> None:
    talk = Dialogue(service(scheduler=scheduler))
    for port in range(PORT, PORT + 20):
        preview = previewed(talk.box, talk.now, bytes(tcp("S", port=port)))
        assert preview.why is Forward.NEW_FLOW
        assert [server.name for server in preview.among] == ["rs1", "rs2", "rs3"]


def test_reused_port_gives_back_its_place_before_it_is_scheduled() -> None:
    """In a full table, and with the scheduler that counts sessions: rs1 would come first among equals."""
    talk = Dialogue(service(scheduler="least-connections", servers=("rs1", "rs2")), session_limit=2)
    assert [talk.send(tcp("S", port=port)) for port in (1, 2)] == ["rs1", "rs2"]

    preview = previewed(talk.box, talk.now, bytes(tcp("S", port=2, seq=77)))

    assert preview.why is Forward.NEW_FLOW
    assert preview.verdict == talk.server("rs2").id


@pytest.mark.parametrize(
    ("packet", "why", "answered"),
    [
        (tcp("A", seq=ISN + 1, ack=501), Forward.SESSION, False),
        (tcp("S"), Forward.SESSION, False),
        (tcp("S", seq=77), Forward.KEPT, False),
        (tcp("S", port=9), Drop.TABLE_FULL, True),
        (tcp("A", port=9), Drop.NO_ENTRY, True),
        (tcp("R", port=9), Drop.NO_ENTRY, False),
        (tcp("A", vip_port=81), Drop.NO_SERVICE, False),
        (tcp("SF"), Drop.FLAGS, False),
        (tcp("S", client="127.0.0.1"), Drop.SOURCE, False),
        (b"", Drop.TRUNCATED, False),
        (IP(src=CLIENT, dst=VIP) / ICMP(type=8), Drop.ICMP, False),
    ],
)
def test_preview_says_why(packet: Any, why: Forward | Drop, answered: bool) -> None:
    talk = opened(on_port_reuse=PortReuse.KEEP)

    preview = previewed(talk.box, talk.now, bytes(packet))

    assert (preview.why, preview.answered) == (why, answered)


def test_preview_of_an_icmp_error_is_the_server_of_the_session_that_it_is_about() -> None:
    talk = opened()
    quoted = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=PORT)
    error = IP(src="192.0.2.200", dst=VIP) / ICMP(type=3, code=4) / quoted

    assert previewed(talk.box, talk.now, bytes(error)).why is Forward.ICMP


def test_preview_of_a_packet_for_a_session_that_was_reset_is_the_exact_reset() -> None:
    talk = opened()
    (session,) = talk.sessions()
    talk.box.reset_session(talk.now, session.slot)

    preview = previewed(talk.box, talk.now, bytes(tcp("A", seq=ISN + 1, ack=900)))
    assert (preview.why, preview.answered) == (Drop.RESET, True)
    assert previewed(talk.box, talk.now, bytes(tcp("S", seq=9))).why is Forward.NEW_FLOW
