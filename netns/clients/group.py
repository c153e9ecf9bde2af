"""Clients of one kind that run on a node of a lab, and what they have logged."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

from netns.clients import log
from netns.clients.drivers.curl import LARGE
from netns.clients.kinds import KINDS, ClientKind
from netns.clients.log import Logged
from netns.clients.spec import LONGEST_NAME, ClientSpec
from netns.errors import MissingError
from netns.lab import program
from netns.lab.interface import Lab
from netns.lab.program import Program

IDLE_PER_PROGRAM = 10_000
"""Connections of one program: a process may have a bounded number of files open."""

LARGE_BYTES = 64 * 1024 * 1024
"""Four minutes, at curl-download's rate."""
RECEIVE_BUFFER = "4096 65536 65536"
"""tcp_rmem of a node that downloads: a client that reads slowly finds out about a reset when it has read all
that came before, so what waits to be read must be little."""


class Clients:
    """A group of clients that run. Times of what it gives are CLOCK_MONOTONIC seconds."""

    def __init__(self, name: str, kind: ClientKind, count: int, *programs: Program) -> None:
        self.name = name
        self.kind = kind
        self.names = [f"{name}-{number}" for number in range(1, count + 1)]
        self.unread: list[str] = []
        """What they wrote that is no log: why a program could not be started, for instance."""
        self.stopped = False
        self._programs = programs

    @property
    def running(self) -> bool:
        return all(running.running for running in self._programs)

    def read(self) -> list[Logged]:
        """What has come since the last call."""
        logged: list[Logged] = []
        for running in self._programs:
            for line in running.lines():
                entry = log.parse(line)
                if entry is None:
                    self.unread.append(line)
                else:
                    logged.append(entry)
        return logged

    def ask(self) -> None:
        """Have each idle client make another request."""
        for running in self._programs:
            running.send(signal.SIGUSR1)

    def vanish(self) -> None:
        """Have each idle client be gone without a FIN or a RST, as one whose NAT gateway forgot it."""
        for running in self._programs:
            running.send(signal.SIGUSR2)

    def stop(self) -> None:
        self.stopped = True
        for running in self._programs:
            running.stop()


def start_clients(
    lab: Lab, node: str, kind: ClientKind, spec: ClientSpec, options: Sequence[str] = ()
) -> Clients:
    """Start the clients of a spec on the node; `options` are those of the kind's driver.

    MissingError when the kind is not installed, ValueError when its name is too long.
    """
    if len(spec.named(spec.count)) > LONGEST_NAME:
        raise ValueError(
            f"{spec.client!r} is too long a name for clients: {LONGEST_NAME} letters are allowed"
        )
    if missing := kind.missing():
        raise MissingError(missing)
    if kind.name == "curl-download":
        _prepare_downloads(lab, node)
    if kind.name == "idle":
        return _start_idle(lab, node, spec, options)
    running = program.start(lab, node, f"clients {spec.client}", [*kind.command(spec), *options])
    return Clients(spec.client, kind, spec.count, running)


def _start_idle(lab: Lab, node: str, spec: ClientSpec, options: Sequence[str]) -> Clients:
    programs = []
    for first in range(1, spec.count + 1, IDLE_PER_PROGRAM):
        part = replace(spec, count=min(IDLE_PER_PROGRAM, spec.count + 1 - first))
        argv = [*KINDS["idle"].command(part), "--first", str(first), *options]
        programs.append(program.start(lab, node, f"clients {spec.client} {first}", argv))
    return Clients(spec.client, KINDS["idle"], spec.count, *programs)


def _prepare_downloads(lab: Lab, node: str) -> None:
    """Put the page that downloads ask for on every server that has none, and give the node small receive
    buffers."""
    lab.run(node, ["sysctl", "-qw", f"net.ipv4.tcp_rmem={RECEIVE_BUFFER}"], check=True)
    for server in lab.plan.servers:
        page = lab.root(server.name) / LARGE
        if not page.exists():
            with page.open("wb") as file:
                file.truncate(LARGE_BYTES)
