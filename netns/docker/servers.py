"""Which containers are real servers, and at which address the box reaches each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from netns.docker.container import Container
from netns.docker.labels import Labels
from netns.errors import LabError


class Problem(LabError):
    """A container can't be what its labels say."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ServerContainer:
    """A container that is a real server."""

    container: Container
    labels: Labels
    vip: IPv4Address
    address: IPv4Address
    """Where the box reaches it, or did when it was last connected."""
    connected: bool
    router: IPv4Address | None
    """By whom its replies leave; None: as the container's other traffic does."""

    @property
    def name(self) -> str:
        return self.container.called


def servers(
    said: Iterable[tuple[Container, Labels]],
    routers: Sequence[Container],
    box: Container,
    known: Mapping[str, IPv4Address],
    problems: list[str],
) -> list[ServerContainer]:
    """The real servers, those that run first; what keeps a container from being one is added to `problems`.

    `known` has the last address of each by name: that of one that is stopped or disconnected.
    """
    said = tuple(said)
    taken = _taken(container for container, _ in said)
    found: dict[str, ServerContainer] = {}
    for container, labels in said:
        if labels.vip is None:
            continue
        if labels.vip in taken:
            problems.append(f"container {container.name}: l4box.vip = {labels.vip} is {taken[labels.vip]}")
            continue
        try:
            server = _server(container, labels, labels.vip, routers, box, known)
            if server is not None:
                found[server.name] = _one_of(found.get(server.name), server)
        except Problem as problem:
            problems.append(str(problem))
    return sorted(found.values(), key=lambda server: (not server.container.pid, server.name))


def address_near(container: Container, other: Container) -> IPv4Address | None:
    """The address of `container` in a network that `other` is connected to as well."""
    for network, endpoint in container.endpoints.items():
        if endpoint.address is not None and network in other.endpoints:
            return endpoint.address
    return None


def _taken(containers: Iterable[Container]) -> dict[IPv4Address, str]:
    """The addresses that can't be a VIP, as somebody answers there already, and who."""
    found: dict[IPv4Address, str] = {}
    for container in containers:
        for network, endpoint in container.endpoints.items():
            if endpoint.gateway is not None:
                found[endpoint.gateway] = f"the gateway of the network {network}"
            if endpoint.address is not None:
                found[endpoint.address] = f"the address of {container.name}"
    return found


def _server(
    container: Container,
    labels: Labels,
    vip: IPv4Address,
    routers: Sequence[Container],
    box: Container,
    known: Mapping[str, IPv4Address],
) -> ServerContainer | None:
    """The server that a container is; None for one that does not run and has never been seen running."""
    if container.host_network:
        raise Problem(f"container {container.name} is in its host's network: a VIP there would be the host's")
    if not container.called:
        raise Problem(
            f"container {container.name}: its service's name has no letter a-z or digit to be called by"
        )
    for neighbour in [*routers, box]:
        address = address_near(container, neighbour)
        if address is not None:
            router = None if neighbour is box else address_near(neighbour, container)
            return ServerContainer(container, labels, vip, address, bool(container.attached_to), router)
    last = known.get(container.called)
    if last is not None:
        return ServerContainer(container, labels, vip, last, connected=False, router=None)
    if not container.pid:
        return None
    raise Problem(f"container {container.name} has no network in common with the box or a router")


def _one_of(first: ServerContainer | None, second: ServerContainer) -> ServerContainer:
    """Of two containers of one name: while a service's is made anew, the one that runs, or the newer one."""
    if first is None:
        return second
    if first.container.origin != second.container.origin:
        raise Problem(
            f"containers {first.container.name} and {second.container.name} would both be {second.name} "
            f"to the box: "
            f"choose one project by --project, or name them otherwise"
        )
    return max(first, second, key=lambda server: (bool(server.container.pid), server.container.created))
