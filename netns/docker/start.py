"""What a container of docker-compose.yml does when it starts: its routes and VIPs, then its program.

    python -m netns.docker.start server --via 10.81.3.254

A server may do one half only: set up its network and be there, and at another time become its program.

The box's configuration says all the rest: a server has the VIPs behind which its own address is, a client
and the router have a way to each. /proc/sys can't be written in a container: what is per interface goes by
netlink, the rest is in docker-compose.yml.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path

import click
from pyroute2 import IPRoute

from lb.config import BoxConfig, ConfigError, load
from netns import web
from netns.docker.change import RouteBy
from netns.docker.plan import server_changes
from netns.errors import LabError
from netns.plan.topology import Role
from netns.web import Web

SERVED = Path("/srv/l4box")
"""Where the web servers of our image have their files."""
READY = Path("/run/l4box/ready")
"""There once the container's network is as its role has it; the box tells by answering."""
IDLE = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"
"""For sh, in a container that only has to be there until it is told to end."""
UNPRIVILEGED = ["setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--no-new-privs", "--"]

_RTM_SETLINK, _IFLA_AF_SPEC, _IFLA_INET_CONF = 19, 26, 1  # linux/rtnetlink.h, linux/if_link.h
_NESTED = 0x8000  # NLA_F_NESTED, linux/netlink.h
_SEND_REDIRECTS, _RP_FILTER = 6, 8  # IPV4_DEVCONF_…, linux/ip.h
_REQUEST_AND_ACK = 5  # NLM_F_REQUEST | NLM_F_ACK


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default="/etc/l4box/box.toml")
@click.option("--via", help="The router's address in this container's network.")
@click.option("--box", help="The box's address, for the router.")
@click.option("--only", type=click.Choice(["network", "web"]), help="Half of what a server does.")
@click.argument("role", type=click.Choice([role.value for role in Role]))
def main(role: str, path: Path, via: str | None, box: str | None, only: str | None) -> None:
    """Set up the network of this container for its role, and become its program."""
    try:
        argv = start(Role(role), load(path), path, via, box, only)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(3)
    except LabError as error:
        click.echo(f"{role}: {error}", err=True)
        sys.exit(error.exit_code)
    os.execvp(argv[0], argv)  # noqa: S606 - that is what the command is for


def start(
    role: Role, config: BoxConfig, path: Path, via: str | None, box: str | None, only: str | None = None
) -> list[str]:
    """Set up the network, and return the command line of the program to become."""
    vips = list(dict.fromkeys(str(service.address) for service in config.virtual_server))
    match role:
        case Role.ROUTER:
            for vip in vips:
                RouteBy(f"{vip}/32", _given(box, "--box")).make()
            _route_any_way()
        case Role.CLIENT:
            for vip in vips:
                RouteBy(f"{vip}/32", _given(via, "--via")).make()
        case Role.BOX:
            if via is not None:
                RouteBy("default", via).make()
            _route_any_way()
            return ["l4box", "run", "-c", str(path)]
        case Role.SERVER:
            program = _start_server(config, via, network=only != "web")
            if only != "network":
                return program
    READY.touch()
    return [*UNPRIVILEGED, "sh", "-c", IDLE]


def _start_server(config: BoxConfig, via: str | None, *, network: bool) -> list[str]:
    """Set up the server's files, and its `network` too; the command line of its program."""
    own = _addresses()
    services, addresses = [], set()
    for service in config.virtual_server:
        for server in service.real_server:
            if server.address in own:
                services.append(service)
                addresses.add(IPv4Address(int(server.address)))
    if len(addresses) != 1:
        mine = ", ".join(map(str, sorted(own)))
        raise LabError(f"no real server, or more than one, has an address of this container: {mine}")
    dscps = {IPv4Address(int(service.address)): service.dscp for service in services}
    if network:
        if via is not None:
            RouteBy("default", via).make()  # what is sent from its own address comes back to the box, too
        for change in server_changes(addresses.pop(), dscps, IPv4Address(via) if via else None):
            change.make()
    served = Web(
        server=socket.gethostname(),
        kind=web.KINDS["nginx"],
        directory=SERVED,
        ports=tuple(sorted({service.port for service in services})),
        health_files=tuple(
            sorted({SERVED / "www" / service.health_check.url.lstrip("/") for service in services})
        ),
    )
    if not served.root.exists():
        web.make_files(served)
    return [*UNPRIVILEGED, *served.kind.command(served)]


def _given(address: str | None, option: str) -> str:
    if address is None:
        raise LabError(f"{option} is missing")
    return address


def _addresses() -> set[IPv4Address]:
    with IPRoute() as ip:
        return {IPv4Address(entry.get_attr("IFA_LOCAL")) for entry in ip.get_addr(family=socket.AF_INET)}


def _route_any_way() -> None:
    """Every interface takes packets that a strict reverse-path filter drops, and sends no ICMP redirect."""
    with IPRoute() as ip:
        indexes = [link["index"] for link in ip.get_links()]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for index in indexes:
            netlink.send(_configure_interface(index, {_SEND_REDIRECTS: 0, _RP_FILTER: 0}))
            (number,) = struct.unpack_from("i", netlink.recv(4096), 16)
            if number != 0:
                raise LabError(f"the kernel refused a setting of interface {index}: {os.strerror(-number)}")


def _configure_interface(index: int, values: dict[int, int]) -> bytes:
    """The netlink message that sets an interface's IPv4 settings, by linux/ip.h's numbers for them."""
    settings = b"".join(_attribute(number, struct.pack("I", value)) for number, value in values.items())
    spec = _attribute(socket.AF_INET | _NESTED, _attribute(_IFLA_INET_CONF | _NESTED, settings))
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + _attribute(_IFLA_AF_SPEC | _NESTED, spec)
    return struct.pack("IHHII", 16 + len(body), _RTM_SETLINK, _REQUEST_AND_ACK, 1, 0) + body


def _attribute(kind: int, payload: bytes) -> bytes:
    """A netlink attribute of a payload whose length is a multiple of four."""
    return struct.pack("HH", 4 + len(payload), kind) + payload


if __name__ == "__main__":
    main()
