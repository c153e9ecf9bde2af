"""What is to be done for the containers there are: the box's configuration, and each one's network. Pure.

A real server stays configured as long as it has a container, running or not, as it does at a hardware box:
that it has died is for health checks to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from lb.config import BoxConfig, ConfigError
from netns.docker import labels
from netns.docker.change import Change, RepliesBy, RouteBy, Rules, Sysctl, VipOnLo
from netns.docker.configuration import Ours, configured
from netns.docker.container import PROJECT, Container
from netns.docker.servers import ServerContainer, address_near, servers
from netns.errors import LabError
from netns.plan.topology import DSR_TABLE, NODE_INTERFACE, Interface, Node, Role, Vip, dsr_ruleset

SERVER_SYSCTLS = (
    # Servers share a network: a VIP on lo is neither answered for there nor asked from.
    Sysctl("net/ipv4/conf/all/arp_ignore", "1"),
    Sysctl("net/ipv4/conf/all/arp_announce", "2"),
    # Loose: clients' packets need not come in by the interface that leads to the client.
    Sysctl("net/ipv4/conf/all/rp_filter", "2"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """A container that runs, and what its network is to have."""

    container: Container
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class AttachPlan:
    configuration: BoxConfig
    ours: Ours
    servers: tuple[ServerContainer, ...]
    work: tuple[Work, ...]
    problems: tuple[str, ...]
    """A line for each container that is left out, and why."""


class NoBox(LabError):
    """No container is a box."""


def find_box(containers: Iterable[Container], project: str | None) -> Container:
    """The box among the containers of a project (None: among all), the one that runs if it is made anew.

    NoBox when there is none. LabError when there are several: another project's is not taken because this
    one's has ended.
    """
    boxes = [one for one in containers if one.labels.get(f"{labels.PREFIX}role") == "box"]
    if not boxes:
        whose = "no container" if project is None else f"no container of the project {project!r}"
        raise NoBox(f"{whose} has the label l4box.role=box: bring the project up, or choose one by --project")
    running = [one for one in boxes if one.pid]
    if len({one.labels.get(PROJECT) for one in boxes}) > 1 or len(running) > 1:
        names = ", ".join(f"{one.name} ({one.status})" for one in boxes)
        raise LabError(f"several boxes: {names}; choose one by --project")
    return (running or boxes)[0]


def plan(
    containers: Sequence[Container],
    configuration: BoxConfig,
    left: Ours,
    known: Mapping[str, IPv4Address],
    box: Container,
) -> AttachPlan:
    """`configuration` is the box's now, of which `left` is there for containers; `known`: see `servers`."""
    problems: list[str] = []
    said = []
    for container in containers:
        try:
            found = labels.read(container.name, container.labels)
        except ConfigError as error:
            problems.append(f"container {container.name}: {'; '.join(error.problems)}")
        else:
            if found is not None:
                said.append((container, found))
    routers = [container for container, found in said if found.role == "router"]
    fit = servers(said, routers, box, known, problems)
    wanted, ours, members = configured(configuration, left, fit, problems)

    dscps = {
        IPv4Address(int(service.address)): service.dscp
        for service in wanted.virtual_server
        if service.address.version == 4
    }
    work = [
        Work(
            one.container,
            (*SERVER_SYSCTLS, *server_changes(one.address, {one.vip: dscps[one.vip]}, one.router)),
        )
        for one in members
        if one.connected and one.vip in dscps and not _sets_itself_up(one)
    ]
    for container, found in said:
        ways = [box] if found.role == "router" else [*routers, box] if found.role == "client" else []
        way = next(filter(None, (address_near(one, container) for one in ways)), None)
        if way is not None:
            work.append(Work(container, tuple(RouteBy(f"{vip}/32", str(way)) for vip in dscps)))
    return AttachPlan(wanted, ours, members, tuple(one for one in work if one.container.pid), tuple(problems))


def _sets_itself_up(server: ServerContainer) -> bool:
    """It is at it now: whose it would be, what both put there, nobody could tell."""
    return server.labels.setup == "self" and server.container.health == "starting"


def server_changes(
    address: IPv4Address, dscps: Mapping[IPv4Address, int], router: IPv4Address | None
) -> tuple[Change, ...]:
    """What makes a container of that address a real server of VIPs, each with its DSCP."""
    node = Node(
        name="",
        namespace="",
        role=Role.SERVER,
        interfaces=(Interface(NODE_INTERFACE, IPv4Interface(address), peer="router"),),
        routes=(),
        vips=tuple(Vip(vip, f"lo:{number}", dscp) for number, (vip, dscp) in enumerate(dscps.items())),
    )
    changes: list[Change] = []
    for vip in node.vips:
        changes.append(VipOnLo(str(vip.address), vip.label))
        if router is not None:
            changes.append(RepliesBy(str(vip.address), str(router)))
    return (*changes, Rules(DSR_TABLE, dsr_ruleset(node)))
