"""What a driver is told: the words of its command line, the same for every language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LIFETIME_S = 900
"""Real seconds after which clients end by themselves, should nobody end them."""

RATE = 10.0
MAX_TIME_S = 2.0
POST_EVERY = 4

LONGEST_NAME = 48
"""A request's line must name it within segments.KEPT bytes, whatever its path."""


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """So many clients, what they ask, and how often. All times are real."""

    host: str
    port: int
    client: str
    """The clients' name: with "curl" they are curl-1, curl-2, …"""
    count: int = 1
    rate: float = RATE
    """Requests a second of each; fewer where answers take longer."""
    max_time_s: float = MAX_TIME_S
    """For a request; 0: the library's own default."""
    post_every: int = POST_EVERY
    """Every Nth request is a POST; 1: all, 0: none."""
    lifetime_s: int = LIFETIME_S
    on_demand: bool = False
    """Requests are made as told on stdin, and not at the rate."""

    def words(self) -> list[str]:
        return [
            f"host={self.host}",
            f"port={self.port}",
            f"client={self.client}",
            f"count={self.count}",
            f"rate={self.rate:g}",
            f"max_time_s={self.max_time_s:g}",
            f"post_every={self.post_every}",
            f"lifetime_s={self.lifetime_s}",
            f"on_demand={self.on_demand:d}",
        ]

    def named(self, number: int) -> str:
        """The name of the client of that number, from 1."""
        return f"{self.client}-{number}"

    def method(self, number: int) -> str:
        """Of a client's request of that number, from 1."""
        return "POST" if self.post_every and number % self.post_every == 0 else "GET"

    def delay_s(self, number: int) -> float:
        """How long the client of that number waits at first, so that not all ask at the same moment."""
        return (number - 1) / self.count / self.rate

    def url(self, request: str) -> str:
        return f"http://{self.host}:{self.port}/?{request}"


def read(words: Iterable[str]) -> ClientSpec:
    """The spec that the words of a command line are; ValueError or KeyError when they are none."""
    values = dict(word.split("=", 1) for word in words)
    return ClientSpec(
        host=values["host"],
        port=int(values["port"]),
        client=values["client"],
        count=int(values["count"]),
        rate=float(values["rate"]),
        max_time_s=float(values["max_time_s"]),
        post_every=int(values["post_every"]),
        lifetime_s=int(values["lifetime_s"]),
        on_demand=values["on_demand"] == "1",
    )
