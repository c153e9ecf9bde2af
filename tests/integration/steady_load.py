"""Requests at a steady rate from a client node, each on a connection of its own; how long each took.

Latency counts from when a request was due, so that one that waits makes those behind it late as well.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from netns.namespaces.lab import NamespaceLab

PROGRAM = __file__
TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    due: float
    """Unix time."""
    took_s: float
    error: str | None


class SteadyLoad:
    """From entering to leaving; then `requests` has what became of each."""

    def __init__(self, lab: NamespaceLab, vip: str, *, node: str, per_s: float) -> None:
        self.requests: list[Request] = []
        self._process: subprocess.Popen[str] = lab.popen(
            node, [sys.executable, PROGRAM, vip, str(per_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        said = self._process.communicate(timeout=20)[0]
        self.requests = [Request(*row) for row in json.loads(said)]


def main(vip: str, per_s: float) -> None:
    done: list[tuple[float, float, str | None]] = []
    due = time.time()
    while not select.select([sys.stdin], [], [], max(due - time.time(), 0))[0]:
        error: str | None = None
        try:
            _get(vip)
        except (OSError, EOFError) as problem:
            error = type(problem).__name__
        done.append((due, time.time() - due, error))
        due += 1 / per_s
    json.dump(done, sys.stdout)


def _get(vip: str) -> None:
    with socket.create_connection((vip, 80), TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        answer = b""
        while not (b"\r\n\r\n" in answer and answer.endswith(b"\n") and not answer.endswith(b"\r\n")):
            part = connection.recv(65536)
            if not part:
                raise EOFError
            answer += part


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
