"""Many connections of one client node at once, each in a situation of its kind; what ends them is noted.

A program on the node, told line by line; it answers in JSON and goes on reading and writing meanwhile.

open N KIND     open N connections; a number of them at a time is on its way
request         send the next request on each idle connection
again           the same for each that has ended, on a new connection
summary         by kind, then by server: {"answered": N, "fin": N, "ended": {errno name: N}}
hold            do nothing until the next command: what ends meanwhile is noted then
report          a row for each connection: kind, server, port, bytes read, end, when it ended (Unix time)
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from netns.namespaces.lab import NamespaceLab

PROGRAM = __file__
IDLE, DOWNLOAD, UPLOAD = "idle", "download", "upload"
STALLED = "stalled"
"""Asked for a download and does not read: its window is shut."""
HALF_CLOSED = "half-closed"
"""Downloads, having sent its FIN."""
LINGERING = "lingering"
"""Got the server's FIN with the answer, and does not close."""
AGAIN = "again"

LARGE = "large"
LARGE_BYTES = 8 << 30
"""A sparse file that no download gets to the end of."""
UPLOAD_BYTES_S = 50_000

AT_A_TIME = 500
_DOWNLOADING = (DOWNLOAD, STALLED, HALF_CLOSED)
_REQUEST = b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n"
_BODY = b"POST / HTTP/1.1\r\nHost: vip\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h

Row = dict[str, Any]


def make_large_file(lab: NamespaceLab) -> None:
    """What downloads ask for, on every server."""
    for server in lab.plan.servers:
        path: Path = lab.web(server.name).root / LARGE
        path.touch()
        with path.open("rb+") as file:
            file.truncate(LARGE_BYTES)


