"""Injected packets, as other kernels and captures see them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from lb.linux.inject import Injector
from tests.integration.netns_fixtures import (
    capture,
    checksums_are_right,
    execute,
    inside,
    link,
    namespaces,
    snmp,
)

pytestmark = pytest.mark.integration

VIP, VIP6 = "192.0.2.10", "2001:db8::10"
CLIENT, CLIENT6 = "10.80.1.2", "fd00:80:1::2"


@dataclass(frozen=True, slots=True)
class Net:
    """A client whose connections to a VIP pass the box on the way to a server that has it."""

    client: str
    box: str
    server: str


@pytest.fixture
def net() -> Iterator[Net]:
    with namespaces("client", "box", "server") as (client, box, server):
        link(client, [f"{CLIENT}/24", f"{CLIENT6}/64"], box, ["10.80.1.1/24", "fd00:80:1::1/64"])
        link(box, ["10.80.2.1/24"], server, ["10.80.2.2/24"])
        execute(client, "ip route add default via 10.80.1.1")
        execute(client, "ip -6 route add default via fd00:80:1::1")
        execute(server, "ip route add default via 10.80.2.1")
        execute(server, f"ip address add {VIP}/32 dev lo")
        execute(box, f"ip route add {VIP}/32 via 10.80.2.2")
        execute(box, "sysctl -qw net.ipv4.ip_forward=1")
        yield Net(client, box, server)


@pytest.fixture
def injector(net: Net) -> Iterator[Injector]:
    with inside(net.box):
        made = Injector()
    with made:
        yield made


def reset(header: Packet, port: int, number: int) -> bytes:
    return bytes(header / TCP(sport=80, dport=port, flags="R", seq=number, window=0))


@pytest.mark.parametrize(
    "header",
    [IP(src=VIP, dst=CLIENT, id=7, ttl=63, tos=0x28), IPv6(src=VIP6, dst=CLIENT6, hlim=63, tc=0x28)],
    ids=["ipv4", "ipv6"],
)
def test_a_packet_arrives_as_it_was_given(net: Net, injector: Injector, header: Packet) -> None:
    packet = reset(header, port=40000, number=0x12345678)
    with capture(net.client, "box") as wire:
        assert injector.send_all([packet]) == 1
        seen = wire.wait_for(lambda seen: TCP in seen and seen[TCP].sport == 80)
    assert bytes(seen) == packet
    assert checksums_are_right(seen)
    assert not injector.failed


def test_the_clients_kernel_accepts_an_injected_reset(net: Net, injector: Injector) -> None:
    with inside(net.server):
        listener = socket.create_server((VIP, 80))
    with listener, capture(net.client, "box") as wire:
        with inside(net.client):
            client = socket.create_connection((VIP, 80), timeout=10)
        with client:
            port = client.getsockname()[1]
            syn_ack = wire.wait_for(lambda packet: TCP in packet and packet[TCP].flags == "SA")
            expected = syn_ack[TCP].seq + 1 & 0xFFFFFFFF
            assert injector.send_all([reset(IP(src=VIP, dst=CLIENT), port, expected)]) == 1
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert snmp(net.client, "TcpEstabResets") == 1
    assert snmp(net.client, "TcpInErrs") == 0


def test_what_can_not_be_sent_is_counted_by_its_reason_and_stops_nothing_else(
    net: Net, injector: Injector
) -> None:
    execute(net.box, "iptables -A OUTPUT -d 10.80.1.66 -j DROP")
    good = reset(IP(src=VIP, dst=CLIENT), port=40000, number=1)
    packets = [
        good,
        reset(IP(src=VIP, dst="198.51.100.1"), port=40000, number=1),
        reset(IP(src=VIP, dst="10.80.1.66"), port=40000, number=1),
        bytes(IP(src=VIP, dst=CLIENT) / UDP() / Raw(bytes(2000))),
        b"",
        b"\x45\x00",
        b"\x60" + bytes(38),
        bytes(40),
        good,
    ]
    assert injector.send_all(packets) == 2
    assert injector.failed == {"ENETUNREACH": 1, "EPERM": 1, "EMSGSIZE": 1, "EINVAL": 4}
    assert injector.send_all([good]) == 1


def test_a_full_buffer_is_counted_and_waits_for_nobody(net: Net, injector: Injector) -> None:
    # A queue that lets next to nothing through keeps what it has in the socket's buffer.
    execute(net.box, "tc qdisc add dev client root tbf rate 8kbit burst 1600 limit 1000000000")
    good = bytes(IP(src=VIP, dst=CLIENT) / UDP() / Raw(bytes(1400)))
    packets = 20_000
    sent = injector.send_all([good] * packets)
    assert 0 < sent < packets
    assert injector.failed == {"EAGAIN": packets - sent}
