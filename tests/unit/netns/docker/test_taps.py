"""Whose a frame is, where servers share a network and all answer as the VIP."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from netns.docker.taps import Owners

ROUTER, WEB1, WEB2, LATER = (f"02:00:00:00:00:0{number}" for number in range(4))
SERVERS = {"web1": IPv4Address("10.81.3.11"), "web2": IPv4Address("10.81.3.12")}
CLIENT, VIP = "10.81.1.2", "192.0.2.10"


def to(server: str, mac: str) -> bytes:
    return bytes(Ether(src=ROUTER, dst=mac) / IP(src=CLIENT, dst=str(SERVERS[server]), tos=40) / TCP())


def reply(mac: str, source: str = VIP) -> bytes:
    return bytes(Ether(src=mac, dst=ROUTER) / IP(src=source, dst=CLIENT) / TCP())


@pytest.fixture
def owners() -> Owners:
    return Owners(SERVERS)


def test_replies_from_the_vip_are_of_the_server_whose_mac_sends_them(owners: Owners) -> None:
    frames = [to("web1", WEB1), to("web2", WEB2), reply(WEB2), reply(WEB1)]
    assert [owners.of(frame) for frame in frames] == ["web1", "web2", "web2", "web1"]


def test_what_a_server_sends_from_its_own_address_is_its_own(owners: Owners) -> None:
    owners.of(to("web1", WEB1))
    assert owners.of(reply(WEB1, "10.81.3.11")) == "web1"


def test_container_that_took_anothers_place_has_another_mac(owners: Owners) -> None:
    frames = [to("web1", WEB1), to("web1", LATER), reply(LATER), reply(WEB1)]
    assert [owners.of(frame) for frame in frames] == ["web1"] * 4


def test_mac_that_goes_over_to_another_server_is_that_ones_from_then_on(owners: Owners) -> None:
    frames = [to("web1", WEB1), reply(WEB1), to("web2", WEB1), reply(WEB1)]
    assert [owners.of(frame) for frame in frames] == ["web1", "web1", "web2", "web2"]


def test_what_is_no_servers_and_what_is_not_ip_is_nobodys(owners: Owners) -> None:
    owners.of(to("web1", WEB1))
    asked = Ether(src=WEB1, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.81.3.11", pdst="10.81.3.254")
    assert owners.of(bytes(asked)) is None
    assert owners.of(reply(ROUTER)) is None
