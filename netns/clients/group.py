"""Clients: real ones, their requests as they saw them.

| kind | what a client is |
| --- | --- |
| `curl` | a curl process with one keep-alive connection, a request at a time, at a rate |
| `curl-new` | the same with a new connection for every request |
| `curl-download` | a curl process that downloads a large page again and again, at a limited rate |
| `idle` | a connection that carries one request and is then left open (netns/connections.py) |

curl finds out that a keep-alive connection has ended when it wants to use it, and opens another. If the
connection ends under a request before a byte of the answer has come, curl asks again on a new one, by
itself and once. Both are what HTTP clients do (RFC 9112 §9.3.1), so both are left to it; such a request is
a new connection's here.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from netns import program
from netns.lab import Lab
from netns.program import Program
from netns.recording import Outcome, Request
from netns.web import installed

MAX_TIME_S = 2.0
"""Real seconds that a request may take."""

LIFETIME_S = 900
"""Real seconds after which clients end by themselves, should nobody end them."""

PER_PROGRAM = 10_000
"""Connections of one program: a process may have a bounded number of files open."""

LARGE = "large"
LARGE_BYTES = 64 * 1024 * 1024
LARGE_RATE = 256 * 1024
"""Bytes per second of a download: it lasts for as long as a run."""
RECEIVE_BUFFER = "4096 65536 65536"
"""tcp_rmem of a node that downloads: a client that reads slowly finds out about a reset when it has read all
that came before, so what waits to be read must be little."""

MARK = "="
_WRITE_OUT = (
    "%{stderr}\n"  # stdout is buffered, and may end in the middle of a line
    + " ".join(
        [
            MARK,
            "%{exitcode}",
            "%{http_code}",
            "%{num_connects}",
            "%{local_port}",
            "%{time_total}",
            "%{errormsg}",
        ]
    )
    + "\n"
)


class Kind(Enum):
    CURL = "curl"
    CURL_NEW = "curl-new"
    CURL_DOWNLOAD = "curl-download"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many clients of a kind."""

    kind: Kind
    count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection of an idle client ended, as the client saw it."""

    client: str
    how: str
    """ "fin", "reset" or "vanished"."""
    time: float
    local_port: int


def parse_clients(text: str) -> list[Wanted]:
    """ "curl:20,curl-new:5"; ValueError with what is allowed."""
    found = []
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        kinds = [kind.value for kind in Kind]
        if name not in kinds:
            raise ValueError(f"{name!r} is no kind of client: {', '.join(kinds)} are allowed")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"{part.strip()!r}: a number of clients is missing, as in {name}:20")
        found.append(Wanted(Kind(name), int(number)))
    return found


class Clients:
    """A group of clients that run. Times of what it gives are CLOCK_MONOTONIC seconds."""

    def __init__(self, name: str, kind: Kind, count: int, *programs: Program) -> None:
        self.name = name
        self.kind = kind
        self.names = [f"{name}-{number}" for number in range(1, count + 1)]
        self.unread: list[str] = []
        """What they wrote that is no result: why a program could not be started, for instance."""
        self.stopped = False
        self._programs = programs
        self._bodies: dict[str, str] = {}

    @property
    def running(self) -> bool:
        return all(running.running for running in self._programs)

    def read(self) -> list[Request | Ended]:
        """What has come since the last call."""
        found: list[Request | Ended] = []
        for running in self._programs:
            for line in running.lines():
                result = self._parse_report(line) if self.kind is Kind.IDLE else self._parse_curl(line)
                if result is not None:
                    found.append(result)
        return found

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

    def _parse_report(self, line: str) -> Request | Ended | None:
        result = parse_report(line)
        if result is None:
            self.unread.append(line)
        return result

    def _parse_curl(self, line: str) -> Request | None:
        copy, _, rest = line.partition(" ")
        time, _, text = rest.partition(" ")
        if not copy.isdecimal():
            self.unread.append(line)
            return None
        client = f"{self.name}-{copy}"
        if not text.startswith(f"{MARK} "):
            if text:
                self._bodies.setdefault(client, text)  # a page's first line is its server's name
            return None
        return parse_result(text, client, float(time), self._bodies.pop(client, ""))


def start_curl(
    lab: Lab, node: str, url: str, kind: Kind, count: int, *, name: str, rate: int, max_time_s: float
) -> Clients:
    """Start `count` curls of that kind on the node, each `rate` requests a second, `max_time_s` for each."""
    argv = curl_command(url, kind, rate=rate, max_time_s=max_time_s)
    copies = [sys.executable, "-m", "netns.copies", "--count", str(count), "--spread", f"{1 / rate:g}", "--"]
    return Clients(name, kind, count, program.start(lab, node, f"clients {name}", [*copies, *argv]))


def start_idle(
    lab: Lab, node: str, host: str, port: int, count: int, *, name: str, options: Sequence[str] = ()
) -> Clients:
    """Start `count` idle clients; `options` are those of netns.connections."""
    argv = [sys.executable, "-m", "netns.connections", host, str(port), "--client", name]
    argv += ["--lifetime", str(LIFETIME_S), *options]
    programs = []
    for first in range(1, count + 1, PER_PROGRAM):
        numbers = ["--first", str(first), "--count", str(min(PER_PROGRAM, count + 1 - first))]
        programs.append(program.start(lab, node, f"clients {name} {first}", [*argv, *numbers]))
    return Clients(name, Kind.IDLE, count, *programs)


def curl_command(url: str, kind: Kind, *, rate: int, max_time_s: float) -> list[str]:
    """The command line of one curl: every request of its life, and a line about each as it ends."""
    argv = [installed("curl") or "curl", "--silent", "--no-buffer", "--write-out", _WRITE_OUT]
    match kind:
        case Kind.CURL_DOWNLOAD:
            argv += ["--limit-rate", str(LARGE_RATE), "--output", "/dev/null"]
            return [*argv, "--max-time", str(LIFETIME_S), f"{url}{LARGE}?[1-100]"]
        case Kind.CURL_NEW:
            argv += ["--header", "Connection: close"]
    argv += ["--rate", f"{rate}/s", "--max-time", f"{max_time_s:g}"]
    return [*argv, f"{url}?[1-{rate * LIFETIME_S}]"]


def parse_result(text: str, client: str, ended: float, body: str) -> Request:
    """The request that curl's --write-out tells of, with the first line of the page that came before it."""
    _, exit_code, status, connects, port, took_s, error = text.split(" ", 6)
    result = outcome(int(exit_code), int(status), error)
    return Request(
        client=client,
        started=ended - float(took_s),
        ended=ended,
        outcome=result,
        status=int(status),
        server=body if result is Outcome.OK else "",
        reused=connects == "0" and port != "0",
        local_port=max(int(port), 0),
        error=error,
    )


