"""One TCP stream of bytes that nobody looks at, so that what carries it is what is measured.

    stream.py serve PORT
    stream.py download|upload ADDRESS PORT SECONDS      prints Gbit/s, as received

The sender sends from a file in memory (sendfile), the receiver has the kernel throw away what arrives
(MSG_TRUNC, tcp(7)). The server ends a stream that stays silent for 20 s.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

_CHUNK = 1 << 20
_IDLE_S = 20


def _send(to: socket.socket, until: float) -> None:
    file = os.memfd_create("stream")
    os.truncate(file, _CHUNK)
    try:
        while time.monotonic() < until:
            os.sendfile(to.fileno(), file, 0, _CHUNK)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        os.close(file)


def _discard(source: socket.socket, until: float) -> tuple[int, float]:
    """Bytes that arrived, and in how many seconds."""
    empty = bytearray(_CHUNK)
    total, start = 0, time.monotonic()
    while time.monotonic() < until:
        got = source.recv_into(empty, _CHUNK, socket.MSG_TRUNC)
        if not got:
            break
        total += got
    return total, time.monotonic() - start


def _serve_one(stream: socket.socket) -> None:
    with stream:
        stream.settimeout(_IDLE_S)
        how = stream.recv(1)
        stream.setblocking(True)
        if how == b"d":
            _send(stream, time.monotonic() + _IDLE_S)
        elif how == b"u":
            total, took = _discard(stream, time.monotonic() + _IDLE_S)
            stream.sendall(f"{total * 8 / took / 1e9:.4f}".encode())


def serve(port: int) -> None:
    with socket.create_server(("", port), backlog=64) as listener:
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=_serve_one, args=(stream,), daemon=True).start()


def download(stream: socket.socket, seconds: float) -> float:
    stream.sendall(b"d")
    total, took = _discard(stream, time.monotonic() + seconds)
    return total * 8 / took / 1e9


def upload(stream: socket.socket, seconds: float) -> float:
    stream.sendall(b"u")
    _send(stream, time.monotonic() + seconds)
    stream.shutdown(socket.SHUT_WR)
    return float(stream.recv(64))


def main() -> None:
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
        return
    with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=10) as stream:
        stream.settimeout(None)
        measure = download if sys.argv[1] == "download" else upload
        sys.stdout.write(f"{measure(stream, float(sys.argv[4])):.4f}\n")


if __name__ == "__main__":
    main()
