"""What this machine lacks for the lab. Kernel features are tried, in a namespace that ends with the trial."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from pyroute2 import IPRoute

from netns.errors import LabError
from netns.linux import namespace
from netns.linux.programs import SYSTEM_PATH, installed
from netns.web import KINDS, ServerKind


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    required: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A program and the Debian package it comes in."""

    program: str
    package: str
    required: bool
    purpose: str


PACKAGES = (
    Package("nft", "nftables", True, "the box's and the servers' rules"),
    Package("iptables", "iptables", True, "the box's queue"),
    Package("nsenter", "util-linux", True, "running things on a node"),
    Package("setsid", "util-linux", True, "the lab's daemons"),
    Package("tcpdump", "tcpdump", False, "l4lab capture"),
    Package("curl", "curl", False, "clients"),
    Package("ip", "iproute2", False, "looking around on a node: ip, ss"),
)


def examine() -> list[Finding]:
    """Everything that was looked at, in the order to fix it in."""
    root = os.geteuid() == 0
    findings = [
        Finding("root", root, True, "yes" if root else "no", "run as root, or by sudo"),
        *(_package(package) for package in PACKAGES),
        *(_web(kind) for kind in KINDS.values()),
        _binding(),
    ]
    if root:
        findings += [_feature(*feature) for feature in FEATURES]
    else:
        skipped = "not tried: needs root"
        findings += [Finding(what, False, True, skipped, fix) for what, _, fix in FEATURES]
    return findings


def _package(package: Package) -> Finding:
    path = installed(package.program)
    return Finding(
        what=package.program,
        ok=path is not None,
        required=package.required,
        detail=path or f"not installed ({package.purpose})",
        fix=f"apt-get install {package.package}",
    )


def _web(kind: ServerKind) -> Finding:
    """None is required: servers are nginx, or the built-in one without it, unless told to be another."""
    version = kind.version()
    return Finding(
        what=kind.name,
        ok=version is not None,
        required=False,
        detail=f"web servers: {version}" if version else f'not installed (servers with web = "{kind.name}")',
        fix=kind.fix,
    )


def _binding() -> Finding:
    found = importlib.util.find_spec("netfilterqueue") is not None
    return Finding(
        what="NetfilterQueue",
        ok=found,
        required=True,
        detail="installed" if found else "the Python binding of the queue is not installed",
        fix="apt-get install gcc libpython3-dev libnetfilter-queue-dev && pip install netfilterqueue",
    )


def _feature(what: str, attempt: Callable[[], None], fix: str) -> Finding:
    try:
        namespace.inside_a_new_one(attempt)
    except (OSError, LabError, subprocess.SubprocessError) as error:
        return Finding(what, ok=False, required=True, detail=_reason(error), fix=fix)
    except Exception as error:  # noqa: BLE001 - NetlinkError is an Exception and nothing narrower
        return Finding(what, ok=False, required=True, detail=str(error), fix=fix)
    return Finding(what, ok=True, required=True, detail="works")


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", "") or str(error)
    return str(said).strip().splitlines()[0]


def _run(*argv: str, text: str = "") -> None:
    """In the calling thread's namespace."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    subprocess.run(
        argv, input=text, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )


def _nothing() -> None:
    """Being in a new namespace was the trial."""


def _veth() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="l4a", kind="veth", peer={"ifname": "l4b"})


def _queue() -> None:
    _run(
        "iptables", "-w", "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "-j", "NFQUEUE", "--queue-num", "0"
    )


def _payload() -> None:
    _nft("type filter hook prerouting priority raw; ip dscp 10 ip daddr set 192.0.2.10 ip dscp set 0")


def _route_hook() -> None:
    _nft("type route hook output priority mangle; meta mark 1 ip daddr set 192.0.2.10 ip dscp set 10")


def _nft(chain: str) -> None:
    _run("nft", "-f", "-", text=f"table ip l4lab_doctor {{ chain trial {{ {chain}; }}; }}\n")


FEATURES: tuple[tuple[str, Callable[[], None], str], ...] = (
    ("network namespaces", _nothing, "a kernel with CONFIG_NET_NS; in a container: the capability SYS_ADMIN"),
    ("veth links", _veth, "modprobe veth (CONFIG_VETH)"),
    ("NFQUEUE", _queue, "modprobe xt_NFQUEUE nfnetlink_queue (CONFIG_NETFILTER_XT_TARGET_NFQUEUE)"),
    ("nft payload writes", _payload, "a kernel of 4.10 or later with CONFIG_NF_TABLES (modprobe nf_tables)"),
    ("nft rewriting of own packets", _route_hook, "a kernel with CONFIG_NF_TABLES_IPV4 (modprobe nf_tables)"),
)