class ManyConnections:
    """The connections of a client node to a VIP."""

    def __init__(self, lab: NamespaceLab, vip: str, *, node: str = "client", port: int = 80) -> None:
        self._process: subprocess.Popen[str] = lab.popen(
            node, [sys.executable, PROGRAM, vip, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()

    def start(self, count: int, kind: str = IDLE) -> None:
        """Begin to open connections."""
        self._ask(f"open {count} {kind}")

    def open(self, count: int, kind: str = IDLE) -> dict[str, int]:
        """Open connections and wait until each has had an answer; how many each server has."""
        self.start(count, kind)
        return self.wait(count, kind)

    def wait(self, count: int, kind: str, timeout_s: float = 60) -> dict[str, int]:
        """Wait until that many connections have had an answer; how many each server has."""
        deadline = time.monotonic() + timeout_s
        while sum((answered := self.answered(kind)).values()) < count:
            assert time.monotonic() < deadline, f"of {count} {kind}: {self._ask('summary')}"
            time.sleep(0.02)
        return answered

    def hold(self) -> None:
        """Leave the connections to the kernel, and the processor to others, until asked something else."""
        self._ask("hold")

    def request(self) -> None:
        """Send the next request on each idle connection."""
        self._ask("request")

    def again(self) -> dict[str, int]:
        """Send the next request of each connection that has ended, on a new one; who answered."""
        count = sum(row["end"] is not None for row in self.report())
        self._ask("again")
        return self.wait(count, AGAIN)

    def answered(self, kind: str = IDLE) -> dict[str, int]:
        """How many connections each server has answered on."""
        return {server: row["answered"] for server, row in self._servers(kind).items() if row["answered"]}

    def fins(self, kind: str) -> int:
        """On how many connections the server's FIN has come."""
        return sum(row["fin"] for row in self._servers(kind).values())

    def ended(self, kind: str = IDLE, server: str | None = None) -> dict[str, int]:
        """How many connections, of a server, have ended, by errno name."""
        ends: Counter[str] = Counter()
        for name, row in self._servers(kind).items():
            if server in (None, name):
                ends.update(row["ended"])
        return dict(ends)

    def report(self) -> list[Row]:
        """A row for each connection."""
        rows: list[Row] = self._ask("report")
        return rows

    def _servers(self, kind: str) -> dict[str, Row]:
        found: dict[str, Row] = self._ask("summary").get(kind, {})
        return found

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class _Connection:
    __slots__ = ("answer", "bytes", "end", "ended", "kind", "offset", "port", "server", "socket")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.server: str | None = None
        self.answer = b""
        self.port = 0
        self.bytes = 0
        self.offset = 0  # in an upload; -1 after the server's FIN
        self.end: str | None = None
        self.ended: float | None = None
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if kind == UPLOAD:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, UPLOAD_BYTES_S)


class _Program:
    def __init__(self, vip: str, port: int) -> None:
        self._place = (vip, port)
        self._all: list[_Connection] = []
        self._by_fd: dict[int, _Connection] = {}
        self._to_open: deque[str] = deque()
        self._opening: set[_Connection] = set()
        self._poll = select.epoll()

    def run(self) -> None:
        self._poll.register(sys.stdin, select.EPOLLIN)
        while True:
            while self._to_open and len(self._opening) < AT_A_TIME:
                self._open(self._to_open.popleft())
            for fd, events in self._poll.poll():
                if fd != sys.stdin.fileno():
                    self._handle(fd, events)
                elif line := sys.stdin.readline():
                    sys.stdout.write(json.dumps(self._obey(*line.split())) + "\n")
                    sys.stdout.flush()
                    if line == "hold\n":
                        select.select([sys.stdin], [], [])
                else:
                    return

    def _obey(self, command: str, count: str = "0", kind: str = "") -> Any:
        match command:
            case "hold":
                return None
            case "open":
                self._to_open.extend([kind] * int(count))
                return None
            case "request":
                for one in self._all:
                    if one.kind == IDLE and one.end is None:
                        one.socket.send(_REQUEST)
                return None
            case "again":
                self._to_open.extend(AGAIN for one in self._all if one.end is not None)
                return None
            case "summary":
                return self._summary()
            case _:
                return [
                    {
                        "kind": one.kind,
                        "server": one.server,
                        "port": one.port,
                        "bytes": one.bytes,
                        "end": one.end,
                        "ended": one.ended,
                    }
                    for one in self._all
                ]

    def _summary(self) -> dict[str, dict[str, Row]]:
        found: dict[str, dict[str, Row]] = {}
        for one in self._all:
            row = found.setdefault(one.kind, {}).setdefault(
                one.server or "", {"answered": 0, "fin": 0, "ended": Counter()}
            )
            row["answered"] += one.server is not None
            row["fin"] += one.offset < 0
            if one.end is not None:
                row["ended"][one.end] += 1
        return found

    def _open(self, kind: str) -> None:
        one = _Connection(kind)
        self._all.append(one)
        self._by_fd[one.socket.fileno()] = one
        self._opening.add(one)
        one.socket.connect_ex(self._place)  # how it goes shows when it can be written to
        one.port = one.socket.getsockname()[1]
        self._poll.register(one.socket, select.EPOLLOUT)

    def _handle(self, fd: int, events: int) -> None:
        one = self._by_fd[fd]
        try:
            if events & (select.EPOLLERR | select.EPOLLHUP):
                # Asked of the socket: after the server's FIN a read would not tell.
                number = one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._end(one, errno.errorcode.get(number, "closed"))
                return
            if events & select.EPOLLOUT:
                self._write(one)
            if events & select.EPOLLIN:
                self._read(one)
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(one, errno.errorcode.get(error.errno or 0, "?"))

    def _write(self, one: _Connection) -> None:
        if one.server is not None:  # only uploads still want to write
            one.offset += one.socket.send(memoryview(_BODY)[one.offset : one.offset + (1 << 16)])
            one.offset %= len(_BODY)
            return
        self._poll.modify(one.socket, select.EPOLLIN)
        closing = "close" if one.kind == LINGERING else "keep-alive"
        one.socket.send(f"GET / HTTP/1.1\r\nHost: vip\r\nConnection: {closing}\r\n\r\n".encode())

    def _read(self, one: _Connection) -> None:
        data = one.socket.recv(1 << 16)
        if not data:
            one.offset = -1
            self._poll.modify(one.socket, 0)  # errors are still told
        elif one.server is not None:
            one.bytes += len(data)
        else:
            one.answer += data
            if b"\r\n\r\n" in one.answer and not one.answer.endswith(b"\r\n") and one.answer.endswith(b"\n"):
                self._answered(one)

    def _answered(self, one: _Connection) -> None:
        one.server = one.answer.split()[-1].decode()
        one.answer = b""
        self._opening.discard(one)
        if one.kind == UPLOAD:
            self._poll.modify(one.socket, select.EPOLLIN | select.EPOLLOUT)
        elif one.kind in _DOWNLOADING:
            one.socket.send(f"GET /{LARGE} HTTP/1.1\r\nHost: vip\r\n\r\n".encode())
            if one.kind == HALF_CLOSED:
                one.socket.shutdown(socket.SHUT_WR)
            if one.kind == STALLED:
                self._poll.modify(one.socket, 0)

    def _end(self, one: _Connection, end: str) -> None:
        one.end, one.ended = end, time.time()
        self._opening.discard(one)
        del self._by_fd[one.socket.fileno()]
        one.socket.close()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _Program(sys.argv[1], int(sys.argv[2])).run()
