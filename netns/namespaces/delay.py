"""The delay of the clients' links: packets wait in the router, for half of `delay_ms` each way.

The router's captures see a packet of a client's when it comes to the router, before it waits, and a packet
for a client after it has waited. A queue does it, and not netem: docs/decisions/0011-a-late-queue.md.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from netns.errors import LabError, MissingError
from netns.linux import namespace, process, programs
from netns.linux.process import Process, Record
from netns.linux.programs import installed
from netns.plan.topology import Node, Plan, Role

ROLE = "delay"
"""What the process is in the lab's state."""
QUEUE = 80
"""Any number: the router's namespace has no other queue."""
START_S = 20.0
QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
"""The queues of the calling thread's namespace; the first column is the number."""


def start(plan: Plan, delay_ms: float, directory: Path, record: Record) -> Process:
    """Have every client's link add `delay_ms` to a round trip, in real milliseconds.

    LabError when the process ends before it has its queue, MissingError when iptables refuses the rules.
    """
    router = plan.router
    started = process.spawn(
        router.namespace,
        [sys.executable, "-m", "netns.namespaces.late_queue", str(QUEUE), str(delay_ms / 1000 / 2)],
        log=directory / "delay.log",
        record=record,
        env=programs.environment(),
    )
    deadline = time.monotonic() + START_S
    while not namespace.inside(router.namespace, _queue_is_bound):
        if not process.members(started) or time.monotonic() > deadline:
            raise LabError(
                f"the delay of the clients' links did not start:\n{process.last_lines(started.log)}"
            )
        time.sleep(process.POLL_S)
    namespace.inside(router.namespace, partial(_send_to_queue, router, plan.of(Role.CLIENT)))
    return started


def rules(links: list[str]) -> list[list[str]]:
    """iptables' arguments for what comes and goes by these links; the router's own packets are among it."""
    queue = ["-j", "NFQUEUE", "--queue-num", str(QUEUE)]
    mangle = ["-w", "-t", "mangle", "-A"]
    return [
        rule
        for link in links
        for rule in (
            [*mangle, "PREROUTING", "-i", link, *queue],
            [*mangle, "POSTROUTING", "-o", link, *queue],
        )
    ]


def _queue_is_bound() -> bool:
    return any(int(line.split()[0]) == QUEUE for line in QUEUES.read_text().splitlines())


def _send_to_queue(router: Node, clients: tuple[Node, ...]) -> None:
    names = {client.name for client in clients}
    for rule in rules([port.name for port in router.interfaces if port.peer in names]):
        done = subprocess.run(
            [installed("iptables") or "iptables", *rule], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MissingError(
                f"iptables refused the delay's rule: {done.stderr.strip()}; "
                "`l4lab doctor` says what is missing"
            )
