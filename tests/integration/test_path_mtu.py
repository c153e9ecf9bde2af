"""Path-MTU discovery (RFC 1191) through the lab: a link smaller than what the ends assume, and a large page.

A small link has the MTU at both ends, and its node announces a segment size of 1460 all the same: so stands a
node behind a tunnel that it does not know of. Packets are cut to their MTU (`offload = false`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, IPerror

from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import VIP, MakeLab, packets

pytestmark = pytest.mark.integration

SMALL = 1300
SIZE = 900_000
NEEDED = (3, 4)
"""Type and code of "fragmentation needed and DF set" (RFC 792)."""


def shrink(lab: NamespaceLab, node: str) -> None:
    """Give the node's link an MTU of SMALL, of which its TCP says nothing to its peers."""
    gateway = str(lab.node(node).routes[0].via)
    lab.run("router", ["ip", "link", "set", node, "mtu", str(SMALL)], check=True)
    lab.run(node, ["ip", "link", "set", "eth0", "mtu", str(SMALL)], check=True)
    lab.run(node, ["ip", "route", "change", "default", "via", gateway, "advmss", "1460"], check=True)


def curl(lab: NamespaceLab, *words: str) -> str:
    """The status code, the bytes received and the bytes sent."""
    argv = ["curl", "-s", "--max-time", "4", "-o", "/dev/null"]
    return lab.run("client", [*argv, "-w", "%{http_code} %{size_download} %{size_upload}", *words]).stdout


def download(lab: NamespaceLab) -> str:
    (lab.root("rs1") / "large").write_bytes(bytes(SIZE))
    return curl(lab, f"http://{VIP}/large")


def upload(lab: NamespaceLab, directory: Path) -> str:
    (directory / "body").write_bytes(bytes(SIZE))
    return curl(lab, "--data-binary", f"@{directory}/body", f"http://{VIP}/")


def one_server(make_lab: MakeLab, **box: str) -> NamespaceLab:
    return make_lab(lab={"server": [{"name": "rs1"}], "box": box})


@pytest.mark.parametrize("rewrite", ["kernel", "userspace"])
def test_download_over_a_small_client_link_arrives_and_the_routers_icmp_reaches_the_server_through_the_box(
    make_lab: MakeLab, tmp_path: Path, rewrite: str
) -> None:
    lab = one_server(make_lab, rewrite=rewrite)
    shrink(lab, "client")
    with lab.capture(["box", "rs1"], tmp_path / "out.pcapng", expression="icmp") as capture:
        assert download(lab) == f"200 {SIZE} 0"
    needed = [
        (point, packet)
        for point, packet in packets(capture.path)
        if ICMP in packet and (packet[ICMP].type, packet[ICMP].code) == NEEDED
    ]
    server = str(lab.node("rs1").address)
    assert {(point, packet[IP].dst) for point, packet in needed} == {
        ("box", VIP),
        ("box", server),
        ("rs1", server),
    }
    assert {packet[ICMP].nexthopmtu for _, packet in needed} == {SMALL}
    assert {packet[IPerror].src for _, packet in needed} == {VIP}


def test_upload_over_a_small_client_link_arrives(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = one_server(make_lab)
    shrink(lab, "client")
    assert upload(lab, tmp_path) == f"200 4 {SIZE}"


def test_both_ways_over_a_small_link_of_the_box_a_large_page_arrives(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = one_server(make_lab)
    shrink(lab, "box")
    assert download(lab) == f"200 {SIZE} 0"
    assert upload(lab, tmp_path) == f"200 4 {SIZE}"


def test_server_that_knows_its_small_link_announces_it_and_a_large_page_arrives_both_ways(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = one_server(make_lab)
    lab.run("router", ["ip", "link", "set", "rs1", "mtu", str(SMALL)], check=True)
    lab.run("rs1", ["ip", "link", "set", "eth0", "mtu", str(SMALL)], check=True)
    assert download(lab) == f"200 {SIZE} 0"
    assert upload(lab, tmp_path) == f"200 4 {SIZE}"


def test_upload_to_a_server_that_does_not_know_its_small_link_is_a_black_hole_as_with_real_l3dsr(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    """The ICMP quotes the packet that the box sent on: its destination is the server's own address."""
    lab = one_server(make_lab)
    shrink(lab, "rs1")
    assert download(lab) == f"200 {SIZE} 0"
    with lab.capture(["client"], tmp_path / "out.pcapng", expression="icmp") as capture:
        *_, sent = upload(lab, tmp_path).split()
    assert int(sent) < SIZE
    quoted = {
        (packet[IPerror].dst, packet[ICMP].nexthopmtu)
        for _, packet in packets(capture.path)
        if (packet[ICMP].type, packet[ICMP].code) == NEEDED
    }
    assert quoted == {(str(lab.node("rs1").address), SMALL)}
