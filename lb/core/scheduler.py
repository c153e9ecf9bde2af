"""Schedulers: which of the bound real servers gets a new flow.

A scheduler is told when the binding list changes and is then asked once per new flow. Each is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import inf, log
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class Candidate(Protocol):
    """What a scheduler knows of a real server."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def sessions(self) -> int: ...


Server = TypeVar("Server", bound=Candidate)


class Scheduler(Protocol[Server]):
    """Picks among the servers last given to `bind`; not asked while there are none."""

    by_client: ClassVar[bool]
    """Whether the choice depends on the client's address alone, as long as the binding list stays."""

    def bind(self, servers: Sequence[Server]) -> None: ...
    def peek(self, client: bytes, leaving: Server | None = None) -> Server:
        """The server that `pick` would give now, if a session of `leaving` went first; changes nothing."""
        ...

    def pick(self, client: bytes) -> Server:
        """The server for a new flow from the client's address."""
        ...


class RoundRobin(Generic[Server]):
    """Each server in turn."""

    by_client: ClassVar[bool] = False

    def __init__(self) -> None:
        self._servers: Sequence[Server] = ()
        self._place = 0

    def bind(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    def peek(self, client: bytes, leaving: Server | None = None) -> Server:  # noqa: ARG002 - the protocol's
        return self._servers[self._place % len(self._servers)]

    def pick(self, client: bytes) -> Server:
        picked = self.peek(client)
        self._place = (self._place + 1) % len(self._servers)
        return picked


class WeightedRoundRobin(Generic[Server]):
    """In turn, in proportion to the weights and as evenly spread as they allow: of weights 3 and 1, a a b a.

    At each pick every server earns its weight, and the richest serves and pays what all have earned.
    """

    by_client: ClassVar[bool] = False

    def __init__(self) -> None:
        self._servers: Sequence[Server] = ()
        self._credit: dict[str, int] = {}

    def bind(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._credit = {server.name: self._credit.get(server.name, 0) for server in servers}

    def peek(self, client: bytes, leaving: Server | None = None) -> Server:  # noqa: ARG002 - the protocol's
        return max(self._servers, key=lambda server: self._credit[server.name] + server.weight)

    def pick(self, client: bytes) -> Server:
        richest = self.peek(client)
        for server in self._servers:
            self._credit[server.name] += server.weight
        self._credit[richest.name] -= sum(server.weight for server in self._servers)
        return richest


class LeastConnections(Generic[Server]):
    """The fewest sessions for its weight; in turn among equals, so that an idle box does not favour one."""

    by_client: ClassVar[bool] = False

    def __init__(self) -> None:
        self._servers: list[Server] = []

    def bind(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)

    def peek(self, client: bytes, leaving: Server | None = None) -> Server:  # noqa: ARG002 - the protocol's
        return min(self._servers, key=lambda server: (server.sessions - (server is leaving)) / server.weight)

    def pick(self, client: bytes) -> Server:
        chosen = self.peek(client)
        self._servers.remove(chosen)
        self._servers.append(chosen)
        return chosen


class SourceHash(Generic[Server]):
    """The same server for the same client, and when the list changes only the flows of that server move.

    Weighted rendezvous hashing: every server draws a number from the client's address and its own name, and
    the best draw wins (Schindelhauer and Schomaker 2005, "Weighted distributed hash tables").
    """

    by_client: ClassVar[bool] = True

    def __init__(self) -> None:
        self._servers: Sequence[Server] = ()

    def bind(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    def peek(self, client: bytes, leaving: Server | None = None) -> Server:  # noqa: ARG002 - the protocol's
        return max(self._servers, key=lambda server: _draw(client, server.name, server.weight))

    def pick(self, client: bytes) -> Server:
        return self.peek(client)


def _draw(client: bytes, name: str, weight: int) -> float:
    """-weight / ln(u) for a u in (0, 1) that depends on client and name alone."""
    digest = blake2b(client, key=name.encode()[:64], digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -weight / log(uniform) if uniform < 1 else inf


SCHEDULERS: dict[str, Callable[[], Scheduler[Any]]] = {
    "round-robin": RoundRobin,
    "weighted-round-robin": WeightedRoundRobin,
    "least-connections": LeastConnections,
    "source-hash": SourceHash,
}
