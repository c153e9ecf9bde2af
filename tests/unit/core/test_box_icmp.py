"""ICMP errors about a session's packets go to its server and refresh nothing; all other ICMP is dropped."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

from lb.core.session import SessionState

from .dialogue import CLIENT, CLIENT6, ISN, OTHER_CLIENT, PORT, VIP, VIP6, Dialogue, service, tcp, udp

ROUTER, ROUTER6 = "198.18.0.1", "2001:db8:ff::1"


def running() -> Dialogue:
    talk = Dialogue(
        service(servers=("rs1", "rs2")),
        service("dns", port=53, protocol=17, servers=("rs3",)),
        service("six", vip=VIP6),
    )
    for client in (CLIENT, OTHER_CLIENT, CLIENT6):
        talk.send(tcp("S", client=client))
        talk.send(tcp("A", seq=ISN + 1, ack=501, client=client))
    talk.send(udp(b"query"))
    return talk


def too_big(client: str, *, port: int = PORT, vip_port: int = 80, sender: str = "") -> Packet:
    """A router on the way to the client: what the server sent as the VIP does not fit."""
    if ":" in client:
        quoted = IPv6(src=VIP6, dst=client) / TCP(sport=vip_port, dport=port) / Raw(b"data")
        return IPv6(src=sender or ROUTER6, dst=VIP6) / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(quoted))
    transport = UDP if vip_port == 53 else TCP
    quoted4 = IP(src=VIP, dst=client) / transport(sport=vip_port, dport=port) / Raw(b"data")
    error = ICMP(type=3, code=4, nexthopmtu=1280)
    return IP(src=sender or ROUTER, dst=VIP) / error / Raw(bytes(quoted4)[:28])


@pytest.mark.parametrize(
    ("packet", "server"),
    [
        (too_big(CLIENT), "rs1"),
        (too_big(OTHER_CLIENT), "rs2"),
        (too_big(CLIENT6), "six1"),
        (too_big(CLIENT, vip_port=53), "rs3"),
        (too_big(CLIENT, sender=CLIENT), "rs1"),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else None,
)
def test_error_goes_to_the_server_of_the_session_it_is_about(packet: Packet, server: str) -> None:
    talk = running()

    assert talk.send(packet) == server


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_error_changes_nothing_in_any_session(client: str) -> None:
    talk = running()
    before = talk.sessions()
    talk.wait(300)
    talk.send(too_big(client))

    assert talk.sessions() == before
    talk.wait(301)
    assert talk.sessions() == [], "an error must not refresh: anyone can send one"


@pytest.mark.parametrize(
    "packet",
    [
        too_big(CLIENT, port=PORT + 1),
        too_big(CLIENT6, port=PORT + 1),
        too_big("203.0.113.9"),
        too_big(CLIENT, vip_port=81),
        IP(src=CLIENT, dst=VIP) / ICMP() / Raw(b"ping"),
        IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoRequest(data=b"ping"),
        IP(src=ROUTER, dst=VIP)
        / ICMP(type=5)
        / Raw(bytes(IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=PORT))),
        IP(src=ROUTER, dst=VIP) / ICMP(type=3) / Raw(bytes(IP(src=VIP, dst=CLIENT, proto=132)) + bytes(8)),
        IP(src=ROUTER, dst=VIP) / ICMP(type=3) / Raw(bytes(IP(src=VIP, dst=CLIENT) / ICMP())),
    ],
    ids=lambda packet: packet.summary(),
)
def test_other_icmp_is_dropped_in_silence(packet: Packet) -> None:
    """Among it errors about packets of no session: hosts take those for attacks too (RFC 5927)."""
    talk = running()
    before = talk.sessions()

    assert talk.send(packet) == "icmp_unrelated"
    assert talk.packets == []
    assert talk.sessions() == before


def test_cut_off_icmp_is_dropped_in_silence() -> None:
    assert running().send(bytes(too_big(CLIENT))[:27]) == "truncated"


def test_error_about_a_session_that_has_expired_goes_nowhere() -> None:
    """The sweep may be late; what expired has expired."""
    talk = running()
    talk.now += 601

    assert talk.send(too_big(CLIENT)) == "icmp_unrelated"


def test_error_about_a_closing_session_still_arrives() -> None:
    talk = running()
    talk.send(tcp("FA", seq=ISN + 1, ack=501))
    talk.wait(5)

    assert talk.send(too_big(CLIENT)) == "rs1"
    row = talk.session()
    assert row
    assert row.state is SessionState.FIN
