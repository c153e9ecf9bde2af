"""What a deploy script may ask of the rehearsal: a Unix socket, and a small command for each request.

The commands are shell scripts that hand their words to curl, so they take milliseconds: at speed 20 each
second of theirs would be twenty of the box's. A command fails (exit 22, curl's) with the reason on stdout.
"""

from __future__ import annotations

import shlex
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from netns.errors import LabError
from netns.linux.programs import installed

HTTP_ERROR: Final = 22
"""curl's exit code for a refusal, whose reason it has printed."""

Action = Callable[[str, Sequence[str]], str]
"""Takes the server and the command's words, gives what to print; LabError says why it can't be done."""


class Controls:
    """Serves `actions`, by command, from entering to leaving. Each request has a thread of its own."""

    def __init__(self, directory: Path, actions: Mapping[str, Action]) -> None:
        """`directory` gets the socket and, for each server, the commands."""
        self._directory = directory
        self._actions = actions
        self._socket = directory / "socket"

    def __enter__(self) -> Controls:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self._server = _Server(str(self._socket), _handler(self._actions))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._socket.unlink(missing_ok=True)

    def commands(self, server: str) -> dict[str, str]:
        """The path of each command, by its name, for the script of that server."""
        home = self._directory / server
        home.mkdir(exist_ok=True)
        found = {}
        for name in self._actions:
            path = home / name
            path.write_text(_script(self._socket, server, name))
            path.chmod(0o755)
            found[name] = str(path)
        return found


def _script(socket: Path, server: str, name: str) -> str:
    curl = shlex.join([installed("curl") or "curl", "-q", "-s", "--fail-with-body", "--noproxy", "*"])
    return (
        "#!/bin/sh\n"
        f"url=http://l4lab/{server}/{name}\n"
        'for word in "$@"; do url="$url/$word"; done\n'
        f'{curl} --unix-socket {shlex.quote(str(socket))} -X POST "$url" && exit\n'
        "rc=$?\n"
        f'[ $rc = {HTTP_ERROR} ] || echo "{name}: the rehearsal does not answer" >&2\n'
        "exit $rc\n"
    )


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _handler(actions: Mapping[str, Action]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server, name, *words = (unquote(part) for part in self.path.strip("/").split("/"))
            try:
                status, text = 200, actions[name](server, words)
            except LabError as error:
                status, text = 409, str(error)
            body = f"{text}\n".encode() if text else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # a script that was stopped waits for no answer
                self.end_headers()
                if body:
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Nothing is logged: what is done is in the run's steps."""

    return Handler
