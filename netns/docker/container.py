"""A container, and what happens to one, as the Docker Engine tells. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
"""A `compose run` has its service's labels, and is none of its containers."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's end of a network."""

    id: str
    """Another one each time that the container is connected; "" while it is not."""
    address: IPv4Address | None
    """None while it is not connected, unless it is fixed."""
    gateway: IPv4Address | None = None
    """The network's own address on this machine; None while it is not connected, or where there is none."""


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    name: str
    """The engine's name for it."""
    labels: Mapping[str, str]
    status: str
    """created, running, paused, restarting, removing, exited or dead."""
    health: str | None
    """By its own health check, if it has one: starting, healthy or unhealthy."""
    pid: int
    """Of its first process; 0 when it does not run."""
    created: str
    stop_signal: str
    """What `docker stop` sends to its first process, as its image names it: SIGQUIT, 3 or SIGRTMIN+3."""
    host_network: bool
    endpoints: Mapping[str, Endpoint]
    """By the network's name."""

    @property
    def service(self) -> str | None:
        """The compose service that it is a container of."""
        return self.labels.get(SERVICE)

    @property
    def called(self) -> str:
        """The name that the box knows it by: its service's, which the next container of it has too."""
        service, number = self.service, self.labels.get(NUMBER, "1")
        name = self.name if service is None else service if number == "1" else f"{service}-{number}"
        return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")

    @property
    def origin(self) -> tuple[str | None, ...]:
        """The same for all the containers that a compose service has one after the other."""
        labels = self.labels
        if SERVICE not in labels:
            return (self.id,)
        return labels.get(PROJECT), labels[SERVICE], labels.get(NUMBER)

    @property
    def attached_to(self) -> tuple[str, ...]:
        """The ids of its ends of networks: what changes when it is disconnected or connected."""
        return tuple(sorted(endpoint.id for endpoint in self.endpoints.values() if endpoint.id))


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of the engine's."""

    action: str
    """start, die, pause, "health_status: unhealthy", connect, …"""
    container: str
    """Its id."""
    detail: str
    """The network's name, or the exit code of what died."""


def happening(event: Mapping[str, Any]) -> Happening:
    """An event as the engine sends it."""
    actor, attributes = event["Actor"], event["Actor"].get("Attributes") or {}
    of_network = event["Type"] == "network"
    return Happening(
        action=event["Action"],
        container=attributes.get("container", "") if of_network else actor["ID"],
        detail=attributes.get("name", "") if of_network else attributes.get("exitCode", ""),
    )


def read(inspected: Mapping[str, Any]) -> Container:
    """A container from what `docker inspect` says of it."""
    state = inspected["State"]
    return Container(
        id=inspected["Id"],
        name=inspected["Name"].lstrip("/"),
        labels=inspected["Config"]["Labels"] or {},
        status=state["Status"],
        health=state.get("Health", {}).get("Status"),
        pid=state["Pid"],
        created=inspected["Created"],
        stop_signal=inspected["Config"].get("StopSignal") or "SIGTERM",
        host_network=inspected["HostConfig"]["NetworkMode"] == "host",
        endpoints={
            name: Endpoint(settings["EndpointID"], _address(settings), _ip(settings.get("Gateway")))
            for name, settings in inspected["NetworkSettings"]["Networks"].items()
        },
    )


def _address(settings: Mapping[str, Any]) -> IPv4Address | None:
    fixed = (settings.get("IPAMConfig") or {}).get("IPv4Address")
    return _ip(settings["IPAddress"] or fixed)


def _ip(text: str | None) -> IPv4Address | None:
    return IPv4Address(text) if text else None
