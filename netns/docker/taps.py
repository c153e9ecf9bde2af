"""What passes each server, captured where it passes: a container's own network goes with the container.

Towards a server that is where the last node before it has its interface: the router, or else the box, and
the clients, to whom servers then answer directly. Several servers may share a network there. Which of them a
frame is to, its address says; which one it is from, of those that all answer as the VIP, its MAC address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from netns.lab.capture import Capture, Counted
from netns.record import pcapng

IPV4 = b"\x08\x00"


class Owners:
    """Whose each frame is, asked in the order of time."""

    def __init__(self, servers: Mapping[str, IPv4Address]) -> None:
        self._servers = {address.packed: name for name, address in servers.items()}
        self._macs: dict[bytes, str] = {}

    def of(self, frame: bytes) -> str | None:
        """The server that an Ethernet frame goes to or comes from, None when it is none of theirs.

        A MAC address is a server's once a frame to its address went there, until one to another's does.
        """
        if frame[12:14] != IPV4:
            return None
        server = self._servers.get(frame[30:34])
        if server is None:
            return self._macs.get(frame[6:12])
        self._macs[frame[:6]] = server
        return server


class Taps:
    """One capture that gives a file for each server."""

    def __init__(
        self,
        capture: Callable[[Path], Capture],
        servers: Mapping[str, IPv4Address],
        directory: Path,
    ) -> None:
        """`capture` makes the one of all, into a path; `directory` gets NAME.pcapng of each."""
        self._servers = servers
        self._together = directory / "servers.pcapng"
        self._capture = capture(self._together)
        self._running = 0
        self.recorders = {name: ServerRecorder(directory / f"{name}.pcapng", self) for name in servers}

    @property
    def finished(self) -> bool:
        return self._capture.finished

    def start(self) -> None:
        """The first of them has started."""
        if self._running == 0:
            self._capture.__enter__()
        self._running += 1

    def stop(self) -> None:
        """One more of them has ended; with the last their files are written."""
        self._running -= 1
        if self._running:
            return
        self._capture.stop()
        targets = {name: recorder.path for name, recorder in self.recorders.items()}
        counts = pcapng.split(self._together, Owners(self._servers).of, targets)
        self._together.unlink()
        dropped = sum(seen.dropped for seen in self._capture.counted)
        for name, recorder in self.recorders.items():
            recorder.counted = (Counted(name, counts[name], dropped),)


class ServerRecorder:
    """One server's part of it: a Recorder (netns/lab/interface.py)."""

    def __init__(self, path: Path, taps: Taps) -> None:
        self.path = path
        self.counted: Sequence[Counted] = ()
        """`dropped` is of all servers together: they have one capture."""
        self._taps = taps

    @property
    def finished(self) -> bool:
        return self._taps.finished

    def __enter__(self) -> Self:
        self._taps.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._taps.stop()
