"""Clients that are curl processes, side by side: `python -m netns.clients.drivers.curl KIND host=… …`.

| KIND | what a client is |
| --- | --- |
| curl | one keep-alive connection, a GET at a time |
| curl-post | the same with POSTs: a curl process has one method |
| curl-new | a new connection for every GET |
| curl-download | downloads a large page again and again, at a limited rate |

A curl process is told all its requests when it starts, and their rate. On demand, a file in between keeps it
waiting: a FIFO, which has no end until its writer has come and gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from netns.clients import log
from netns.clients.spec import ClientSpec, read
from netns.record.recording import Outcome, Request

LARGE = "large"
LARGE_RATE = 256 * 1024
"""Bytes per second of a download: it lasts for as long as a run."""

ON_DEMAND = 20
"""Requests that a curl on demand can be told to make."""

MARK = "="
_VARIABLES = ("exitcode", "http_code", "num_connects", "local_port", "time_total", "url", "errormsg")
_WRITE_OUT = (
    "%{stderr}\n"  # stdout is buffered, and may end in the middle of a line
    + " ".join([MARK, *(f"%{{{name}}}" for name in _VARIABLES)])
    + "\n"
)
_CHUNK = 65536


def command(kind: str, spec: ClientSpec, client: str, gate: Path | None = None) -> list[str]:
    """The command line of one curl: every request of its life, and a line about each as it ends."""
    argv = ["curl", "--silent", "--no-buffer", "--write-out", _WRITE_OUT]
    if kind == "curl-download":
        argv += [
            "--limit-rate",
            str(LARGE_RATE),
            "--output",
            "/dev/null",
            "--max-time",
            str(spec.lifetime_s),
            "--rate",
            _rate(spec.rate),
        ]
        return [*argv, f"http://{spec.host}:{spec.port}/{LARGE}?{client}.[1-100]"]
    if kind == "curl-new":
        argv += ["--header", "Connection: close"]
    if kind == "curl-post":
        argv += ["--data-raw", client]
    if spec.max_time_s:
        argv += ["--max-time", f"{spec.max_time_s:g}"]
    if gate is not None:
        numbers = range(1, ON_DEMAND + 1)
        return [*argv, *(url for n in numbers for url in (gate.as_uri(), spec.url(f"{client}.{n}")))]
    last = max(1, int(spec.rate * spec.lifetime_s))
    return [*argv, "--rate", _rate(spec.rate), spec.url(f"{client}.[1-{last}]")]


def _rate(per_second: float) -> str:
    """As curl has it, in whole numbers: 10/s, or for 0.5 a second 1800/h."""
    if per_second == int(per_second):
        return f"{per_second:.0f}/s"
    return f"{max(1, round(per_second * 3600))}/h"


class Words:
    """What the curls write: pages, and after each a line of _VARIABLES."""

    def __init__(self, kind: str) -> None:
        self._method = "POST" if kind == "curl-post" else "GET"
        self._pages: dict[str, str] = {}

    def heard(self, client: str, line: str, now: float) -> Request | None:
        """The request that ends with the line."""
        if not line.startswith(f"{MARK} "):
            if line:
                self._pages.setdefault(client, line)  # a page's first line is its server's name
            return None
        _, exit_code, status, connects, port, took_s, url, error = line.split(" ", len(_VARIABLES))
        page = self._pages.pop(client, "")
        if not url.startswith("http:"):
            return None
        result = outcome(int(exit_code), int(status), error)
        return Request(
            client=client,
            started=now - float(took_s),
            ended=now,
            outcome=result,
            status=int(status),
            server=page if result is Outcome.OK else "",
            reused=connects == "0" and port != "0",
            local_port=max(int(port), 0),
            error=error,
            method=self._method,
            id=urlsplit(url).query,
        )

    def left(self, client: str) -> str:
        """What a curl that has ended wrote last, if it was no page: why it could not run."""
        return f"{client}: {self._pages.pop(client)}\n" if client in self._pages else ""


def outcome(exit_code: int, status: int, error: str) -> Outcome:
    """What a curl exit code means (curl(1), EXIT CODES)."""
    match exit_code:
        case 0:
            return Outcome.OK if status < 400 else Outcome.HTTP_ERROR
        case 7:  # curl 7.88 says no more; nothing in a lab is unreachable but by silence, which is 28
            return Outcome.REFUSED
        case 28:
            return Outcome.TIMEOUT
        case 18 | 52:
            return Outcome.CLOSED
        case 55 | 56 if "reset" in error.lower() or "broken pipe" in error.lower():
            return Outcome.RESET
        case _:
            return Outcome.OTHER


class Curls:
    """The curls that run, and what they have written of a line so far."""

    def __init__(self, kind: str, spec: ClientSpec, directory: Path) -> None:
        self._kind = kind
        self._spec = spec
        self._directory = directory
        self._began = time.monotonic()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._rest: dict[int, bytes] = {}
        self._words = Words(kind)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Start one after another and log what they say; until they have all ended."""
        if self._spec.on_demand:
            self._selector.register(0, selectors.EVENT_READ, self._obey)
        while len(self._rest) < self._spec.count or self._running:
            wait_s = self._until_next()
            if wait_s == 0:
                self._start(len(self._rest) + 1)
                continue
            for key, _ in self._selector.select(wait_s):
                key.data()

    def end(self, *_: object) -> None:
        for curl in self._running.values():
            curl.terminate()
        sys.exit(0)

    def _until_next(self) -> float | None:
        """Seconds until the next curl is to start; None when all have."""
        number = len(self._rest) + 1
        if number > self._spec.count:
            return None
        delay_s = 0.0 if self._spec.on_demand else self._spec.delay_s(number)
        return max(0.0, self._began + delay_s - time.monotonic())

    def _start(self, number: int) -> None:
        gate = self._gate(number) if self._spec.on_demand else None
        if gate is not None:
            os.mkfifo(gate)
        argv = command(self._kind, self._spec, self._spec.named(number), gate)
        quiet, pipe, both = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
        curl = subprocess.Popen(argv, stdin=quiet, stdout=pipe, stderr=both)
        self._running[number], self._rest[number] = curl, b""
        assert curl.stdout is not None  # noqa: S101 - it is a pipe
        self._selector.register(curl.stdout, selectors.EVENT_READ, lambda: self._listen(number))

    def _listen(self, number: int) -> None:
        output = self._running[number].stdout
        assert output is not None  # noqa: S101 - it is a pipe
        text = os.read(output.fileno(), _CHUNK)
        now = time.monotonic()
        *lines, self._rest[number] = (self._rest[number] + text).split(b"\n")
        for line in lines:
            request = self._words.heard(self._spec.named(number), line.decode(errors="replace"), now)
            if request is not None:
                log.write(request)
        if not text:
            self._selector.unregister(output)
            self._running.pop(number).wait()
            sys.stderr.write(self._words.left(self._spec.named(number)))

    def _gate(self, number: int) -> Path:
        return self._directory / str(number)

    def _obey(self) -> None:
        text = os.read(0, _CHUNK)
        if not text:
            self.end()
        for line in text.decode().splitlines():
            _, number = line.split()  # the method is the kind's
            self._gate(int(number)).open("wb").close()


def main() -> None:
    kind, *words = sys.argv[1:]
    spec = read(words)
    with ExitStack() as held:
        directory = held.enter_context(TemporaryDirectory(prefix="l4lab-curl-")) if spec.on_demand else ""
        curls = Curls(kind, spec, Path(directory))
        signal.signal(signal.SIGTERM, curls.end)
        curls.run()


if __name__ == "__main__":
    main()
