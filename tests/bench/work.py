"""The kinds of work, each for a moment: one figure or a few, by name, of the contender whose turn it is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns.linux import process
from netns.linux.process import Process
from tests.bench.bed import HTTP, PROGRAMS, SERVERS, STREAM, VIP, Bed, program
from tests.bench.contenders import Contender, cpu_s

Figures = dict[str, Any]

WINDOW = 512
"""Small packets under way at once: enough to keep two processors busy, few enough to lose none."""
SMALL_WINDOW = 64
"""For one who is slow: no more than it does in a tenth of a second."""
CONNECTIONS = 64
_WARM_UP_S = 0.2


class WorkFailed(Exception):
    """A contender did not do the work; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much work: seconds of each kind, requests a second where the rate is fixed, flows at most."""

    seconds: float
    rate: float
    flows: int = 100_000


@dataclass(frozen=True, slots=True)
class Work:
    name: str
    title: str
    short: str
    unit: str
    figure: str
    """Of the figures, the one that is compared."""
    measure: Callable[[Bed, Contender, Process | None, Load], Figures]
    packets_only: bool = False
    """Nothing for a proxy: the packets belong to no connection that could be ended."""


def wrk(made: Bed, connections: int, seconds: float, *headers: str) -> Figures:
    """Requests a second by wrk(1), one thread."""
    more = [part for header in headers for part in ("-H", header)]
    duration = f"{max(1, round(seconds))}s"
    said = made.run(
        "client",
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{duration}",
            "--timeout",
            "5s",
            *more,
            f"http://{VIP}:{HTTP}/",
        ],
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None or float(rate[1]) == 0 or "Non-2xx" in said:
        raise WorkFailed(f"wrk says:\n{said}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    return {"per_s": float(rate[1]), "errors": float(sum(map(int, errors.groups())) if errors else 0)}


def _keep_alive(connections: int) -> Callable[[Bed, Contender, Process | None, Load], Figures]:
    return lambda made, _, __, load: wrk(made, connections, load.seconds)


def _new_connections(made: Bed, _: Contender, __: Process | None, load: Load) -> Figures:
    return wrk(made, CONNECTIONS, load.seconds, "Connection: close")


def paced(made: Bed, rate: float, seconds: float, vip: object = VIP, log: Path | None = None) -> Figures:
    """Latency of requests that are due at a fixed rate: programs/paced.c."""
    argv = [program("paced"), str(vip), str(HTTP), str(CONNECTIONS), f"{rate:g}", f"{seconds:g}"]
    figures: Figures = json.loads(made.run("client", [*argv, str(log)] if log else argv))
    if figures["answered"] == 0:
        raise WorkFailed(f"no request was answered: {figures}")
    return figures


def _latency(made: Bed, _: Contender, __: Process | None, load: Load) -> Figures:
    return paced(made, load.rate, load.seconds)


def _stream(direction: str) -> Callable[[Bed, Contender, Process | None, Load], Figures]:
    def measure(made: Bed, _: Contender, __: Process | None, load: Load) -> Figures:
        script = [sys.executable, str(PROGRAMS / "stream.py"), direction, str(VIP), str(STREAM)]
        figures = {"gbit_s": float(made.run("client", [*script, f"{load.seconds:g}"]))}
        if figures["gbit_s"] == 0:
            raise WorkFailed(f"nothing arrived of the {direction}")
        return figures

    return measure


def flows(made: Bed, how: str, count: int, seconds: float = 0.0, window: int = WINDOW) -> Figures:
    """Packets of `count` flows, by programs/flows.c: "open" them all, or "run" for a time."""
    counters = [f"/proc/{process.members(_web(made, name))[0]}/net/dev" for name in SERVERS]
    argv = [program("flows"), how, "eth0", made.gateway_mac(), str(VIP), str(HTTP)]
    figures: dict[str, Any] = json.loads(
        made.run("client", [*argv, str(count), f"{seconds:g}", str(window), *counters], timeout_s=300)
    )
    if figures["arrived"] < 0.9 * figures["sent"]:
        raise WorkFailed(f"of {figures['sent']} packets only {figures['arrived']} arrived")
    return {**figures, "per_s": figures["arrived"] / figures["seconds"]}


def _packets(most: int) -> Callable[[Bed, Contender, Process | None, Load], Figures]:
    def measure(made: Bed, contender: Contender, daemon: Process | None, load: Load) -> Figures:
        count = min(most, load.flows)
        window = SMALL_WINDOW if contender.slow else WINDOW
        opened = {} if contender.slow else flows(made, "open", count)
        flows(made, "run", count, _WARM_UP_S, window)
        before = cpu_s(daemon) if daemon else 0.0
        figures = flows(made, "run", count, load.seconds, window)
        if daemon:
            figures["cpu_us"] = (cpu_s(daemon) - before) / figures["arrived"] * 1e6
        if opened:
            figures["opened_per_s"] = opened["per_s"]
        return figures

    return measure


def _web(made: Bed, server: str) -> Process:
    return made.process(f"web {server}")


ALL = (
    Work("keep-alive 1", "keep-alive requests, 1 connection", "keep-alive, 1", "/s", "per_s", _keep_alive(1)),
    Work(
        "keep-alive 64",
        "keep-alive requests, 64 connections",
        "keep-alive, 64",
        "/s",
        "per_s",
        _keep_alive(CONNECTIONS),
    ),
    Work("connections", "new connections", "new conn.", "/s", "per_s", _new_connections),
    Work("latency", "latency at half load, p99", "p99", "µs", "p99_us", _latency),
    Work("download", "download, one stream", "download", "Gbit/s", "gbit_s", _stream("download")),
    Work("upload", "upload, one stream", "upload", "Gbit/s", "gbit_s", _stream("upload")),
    Work(
        "packets 1000",
        "40-byte packets, 1,000 flows",
        "1,000 flows",
        "/s",
        "per_s",
        _packets(1_000),
        packets_only=True,
    ),
    Work(
        "packets 100000",
        "40-byte packets, 100,000 flows",
        "100,000 flows",
        "/s",
        "per_s",
        _packets(100_000),
        packets_only=True,
    ),
)
