"""What stands between the router and the servers, one after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Literal

from lb.config import BoxConfig
from lb.linux import netfilter, rules
from netns.lab import box
from netns.linux import namespace, process
from netns.linux.process import Process
from tests.bench.bed import DSCPS, HTTP, NAME, OTHER_VIP, PROGRAMS, SERVERS, STREAM, VIP, Bed, program

READY_S = 20.0
_MANGLE_QUEUE = "iptables -t mangle -A PREROUTING -d {vip} -p tcp -j NFQUEUE --queue-num 0"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get a VIP's packets to the servers."""

    name: str
    title: str
    nodes: tuple[str, ...]
    """Where the router sends the VIP's packets: to its box, or with no box to the servers."""
    start: Callable[[Bed, str], Process | None]
    """Start it on its node; the daemon's process if it has one."""
    forwards: bool = True
    """Whether it forwards packets as they come; a proxy ends connections instead."""
    slow: bool = False
    """A hundred times slower than the others: what takes them a second is cut short for it."""


def _none(made: Bed, node: str) -> None:
    """The router chooses a server for each flow; the servers hold the VIP."""


def _kernel_limit(made: Bed, node: str) -> None:
    """What the kernel does without asking anybody: a stateless choice by the client's address and port."""
    addresses = ", ".join(f"{number} : {made.plan.node(name).address}" for number, name in enumerate(SERVERS))
    rewrites = "\n".join(
        f"ip daddr {vip} ip daddr set jhash ip saddr . tcp sport mod {len(SERVERS)} map {{ {addresses} }} "
        f"ip dscp set {dscp}"
        for vip, dscp in DSCPS.items()
    )
    made.run(
        node,
        ["nft", "-f", "-"],
        input=f"""table ip bench {{
          chain packets {{ type filter hook prerouting priority mangle;
            {rewrites}
          }}
        }}
        """,
    )


def _reference(made: Bed, node: str) -> Process:
    """A daemon in C, with the very rules of l4box: only who gives the verdicts is different."""
    targets = tuple(
        rules.Target(rules.MARK_BASE | number, made.plan.node(name).address)
        for number, name in enumerate(SERVERS, start=1)
    )
    services = [
        rules.Service(vip, port, "tcp", DSCPS[vip], targets)
        for vip, port in ((VIP, HTTP), (VIP, STREAM), (OTHER_VIP, HTTP))
    ]
    daemon = made.start(node, node, [program("reference"), "0", str(rules.MARK_BASE), str(len(SERVERS))])
    ruleset = rules.render(f"{NAME}-{node}", 0, services, "kernel")
    namespace.inside(made.plan.node(node).namespace, partial(netfilter.install, ruleset))
    return daemon


def _haproxy(made: Bed, node: str) -> Process:
    for vip in DSCPS:
        made.run(node, ["ip", "address", "add", f"{vip}/32", "dev", "lo"])
    listens = "\n".join(
        f"listen port{port}\n  bind :{port}\n  balance roundrobin\n"
        + "\n".join(f"  server {name} {made.plan.node(name).address}:{port}" for name in SERVERS)
        for port in (HTTP, STREAM)
    )
    path = made.directory / "haproxy.cfg"
    path.write_text(
        "global\n  nbthread 1\n  maxconn 4000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
        f"{listens}\n"
    )
    daemon = made.start(node, node, ["haproxy", "-db", "-f", str(path)])
    wait(lambda: _listens(made, node, HTTP), "haproxy listens", daemon)
    return daemon


def _scapy(made: Bed, node: str) -> Process:
    addresses = [str(made.plan.node(name).address) for name in SERVERS]
    script = [sys.executable, str(PROGRAMS / "scapy_box.py"), "0", str(DSCPS[VIP]), *addresses]
    daemon = made.start(node, node, script)
    made.run(node, _MANGLE_QUEUE.format(vip=VIP).split())
    wait(lambda: "\n    0 " in "\n" + _queues(made, node), "the scapy script has its queue", daemon)
    return daemon


def box_config(made: Bed, name: str, rewrite: Literal["kernel", "userspace"], **more: object) -> BoxConfig:
    """l4box's configuration: the VIP's two ports and another VIP. `more` goes into each virtual server."""
    servers = [{"name": name, "address": made.plan.node(name).address} for name in SERVERS]
    services = [
        {
            "name": f"vip{DSCPS[vip]}-{port}",
            "address": ip_address(vip),
            "port": port,
            "dscp": DSCPS[vip],
            "health_check": {"kind": "l4", "interval_s": 1},
            "real_server": servers,
            **more,
        }
        for vip, port in ((VIP, HTTP), (VIP, STREAM), (OTHER_VIP, HTTP))
    ]
    return BoxConfig.model_validate({"name": name, "rewrite": rewrite, "virtual_server": services})


def _l4box(made: Bed, node: str, *, rewrite: Literal["kernel", "userspace"]) -> Process:
    name = f"{NAME}-{node}"
    directory = made.directory / node
    directory.mkdir()
    box.write_configuration(box_config(made, name, rewrite), directory / "box.toml")
    daemon = box.start(name, made.plan.node(node).namespace, directory, partial(made.record, node))
    wait_until_bound(name)
    return daemon


def wait_until_bound(name: str) -> None:
    """Return once every server of a box is ACTIVE."""
    wait(lambda: all(row["state"] == "ACTIVE" for row in box.servers(name)), f"{name}'s servers are bound")


def wait(condition: Callable[[], bool], what: str, daemon: Process | None = None) -> None:
    """Return once the condition holds; TimeoutError, with the end of the daemon's log, when it does not."""
    deadline = time.monotonic() + READY_S
    while not condition():
        dead = daemon is not None and not process.members(daemon)
        if dead or time.monotonic() > deadline:
            said = process.last_lines(daemon.log) if daemon else ""
            raise TimeoutError(f"waited in vain until {what}\n{said}")
        time.sleep(0.02)


def _listens(made: Bed, node: str, port: int) -> bool:
    return f":{port} " in made.run(node, ["ss", "-Htln"])


def _queues(made: Bed, node: str) -> str:
    return made.run(node, ["cat", "/proc/self/net/netfilter/nfnetlink_queue"])


NONE = Contender("none", "no box", SERVERS, _none)
HAPROXY = Contender("haproxy", "HAProxy", ("haproxy",), _haproxy, forwards=False)
REFERENCE = Contender("reference", "C reference", ("reference",), _reference)
SCAPY = Contender("scapy", "scapy script", ("scapy",), _scapy, slow=True)
KERNEL = Contender("l4box", "l4box, kernel", ("l4box",), partial(_l4box, rewrite="kernel"))
USERSPACE = Contender("l4box-user", "l4box, userspace", ("l4box-user",), partial(_l4box, rewrite="userspace"))
ALL = (
    NONE,
    Contender("limit", "kernel limit", ("limit",), _kernel_limit),
    REFERENCE,
    HAPROXY,
    SCAPY,
    KERNEL,
    USERSPACE,
)


def cpu_s(daemon: Process) -> float:
    """Processor time of a process so far, from /proc/PID/schedstat (its first figure, nanoseconds)."""
    total = 0
    for pid in process.members(daemon):
        with open(f"/proc/{pid}/schedstat") as statistics:
            total += int(statistics.read().split()[0])
    return total / 1e9
