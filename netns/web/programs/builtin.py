"""A web server of the standard library, for machines without another.

Stops as nginx does: SIGQUIT closes the listeners, finishes the requests in flight, then closes the idle
connections by ending; SIGTERM ends at once.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class InFlight:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._condition:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._count -= 1
            self._condition.notify_all()

    def wait_for_none(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._count == 0)


class Handler(SimpleHTTPRequestHandler):
    """Files under the root, over connections that stay open until the client closes them."""

    protocol_version = "HTTP/1.1"
    server_version = "l4lab"

    def __init__(
        self, *args: object, in_flight: InFlight, log: Callable[[str], None], directory: str
    ) -> None:
        self._in_flight = in_flight
        self._log = log
        self._answered: tuple[int, str] | None = None
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        with self._in_flight:
            try:
                super().do_GET()
            finally:
                self._note()

    def do_POST(self) -> None:
        """As GET, once the body is here."""
        with self._in_flight:
            length = self.headers.get("Content-Length")
            if length is None or not length.isdecimal():
                self.close_connection = True
                self.send_error(HTTPStatus.LENGTH_REQUIRED)
                self._note()
                return
            self.rfile.read(int(length))
        self.do_GET()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self._answered = int(code), str(size)

    def _note(self) -> None:
        """Log the request at its end."""
        if self._answered is None:
            return
        (status, size), self._answered = self._answered, None
        host, port = self.client_address[:2]
        mine = self.connection.getsockname()[0]
        agent = self.headers.get("User-Agent", "-")
        self._log(f'{time.time():.3f} {host}:{port} {mine} "{self.requestline}" {status} {size} "{agent}"')


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 4096
    address_family = socket.AF_INET


def main() -> None:
    in_flight = InFlight()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT})
    with open(os.environ["L4LAB_ACCESS_LOG"], "a", buffering=1) as access:
        log = partial(print, file=access)
        handler = partial(Handler, in_flight=in_flight, log=log, directory=os.environ["L4LAB_ROOT"])
        servers = [Server(("", int(port)), handler) for port in os.environ["L4LAB_PORT"].split(",")]
        for server in servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        signal.sigwait({signal.SIGQUIT})
        for server in servers:
            server.shutdown()
            server.server_close()
        in_flight.wait_for_none()


if __name__ == "__main__":
    main()
