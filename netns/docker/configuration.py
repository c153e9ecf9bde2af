"""The box's configuration with the servers that are containers in it, and without them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from lb.config import BoxConfig, ConfigError, parse
from netns.docker.servers import Problem, ServerContainer

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
    configuration: BoxConfig, left: Ours, servers: Iterable[ServerContainer], problems: list[str]
) -> tuple[BoxConfig, Ours, tuple[ServerContainer, ...]]:
    """The configuration with these servers instead of those of `left`, what of it is now for containers, and
    the servers that it has.

    A server that the box has by itself, of that name and address, stays as it is. One that the box can't
    take, whatever the reason, is left out and added to `problems`.
    """
    wanted = parse(BoxConfig, without(configuration, left), "the box without its containers")
    made: list[str] = []
    added: list[tuple[str, str]] = []
    joined: list[ServerContainer] = []
    for server in servers:
        try:
            joint, service = _with(wanted, server)
        except Problem as problem:
            problems.append(str(problem))
            continue
        if len(joint.virtual_server) > len(wanted.virtual_server):
            made.append(service)
        if joint != wanted:
            added.append((service, server.name))
        wanted = joint
        joined.append(server)
    return wanted, Ours(tuple(made), tuple(added)), tuple(joined)


def _with(configuration: BoxConfig, server: ServerContainer) -> tuple[BoxConfig, str]:
    """The configuration with the server, and its virtual server's name; Problem when the box refuses."""
    document = configuration.model_dump(mode="json")
    services: list[dict[str, Any]] = document["virtual_server"]
    service = _service(server, services)
    if service is None:
        service = _new_service(server, services)
        services.append(service)
    if _is_new(server, service):
        service["real_server"].append(
            {"name": server.name, "address": str(server.address), "weight": server.labels.weight}
        )
    try:
        return parse(BoxConfig, document, server.container.name), str(service["name"])
    except ConfigError as error:
        raise Problem(f"container {server.container.name}: {'; '.join(error.problems)}") from error


def _service(server: ServerContainer, services: list[dict[str, Any]]) -> dict[str, Any] | None:
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


def _new_service(server: ServerContainer, services: list[dict[str, Any]]) -> dict[str, Any]:
    """A virtual server with the article's settings; its DSCP is its VIP's, or the first that is free."""
    dscps = {
        IPv4Address(service["address"]): service["dscp"] for service in services if "." in service["address"]
    }
    dscp = dscps.get(server.vip) or next((one for one in DSCPS if one not in dscps.values()), None)
    if dscp is None:
        raise Problem(
            f"container {server.container.name}: no DSCP is left for {server.vip}, all 63 are taken"
        )
    check = (
        {}
        if server.labels.health is None
        else ({"kind": "l4"} if server.labels.health == "l4" else {"url": server.labels.health})
    )
    return {
        "name": f"vip-{str(server.vip).replace('.', '-')}-{server.labels.port}",
        "address": str(server.vip),
        "port": server.labels.port,
        "dscp": dscp,
        "health_check": check,
        "real_server": [],
    }


def _is_new(server: ServerContainer, service: dict[str, Any]) -> bool:
    """Whether the virtual server lacks it; Problem when something else has its name or address."""
    for other in service["real_server"]:
        same_name, same_address = other["name"] == server.name, other["address"] == str(server.address)
        if same_name and same_address:
            return False
        if same_address and not server.connected:
            return False  # it was its address, and somebody who runs has it now
        if same_name or same_address:
            raise Problem(
                f"container {server.container.name} would be {server.name} at {server.address}: the box has "
                f"{other['name']} at {other['address']}"
            )
    return True
