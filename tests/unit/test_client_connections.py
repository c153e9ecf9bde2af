"""The client's connections to the box: kept for the next request, but not until the box closes them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lb import client as module
from lb.client import BoxClient

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Box:
    """Answers every request with {} and keeps the connection; counts connections that brought a request."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.asked: set[int] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # closed: the test is over
            number += 1
            threading.Thread(target=self._answer, args=(number, connection), daemon=True).start()

    def _answer(self, number: int, connection: socket.socket) -> None:
        with connection:
            while connection.recv(4096):
                self.asked.add(number)
                connection.sendall(ANSWER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l4box.sock"


@pytest.fixture
def answering(path: Path) -> Iterator[Box]:
    box = Box(path)
    with closing(box.listener):
        yield box


def test_requests_in_a_row_share_a_connection(
    answering: Box, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 60.0)
    with BoxClient(path) as client:
        client.healthz()
        client.healthz()
    assert len(answering.asked) == 1


def test_a_connection_that_was_idle_is_not_used_again(
    answering: Box, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.01)
    with BoxClient(path) as client:
        client.healthz()
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < 0.02:
            time.sleep(0.01)
        client.healthz()
    assert len(answering.asked) == 2
