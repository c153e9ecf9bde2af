"""The plan of the lab's network, apart from making it: nodes, links, addresses, routes, kernel settings.

client ──┐                 every link has its own subnet, so all traffic is routed
client2 ─┤
         ├── router ── box          router: VIP/32 → box
         ├──────────── rs1          servers: default route → router, VIP/32 on lo:0
         └──────────── rs2 …        replies: server → router → client, never through the box
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netns.plan.addresses import link_subnets
from netns.plan.config import LabConfig

ANYWHERE = IPv4Network("0.0.0.0/0")
NODE_INTERFACE = "eth0"
"""Every node but the router has one interface; the router's are named after the node at the other end."""
DSR_TABLE = "l4lab_dsr"
"""A real server's nftables table, of the family ip."""


class Role(Enum):
    CLIENT = "client"
    ROUTER = "router"
    BOX = "box"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a link."""

    name: str
    address: IPv4Interface
    peer: str
    """The node at the other end."""


@dataclass(frozen=True, slots=True)
class Route:
    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class Vip:
    """A VIP as a real server holds it: on lo under `label`, reached by packets of that DSCP."""

    address: IPv4Address
    label: str
    dscp: int


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    namespace: str
    role: Role
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    vips: tuple[Vip, ...] = ()

    @property
    def address(self) -> IPv4Address:
        """The node's own address on its first link."""
        return self.interfaces[0].address.ip

    @property
    def sysctls(self) -> tuple[tuple[str, str], ...]:
        """Paths under /proc/sys and their values. All are set: IPv4 ones are inherited from the host."""
        forwards = self.role in (Role.ROUTER, Role.BOX)
        names = ["all", "default", "lo", *(interface.name for interface in self.interfaces)]
        settings = [("net/ipv4/ip_forward", "1" if forwards else "0")]
        for name in names:
            # A reply from the VIP, or to it, never takes the path a strict reverse-path filter expects.
            settings.append((f"net/ipv4/conf/{name}/rp_filter", "0"))
            # `all` and the interface are OR'd: a redirect would teach clients a way around the box.
            settings.append((f"net/ipv4/conf/{name}/send_redirects", "0"))
            # No VIP is IPv6: keep router solicitations and the like out of the captures.
            settings.append((f"net/ipv6/conf/{name}/disable_ipv6", "1"))
        if self.role is Role.ROUTER:
            # The router's own "fragmentation needed" for a VIP returns from the box on its way to the server.
            settings += [
                (f"net/ipv4/conf/{interface.name}/accept_local", "1")
                for interface in self.interfaces
                if interface.peer == "box"
            ]
        return tuple(settings)


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole network of one lab."""

    name: str
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def of(self, role: Role) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.role is role)

    @property
    def router(self) -> Node:
        return self.of(Role.ROUTER)[0]

    @property
    def box(self) -> Node:
        return self.of(Role.BOX)[0]

    @property
    def servers(self) -> tuple[Node, ...]:
        return self.of(Role.SERVER)


def vips_of(config: LabConfig, server: str) -> tuple[Vip, ...]:
    """The VIPs that a server is to hold."""
    dscps = {service.vip: service.dscp for service in config.services_of(server)}
    return tuple(Vip(vip, f"lo:{index}", dscp) for index, (vip, dscp) in enumerate(sorted(dscps.items())))


def plan(config: LabConfig) -> Plan:
    """The network that `config` asks for. Links in order: the box, the servers, the clients."""
    names = [server.name for server in config.server]
    clients = ["client", *(f"client{number}" for number in range(2, config.clients + 1))]
    roles = [("box", Role.BOX), *((n, Role.SERVER) for n in names), *((n, Role.CLIENT) for n in clients)]
    vips = sorted({service.vip for service in config.virtual_server})

    ends: list[Node] = []
    ports: list[Interface] = []
    for (name, role), subnet in zip(roles, link_subnets(config.subnet), strict=False):
        gateway, address = subnet[1], subnet[2]
        ports.append(Interface(name, IPv4Interface((gateway, subnet.prefixlen)), peer=name))
        ends.append(
            Node(
                name=name,
                namespace=f"{config.name}-{name}",
                role=role,
                interfaces=(
                    Interface(NODE_INTERFACE, IPv4Interface((address, subnet.prefixlen)), peer="router"),
                ),
                routes=(Route(ANYWHERE, gateway),),
                vips=vips_of(config, name) if role is Role.SERVER else (),
            )
        )
    box = ends[0]
    router = Node(
        name="router",
        namespace=f"{config.name}-router",
        role=Role.ROUTER,
        interfaces=tuple(ports),
        routes=tuple(Route(IPv4Network(vip), box.address) for vip in vips),
    )
    clients_first = sorted(ends, key=lambda node: node.role is not Role.CLIENT)
    return Plan(config.name, (*clients_first[: len(clients)], router, *clients_first[len(clients) :]))


def dsr_ruleset(node: Node) -> str:
    """The nftables rules by which a real server takes packets of a VIP's DSCP for the VIP.

    It stands for the DADDR iptables target of L3DSR servers: match, put the VIP back, clear the DSCP; nft
    fixes the IP and L4 checksums, and ECN stays.
    """
    rules = "\n".join(
        f"    ip daddr {node.address} ip dscp {vip.dscp} ip daddr set {vip.address} ip dscp set 0"
        for vip in node.vips
    )
    return (
        f"table ip {DSR_TABLE} {{\n"
        "  chain prerouting {\n"
        "    type filter hook prerouting priority raw; policy accept;\n"
        f"{rules}\n"
        "  }\n"
        "}\n"
    )
