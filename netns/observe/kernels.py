"""What the nodes' own kernels and programs say: sockets (ss), counters (nstat), a web server's access log."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns.errors import Gone
from netns.lab.interface import Lab
from netns.plan.topology import Role
from netns.record.recording import ServerSample

_SERVED = re.compile(r'(?P<time>[\d.]+) (?P<client>\S+) \S+ "(?P<request>[^"]*)" (?P<status>\d+) ')

_CLOSED = frozenset({"FIN-WAIT-1", "CLOSING", "LAST-ACK"})


@dataclass(frozen=True, slots=True)
class Socket:
    """A TCP socket of a kernel."""

    state: str
    """As ss(8) names it."""
    local: str
    peer: str


@dataclass(frozen=True, slots=True)
class Served:
    """A request that a web server has answered, by its access log."""

    time: float
    """Unix seconds at its end."""
    client: str
    request: str
    status: int


def sockets(lab: Lab, node: str) -> list[Socket]:
    """The node's TCP sockets but for those that listen, by `ss`."""
    return parse_sockets(lab.run(node, ["ss", "-Htan"], check=True).stdout)


def clients_sockets(lab: Lab, server: str) -> list[Socket]:
    """The server's sockets on VIPs, but for those of the box's health checks; none of one that is gone."""
    vips = {str(service.vip) for service in lab.config.virtual_server}
    box = str(lab.plan.box.address)
    try:
        held = sockets(lab, server)
    except Gone:
        return []
    own = {box, *vips}  # a container's own health check of Docker's asks its VIP from there
    return [socket for socket in held if _address(socket.local) in vips and _address(socket.peer) not in own]


def closed_by_server(lab: Lab) -> frozenset[str]:
    """The clients' ends of connections that a server has closed, with data or a FIN still to be delivered."""
    return frozenset(
        socket.peer
        for node in lab.plan.servers
        for socket in clients_sockets(lab, node.name)
        if socket.state in _CLOSED
    )


def _address(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]


def parse_sockets(text: str) -> list[Socket]:
    rows = [line.split() for line in text.splitlines()]
    return [Socket(row[0], row[3], row[4]) for row in rows if len(row) >= 5 and row[0] != "LISTEN"]


def counters(lab: Lab, node: str) -> Counter[str]:
    """The node's kernel's counters since it was made, by nstat's names for them."""
    return parse_counters(lab.run(node, ["nstat", "-asz"], check=True).stdout)


def parse_counters(text: str) -> Counter[str]:
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return Counter({row[0]: int(row[1]) for row in rows})


def cpu_waited_s() -> float | None:
    """Seconds since boot in which some task of this machine waited for a CPU (/proc/pressure/cpu); None where
    the kernel does not count them."""
    try:
        text = Path("/proc/pressure/cpu").read_text()
    except OSError:
        return None
    match = re.search(r"^some .*total=(\d+)", text, re.MULTILINE)
    return int(match[1]) / 1e6 if match else None


def served(lab: Lab, server: str) -> list[Served]:
    """What the server has answered to clients of the VIP; the box's health checks are left out."""
    box = str(lab.plan.box.address)
    return [row for row in parse_served(lab.access_log(server)) if _address(row.client) != box]


def parse_served(text: str) -> list[Served]:
    return [
        Served(float(row["time"]), row["client"], row["request"], int(row["status"]))
        for row in _SERVED.finditer(text)
    ]


def sample(lab: Lab, time: float) -> list[ServerSample]:
    """Every server as the box and its own kernel have it now.

    A zombie is established in the server's kernel, and neither in a client's nor in the box's table. The
    server is asked first and the box last, so that a connection that opens meanwhile is not taken for one.
    """
    held = {node.name: clients_sockets(lab, node.name) for node in lab.plan.servers}
    alive = {
        socket.local
        for node in lab.plan.of(Role.CLIENT)
        for socket in sockets(lab, node.name)
        if socket.state == "ESTAB"
    }
    rows = lab.box.servers()
    return [
        _sample(time, name, held[name], alive, [row for row in rows if row["name"] == name], lab)
        for name in held
    ]


def _sample(
    time: float, server: str, held: list[Socket], alive: set[str], rows: list[dict[str, Any]], lab: Lab
) -> ServerSample:
    lonely = {socket.peer for socket in held if socket.state == "ESTAB"} - alive
    if lonely and any(row["sessions"] for row in rows):
        lonely -= {row["client"] for row in lab.box.sessions(server=server)}
    return ServerSample(
        time=time,
        server=server,
        state=rows[0]["state"] if rows else "",
        bound=any(row["bound"] for row in rows),
        sessions=sum(row["sessions"] for row in rows),
        sockets=dict(Counter(socket.state for socket in held)),
        zombies=len(lonely),
    )
