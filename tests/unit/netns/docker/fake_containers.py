"""Containers as an engine tells of them, for the pure part of `l4lab docker`."""

from __future__ import annotations

from typing import Any

from netns.docker import container
from netns.docker.container import Container

VIP = "192.0.2.10"


def made(
    name: str,
    networks: dict[str, str] | None = None,
    *,
    project: str = "shop",
    number: int = 1,
    status: str = "running",
    created: str = "2024-01-01T00:00:00Z",
    host_network: bool = False,
    stop_signal: str | None = None,
    **labels: str,
) -> Container:
    """A container of the service `name`; networks are its addresses by name, "" where it is not connected.

    A network's gateway is its address .1. Its labels are `l4box.` and the keyword.
    """
    return container.read(
        {
            "Id": f"id of {name} {number} {created}",
            "Name": f"/{project}_{name}_{number}",
            "Created": created,
            "Config": {
                "StopSignal": stop_signal,
                "Labels": {
                    "com.docker.compose.project": project,
                    "com.docker.compose.service": name,
                    "com.docker.compose.container-number": str(number),
                    **{f"l4box.{key}": value for key, value in labels.items()},
                },
            },
            "State": {"Status": status, "Pid": 4711 if status in ("running", "paused") else 0},
            "HostConfig": {"NetworkMode": "host" if host_network else f"{project}_default"},
            "NetworkSettings": {
                "Networks": {
                    network: _endpoint(network, address) for network, address in (networks or {}).items()
                }
            },
        }
    )


def _endpoint(network: str, address: str) -> dict[str, Any]:
    return {
        "EndpointID": f"end of {network}" if address else "",
        "IPAddress": address,
        "Gateway": f"{address.rpartition('.')[0]}.1" if address else "",
        "IPAMConfig": None,
    }


def server(name: str, address: str, *, network: str = "default", **more: Any) -> Container:
    """A server of the VIP."""
    return made(name, {network: address}, **{"vip": VIP, **more})


def box(address: str = "172.20.0.9", *, network: str = "default", **more: Any) -> Container:
    return made("box", {network: address}, role="box", **more)
