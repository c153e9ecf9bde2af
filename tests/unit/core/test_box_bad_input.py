"""SPEC §8: whatever comes, the box does not raise, counts it, and touches nobody else's session."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Raw

from lb.core.packet import Drop
from lb.core.service import Policy
from lb.core.session import Session

from .dialogue import CLIENT, CLIENT6, ISN, OTHER_CLIENT, VIP, VIP6, Dialogue, service, tcp, udp

ATTACKER = "100.90.80.70"
"""Far from every other address bit by bit, so that no mutation forges a victim's packet."""

VALID = [
    bytes(packet)
    for packet in (
        tcp("S", client=ATTACKER),
        tcp("S", seq=77_000, client=ATTACKER),
        tcp("A", seq=ISN + 1, ack=501, client=ATTACKER),
        tcp("PA", seq=ISN + 1, ack=501, data=b"GET / HTTP/1.1\r\n\r\n", client=ATTACKER),
        tcp("A", seq=ISN + 1, ack=501, options=[("Timestamp", (1, 2))], client=ATTACKER),
        tcp("FA", seq=ISN + 1, ack=501, client=ATTACKER),
        tcp("R", client=ATTACKER),
        udp(b"query", client=ATTACKER),
        IP(src=ATTACKER, dst=VIP) / ICMP(type=3, code=4) / Raw(bytes(IP(src=VIP, dst=ATTACKER) / TCP())),
        IP(src=ATTACKER, dst=VIP)
        / ICMP(type=3, code=4)
        / Raw(bytes(IP(src=VIP, dst=CLIENT) / TCP(dport=40000))),
        tcp("S", client="2001:4860::88"),
        IPv6(src="2001:4860::88", dst=VIP6) / IPv6ExtHdrDestOpt() / TCP(flags="A"),
    )
]
mutations = st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), min_size=1, max_size=6)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    packet = bytearray(draw(st.sampled_from(VALID)))
    for place, byte in draw(mutations):
        packet[place % len(packet)] = byte
    return bytes(packet[: draw(st.integers(1, len(packet)))] if draw(st.booleans()) else packet)


packets = st.binary(max_size=100) | st.sampled_from(VALID) | mutated()


def with_victims(no_entry: Policy = Policy.RESET) -> Dialogue:
    talk = Dialogue(
        service(on_no_entry=no_entry),
        service("dns", port=53, protocol=17),
        service("six", vip=VIP6, on_no_entry=no_entry),
    )
    for client in (CLIENT, OTHER_CLIENT, CLIENT6):
        talk.send(tcp("S", client=client))
        talk.send(tcp("A", seq=ISN + 1, ack=501, client=client))
    talk.send(udp(b"query"))
    return talk


def victims(talk: Dialogue) -> list[Session | None]:
    return [talk.session(client=client) for client in (CLIENT, OTHER_CLIENT, CLIENT6)] + [talk.udp_session()]


@settings(max_examples=300)
@given(st.lists(st.tuples(packets, st.sampled_from([0.0, 0.1, 9.0])), max_size=20), st.sampled_from(Policy))
def test_whatever_comes_is_counted_once_and_touches_nobody_elses_session(
    arrivals: list[tuple[bytes, float]], no_entry: Policy
) -> None:
    talk = with_victims(no_entry)
    before = victims(talk)
    reasons = {reason.value for reason in Drop}

    for packet, seconds in arrivals:
        verdict = talk.send(packet)
        assert verdict in reasons or verdict in talk.states()
        talk.wait(seconds)

    assert victims(talk) == before
    assert talk.box.forwarded + talk.box.dropped.total() == 7 + len(arrivals)


@settings(max_examples=300)
@given(packets)
def test_no_answer_is_longer_than_a_header_or_more_than_one(packet: bytes) -> None:
    """The box must not be a way to multiply an attack on somebody else."""
    talk = with_victims()
    talk.send(packet)

    assert len(talk.packets) <= 1
    assert all(len(answer) <= 60 for answer in talk.packets)


@given(st.integers(1, 59))
def test_truncated_copy_never_changes_a_session(length: int) -> None:
    for client in (CLIENT, CLIENT6):
        talk = with_victims()
        before = victims(talk)
        header = 60 if ":" in client else 40
        if length < header:
            assert talk.send(bytes(tcp("R", client=client))[:length]) == "truncated"
            assert victims(talk) == before
