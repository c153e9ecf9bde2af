"""One try of a request, as the captures have it. Times are the run's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """How an attempt ended, as the captures have it."""

    ANSWERED = "answered"
    REFUSED = "refused by the server's kernel"
    REJECTED = "refused by the server's kernel with an ICMP unreachable"
    RESET = "reset by the server's kernel"
    UNKNOWN_THERE = "reset by the server's kernel as a connection that it never closed and does not have"
    CLOSED = "closed by the server's kernel"
    BOX_REFUSED = "refused by the box"
    BOX_RESET = "reset by the box"
    FROM_OWN_ADDRESS = "answered from the server's own address"
    TAKEN = "taken by the server's kernel, and not answered"
    IGNORED = "arrived at the server, which sent nothing"
    STOPPED_AT_BOX = "not forwarded by the box"
    LOST = "lost on the way"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request: over a connection that was there, or a new one."""

    client: str
    """The client's end."""
    service: str
    """The other: "192.0.2.10:80"."""
    virtual_server: str
    """Its name."""
    server: str
    """The node that the box sent it to; "" for none."""
    new: bool
    """It was the first thing to go over its connection."""
    asked: bool
    """The request itself was sent: there was a connection."""
    began: float
    """When its connection's SYN first left the client."""
    opens: int
    """How often that was sent; 0 on a connection that was there."""
    reached: float | None
    """When it first reached the server."""
    sent: float
    """When it first left the client: the request, or the SYN where it came to no request."""
    arrived: float | None
    """When that first reached the server."""
    tries: int
    """How often the client's kernel sent it."""
    answered: float | None
    """When the first of the answer left the server."""
    fate: Fate
    ended: float
    """When the client's kernel knew, or where it did not, its last try."""
    closed: float | None
    """When the server's first FIN or RST left it, if the client was still waiting."""
    told: float | None
    """When that reached the client."""
    read: bool
    """It was a FIN that acknowledged the request: the server's process had read that. Linux sends a RST where
    a process closes a socket with unread data. Apache shuts its sending side down first: its FIN may also
    acknowledge an unread request that came microseconds before."""
    until: float
    """When the client gave up: its own FIN or RST, or its word; infinity where neither is known."""
