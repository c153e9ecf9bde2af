"""The kinds of clients, and what each needs to be installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from netns.clients import programs
from netns.clients.spec import ClientSpec

DRIVERS = Path(__file__).parent / "drivers"

JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
"""For a process that starts soon and is small."""


@dataclass(frozen=True, slots=True)
class ClientKind:
    """A kind of client."""

    name: str
    is_a: str
    """What one client is, in a line."""
    version: Callable[[], str]
    """Of its library or program; "" when that is not installed."""
    fix: str
    """What installs it."""
    command: Callable[[ClientSpec], list[str]]
    """The command line of its driver."""
    methods: tuple[str, ...] = ("GET", "POST")
    keeps: bool = True
    """Its connection, from one request to the next."""
    asks_on: bool = True
    """It makes requests at its rate without being told, and logs each within seconds."""
    answered: bool = True
    """It logs an answer within seconds: a download does not, and of wrk there is only a sum."""

    def missing(self) -> str:
        """What to say when it is not installed; "" when it is."""
        return "" if self.version() else f"{self.name} clients are not installed: {self.fix}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many clients of a kind."""

    kind: ClientKind
    count: int
    service: str = ""
    """The virtual server that they ask; "" leaves the choice to who starts them."""
    name: str = ""
    """The group's; "" is the kind's."""

    @property
    def group(self) -> str:
        return self.name or self.kind.name

    def __str__(self) -> str:
        return f"{self.kind.name}:{self.count}{self.service and f'@{self.service}'}"


def _python(driver: str, *first: str) -> Callable[[ClientSpec], list[str]]:
    module = f"netns.clients.drivers.{driver}"
    return lambda spec: [sys.executable, "-m", module, *first, *spec.words()]


def _curl(
    name: str, is_a: str, *, post: bool = False, keeps: bool = True, answered: bool = True
) -> ClientKind:
    return ClientKind(
        name,
        is_a,
        programs.curl,
        "apt-get install curl",
        _python("curl", name),
        methods=("POST",) if post else ("GET",),
        keeps=keeps,
        asks_on=answered,
        answered=answered,
    )


def _library(name: str, is_a: str) -> ClientKind:
    return ClientKind(name, is_a, programs.package(name), f"pip install {name}", _python(name))


_ALL = (
    _curl("curl", "a curl process with one keep-alive connection; GET only"),
    _curl("curl-post", "the same with POSTs", post=True),
    _curl("curl-new", "a curl process, a new connection for each GET", keeps=False),
    _curl(
        "curl-download", "a curl process that downloads a large page slowly, over and over", answered=False
    ),
    _library("urllib3", "a urllib3.PoolManager"),
    _library("requests", "a requests.Session"),
    _library("httpx", "an httpx.Client"),
    _library("aiohttp", "an aiohttp.ClientSession"),
    ClientKind(
        "node",
        "an http.Agent with keepAlive, of Node.js",
        programs.node,
        "apt-get install nodejs",
        lambda spec: ["node", str(DRIVERS / "client.mjs"), *spec.words()],
    ),
    ClientKind(
        "java",
        "a java.net.http.HttpClient",
        programs.java,
        "apt-get install openjdk-17-jdk-headless (a JDK of 11 or later)",
        lambda spec: ["java", *JVM, str(DRIVERS / "Client.java"), *spec.words()],
    ),
    ClientKind(
        "go", "an http.Client of Go's net/http", programs.go, "apt-get install golang-go", _python("go")
    ),
    ClientKind(
        "wrk",
        "a connection of wrk's; only the sum of their requests is known",
        programs.wrk,
        "apt-get install wrk",
        _python("wrk"),
        methods=("GET",),
        asks_on=False,
        answered=False,
    ),
    ClientKind(
        "idle",
        "a connection that carries one GET and is then left open",
        programs.python,
        "",
        _python("idle"),
        methods=("GET",),
        asks_on=False,
    ),
)

KINDS = {kind.name: kind for kind in _ALL}


def parse_clients(text: str) -> list[Wanted]:
    """ "curl:20,urllib3:5", or "curl:20@api" for clients of the virtual server api; ValueError with what is
    allowed."""
    found = []
    for part in text.split(","):
        wanted, at, service = part.strip().partition("@")
        name, _, number = wanted.partition(":")
        if name not in KINDS:
            raise ValueError(f"{name!r} is no kind of client: {', '.join(KINDS)} are allowed")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"{part.strip()!r}: a number of clients is missing, as in {name}:20")
        if at and not service:
            raise ValueError(f"{part.strip()!r}: the virtual server is missing, as in {wanted}@web")
        found.append(Wanted(KINDS[name], int(number), service))
    return found


def missing(wanted: Iterable[Wanted]) -> dict[str, str]:
    """Of what is wanted, the kinds that are not installed, by name, each with what to do about it."""
    found = {one.kind.name: one.kind.missing() for one in wanted}
    return {name: text for name, text in found.items() if text}
