"""A lab that is up: run things on its nodes, act on its web servers, VIPs and box, capture.

    lab = up(load(Path("lab.toml"), speed=10))         (netns.namespaces.lifecycle, netns.plan.config)
    lab.health_off("rs2")
    with lab.capture(["client", "box"], Path("out.pcapng")):
        lab.run("client", ["curl", "http://192.0.2.10/"])
    down(lab.name)

It is a Lab (netns/lab/interface.py) whose nodes are namespaces, and has more for whoever wants one of these.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, TypeVar

from lb.config import ConfigError, parse
from netns import web
from netns.errors import LabError
from netns.lab import box, state
from netns.lab.capture import Capture, points
from netns.lab.interface import Say, quiet, wait_until_bound
from netns.lab.processes import Processes
from netns.lab.state import State
from netns.linux import namespace, process
from netns.linux.process import Process
from netns.namespaces import network
from netns.plan.config import LabConfig
from netns.plan.topology import Node, Plan, Role, plan
from netns.web import ServerKind, StopSignal, Web

if TYPE_CHECKING:
    from lb.client import BoxClient

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A node's network, which is there as long as the lab."""

    path: str
    there: bool = True

    def inside(self, function: Callable[[], Result]) -> Result:
        return namespace.inside(self.path, function)


class NamespaceLab:
    """A lab that is up."""

    def __init__(self, made: State) -> None:
        self.name = made.name
        try:
            self.config = parse(LabConfig, made.config, f"{state.RUN / made.name}.json")
        except ConfigError as error:
            raise LabError(f"not made by this version of l4lab (`l4lab down` works): {error}") from error
        self.plan: Plan = plan(self.config)
        self.directory = made.directory
        self.versions: dict[str, str] = {}
        self._roles = Processes(self.name)
        self._box: BoxClient | None = None

    @property
    def box(self) -> BoxClient:
        """A client of the box's API, the same one until `close` ends it."""
        if self._box is None:
            self._box = box.client(self.name)
        return self._box

    def close(self) -> None:
        """Let go of the box's API; the lab stays up."""
        if self._box is not None:
            self._box.close()
            self._box = None

    @property
    def vip(self) -> IPv4Address:
        """The first virtual server's address."""
        return self.config.virtual_server[0].vip

    def node(self, name: str) -> Node:
        """The node of that name; LabError when there is none."""
        try:
            return self.plan.node(name)
        except KeyError:
            known = ", ".join(node.name for node in self.plan.nodes)
            raise LabError(f"no node {name!r}: the lab has {known}") from None

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the node, for whoever starts processes their own way."""
        return namespace.command(self.node(node).namespace, list(argv))

    def run(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run() on the node, with text captured unless `options` say otherwise."""
        settings: dict[str, Any] = {"capture_output": True, "text": True, "check": False, **options}
        return subprocess.run(self.command(node, argv), **settings)

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """subprocess.Popen() on the node, with text unless `options` say otherwise."""
        return subprocess.Popen(self.command(node, argv), **{"text": True, **options})

    def inside(self, node: str, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the node's network, in a thread of its own."""
        return self.network(node).inside(function)

    def network(self, node: str) -> Namespace:
        return Namespace(self.node(node).namespace)

    def web(self, server: str) -> Web:
        """The files and ports of a server's web server."""
        return web.of(self.config, self._server(server).name, self.directory / server)

    def kind(self, server: str) -> ServerKind:
        return self.web(server).kind

    def root(self, server: str) -> Path:
        return self.web(server).root

    def health_files(self, server: str) -> tuple[Path, ...]:
        return self.web(server).health_files

    def access_log(self, server: str) -> str:
        log = self.web(server).access_log
        return log.read_text(errors="replace") if log.exists() else ""

    def put_page(self, server: str, text: str) -> None:
        (self.root(server) / "index.html").write_text(text)

    def environment(self, server: str) -> dict[str, str]:
        """By what a script acts on the server: its files are this host's, its network is a namespace."""
        served = self.web(server)
        return {
            "L4LAB_NETNS": self.node(server).namespace,
            "L4LAB_HOME": str(served.directory),
            "L4LAB_ROOT": str(served.root),
            "L4LAB_HEALTH": ",".join(map(str, served.health_files)),
            "L4LAB_EXEC": " ".join(self.command(server, [])),
        }

    def health_off(self, server: str) -> bool:
        """Rename the server's health files away; whether that changed anything."""
        return web.health_off(self.web(server))

    def health_on(self, server: str) -> bool:
        """Put the server's health files back; whether that changed anything."""
        return web.health_on(self.web(server))

    def vip_down(self, server: str, vip: IPv4Address | None = None) -> None:
        """Take the VIP (all of them by default) off the server's lo, as `ifconfig lo:0 down` does."""
        node = self._server(server)
        network.take_vips(node, _chosen(node, vip))

    def vip_up(self, server: str, vip: IPv4Address | None = None) -> None:
        """Put the VIP (all of them by default) on the server's lo."""
        node = self._server(server)
        network.put_vips(node, _chosen(node, vip))

    def held_vips(self, server: str) -> list[IPv4Address]:
        """The VIPs that are on the server's lo now."""
        return network.held_vips(self._server(server))

    def stop(self, server: str, how: StopSignal = StopSignal.GRACEFUL, *, timeout_s: float = 30.0) -> bool:
        """Stop the web server and wait until it has ended; whether it ran.

        KILL_MAIN waits for the main process only: `running` says what that leaves.
        """
        told = self.tell_to_stop(server, how)
        if told is not None:
            self.wait_until_stopped(server, how, timeout_s=timeout_s)
        return told is not None

    def tell_to_stop(self, server: str, how: StopSignal) -> float | None:
        """Send the web server its signal; when that was, CLOCK_MONOTONIC seconds, None if it does not run."""
        return self._roles.tell_to_stop(f"web {server}", self.kind(server), how)

    def wait_until_stopped(self, server: str, how: StopSignal, *, timeout_s: float) -> None:
        """Return when the web server, having been told, has ended; LabError when it has not in time."""
        self._roles.wait_until_stopped(f"web {server}", how, timeout_s)

    def start(self, server: str) -> bool:
        """Start the web server and wait until it listens; whether it was stopped.

        LabError when another process has its port, or when it runs and does not listen.
        """
        where, served = self._server(server).namespace, self.web(server)
        return self._roles.start(
            f"web {server}", partial(web.start, served, where), partial(web.serves, served, where)
        )

    def stop_box(self, number: Signals = Signals.SIGTERM, *, timeout_s: float = 10.0) -> bool:
        """Stop the box's daemon; whether it ran."""
        started = self._roles.started("box")
        if started is None or process.send(started, number, to_all=number is Signals.SIGKILL) is None:
            return False
        self._roles.wait_until_ended("box", process.wait, timeout_s, number.name)
        box.remove_leftovers(self.name)
        return True

    def start_box(self) -> bool:
        """Start the box's daemon and wait until its API answers; whether it was stopped."""
        start = partial(box.start, self.name, self.plan.box.namespace, self.directory)
        return self._roles.start("box", start, lambda _: box.listening(self.name))

    def running(self, role: str) -> list[int]:
        """The pids of "box", "delay" or "web NAME" that are alive, the main process first."""
        return self._roles.running(role)

    def left_behind(self) -> list[int]:
        made = state.read(self.name)
        return self._roles.left_behind(made.namespaces.values()) if made is not None else []

    def capture(
        self, where: Sequence[str], path: Path, *, expression: str = "", count: int | None = None
    ) -> Capture:
        """A capture at nodes (or links: "router:rs1") to enter as a context; see Capture."""
        return Capture(
            points(self.plan, where),
            path,
            directory=self.directory / "captures",
            keep=self.keep,
            drop=self.drop,
            expression=expression,
            count=count,
        )

    def captures(self, directory: Path, expression: str, *, router: bool) -> dict[str, Capture]:
        """A capture for each node, by its name; the router's has every packet of all the others once more."""
        return {
            node.name: self.capture([node.name], directory / f"{node.name}.pcapng", expression=expression)
            for node in self.plan.nodes
            if router or node.role is not Role.ROUTER
        }

    def wait_until_bound(self, say: Say = quiet, timeout_s: float | None = None) -> None:
        """Return when the box has every server ACTIVE; LabError when that takes too long."""
        wait_until_bound(self, partial(box.servers, self.name), say, timeout_s)

    @property
    def box_log(self) -> Path:
        return box.log(self.directory)

    def box_says(self, lines: int) -> str:
        return process.last_lines(self.box_log, lines)

    def _server(self, name: str) -> Node:
        node = self.node(name)
        if node.role is not Role.SERVER:
            servers = ", ".join(server.name for server in self.plan.servers)
            raise LabError(f"{name} is not a web server: those are {servers}")
        return node

    def keep(self, role: str, started: Process) -> None:
        """Note a process where `down` will find it."""
        self._roles.keep(role, started)

    def drop(self, role: str) -> None:
        """Take the note back: the process has ended."""
        self._roles.drop(role)


def _chosen(node: Node, vip: IPv4Address | None) -> list[IPv4Address]:
    held = [entry.address for entry in node.vips]
    if vip is None:
        return held
    if vip not in held:
        raise LabError(f"{node.name} has no VIP {vip}: it has {', '.join(str(address) for address in held)}")
    return [vip]
