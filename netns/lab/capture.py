"""Captures: a tcpdump on each interface of the chosen nodes, put together as one pcapng file."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from netns.errors import LabError, MissingError
from netns.linux import process
from netns.linux.process import Process
from netns.linux.programs import installed
from netns.plan.topology import Node, Plan
from netns.record import pcapng

START_S = 10.0
STOP_S = 5.0
BUFFER_KIB = 32768
"""With tcpdump's own 2 MiB there is room for eight packets of the longest kind, as offloads make them."""
COUNTS = re.compile(r"(\d+) packets? captured\D+(\d+) packets? received by filter\D+(\d+) packets? dropped")


@dataclass(frozen=True, slots=True)
class Point:
    """Where packets are seen: one interface of one node."""

    node: Node
    interface: str

    @property
    def name(self) -> str:
        """The interface's name in the capture file: the node's, and at the router the link's."""
        return self.node.name if len(self.node.interfaces) == 1 else f"{self.node.name}:{self.interface}"


@dataclass(frozen=True, slots=True)
class Counted:
    """What a capture saw at one point."""

    name: str
    packets: int
    dropped: int
    """Packets that tcpdump was too slow for."""


@dataclass(frozen=True, slots=True)
class _Tap:
    point: Point
    running: Process
    pcap: Path


def points(plan: Plan, wanted: Sequence[str]) -> list[Point]:
    """What NODE or NODE:LINK (router:rs1) name; a node alone: all its links. LabError for an unknown one."""
    found = []
    for text in wanted:
        name, _, link = text.partition(":")
        try:
            node = plan.node(name)
        except KeyError:
            known = ", ".join(node.name for node in plan.nodes)
            raise LabError(f"no node {name!r}: the lab has {known}") from None
        names = [interface.name for interface in node.interfaces]
        if link and link not in names:
            raise LabError(f"{name} has no link {link!r}: it has {', '.join(names)}")
        found += [Point(node, interface) for interface in names if link in ("", interface)]
    return list(dict.fromkeys(found))


class Capture:
    """Runs from entering to leaving; then `path` is a pcapng file and `counted` says what is in it."""

    def __init__(
        self,
        points: Sequence[Point],
        path: Path,
        *,
        directory: Path,
        keep: Callable[[str, Process], None],
        drop: Callable[[str], None],
        expression: str = "",
        count: int | None = None,
    ) -> None:
        """`directory` holds the parts meanwhile; `keep` notes each tcpdump, by a name, for `down` to find and
        `drop` takes the note back; `expression` is a pcap-filter(7); `count` is per interface."""
        self.path = path
        self.counted: list[Counted] = []
        self._points = points
        self._directory = directory
        self._keep = keep
        self._drop = drop
        self._expression = expression
        self._count = count
        self._taps: list[_Tap] = []

    def __enter__(self) -> Self:
        try:
            for point in self._points:
                self._taps.append(self._start(point))
            for tap in self._taps:
                _wait_until_it_captures(tap)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def finished(self) -> bool:
        """Every interface has seen its `count` of packets, or its tcpdump has ended for another reason."""
        return not any(process.members(tap.running) for tap in self._taps)

    def stop(self) -> Path:
        """End the capture with all that was received until now in the file, and return its path."""
        if self._taps:
            for tap in self._taps:
                _drain(tap)
            taps = self._taps
            self._end()
            self.counted = [_counted(tap) for tap in taps]
            pcapng.merge([pcapng.Trace(tap.point.name, tap.pcap) for tap in taps], self.path)
            for tap in taps:
                _remove_parts(tap)
        return self.path

    def _start(self, point: Point) -> _Tap:
        tcpdump = installed("tcpdump")
        if tcpdump is None:
            raise MissingError("tcpdump is not installed: `apt-get install tcpdump`")
        self._directory.mkdir(exist_ok=True)
        number = time.monotonic_ns()
        pcap = self._directory / f"{point.name}-{number}.pcap"
        argv = [tcpdump, "-i", point.interface, "-w", str(pcap), "-n", "-U", "--immediate-mode"]
        argv += ["-B", str(BUFFER_KIB)]
        argv += ["--time-stamp-precision=nano", "-Z", "root"]
        argv += ["-c", str(self._count)] if self._count is not None else []
        argv += ["--", self._expression] if self._expression else []
        role = f"capture {point.name} {number}"
        running = process.spawn(
            point.node.namespace,
            argv,
            log=pcap.with_suffix(".log"),
            record=lambda started: self._keep(role, started),
        )
        return _Tap(point, running, pcap)

    def _end(self) -> None:
        for tap in self._taps:
            process.send(tap.running, signal.SIGTERM)
        for tap in self._taps:
            if not process.wait(tap.running, STOP_S):
                process.send(tap.running, signal.SIGKILL)
            self._drop(f"capture {tap.point.name} {tap.pcap.stem.rpartition('-')[2]}")
        self._taps = []


def _wait_until_it_captures(tap: _Tap) -> None:
    deadline = time.monotonic() + START_S
    while "listening on" not in _said(tap):
        if not process.members(tap.running):
            said = _said(tap)
            if "listening on" in said:
                return  # it has seen its count already
            raise LabError(f"tcpdump on {tap.point.name} failed: {said.strip()}")
        if time.monotonic() > deadline:
            raise LabError(f"tcpdump on {tap.point.name} does not start: {_said(tap).strip()}")
        time.sleep(process.POLL_S)


def _drain(tap: _Tap) -> None:
    """Wait until tcpdump has written what the kernel had received for it by now (SIGUSR1 has it say both)."""
    deadline = time.monotonic() + STOP_S
    wanted: int | None = None
    while time.monotonic() < deadline:
        before = len(COUNTS.findall(_said(tap)))
        process.send(tap.running, signal.SIGUSR1)
        while len(counts := COUNTS.findall(_said(tap))) == before:
            if not process.members(tap.running) or time.monotonic() > deadline:
                return
            time.sleep(0.002)
        captured, received, dropped = map(int, counts[-1])
        wanted = received if wanted is None else wanted
        if captured + dropped >= wanted:
            return
        time.sleep(process.POLL_S)


def _counted(tap: _Tap) -> Counted:
    counts = COUNTS.findall(_said(tap))
    captured, _, dropped = counts[-1] if counts else ("0", "0", "0")
    return Counted(tap.point.name, int(captured), int(dropped))


def _said(tap: _Tap) -> str:
    log = Path(tap.running.log)
    return log.read_text(errors="replace") if log.exists() else ""


def _remove_parts(tap: _Tap) -> None:
    tap.pcap.unlink(missing_ok=True)
    Path(tap.running.log).unlink(missing_ok=True)
