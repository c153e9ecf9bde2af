"""The rules against the kernel: what they do to packets, and that they come and go without a trace."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from netfilterqueue import NetfilterQueue, Packet
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Layers

from lb.linux import netfilter, preflight
from lb.linux.rules import MARK_BASE, Ruleset, Service, Target, render
from tests.integration.netns_fixtures import (
    DEADLINE_S,
    capture,
    checksums_are_right,
    execute,
    inside,
    link,
    namespaces,
)

pytestmark = pytest.mark.integration

QUEUE = 34
VIP, VIP6 = "192.0.2.10", "2001:db8::10"
SERVER, SERVER6 = "10.80.2.2", "fd00:80:2::2"
WEB = Service(ip_address(VIP), 80, "udp", 10, (Target(MARK_BASE | 1, ip_address(SERVER)),))
WEB6 = Service(ip_address(VIP6), 80, "udp", 11, (Target(MARK_BASE | 2, ip_address(SERVER6)),))
OTHER = Service(ip_address("192.0.2.11"), 53, "udp", 12, (Target(MARK_BASE | 3, ip_address("10.80.2.3")),))


@dataclass(frozen=True, slots=True)
class Route:
    """client → box → server, as in the lab, each hop its own subnet."""

    client: str
    box: str
    server: str


@pytest.fixture
def route() -> Iterator[Route]:
    with namespaces("client", "box", "server") as (client, box, server):
        link(client, ["10.80.1.2/24", "fd00:80:1::2/64"], box, ["10.80.1.1/24", "fd00:80:1::1/64"])
        link(
            box,
            ["10.80.2.1/24", "fd00:80:2::1/64"],
            server,
            ["10.80.2.2/24", "10.80.2.3/24", "fd00:80:2::2/64"],
        )
        execute(client, "ip route add default via 10.80.1.1")
        execute(client, "ip -6 route add default via fd00:80:1::1")
        # Unless it is rewritten, a packet for a VIP goes on to the server's link, where it can be seen.
        execute(box, "ip route add default via 10.80.2.2")
        execute(box, "ip -6 route add default via fd00:80:2::2")
        execute(box, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield Route(client, box, server)


@pytest.fixture
def box() -> Iterator[str]:
    with namespaces("box") as (name,):
        yield name


def everything(namespace: str) -> str:
    """All that netfilter has in a namespace, as its own tools print it."""
    saved = [execute(namespace, f"{tool}-save") for tool in ("iptables", "ip6tables")]
    lines = [line for text in saved for line in text.splitlines() if not line.startswith("#")]
    return execute(namespace, "nft list ruleset") + "\n".join(lines)


def unordered(listing: str) -> list[str]:
    """Tables are listed in the order they were made in, which says nothing about what they do."""
    return sorted(listing.splitlines())


def install(namespace: str, rules: Ruleset) -> None:
    with inside(namespace):
        netfilter.install(rules)


def update(namespace: str, old: Ruleset, new: Ruleset) -> None:
    with inside(namespace):
        netfilter.update(old, new)


def remove(namespace: str, name: str) -> None:
    with inside(namespace):
        netfilter.remove(name)


class Queue:
    """A listener on the box's queue that holds each packet until it is told what to do with it."""

    def __init__(self) -> None:
        self._held: list[Packet] = []
        self._queue = NetfilterQueue()
        self._queue.bind(QUEUE, self._hold, range=0xFFFF)

    def _hold(self, packet: Packet) -> None:
        packet.retain()
        self._held.append(packet)

    def next(self) -> Packet:
        """The next packet that is queued."""
        while not self._held:
            ready, _, _ = select.select([self._queue.get_fd()], [], [], DEADLINE_S)
            assert ready, "nothing was queued"
            self._queue.run(block=False)
        return self._held.pop(0)

    def close(self) -> None:
        self._queue.unbind()


@contextmanager
def queue_in(namespace: str) -> Iterator[Queue]:
    with inside(namespace), closing(Queue()) as queue:
        yield queue


def send(namespace: str, address: str, port: int, data: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(namespace), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (address, port))


def carries(data: bytes) -> Callable[[Layers], bool]:
    return lambda packet: UDP in packet and bytes(packet[UDP].payload) == data


BEFORE = {
    "nothing": [],
    "rules of somebody else's": [
        "iptables -t mangle -A PREROUTING -d 198.51.100.1 -j MARK --set-mark 7",
        "ip6tables -t mangle -A FORWARD -j DROP",
        "nft add table inet firewall",
        "nft add chain inet firewall input { type filter hook input priority 0 ; }",
        "nft add rule inet firewall input tcp dport 22 accept",
    ],
    "an empty mangle table": ["iptables -t mangle -A PREROUTING -j DROP", "iptables -t mangle -F PREROUTING"],
}


def test_the_preflight_passes_where_the_rules_load_and_changes_nothing(box: str) -> None:
    found = everything(box)
    with inside(box):
        preflight.check((4, 6))
    assert everything(box) == found


