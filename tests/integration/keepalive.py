"""A keep-alive client whose every step a test decides: it runs on a node and is spoken to line by line.

open            open a connection and say its port, or the error
get             send a request on it; "200 rs1", or the error: "ConnectionResetError", "timeout", "closed"
state           the kernel's state of the connection, and what a read of it finds: "idle", "closed", an error
close           close it
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Nodes(Protocol):
        """Where programs are started on a node: a lab's namespaces, or containers."""

        def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]: ...


PROGRAM = __file__


class KeepAlive:
    """One connection of a client node to the VIP."""

    def __init__(
        self,
        lab: Nodes,
        vip: str,
        *,
        node: str = "client",
        port: int = 0,
        probe: bool = False,
        timeout_s: float = 3,
    ) -> None:
        """`port`: the client's own, 0 for any; `probe`: TCP keepalive probes every second."""
        arguments = [vip, str(port), str(int(probe)), str(timeout_s)]
        self._process: subprocess.Popen[str] = lab.popen(
            node, [sys.executable, PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.port = int(self.ask("open"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def ask(self, command: str) -> str:
        """Have the client do something; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def get(self) -> str:
        """Send a request; the server that answered, or what happened instead."""
        return self.ask("get")


def main(vip: str, port: str, probe: str, timeout_s: str) -> None:
    connection = socket.socket()
    connection.settimeout(float(timeout_s))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if int(probe):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.bind(("", int(port)))
    for line in sys.stdin:
        try:
            answer = DO[line.strip()](connection, vip)
        except (OSError, EOFError) as error:
            answer = type(error).__name__
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _open(connection: socket.socket, vip: str) -> str:
    connection.connect((vip, 80))
    return str(connection.getsockname()[1])


def _get(connection: socket.socket, _: str) -> str:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
    answer = b""
    while not (b"\r\n\r\n" in answer and answer.endswith(b"\n") and not answer.endswith(b"\r\n")):
        part = connection.recv(65536)
        if not part:
            raise EOFError
        answer += part
    return answer.split()[-1].decode()


def _state(connection: socket.socket, _: str) -> str:
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        return "closed" if connection.recv(1) == b"" else "data"
    except BlockingIOError:
        return "idle"
    finally:
        connection.settimeout(timeout)


def _close(connection: socket.socket, _: str) -> str:
    connection.close()
    return "ok"


DO = {"open": _open, "get": _get, "state": _state, "close": _close}

if __name__ == "__main__":
    main(*sys.argv[1:])
