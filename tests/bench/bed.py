"""Where it is measured: client, router and servers, and a box node for each contender, in namespaces.

The router's route to the VIP says whose turn it is; the others idle. So a round can go from one contender to
the next within a second. A state file, as the lab's, says what was made: a run that was killed leaves nothing
that the next run, or `l4lab down --name bench`, does not remove.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from netns import web
from netns.lab import state
from netns.lab.state import Ledger, State
from netns.labs import down
from netns.linux import namespace, process, programs
from netns.linux.process import Process
from netns.namespaces import network
from netns.plan.topology import ANYWHERE, NODE_INTERFACE, Interface, Node, Plan, Role, Route, Vip

NAME = "bench"
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.20")
"""A virtual server that has nothing to do with what is going on."""
DSCPS = {VIP: 10, OTHER_VIP: 20}
HTTP, STREAM = 80, 81
"""The VIPs' ports: nginx; programs/stream.py."""
SERVERS = ("rs1", "rs2")
FLOWS = IPv4Network("198.18.0.0/15")
"""RFC 2544's range for benchmarks: the clients that `flows` pretends to be. Servers count and drop them."""

BUILD = Path("build/bench").resolve()
PROGRAMS = Path(__file__).parent / "programs"
_LIBRARIES = {"reference": ["-lnetfilter_queue"], "flows": [], "paced": []}

_SYSCTLS = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/tcp_max_syn_backlog": "16384",
    # Among several next hops the router chooses by addresses and ports.
    "net/ipv4/fib_multipath_hash_policy": "1",
}
_DROP_FLOWS = f"""
table ip bench {{
  chain flows {{
    type filter hook prerouting priority raw - 10; policy accept;
    ip saddr {FLOWS} counter drop
  }}
  chain resets {{
    type filter hook prerouting priority raw - 10; policy accept;
    ip daddr {FLOWS} tcp flags rst counter drop
    ip daddr {FLOWS} counter drop
  }}
}}
"""


def program(name: str) -> str:
    """The path of a C program of this folder, compiled when its source is newer."""
    source, binary = PROGRAMS / f"{name}.c", BUILD / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", binary, source, *_LIBRARIES[name]], check=True)
    return str(binary)


def plan(boxes: Sequence[str]) -> Plan:
    """The network: like the lab's, but with several boxes of which the router uses none as yet."""
    roles = {"client": Role.CLIENT}
    roles |= dict.fromkeys(SERVERS, Role.SERVER)
    roles |= dict.fromkeys(boxes, Role.BOX)
    ends, ports, routes = [], [], []
    for subnet, (name, role) in zip(
        IPv4Network("10.81.0.0/16").subnets(new_prefix=24), roles.items(), strict=False
    ):
        gateway, address = subnet[1], subnet[2]
        ports.append(Interface(name, IPv4Interface((gateway, 24)), peer=name))
        held = enumerate(DSCPS.items()) if role is Role.SERVER else ()
        ends.append(
            Node(
                name,
                f"{NAME}-{name}",
                role,
                (Interface(NODE_INTERFACE, IPv4Interface((address, 24)), peer="router"),),
                (Route(ANYWHERE, gateway),),
                tuple(Vip(vip, f"lo:{index}", dscp) for index, (vip, dscp) in held),
            )
        )
        if role is Role.CLIENT:
            routes.append(Route(FLOWS, address))
    router = Node("router", f"{NAME}-router", Role.ROUTER, tuple(ports), tuple(routes))
    return Plan(NAME, (*ends, router))


class Bed:
    """The network and what runs in it."""

    def __init__(self, network: Plan, ledger: Ledger, directory: Path) -> None:
        self.plan = network
        self.directory = directory
        self._ledger = ledger

    def start(self, node: str, role: str, argv: Sequence[str]) -> Process:
        """Start a program on a node; it ends with the bed at the latest."""
        return process.spawn(
            self.plan.node(node).namespace,
            argv,
            log=self.directory / f"{role}.log",
            record=partial(self._ledger.process, role),
            env=programs.environment(),
        )

    def record(self, role: str, started: Process) -> None:
        """Note a process that somebody else started here."""
        self._ledger.process(role, started)

    def process(self, role: str) -> Process:
        """The process that was recorded as `role`."""
        return self._ledger.state.processes[role]

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        return namespace.command(self.plan.node(node).namespace, list(argv))

    def run(self, node: str, argv: Sequence[str], timeout_s: float = 60.0, **options: Any) -> str:
        """What a program prints that runs on a node; RuntimeError, with what it said, when it fails."""
        done = subprocess.run(
            self.command(node, argv),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **options,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{argv[0]} on {node} exits {done.returncode}: {done.stderr or done.stdout}")
        return str(done.stdout)

    def switch(self, *nodes: str) -> None:
        """Let the router send what is for the VIPs to this node; of several, each flow to one of them."""
        hops = [part for name in nodes for part in ("nexthop", "via", str(self.plan.node(name).address))]
        for vip in DSCPS:
            self.run("router", ["ip", "route", "replace", f"{vip}/32", *hops])

    def gateway_mac(self) -> str:
        """The router's hardware address as the client sees it."""
        link = json.loads(self.run("router", ["ip", "-json", "link", "show", "client"]))
        return str(link[0]["address"])


@contextmanager
def bed(boxes: Sequence[str]) -> Iterator[Bed]:
    """The network with its servers running; all of it is gone when the context ends.

    RuntimeError when another bench runs on this machine.
    """
    with _the_only_one():
        yield from _bed(boxes)


@contextmanager
def _the_only_one() -> Iterator[None]:
    """A name that only one process can have, and that ends with it: an abstract socket's, unix(7)."""
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0l4box-{NAME}")
        except OSError as error:
            raise RuntimeError("another bench runs on this machine") from error
        yield


def _bed(boxes: Sequence[str]) -> Iterator[Bed]:
    down(NAME)
    with state.lock(NAME):
        ledger = Ledger(State(NAME, config={}, asked={}))
        ledger.ready(False)
    try:
        planned = plan(boxes)
        ledger.state.directory.mkdir(mode=0o755)
        network.build(planned, ledger, offload=True)
        made = Bed(planned, ledger, ledger.state.directory)
        for node in planned.nodes:
            namespace.inside(node.namespace, _set)
            if node.role in (Role.SERVER, Role.CLIENT):
                made.run(node.name, ["nft", "-f", "-"], input=_DROP_FLOWS)
        for name in SERVERS:
            _serve(made, name)
        yield made
    finally:
        down(NAME)


def _set() -> None:
    for path, value in _SYSCTLS.items():
        (Path("/proc/sys") / path).write_text(value)


def _serve(made: Bed, name: str) -> None:
    """nginx as in the lab, but without its access log, and the streams' other end."""
    home = made.directory / name
    served = web.Web(name, web.KINDS["nginx"], home, (HTTP,), (home / "www" / "health_check.html",))
    web.make_files(served)
    configuration = served.directory / "nginx.conf"
    text = configuration.read_text()
    logged = "access_log access.log lab;"
    assert logged in text
    configuration.write_text(text.replace(logged, "access_log off;"))
    web.start(served, made.plan.node(name).namespace, partial(made.record, f"web {name}"))
    made.start(name, f"stream {name}", [sys.executable, str(PROGRAMS / "stream.py"), "serve", str(STREAM)])


def missing() -> list[str]:
    """Programs that are needed and not installed."""
    return [name for name in ("gcc", "haproxy", "iptables", "nft", "nginx", "wrk") if not _found(name)]


def _found(name: str) -> bool:
    return shutil.which(name, path=programs.SYSTEM_PATH) is not None