@pytest.mark.parametrize("before", BEFORE)
def test_rules_that_are_removed_leave_everything_as_it_was(box: str, before: str) -> None:
    for command in BEFORE[before]:
        execute(box, command)
    found = everything(box)
    install(box, render("web", QUEUE, [WEB, WEB6, OTHER]))
    assert everything(box) != found
    remove(box, "web")
    assert everything(box) == found


def test_rules_added_beside_ours_outlive_them(box: str) -> None:
    install(box, render("web", QUEUE, [WEB]))
    execute(box, "iptables -t mangle -A PREROUTING -d 198.51.100.1 -j MARK --set-mark 7")
    remove(box, "web")
    assert "-A PREROUTING -d 198.51.100.1/32 -j MARK" in execute(box, "iptables-save -t mangle")
    assert "l4box" not in everything(box)


def test_a_second_removal_does_nothing(box: str) -> None:
    found = everything(box)
    remove(box, "web")
    remove(box, "web")
    assert everything(box) == found


def test_two_boxes_side_by_side_do_not_touch_each_other(box: str) -> None:
    install(box, render("web", QUEUE, [WEB]))
    alone = everything(box)
    install(box, render("web-2", QUEUE + 1, [OTHER, WEB6]))
    remove(box, "web-2")
    assert everything(box) == alone


@pytest.mark.parametrize(
    ("taken", "advice"),
    [
        (["nft add table ip l4box_web"], "nft delete table ip l4box_web"),
        (["nft add table ip6 l4box_web"], "nft delete table ip6 l4box_web"),
        (
            ["iptables -t mangle -N l4box-web", "iptables -t mangle -A PREROUTING -p tcp -j l4box-web"],
            "iptables -t mangle -D PREROUTING -p tcp -j l4box-web && "
            "iptables -t mangle -F l4box-web && iptables -t mangle -X l4box-web",
        ),
    ],
)
def test_a_name_that_is_somebody_elses_is_refused_with_a_way_out(
    box: str, taken: list[str], advice: str
) -> None:
    clean = everything(box)
    for command in taken:
        execute(box, command)
    found = everything(box)
    with pytest.raises(netfilter.NameTaken) as refused:
        install(box, render("web", QUEUE, [WEB, WEB6]))
    remove(box, "web")
    assert everything(box) == found
    assert advice in str(refused.value)
    for command in advice.split(" && "):
        execute(box, command)
    install(box, render("web", QUEUE, [WEB, WEB6]))
    assert everything(box) != clean


def test_leftovers_of_a_killed_daemon_are_replaced(box: str) -> None:
    nothing = everything(box)
    install(box, render("web", QUEUE, [OTHER]))
    fresh = everything(box)
    remove(box, "web")
    install(box, render("web", QUEUE + 1, [WEB, WEB6], rewrite="kernel"))
    install(box, render("web", QUEUE, [OTHER]))
    assert unordered(everything(box)) == unordered(fresh)
    remove(box, "web")
    assert everything(box) == nothing


@pytest.mark.parametrize(
    "steps",
    [
        [[WEB], [WEB, OTHER]],
        [[WEB, OTHER], [WEB]],
        [[WEB], [WEB, WEB6]],
        [[WEB, WEB6], [WEB6]],
        [[WEB], []],
        [[], [WEB]],
        [[WEB], [Service(WEB.vip, 443, "tcp", 20, (Target(MARK_BASE | 7, ip_address("10.80.2.9")),))]],
    ],
)
def test_an_update_makes_what_a_fresh_start_would(box: str, steps: list[list[Service]]) -> None:
    old, new = (render("web", QUEUE, services) for services in steps)
    nothing = everything(box)
    install(box, new)
    fresh = everything(box)
    remove(box, "web")
    install(box, old)
    update(box, old, new)
    assert unordered(everything(box)) == unordered(fresh)
    remove(box, "web")
    assert everything(box) == nothing


@pytest.fixture
def ip6tables_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "ip6tables-restore"
    tool.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(netfilter, "SEARCH_PATH", f"{tmp_path}:{netfilter.SEARCH_PATH}")


@pytest.mark.usefixtures("ip6tables_refuses")
def test_a_refused_installation_is_undone(box: str) -> None:
    found = everything(box)
    with pytest.raises(netfilter.RulesRefused, match=r"ip6tables-restore .*: out of luck"):
        install(box, render("web", QUEUE, [WEB, WEB6]))
    assert everything(box) == found


@pytest.mark.usefixtures("ip6tables_refuses")
def test_a_refused_update_is_undone(box: str) -> None:
    old = render("web", QUEUE, [WEB])
    install(box, old)
    found = everything(box)
    with pytest.raises(netfilter.RulesRefused, match=r"ip6tables-restore .*: out of luck"):
        update(box, old, render("web", QUEUE, [WEB, OTHER, WEB6]))
    assert everything(box) == found


