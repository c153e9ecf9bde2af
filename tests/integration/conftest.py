"""A lab for tests, what a capture of it shows, and waiting for a condition with a deadline."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from lb.config import parse
from netns import labs
from netns.namespaces.lab import NamespaceLab
from netns.plan.config import LabConfig

VIP = "192.0.2.10"
NAME = "boxtest"

MakeLab = Callable[..., NamespaceLab]


@pytest.fixture
def make_lab() -> Iterator[MakeLab]:
    """Makes the lab with a virtual server's settings changed; packets look as on a wire (no offloads).

    A health check may take ten seconds of the box's: on a busy machine a healthy server must not miss it.
    The box's log is in the output of a test that failed.
    """
    made: list[NamespaceLab] = []
    names: list[str] = []

    def make(*, speed: float = 20, lab: dict[str, Any] | None = None, **virtual_server: Any) -> NamespaceLab:
        service = {"name": "web", "address": VIP, "port": 80, "dscp": 10, **virtual_server}
        service["health_check"] = {"timeout_s": 10, **service.get("health_check", {})}
        document = {
            "name": NAME,
            "speed": speed,
            "offload": False,
            "virtual_server": [service],
            **(lab or {}),
        }
        names.append(document["name"])
        made.append(labs.up(parse(LabConfig, document, "the test's lab"), say=print))
        return made[-1]

    yield make
    for lab in made:
        lab.close()
        if lab.box_log.exists():
            sys.stderr.write(lab.box_log.read_text())
    for name in names:
        labs.down(name)


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 15) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
    return value


def alive_in(namespaces: set[int]) -> list[str]:
    """What runs in those namespaces, given by inode number, by /proc alone."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "net").stat().st_ino in namespaces:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # ended meanwhile, or a zombie
    return found


def packets(path: Path) -> list[tuple[str, IP]]:
    """The IPv4 packets of a capture in the order of time, each with the interface it was seen on."""
    return [(point, packet) for _, point, packet in timed_packets(path)]


def timed_packets(path: Path) -> list[tuple[float, str, IP]]:
    """The same, each with its time: seconds since the epoch."""
    meta: Any  # scapy names the fields of any format here, and of pcapng none
    with RawPcapNgReader(str(path)) as reader:
        found = []
        for data, meta in reader:
            at = ((meta.tshigh << 32) + meta.tslow) / meta.tsresol
            found.append((at, meta.ifname.decode(), Ether(data)))
    return [
        (at, point, frame[IP]) for at, point, frame in sorted(found, key=lambda one: one[0]) if IP in frame
    ]


def row(lab: NamespaceLab, server: str) -> dict[str, Any]:
    """What the box says of a server."""
    return next(one for one in lab.box.servers() if one["name"] == server)


def wait_for_state(lab: NamespaceLab, server: str, state: str, timeout_s: float = 15) -> None:
    eventually(lambda: row(lab, server)["state"] == state, f"{server} {state}", timeout_s)


def events(lab: NamespaceLab, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    """The box's events of a kind whose fields have these values."""
    return [
        event
        for event in lab.box.events()
        if event["kind"] == kind and all(event.get(key) == value for key, value in wanted.items())
    ]


def nstat(lab: NamespaceLab, node: str, name: str) -> int:
    """A counter of a node's kernel, as nstat(8) reads it, since the node was made."""
    for line in lab.run(node, ["nstat", "-asz"], check=True).stdout.splitlines():
        if line.split()[0] == name:
            return int(line.split()[1])
    raise AssertionError(f"{node} has no counter {name}")
