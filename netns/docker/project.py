"""The containers of a compose project as the nodes of a lab: run things, act on servers, capture.

A node is called as the box knows it: web1. Its network is the container's; programs that run there, and the
files they see, are this machine's, as in a namespace. `execute` is for what has to run in the container.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute

from lb.client import BoxClient
from lb.config import BoxConfig, parse
from netns import process, web
from netns.capture import Capture, points
from netns.docker import labels, place
from netns.docker.attach import answering
from netns.docker.change import VipOnLo
from netns.docker.container import Container
from netns.docker.engine import Engine
from netns.docker.place import Place
from netns.errors import LabError
from netns.process import Process
from netns.topology import Interface, Node, Plan, Role
from netns.web import StopSignal, Web

Result = TypeVar("Result")

SERVED = Path("srv/l4box")
"""Where the web servers of our image have their files, under the container's root."""
START_S = 20.0
"""A container whose program does not listen by then will not."""


class Project:
    """A compose project that is up, with a box among its containers."""

    def __init__(self, engine: Engine, name: str, directory: Path) -> None:
        """`directory` holds the parts of captures meanwhile."""
        self.name = name
        self.directory = directory
        self._engine = engine
        self._captures: dict[str, Process] = {}

    def containers(self) -> dict[str, Container]:
        """Those with labels of ours as they are now, by the box's name for them."""
        return {one.called: one for one in self._engine.containers(self.name)}

    def container(self, node: str) -> Container:
        """The container of that node as it is now; LabError when there is none."""
        found = self.containers()
        if node not in found:
            raise LabError(f"no node {node!r}: the project {self.name!r} has {', '.join(found)}")
        return found[node]

    def place(self, node: str) -> Place:
        """Where the node's container runs; LabError when it doesn't."""
        return place.of(self.container(node))

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the node's network."""
        return ["nsenter", f"--net=/proc/{self.place(node).pid}/ns/net", "--", *argv]

    def run(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run() on the node, with text captured unless `options` say otherwise."""
        settings: dict[str, Any] = {"capture_output": True, "text": True, "check": False, **options}
        return subprocess.run(self.command(node, argv), **settings)

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """subprocess.Popen() on the node, with text unless `options` say otherwise."""
        return subprocess.Popen(self.command(node, argv), **{"text": True, **options})

    def execute(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of `argv` in the container, as `docker exec` runs it."""
        return self._engine.execute(self.container(node), argv)

    def inside(self, node: str, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the node's network, in a thread of its own."""
        return self.place(node).inside(function)

    @property
    def box(self) -> BoxClient:
        """A client of the box's API, for the caller to close."""
        return answering(self.place("box"))

    def configuration(self) -> BoxConfig:
        """What the box goes by now."""
        with self.box as api:
            return parse(BoxConfig, api.configuration(), "the box")

    def web(self, server: str) -> Web:
        """The files and ports of a server of our image; LabError when it has none of our files."""
        here, address = self.place(server), self._address(server)
        services = [
            service
            for service in self.configuration().virtual_server
            if any(one.address == address for one in service.real_server)
        ]
        directory = here.root / SERVED
        if not (directory / "www").is_dir():
            raise LabError(f"{server} is not of our image: where its health file is, is not known")
        return Web(
            server=server,
            kind=web.KINDS["nginx"],
            directory=directory,
            ports=tuple(sorted({service.port for service in services})),
            health_files=tuple(
                sorted({directory / "www" / service.health_check.url.lstrip("/") for service in services})
            ),
        )

    def health_off(self, server: str) -> bool:
        """Rename the server's health files away; whether that changed anything."""
        return web.health_off(self.web(server))

    def health_on(self, server: str) -> bool:
        """Put the server's health files back; whether that changed anything."""
        return web.health_on(self.web(server))

    def vip_down(self, server: str) -> None:
        """Take the VIP off the server's lo, as `ifconfig lo:0 down` does."""
        self.inside(server, self._vip(server).undo)

    def vip_up(self, server: str) -> None:
        """Put the VIP on the server's lo."""
        self.inside(server, self._vip(server).make)

    def stop(self, server: str, how: StopSignal = StopSignal.GRACEFUL, *, timeout_s: float = 30.0) -> bool:
        """Signal the container's program and wait until the container has ended; whether it ran."""
        container = self.container(server)
        if not container.pid:
            return False
        self._engine.kill(container, web.KINDS["nginx"].signal(how))
        deadline = time.monotonic() + timeout_s
        while self.container(server).pid:
            if time.monotonic() > deadline:
                raise LabError(f"{server} still runs {timeout_s:g} s after it was told to ({how.value})")
            time.sleep(process.POLL_S)
        return True

    def start(self, server: str) -> bool:
        """Start the container and wait until its web server listens; whether it was stopped."""
        container = self.container(server)
        if container.pid:
            return False
        self._engine.start(container)
        deadline = time.monotonic() + START_S
        address = self._address(server)
        while not self.inside(server, partial(_listens, str(address), self._labels(server).port)):
            if time.monotonic() > deadline or not self.container(server).pid:
                raise LabError(f"{server} does not listen: `docker logs {container.name}` says why")
            time.sleep(process.POLL_S)
        return True

    def plan(self) -> Plan:
        """The nodes that run now, with their interfaces as they are."""
        running = {name: one for name, one in self.containers().items() if one.pid}
        return Plan(self.name, tuple(self._node(name, one) for name, one in running.items()))

    def capture(
        self, where: Sequence[str], path: Path, *, expression: str = "", count: int | None = None
    ) -> Capture:
        """A capture at nodes (or interfaces: "router:eth1") to enter as a context; see Capture."""
        return Capture(
            points(self.plan(), where),
            path,
            directory=self.directory,
            keep=self._captures.__setitem__,
            drop=self._captures.__delitem__,
            expression=expression,
            count=count,
        )

    def wait_until_bound(self, timeout_s: float = 60.0) -> None:
        """Return when the box has every server ACTIVE; LabError when that takes too long."""
        deadline = time.monotonic() + timeout_s
        with self.box as api:
            while waiting := [row["name"] for row in api.servers() if row["state"] != "ACTIVE"]:
                if time.monotonic() > deadline:
                    raise LabError(f"not ACTIVE in {timeout_s:g} s: {', '.join(waiting)}")
                time.sleep(0.05)

    def _labels(self, node: str) -> labels.Labels:
        container = self.container(node)
        return labels.read(container.name, container.labels) or labels.Labels()

    def _vip(self, server: str) -> VipOnLo:
        vip = self._labels(server).vip
        if vip is None:
            raise LabError(f"{server} is not a web server: it has no label l4box.vip")
        return VipOnLo(str(vip), "lo:0")

    def _address(self, node: str) -> IPv4Address:
        addresses = [one.address for one in self.container(node).endpoints.values() if one.address]
        if not addresses:
            raise LabError(f"{node} is connected to no network")
        return addresses[0]

    def _node(self, name: str, container: Container) -> Node:
        found = labels.read(container.name, container.labels) or labels.Labels()
        here = place.of(container)
        networks = {end.address: network for network, end in container.endpoints.items()}
        return Node(
            name=name,
            namespace=f"/proc/{here.pid}/ns/net",
            role=Role(found.role) if found.role else Role.SERVER,
            interfaces=tuple(
                Interface(label, address, peer=networks[address.ip])
                for label, address in here.inside(_addresses)
                if address.ip in networks
            ),
            routes=(),
        )


def _addresses() -> list[tuple[str, IPv4Interface]]:
    with IPRoute() as ip:
        return [
            (entry.get_attr("IFA_LABEL"), IPv4Interface((entry.get_attr("IFA_LOCAL"), entry["prefixlen"])))
            for entry in ip.get_addr(family=socket.AF_INET)
        ]


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