@pytest.mark.parametrize(
    ("service", "header", "dscp", "server"),
    [
        (WEB, IP, lambda packet: packet.tos >> 2, SERVER),
        (WEB6, IPv6, lambda packet: packet.tc >> 2, SERVER6),
    ],
    ids=["ipv4", "ipv6"],
)
def test_a_mark_from_the_queue_sends_the_packet_to_its_server(
    route: Route, service: Service, header: type[Layers], dscp: Callable[[Layers], int], server: str
) -> None:
    install(route.box, render("web", QUEUE, [WEB, WEB6], rewrite="kernel"))
    with queue_in(route.box) as queue, capture(route.server, "box") as wire:
        send(route.client, str(service.vip), 80, b"hello")
        packet = queue.next()
        packet.set_mark(service.targets[0].mark)
        packet.accept()
        seen = wire.wait_for(carries(b"hello"))
    assert (seen[header].dst, dscp(seen)) == (server, service.dscp)
    assert checksums_are_right(seen)


def test_a_packet_that_waits_in_the_queue_survives_an_update_and_goes_by_the_new_map(route: Route) -> None:
    old = render("web", QUEUE, [WEB], rewrite="kernel")
    added = Target(MARK_BASE | 9, ip_address("10.80.2.3"))
    new = render(
        "web", QUEUE, [Service(WEB.vip, 80, "udp", 10, (*WEB.targets, added)), OTHER], rewrite="kernel"
    )
    install(route.box, old)
    with queue_in(route.box) as queue, capture(route.server, "box") as wire:
        send(route.client, VIP, 80, b"patience")
        packet = queue.next()
        update(route.box, old, new)
        packet.set_mark(added.mark)
        packet.accept()
        assert wire.wait_for(carries(b"patience"))[IP].dst == "10.80.2.3"


def test_what_is_still_addressed_to_a_vip_does_not_leave_the_box(route: Route) -> None:
    install(route.box, render("web", QUEUE, [WEB]))
    with queue_in(route.box) as queue, capture(route.server, "box") as wire:
        send(route.client, VIP, 81, b"a port that is not served")
        send(route.client, VIP, 80, b"accepted as it is")
        packet = queue.next()
        packet.accept()
        send(route.client, SERVER, 80, b"routed, and last")
        wire.wait_for(carries(b"routed, and last"))
    assert not [packet for packet in wire.packets if IP in packet and packet[IP].dst == VIP]
    assert "counter packets 2 " in execute(route.box, "nft list chain ip l4box_web loops")


def test_a_marked_packet_without_a_server_does_not_leave_the_box(route: Route) -> None:
    install(route.box, render("web", QUEUE, [WEB]))
    with inside(route.box), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as prober:
        prober.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_BASE | 99)
        with pytest.raises(PermissionError):
            prober.sendto(b"nowhere to go", (VIP, 80))


def test_local_traffic_without_a_mark_of_ours_is_left_alone(route: Route) -> None:
    install(route.box, render("web", QUEUE, [WEB]))
    with capture(route.server, "box") as wire:
        send(route.box, VIP, 80, b"as it was sent")
        seen = wire.wait_for(carries(b"as it was sent"))
    assert (seen[IP].dst, seen[IP].tos) == (VIP, 0)


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_fragmented_datagram_reaches_the_queue_whole(route: Route, vip: str) -> None:
    data = bytes(range(256)) * 12  # 3072: three fragments on a link of 1500
    install(route.box, render("web", QUEUE, [WEB, WEB6]))
    with queue_in(route.box) as queue:
        send(route.client, vip, 80, data)
        payload = queue.next().get_payload()
    assert payload.endswith(data)


def test_icmp_for_a_vip_reaches_the_queue(route: Route) -> None:
    error = IP(dst=VIP) / ICMP(type=3, code=4, nexthopmtu=1400) / IP(src=VIP, dst="10.80.1.2") / UDP(sport=80)
    install(route.box, render("web", QUEUE, [WEB]))
    with queue_in(route.box) as queue:
        with inside(route.client), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(bytes(error), (VIP, 0))
        payload = queue.next().get_payload()
    assert IP(payload)[ICMP].nexthopmtu == 1400


def test_conntrack_keeps_no_entry_for_traffic_of_a_vip(route: Route) -> None:
    install(route.box, render("web", QUEUE, [WEB, WEB6], rewrite="kernel"))
    with queue_in(route.box) as queue, capture(route.server, "box") as wire:
        for service in (WEB, WEB6):
            send(route.client, str(service.vip), 80, b"from a client")
            packet = queue.next()
            packet.set_mark(service.targets[0].mark)
            packet.accept()
        wire.wait_for(lambda packet: IPv6 in packet and UDP in packet)
    with inside(route.box), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as as_vip:
        as_vip.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
        as_vip.bind((VIP, 80))
        as_vip.sendto(b"from the box, as the VIP", ("10.80.1.2", 1234))
    assert conntrack_entries(route.box) == 0
    send(route.client, SERVER, 80, b"conntrack does count what is not ours")
    assert conntrack_entries(route.box) == 1


def conntrack_entries(namespace: str) -> int:
    return int(execute(namespace, "cat /proc/sys/net/netfilter/nf_conntrack_count"))
