"""The interface of a lab that is up: all that a scenario, a rehearsal and clients need of it.

Two have it: netns/namespaces/lab.py, whose nodes are network namespaces, and netns/docker/lab.py, whose
nodes are containers. Nobody who plays there knows in which. What runs on a node (clients, ss, tcpdump) is a
program of this machine's in the node's network.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from netns.errors import LabError
from netns.lab.capture import Counted
from netns.linux.process import Process
from netns.plan.config import LabConfig
from netns.plan.topology import Plan
from netns.web import ServerKind, StopSignal

if TYPE_CHECKING:
    from lb.client import BoxClient

Result = TypeVar("Result")
Say = Callable[[str], None]
"""Takes a message for the person who waits."""


def quiet(_: str) -> None:
    """Say nothing."""


class Network(Protocol):
    """A node's network as it is now: a container's goes with it, and the next one has another."""

    @property
    def path(self) -> str:
        """What setns(2) enters: a name under /run/netns, or an absolute path."""

    @property
    def there(self) -> bool:
        """Whether it still is the node's."""

    def inside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in it, in a thread of its own; raises Gone."""


class Recorder(Protocol):
    """A capture: runs from entering to leaving; then `path` is a pcapng file."""

    @property
    def path(self) -> Path: ...

    @property
    def counted(self) -> Sequence[Counted]:
        """What was seen at each point, once it has ended."""

    @property
    def finished(self) -> bool:
        """It has ended without being told: what came later is not in it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Lab(Protocol):
    """A lab that is up. Each method raises LabError when it can't, Gone when the node has no network now."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> LabConfig: ...

    @property
    def plan(self) -> Plan:
        """The nodes: their names, roles, addresses and VIPs."""

    @property
    def directory(self) -> Path:
        """Where what is written meanwhile is: logs, sockets."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What the nodes are, beside what every lab is made of; for the record."""

    @property
    def box(self) -> BoxClient:
        """A client of the box's API; `close` ends it."""

    def box_says(self, lines: int) -> str:
        """The end of the box's log."""

    def close(self) -> None:
        """Let go of the lab, which stays up."""

    def run(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run() on the node, with text captured unless `options` say otherwise."""

    def network(self, node: str) -> Network:
        """The node's network as it is now."""

    def running(self, role: str) -> Sequence[int]:
        """The pids of "box" or of "web NAME" that are alive, the main process first."""

    def left_behind(self) -> Sequence[int]:
        """This process's own children on the nodes of which the lab knows nothing: see process.adopted."""

    def keep(self, role: str, started: Process) -> None:
        """Note a process where `down` will find it."""

    def drop(self, role: str) -> None:
        """Take the note back: the process has ended."""

    def captures(self, directory: Path, expression: str, *, router: bool) -> Mapping[str, Recorder]:
        """A capture of what passes each node, by its name; the router's has all packets of the others again.

        In a server's, packets to it have its own address and the DSCP, as they left the box. It goes on over
        the server's stops.
        """

    def kind(self, server: str) -> ServerKind:
        """Of its web server."""

    def root(self, server: str) -> Path:
        """Its web root, where this machine sees it as long as the server's network is the same."""

    def health_files(self, server: str) -> Sequence[Path]:
        """The same of its health files; none when it is not known where they are."""

    def access_log(self, server: str) -> str:
        """What it has logged of requests, as observe.parse_served reads it."""

    def put_page(self, server: str, text: str) -> None:
        """Change what it serves at /, whether it runs or not."""

    def environment(self, server: str) -> Mapping[str, str]:
        """What of a deploy script's environment depends on what the node is: docs/rehearsals.md."""

    def health_off(self, server: str) -> bool:
        """Rename the server's health files away; whether that changed anything."""

    def health_on(self, server: str) -> bool:
        """Put the server's health files back; whether that changed anything."""

    def vip_down(self, server: str) -> None:
        """Take the VIPs off the server's lo, as `ifconfig lo:0 down` does."""

    def vip_up(self, server: str) -> None:
        """Put the VIPs on the server's lo."""

    def stop(self, server: str, how: StopSignal = StopSignal.GRACEFUL) -> bool:
        """Stop the web server and wait until it has ended; whether it ran."""

    def start(self, server: str) -> bool:
        """Start the web server and wait until it listens; whether it was stopped."""


def wait_until_bound(
    lab: Lab, servers: Callable[[], Iterable[dict[str, Any]]], say: Say, timeout_s: float | None
) -> None:
    """Return when the box has every server ACTIVE, as `servers` tells; LabError when that takes too long.

    A server of the lab that the box does not have is not ACTIVE.
    """
    config = lab.config
    wanted = list(dict.fromkeys(name for one in config.virtual_server for name in config.server_names(one)))
    if timeout_s is None:
        # The first checks are spread over one interval; one more for a check that was missed.
        slowest = max(s.health_check.interval_s + s.health_check.timeout_s for s in lab.config.virtual_server)
        timeout_s = 2 * slowest / lab.config.speed + 5
    deadline = time.monotonic() + timeout_s
    said = ""
    while True:
        if not lab.running("box"):
            raise LabError(f"the box has ended; its log says:\n{lab.box_says(15)}")
        rows = list(servers())
        there = {row["name"] for row in rows}
        waiting = [f"{name} (not in the box)" for name in wanted if name not in there]
        waiting += [f"{row['name']} ({row['state']})" for row in rows if row["state"] != "ACTIVE"]
        if not waiting:
            return
        message = f"waiting for {', '.join(waiting)}"
        if message != said:
            say(message)
            said = message
        if time.monotonic() > deadline:
            missing = ", ".join(waiting)
            raise LabError(f"the lab {lab.name!r} is up, but not ACTIVE in {timeout_s:.0f} s: {missing}")
        time.sleep(0.05)