def outcome(exit_code: int, status: int, error: str) -> Outcome:
    """What a curl exit code means (curl(1), EXIT CODES)."""
    match exit_code:
        case 0:
            return Outcome.OK if status < 400 else Outcome.HTTP_ERROR
        case 7:  # curl 7.88 says no more; nothing in a lab is unreachable but by silence, which is 28
            return Outcome.REFUSED
        case 28:
            return Outcome.TIMEOUT
        case 18 | 52:
            return Outcome.CLOSED
        case 55 | 56 if "reset" in error.lower() or "broken pipe" in error.lower():
            return Outcome.RESET
        case _:
            return Outcome.OTHER


def parse_report(line: str) -> Request | Ended | None:
    """A line of netns.connections; None for one that is not its."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    if "event" in found:
        return Ended(found["client"], found["event"], found["time"], found["port"])
    return Request(
        client=found["client"],
        started=found["started"],
        ended=found["ended"],
        outcome=Outcome(found["outcome"]),
        status=found["status"],
        server=found["server"],
        reused=found["reused"],
        local_port=found["port"],
        error=found["error"],
        method=found.get("method", "GET"),
        id=found.get("id", ""),
    )


def prepare_downloads(lab: Lab, node: str) -> None:
    """Put the page that downloads ask for on every server, and give the node small receive buffers."""
    lab.run(node, ["sysctl", "-qw", f"net.ipv4.tcp_rmem={RECEIVE_BUFFER}"], check=True)
    for server in lab.plan.servers:
        with (lab.web(server.name).root / LARGE).open("wb") as file:
            file.truncate(LARGE_BYTES)
