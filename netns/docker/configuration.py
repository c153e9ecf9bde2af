"""The box's configuration with the servers that are containers in it, and without them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from lb.config import BoxConfig, parse
from netns.docker.servers import Problem, Server

DSCPS = range(1, 64)


@dataclass(frozen=True, slots=True)
class Ours:
    """What of the box's configuration is there for containers."""

    virtual_servers: tuple[str, ...] = ()
    real_servers: tuple[tuple[str, str], ...] = ()
    """Names of virtual and real server."""

    def __or__(self, other: Ours) -> Ours:
        """What is in either."""
        return Ours(
            tuple({*self.virtual_servers, *other.virtual_servers}),
            tuple({*self.real_servers, *other.real_servers}),
        )


def without(configuration: BoxConfig, ours: Ours) -> dict[str, Any]:
    """The configuration as a document, less what is there for containers."""
    document = configuration.model_dump(mode="json")
    document["virtual_server"] = [
        {
            **service,
            "real_server": [
                server
                for server in service["real_server"]
                if (service["name"], server["name"]) not in ours.real_servers
            ],
        }
        for service in document["virtual_server"]
        if service["name"] not in ours.virtual_servers
    ]
    return document


def configured(
    configuration: BoxConfig, left: Ours, servers: Iterable[Server], problems: list[str]
) -> tuple[BoxConfig, Ours]:
    """The configuration with these servers instead of those of `left`, and what of it is now for containers.

    A server that the box has by itself, of that name and address, stays as it is. What it can't take is added
    to `problems`.
    """
    document = without(configuration, left)
    services: list[dict[str, Any]] = document["virtual_server"]
    made: list[str] = []
    added: list[tuple[str, str]] = []
    for server in servers:
        try:
            service = _service(server, services)
            if service is None:
                service = _new_service(server, services)
                services.append(service)
                made.append(service["name"])
            if _is_new(server, service):
                service["real_server"].append(
                    {"name": server.name, "address": str(server.address), "weight": server.labels.weight}
                )
                added.append((service["name"], server.name))
        except Problem as problem:
            problems.append(str(problem))
    return parse(BoxConfig, document, "the box with its containers"), Ours(tuple(made), tuple(added))


def _service(server: Server, services: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The virtual server of that VIP and port; Problem when it is checked otherwise than a label says."""
    for service in services:
        if (service["address"], service["port"]) == (str(server.vip), server.labels.port):
            check = service["health_check"]
            health = "l4" if check["kind"] == "l4" else check["url"]
            if server.labels.health not in (None, health):
                raise Problem(
                    f"container {server.container.name}: l4box.health = {server.labels.health!r}: "
                    f"the servers of {service['name']} are checked by {health} already, and all alike"
                )
            return service
    return None


def _new_service(server: Server, services: list[dict[str, Any]]) -> dict[str, Any]:
    """A virtual server with the article's settings; its DSCP is its VIP's, or the first that is free."""
    dscps = {
        IPv4Address(service["address"]): service["dscp"] for service in services if "." in service["address"]
    }
    free = [dscp for dscp in DSCPS if dscp not in dscps.values()]
    if server.vip not in dscps and not free:
        raise Problem(f"{server.container.name}: all 63 DSCPs are taken, {server.vip} can't have one")
    check = (
        {}
        if server.labels.health is None
        else ({"kind": "l4"} if server.labels.health == "l4" else {"url": server.labels.health})
    )
    made = BoxConfig.model_validate(
        {
            "virtual_server": [
                {
                    "name": f"vip-{str(server.vip).replace('.', '-')}-{server.labels.port}",
                    "address": str(server.vip),
                    "port": server.labels.port,
                    "dscp": dscps.get(server.vip, free[0] if free else 1),
                    "health_check": check,
                    "real_server": [],
                }
            ]
        }
    )
    service: dict[str, Any] = made.model_dump(mode="json")["virtual_server"][0]
    return service


def _is_new(server: Server, service: dict[str, Any]) -> bool:
    """Whether the virtual server lacks it; Problem when something else has its name or address."""
    for other in service["real_server"]:
        same_name, same_address = other["name"] == server.name, other["address"] == str(server.address)
        if same_name and same_address:
            return False
        if same_address and not server.connected:
            return False  # it was its address, and somebody who runs has it now
        if same_name or same_address:
            raise Problem(
                f"{server.container.name} would be {server.name} at {server.address}: the box has "
                f"{other['name']} at {other['address']}"
            )
    return True
