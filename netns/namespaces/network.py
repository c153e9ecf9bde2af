"""Makes the network of a plan, and removes what was made of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from netns.errors import LabError, MissingError
from netns.lab.state import Ledger
from netns.linux import namespace
from netns.linux.interfaces import (
    LOOPBACK,
    loopback_addresses,
    put_on_loopback,
    take_off_loopback,
    turn_off_offload,
)
from netns.plan.topology import NODE_INTERFACE, Node, Plan, dsr_ruleset


def build(plan: Plan, ledger: Ledger, *, offload: bool) -> None:
    """Make every namespace, link, address, route and rule of `plan`; LabError when the kernel refuses."""
    for node in plan.nodes:
        namespace.create(node.namespace, partial(ledger.namespace, node.namespace))
    with ExitStack() as handles:
        ends = {}
        for node in plan.nodes:
            ends[node.name] = os.open(namespace.RUN / node.namespace, os.O_RDONLY)
            handles.callback(os.close, ends[node.name])
        try:
            namespace.inside(plan.router.namespace, partial(_make_links, plan.router, ends))
        except NetlinkError as error:
            raise MissingError(
                f"can't make veth links: {error}; `l4lab doctor` says what is missing"
            ) from error
    for node in plan.nodes:
        namespace.inside(node.namespace, partial(_configure, node, offload=offload))


def remove(ledger: Ledger) -> list[str]:
    """Remove the namespaces of the state and all that is in them; the names of those not ours any more."""
    foreign = []
    for name, inode in ledger.state.namespaces.items():
        if not namespace.remove(name, inode):
            foreign.append(name)
        ledger.namespace_gone(name)
    return foreign


def held_vips(node: Node) -> list[IPv4Address]:
    """The VIPs of `node` that are on its lo now."""
    held = namespace.inside(node.namespace, loopback_addresses)
    return [vip.address for vip in node.vips if vip.address in held]


def put_vips(node: Node, vips: Iterable[IPv4Address]) -> None:
    """Put the VIPs on lo of `node` under their labels."""
    chosen = set(vips)

    def put() -> None:
        for vip in node.vips:
            if vip.address in chosen:
                put_on_loopback(vip.address, vip.label)

    namespace.inside(node.namespace, put)


def take_vips(node: Node, vips: Iterable[IPv4Address]) -> None:
    """Take the VIPs off lo of `node`; fine when they are off."""

    def take() -> None:
        for address in vips:
            take_off_loopback(address)

    namespace.inside(node.namespace, take)


def _make_links(router: Node, ends: dict[str, int]) -> None:
    with IPRoute() as ip:
        for interface in router.interfaces:
            # Both ends are born where they belong: the host never sees them.
            peer = {"ifname": NODE_INTERFACE, "net_ns_fd": ends[interface.peer]}
            ip.link("add", ifname=interface.name, kind="veth", peer=peer)


def _configure(node: Node, *, offload: bool) -> None:
    try:
        for path, value in node.sysctls:
            _write_sysctl(path, value)
        with IPRoute() as ip:
            for vip in node.vips:
                put_on_loopback(vip.address, vip.label)
            ip.link("set", index=LOOPBACK, state="up")
            for interface in node.interfaces:
                index = ip.link_lookup(ifname=interface.name)[0]
                address = interface.address
                ip.addr(
                    "add",
                    index=index,
                    address=str(address.ip),
                    prefixlen=address.network.prefixlen,
                    broadcast=str(address.network.broadcast_address),
                )
                ip.link("set", index=index, state="up")
            for route in node.routes:
                ip.route("add", dst=str(route.destination), gateway=str(route.via))
    except (NetlinkError, OSError) as error:
        raise LabError(f"node {node.name}: the kernel refused a setting: {error}") from error
    if not offload:
        for interface in node.interfaces:
            turn_off_offload(interface.name)
    if node.vips:
        _load_rules(node)


def _write_sysctl(path: str, value: str) -> None:
    file = Path("/proc/sys") / path
    if path.startswith("net/ipv6/") and not Path("/proc/sys/net/ipv6").is_dir():
        return  # a kernel without IPv6
    file.write_text(value)


def _load_rules(node: Node) -> None:
    loaded = subprocess.run(
        ["nft", "-f", "-"], input=dsr_ruleset(node), capture_output=True, text=True, check=False
    )
    if loaded.returncode != 0:
        raise MissingError(
            f"node {node.name}: nft refused the DSCP rule: {loaded.stderr.strip()}; "
            f"`l4lab doctor` says what is missing"
        )
