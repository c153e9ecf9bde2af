"""The plan of the network, judged without making it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from lb.config import parse
from netns.plan.addresses import server_addresses
from netns.plan.config import LabConfig
from netns.plan.topology import Role, dsr_ruleset, plan


def lab(**document: object) -> LabConfig:
    return parse(LabConfig, document, "test")


TWO_VIPS = [
    {"name": "web", "address": "192.0.2.10", "port": 80, "dscp": 10},
    {"name": "mail", "address": "192.0.2.20", "port": 25, "dscp": 20, "servers": ["rs2"]},
]


def test_default_lab_has_one_client_a_router_the_box_and_three_servers() -> None:
    nodes = [(node.name, node.role.value) for node in plan(lab()).nodes]
    assert nodes == [
        ("client", "client"),
        ("router", "router"),
        ("box", "box"),
        ("rs1", "server"),
        ("rs2", "server"),
        ("rs3", "server"),
    ]


def test_namespaces_carry_the_labs_name_so_that_labs_can_coexist() -> None:
    assert {node.namespace for node in plan(lab(name="blue", clients=2)).nodes} == {
        "blue-client",
        "blue-client2",
        "blue-router",
        "blue-box",
        "blue-rs1",
        "blue-rs2",
        "blue-rs3",
    }


def test_every_link_has_a_subnet_of_its_own_and_both_its_ends_in_it() -> None:
    network = plan(lab(clients=2))
    ends = {node.name: node.interfaces[0].address for node in network.nodes if node.role is not Role.ROUTER}
    ports = {port.peer: port.address for port in network.router.interfaces}
    assert ends.keys() == ports.keys()
    assert len({end.network for end in ends.values()}) == len(ends)
    for name, end in ends.items():
        assert end.network == ports[name].network
        assert end.ip != ports[name].ip


def test_only_the_router_knows_the_way_to_a_vip_and_it_leads_to_the_box() -> None:
    network = plan(lab(virtual_server=TWO_VIPS))
    assert {(str(route.destination), route.via) for route in network.router.routes} == {
        ("192.0.2.10/32", network.box.address),
        ("192.0.2.20/32", network.box.address),
    }
    for node in network.nodes:
        if node.role is not Role.ROUTER:
            port = next(port for port in network.router.interfaces if port.peer == node.name)
            assert [(str(route.destination), route.via) for route in node.routes] == [
                ("0.0.0.0/0", port.address.ip)
            ]


def test_a_server_holds_the_vips_of_the_virtual_servers_it_is_behind_each_under_its_own_label() -> None:
    network = plan(lab(virtual_server=TWO_VIPS))
    held = {
        node.name: [(str(vip.address), vip.label, vip.dscp) for vip in node.vips] for node in network.nodes
    }
    assert held["rs1"] == [("192.0.2.10", "lo:0", 10)]
    assert held["rs2"] == [("192.0.2.10", "lo:0", 10), ("192.0.2.20", "lo:1", 20)]
    assert held["client"] == held["router"] == held["box"] == []


def test_two_virtual_servers_on_one_vip_give_the_server_that_vip_once() -> None:
    services = [TWO_VIPS[0], {"name": "tls", "address": "192.0.2.10", "port": 443, "dscp": 10}]
    assert [vip.label for vip in plan(lab(virtual_server=services)).node("rs1").vips] == ["lo:0"]


def test_only_router_and_box_forward_and_no_interface_redirects_or_filters_by_reverse_path() -> None:
    for node in plan(lab()).nodes:
        settings = dict(node.sysctls)
        assert settings["net/ipv4/ip_forward"] == ("1" if node.role in (Role.ROUTER, Role.BOX) else "0")
        for name in ("all", "default", *(interface.name for interface in node.interfaces)):
            assert settings[f"net/ipv4/conf/{name}/rp_filter"] == "0"
            assert settings[f"net/ipv4/conf/{name}/send_redirects"] == "0"


def test_only_the_router_accepts_its_own_packets_back_and_only_from_the_box() -> None:
    accepting = {
        (node.name, path)
        for node in plan(lab()).nodes
        for path, value in node.sysctls
        if path.endswith("/accept_local") and value == "1"
    }
    assert accepting == {("router", "net/ipv4/conf/box/accept_local")}


def test_dsr_rule_matches_before_it_rewrites_and_clears_the_dscp() -> None:
    node = plan(lab(virtual_server=TWO_VIPS)).node("rs2")
    assert dsr_ruleset(node) == (
        "table ip l4lab_dsr {\n"
        "  chain prerouting {\n"
        "    type filter hook prerouting priority raw; policy accept;\n"
        "    ip daddr 10.80.2.2 ip dscp 10 ip daddr set 192.0.2.10 ip dscp set 0\n"
        "    ip daddr 10.80.2.2 ip dscp 20 ip daddr set 192.0.2.20 ip dscp set 0\n"
        "  }\n"
        "}\n"
    )


def test_a_servers_address_stays_when_clients_are_added() -> None:
    assert plan(lab()).node("rs2").address == plan(lab(clients=5)).node("rs2").address


@pytest.mark.parametrize("subnet", ["10.80.0.0/16", "172.16.4.0/26"])
def test_server_addresses_are_those_of_the_plan(subnet: str) -> None:
    network = plan(lab(subnet=subnet))
    addresses = server_addresses(IPv4Network(subnet), ["rs1", "rs2", "rs3"])
    assert addresses == {node.name: node.address for node in network.of(Role.SERVER)}


def test_a_small_subnet_is_cut_into_links_of_four_addresses() -> None:
    network = plan(lab(subnet="172.16.4.0/26"))
    assert network.box.interfaces[0].address.network == IPv4Network("172.16.4.0/30")
    assert network.node("client").address == IPv4Address("172.16.4.18")


def test_an_interface_name_fits_the_kernels_fifteen_characters() -> None:
    network = plan(lab(server=[{"name": "a23456789012345"}]))
    assert all(len(port.name) <= 15 for port in network.router.interfaces)
