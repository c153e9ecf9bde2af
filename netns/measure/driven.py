"""Clients that ask when they are told to, and the servers that fail them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from netns.clients import log
from netns.clients.kinds import ClientKind
from netns.clients.spec import ClientSpec
from netns.errors import LabError
from netns.lab import program
from netns.lab.program import Program
from netns.linux import programs
from netns.measure.deaths import BYSTANDER, Ending
from netns.namespaces.lab import NamespaceLab
from netns.record.recording import Request

END_S = 10.0
"""Real seconds in which a driver that has nobody to listen to must have ended."""


class Driven:
    """The clients of one kind: a bystander, and one for each method and ending."""

    def __init__(self, lab: NamespaceLab, kind: ClientKind, max_time_s: float) -> None:
        self.kind = kind
        self.answers: dict[str, Request] = {}
        """By the request's id."""
        self._asked: Counter[int] = Counter()
        self._said: list[str] = []
        service = lab.config.virtual_server[0]
        host, port = str(service.vip), service.port
        count = BYSTANDER + len(kind.methods) * len(Ending)
        spec = ClientSpec(host, port, kind.name, count, max_time_s=max_time_s, on_demand=True)
        self._process = lab.popen(
            "client",
            kind.command(spec),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=programs.environment(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, number: int, method: str) -> str:
        """Have the client of that number make a request; its id. LabError when the driver has ended."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(f"{method} {number}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.check()
        self._asked[number] += 1
        return f"{self.kind.name}-{number}.{self._asked[number]}"

    def check(self) -> None:
        """LabError with its words when the driver has ended."""
        if self._process.poll() is not None:
            self._reader.join()
            words = "\n".join(self._said[-9:])
            raise LabError(f"the {self.kind.name} clients have ended; they say:\n{words}")

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            logged = log.parse(line)
            if isinstance(logged, Request):
                self.answers[logged.id] = logged
            else:
                self._said.append(line.rstrip())


@dataclass(frozen=True, slots=True)
class Received:
    """A request that a server's program had whole."""

    id: str
    port: int
    server: str


class Failing:
    """Servers that fail their clients, in place of the lab's own."""

    def __init__(self, lab: NamespaceLab) -> None:
        self._received: list[Received] = []
        self._told = 0
        self._programs: list[Program] = []
        port = str(lab.config.virtual_server[0].port)
        for node in lab.plan.servers:
            lab.stop(node.name)
            argv = [sys.executable, "-m", "netns.measure.failing_server", node.name, port]
            self._programs.append(program.start(lab, node.name, f"failing {node.name}", argv))

    def end_connections(self) -> None:
        """Have the connections that are open end as they are due; `told` says when all know."""
        for running in self._programs:
            running.send(signal.SIGUSR1)

    def told(self) -> bool:
        self._read()
        return self._told == len(self._programs)

    def received(self, request: str) -> list[Received]:
        """Where that request was received, the latest last."""
        self._read()
        return [one for one in self._received if one.id == request]

    def _read(self) -> None:
        for running in self._programs:
            for line in running.lines():
                row = json.loads(line)
                if "ending" in row:
                    self._told += 1
                else:
                    self._received.append(Received(**row))
