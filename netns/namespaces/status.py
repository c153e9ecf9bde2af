"""What a lab is like now, and what of it is dead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from netns.errors import UnreachableError
from netns.lab import box
from netns.lab.state import State
from netns.linux import namespace, process
from netns.namespaces import network
from netns.namespaces.lab import NamespaceLab
from netns.plan.topology import Node, Role


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """A process of the lab. Stopped on purpose it is not running either, and is no problem."""

    role: str
    pid: int | None
    running: bool
    log: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A web server node as it is, and as the box sees it."""

    name: str
    address: str
    web: str
    running: bool
    health_file: bool
    vips: tuple[str, ...]
    """Those on its lo now."""
    box: tuple[dict[str, Any], ...]
    """Its rows of the box's /v1/servers: one for each virtual server it is behind."""


@dataclass(frozen=True, slots=True)
class Status:
    name: str
    ready: bool
    speed: float
    delay_ms: float
    """What a client's link adds to a round trip."""
    nodes: tuple[dict[str, Any], ...]
    virtual_servers: tuple[dict[str, Any], ...]
    servers: tuple[ServerStatus, ...]
    programs: tuple[ProgramStatus, ...]
    api: str
    problems: tuple[str, ...]
    """One line for each thing that is dead or missing; none: the lab is whole."""

    def document(self) -> dict[str, Any]:
        """The status as JSON."""
        return asdict(self)


def look(made: State) -> Status:
    """The lab's status, of whatever is left of it."""
    lab = NamespaceLab(made)
    problems = [] if made.ready else ["`up` is still at it or was killed: `l4lab down` clears what it made"]
    there = {node.name: _is_ours(node, made) for node in lab.plan.nodes}
    problems += [f"{name}: its namespace is gone" for name, present in there.items() if not present]

    programs = []
    for role, started in made.processes.items():
        pids = process.members(started)
        alive = started.pid in pids
        programs.append(ProgramStatus(role, started.pid, alive, started.log))
        if not alive:
            left = f"; processes it left run on: {', '.join(map(str, pids))}" if pids else ""
            problems.append(f"{role} is dead (it was pid {started.pid}; its log is {started.log}){left}")
    running = {program.role for program in programs if program.running}

    rows: list[dict[str, Any]] = []
    if "box" in running:
        try:
            rows = box.servers(made.name)
        except UnreachableError as error:
            problems.append(f"box: {error}")

    return Status(
        name=made.name,
        ready=made.ready,
        speed=lab.config.speed,
        delay_ms=lab.config.delay_ms,
        nodes=tuple(_node(node, there[node.name]) for node in lab.plan.nodes),
        virtual_servers=tuple(
            {
                "name": service.name,
                "vip": str(service.vip),
                "port": service.port,
                "protocol": service.protocol,
                "dscp": service.dscp,
                "servers": list(lab.config.server_names(service)),
            }
            for service in lab.config.virtual_server
        ),
        servers=tuple(
            _server(lab, node, f"web {node.name}" in running, there[node.name], rows)
            for node in lab.plan.of(Role.SERVER)
        ),
        programs=tuple(programs),
        api=str(box.socket_path(made.name)),
        problems=tuple(problems),
    )


def _is_ours(node: Node, made: State) -> bool:
    inode = made.namespaces.get(node.namespace)
    return inode is not None and namespace.identity(node.namespace) == inode


def _node(node: Node, present: bool) -> dict[str, Any]:
    return {
        "name": node.name,
        "role": node.role.value,
        "namespace": node.namespace,
        "present": present,
        "interfaces": [
            {"name": interface.name, "address": str(interface.address), "peer": interface.peer}
            for interface in node.interfaces
        ],
        "routes": [{"to": str(route.destination), "via": str(route.via)} for route in node.routes],
    }


def _server(
    lab: NamespaceLab, node: Node, running: bool, present: bool, rows: Iterable[dict[str, Any]]
) -> ServerStatus:
    served = lab.web(node.name)
    return ServerStatus(
        name=node.name,
        address=str(node.address),
        web=served.kind.name,
        running=running,
        health_file=served.healthy,
        vips=tuple(str(vip) for vip in network.held_vips(node)) if present else (),
        box=tuple(row for row in rows if row["name"] == node.name),
    )
