"""A lab whose nodes are containers: a Place (netns/lab/interface.py) for scenarios, rehearsals and clients.

There are two kinds. In one that l4lab made (netns/docker/lifecycle.py) a container is a machine: its web
server is a program in it, and stopping that leaves the machine and its VIP. In a user's compose project the
container is the server: its network and VIP are gone while it is stopped, and the next one has others.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from signal import Signals
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any, TypeVar

from pyroute2 import IPRoute

from netns import web
from netns.docker.change import VipOnLo
from netns.docker.container import Container
from netns.docker.nodes import Nodes
from netns.docker.sandbox import Sandbox
from netns.docker.start import READY, SERVED
from netns.docker.taps import ServerRecorder, Taps
from netns.errors import Gone, LabError, UnreachableError
from netns.lab.capture import Capture, points
from netns.lab.interface import Recorder, Say, quiet, wait_until_bound
from netns.lab.processes import Processes
from netns.linux import process, sock_diag
from netns.linux.process import Process
from netns.plan.config import LabConfig
from netns.plan.topology import Interface, Node, Plan, Role, vips_of
from netns.web import ServerKind, StopSignal, Web

if TYPE_CHECKING:
    from lb.client import BoxClient

Result = TypeVar("Result")

NGINX = web.KINDS["nginx"]
"""What runs in our image."""
START_S = 30.0
"""A server that does not listen by then will not."""
STOP_S = 30.0
POLL_S = 0.05
"""How often the engine is asked."""


class ContainerLab:
    """One that is up."""

    def __init__(self, nodes: Nodes, config: LabConfig, directory: Path, *, made: bool) -> None:
        """`config` calls servers as their nodes; `directory` is for what is written meanwhile."""
        self.name = directory.name
        self.config = config
        self.directory = directory
        self.nodes = nodes
        self.versions = {"Docker": nodes.engine.version}
        self._made = made
        self._roles = Processes(self.name)
        self._box: BoxClient | None = None
        self._kinds = {server.name: self._kind(server.name) for server in config.server}
        self.plan = self.look()

    @property
    def box(self) -> BoxClient:
        """A client of the box's API, the same one until `close` ends it."""
        if self._box is None:
            self._box = self.nodes.box
        return self._box

    def close(self) -> None:
        """Let go of the box's API, and of the engine that a lab of ours was made with; the lab stays up."""
        if self._box is not None:
            self._box.close()
            self._box = None
        if self._made:
            self.nodes.engine.close()

    def box_says(self, lines: int) -> str:
        return self.nodes.engine.log(self.nodes.container(self.nodes.box_node), lines)

    def look(self) -> Plan:
        """The nodes as they are now; LabError when one that belongs there does not run."""
        running = {name: one for name, one in self.nodes.containers().items() if one.pid}
        servers = [server.name for server in self.config.server]
        if missing := [name for name in servers if name not in running]:
            raise LabError(f"not running: {', '.join(missing)}")
        roles = {name: self.nodes.role(name) for name in running}
        # A node's address is its first interface's. A container may have other networks besides the lab's.
        known = set() if self._made else {IPv4Address(row["address"]) for row in self._servers()}
        ways = _ways(running, roles, known)
        found = {name: self._node(name, one, roles[name], known, ways) for name, one in running.items()}
        order = [name for name, node in found.items() if node.role is not Role.SERVER]
        return Plan(self.name, tuple(found[name] for name in (*order, *servers)))

    def run(self, node: str, argv: Sequence[str], **options: Any) -> CompletedProcess[str]:
        """subprocess.run() on the node, with text captured unless `options` say otherwise."""
        return self.nodes.run(node, argv, **options)

    def network(self, node: str) -> Sandbox:
        return self.nodes.sandbox(node)

    def inside(self, node: str, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the node's network, in a thread of its own."""
        return self.network(node).inside(function)

    def keep(self, role: str, started: Process) -> None:
        self._roles.keep(role, started)

    def drop(self, role: str) -> None:
        self._roles.drop(role)

    def left_behind(self) -> list[int]:
        inodes = [one.inode for node in self.plan.nodes if (one := self._there(node.name)) is not None]
        return self._roles.left_behind(inodes)

    def running(self, role: str) -> list[int]:
        """The pids of "box" or of "web NAME" that are alive, the main process first."""
        if self._made and role != "box":
            return self._roles.running(role)
        here = self._there(self.nodes.box_node if role == "box" else role.removeprefix("web "))
        return [here.pid] if here is not None else []

    # Captures

    def captures(self, directory: Path, expression: str, *, router: bool) -> dict[str, Recorder]:
        """A capture of what passes each node, by its name; a server's is taken where it passes (taps.py)."""

        now = self.look()

        def capture(where: Sequence[str], path: Path) -> Capture:
            return Capture(
                points(now, where),
                path,
                directory=self.directory / "captures",
                keep=self.keep,
                drop=self.drop,
                expression=expression,
            )

        found: dict[str, Recorder] = {
            node.name: capture([node.name], directory / f"{node.name}.pcapng")
            for node in self.plan.nodes
            if node.role in (Role.CLIENT, Role.BOX) or (router and node.role is Role.ROUTER)
        }
        addresses = {node.name: node.address for node in self.plan.servers}
        taps = Taps(partial(capture, self._before_servers()), addresses, directory)
        recorders: dict[str, ServerRecorder] = taps.recorders
        return {**found, **recorders}

    def _before_servers(self) -> list[str]:
        """The interfaces that all packets from and to the servers pass, wherever these may be."""
        routers = self.plan.of(Role.ROUTER)
        networks = [interface.address.network for node in self.plan.servers for interface in node.interfaces]
        found = [
            f"{node.name}:{interface.name}"
            for node in (routers or (*self.plan.of(Role.BOX), *self.plan.of(Role.CLIENT)))
            for interface in node.interfaces
            if interface.address.network in networks
        ]
        if not found:
            raise LabError("no router, box or client is in a network of the servers: no place to capture at")
        return found

    # Web servers

    def kind(self, server: str) -> ServerKind:
        return self._kinds[server]

    def root(self, server: str) -> Path:
        return self._web(server).root

    def health_files(self, server: str) -> tuple[Path, ...]:
        return self._web(server).health_files if self._is_ours(server) else ()

    def access_log(self, server: str) -> str:
        log = self._web(server).access_log
        return log.read_text(errors="replace") if log.exists() else ""

    def put_page(self, server: str, text: str) -> None:
        (self.root(server) / "index.html").write_text(text)

    def environment(self, server: str) -> dict[str, str]:
        """By what a script acts on the server: what it runs there runs in the container, with its files."""
        container = self.nodes.container(server)
        found = {"L4LAB_CONTAINER": container.name, "L4LAB_EXEC": f"docker exec {container.name}"}
        if container.service is not None:
            found["L4LAB_SERVICE"] = container.service
        if self._is_ours(server):
            there = web.of(self.config, server, SERVED)
            found |= {
                "L4LAB_HOME": str(there.directory),
                "L4LAB_ROOT": str(there.root),
                "L4LAB_HEALTH": ",".join(map(str, there.health_files)),
            }
        return found

    def health_off(self, server: str) -> bool:
        """Rename the server's health files away; whether that changed anything."""
        return web.health_off(self._web(server))

    def health_on(self, server: str) -> bool:
        """Put the server's health files back; whether that changed anything."""
        return web.health_on(self._web(server))

    def vip_down(self, server: str) -> None:
        """Take the VIPs off the server's lo, as `ifconfig lo:0 down` does."""
        for vip in self.plan.node(server).vips:
            self.inside(server, VipOnLo(str(vip.address), vip.label).undo)

    def vip_up(self, server: str) -> None:
        """Put the VIPs on the server's lo."""
        for vip in self.plan.node(server).vips:
            self.inside(server, VipOnLo(str(vip.address), vip.label).make)

    def stop(self, server: str, how: StopSignal = StopSignal.GRACEFUL, *, timeout_s: float = STOP_S) -> bool:
        """Stop the web server, or the container that is one, and wait until it has ended; whether it ran."""
        if self._made:
            role = f"web {server}"
            told = self._roles.tell_to_stop(role, self.kind(server), how)
            if told is not None:
                self._roles.wait_until_stopped(role, how, timeout_s)
            return told is not None
        container = self.nodes.container(server)
        if not container.pid:
            return False
        self.nodes.engine.kill(container, self.kind(server).signal(how))
        deadline = time.monotonic() + timeout_s
        while self.nodes.container(server).pid:
            if time.monotonic() > deadline:
                raise LabError(f"{server} still runs {timeout_s:g} s after it was told to ({how.value})")
            time.sleep(POLL_S)
        return True

    def start(self, server: str) -> bool:
        """Start the web server, or its container, and wait until it listens; whether it was stopped."""
        if self._made:
            return self._roles.start(
                f"web {server}", partial(self._launch, server), lambda _: self._listens(server)
            )
        container = self.nodes.container(server)
        if container.pid:
            return False
        self.nodes.engine.start(container)
        self._wait_until_listening(server, lambda: bool(self.nodes.container(server).pid))
        return True

    def wait_until_set_up(self) -> None:
        """Return when the containers of a lab that was made have set up their networks."""
        deadline = time.monotonic() + START_S
        for node in self.plan.nodes:
            while node.role is not Role.BOX and not self._seen(node.name, READY).exists():
                if time.monotonic() > deadline:
                    said = self.nodes.engine.log(self.nodes.container(node.name), 15)
                    raise LabError(f"{node.name} does not get its network set up: {said}")
                time.sleep(POLL_S)

    def wait_until_bound(self, say: Say = quiet, timeout_s: float | None = None) -> None:
        """Return when the box has every server ACTIVE; LabError when that takes too long."""
        wait_until_bound(self, self._servers, say, timeout_s)

    def _servers(self) -> list[dict[str, Any]]:
        from lb.client import BoxError

        try:
            return self.box.servers()
        except BoxError as error:
            raise UnreachableError(str(error)) from error

    def _launch(self, server: str, record: process.Record) -> Process:
        """Have a container that is a machine run its web server, as its image does."""
        argv = ["python3", "-m", "netns.docker.start", "server", "--only", "web"]
        log = web.of(self.config, server, SERVED).log
        logged = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(log), *argv]
        here = self.nodes.sandbox(server)
        pid = self.nodes.engine.launch(self.nodes.container(server), logged)
        started = process.started(pid) if pid else None
        if started is None:
            raise LabError(f"{server}: its web server ended at once: {self._said(server)}")
        running = Process(pid=pid, started=started, netns=here.inode, log=str(self._web(server).log))
        record(running)
        self._wait_until_listening(server, lambda: bool(process.members(running)))
        return running

    def _wait_until_listening(self, server: str, alive: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not self._listens(server):
            if not alive():
                raise LabError(f"{server}: its web server ended at once: {self._said(server)}")
            if time.monotonic() > deadline:
                raise LabError(f"{server} does not listen after {START_S:g} s: {self._said(server)}")
            time.sleep(process.POLL_S)

    def _listens(self, server: str) -> bool:
        return self.inside(server, partial(sock_diag.listens, frozenset(self.config.ports_of(server))))

    def _said(self, server: str) -> str:
        if self._made:
            return process.last_lines(self._web(server).log)
        return self.nodes.engine.log(self.nodes.container(server), 15)

    def _web(self, server: str) -> Web:
        """The files of a server of our image, as this machine sees them; LabError when it is none."""
        if not self._is_ours(server):
            raise LabError(f"{server} is not of our image: where its files are is not known")
        return replace(web.of(self.config, server, self._seen(server, SERVED)), kind=NGINX)

    def _is_ours(self, server: str) -> bool:
        return self._kinds[server] is NGINX

    def _kind(self, server: str) -> ServerKind:
        if self._made or self._seen(server, SERVED / "www").is_dir():
            return NGINX
        return ServerKind(
            name="container",
            graceful=_signal(server, self.nodes.container(server).stop_signal),
            abrupt=Signals.SIGKILL,
            version=lambda: None,
            fix="",
            command=lambda _: [],
        )

    def _seen(self, node: str, path: Path) -> Path:
        """Where this machine sees a path of the node's container."""
        return self.network(node).root / path.relative_to("/")

    def _there(self, node: str) -> Sandbox | None:
        try:
            return self.network(node)
        except Gone:
            return None

    # Nodes

    def _node(
        self,
        name: str,
        container: Container,
        role: Role,
        known: Collection[IPv4Address],
        ways: Mapping[Role, Collection[str]],
    ) -> Node:
        here = self.network(name)
        networks = {end.address: network for network, end in container.endpoints.items()}
        interfaces = tuple(
            Interface(label, address, peer=networks[address.ip])
            for label, address in here.inside(_addresses)
            if address.ip in networks
        )
        if not interfaces:
            raise LabError(f"{name} is connected to no network")
        return Node(
            name=name,
            namespace=here.path,
            role=role,
            interfaces=tuple(
                sorted(
                    interfaces,
                    key=lambda one: one.address.ip not in known and one.peer not in ways.get(role, ()),
                )
            ),
            routes=(),
            vips=vips_of(self.config, name),
        )


def _ways(
    running: Mapping[str, Container], roles: Mapping[str, Role], known: Collection[IPv4Address]
) -> dict[Role, set[str]]:
    """The networks in which box and clients have to do with the others; `known` are the servers' addresses.

    They are a router's or, where there is none, for the box the servers' and for clients the box's.
    """
    networks: dict[Role, set[str]] = {role: set() for role in Role}
    for name, container in running.items():
        networks[roles[name]] |= {
            network
            for network, end in container.endpoints.items()
            if roles[name] is not Role.SERVER or end.address in known
        }
    routed = networks[Role.ROUTER]
    return {
        Role.BOX: routed or networks[Role.SERVER],
        Role.CLIENT: routed or networks[Role.BOX],
    }


def _signal(server: str, name: str) -> Signals:
    """A signal as an image names it: SIGQUIT, QUIT or 3. LabError for a real-time one (SIGRTMIN+3)."""
    try:
        return Signals(int(name)) if name.isdigit() else Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except (KeyError, ValueError):
        raise LabError(
            f"{server}: its image's stop signal {name} is none of signal(7)'s standard ones: "
            f"set stop_signal in the compose file"
        ) from None


def _addresses() -> list[tuple[str, IPv4Interface]]:
    with IPRoute() as ip:
        return [
            (entry.get_attr("IFA_LABEL"), IPv4Interface((entry.get_attr("IFA_LOCAL"), entry["prefixlen"])))
            for entry in ip.get_addr(family=socket.AF_INET)
        ]
