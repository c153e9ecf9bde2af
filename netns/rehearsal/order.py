"""What to rehearse: the command, the servers, the clients."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from netns.clients.kinds import Wanted, missing, parse_clients
from netns.config import LabConfig
from netns.errors import MissingError
from netns.place import Say

CLIENTS = "curl:6,curl-post:4,curl-new:4,urllib3:4,requests:4,httpx:4,aiohttp:4,node:4,java:4,go:4"
"""The fleet unless told otherwise: those kinds of it that are installed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A rehearsal to be played."""

    command: tuple[str, ...]
    """ "{server}" stands for the server's name."""
    servers: tuple[str, ...]
    clients: tuple[Wanted, ...]
    parallel: int = 1
    """How many servers at a time."""
    timeout_s: float = 900.0
    """Real seconds that the command may take for a server."""
    allow_lost: int = 0
    phase_s: float | None = None
    """Begin so long after a health check of the first server, box seconds; None: at once."""
    seed: int = 0


def ordered(
    config: LabConfig,
    command: Sequence[str],
    *,
    servers: Sequence[str] | None = None,
    clients: str | None = None,
    parallel: int = 1,
    timeout_s: float = 900.0,
    allow_lost: int = 0,
    say: Say,
) -> Order:
    """The order, checked against the lab and this machine.

    ValueError for servers or clients that there are none of; MissingError when a kind of client that was
    asked for is not installed. Of the default fleet such a kind is named and left out.
    """
    known = [server.name for server in config.server]
    for server in servers or ():
        if server not in known:
            raise ValueError(f"no server {server!r}: the lab has {', '.join(known)}")
    wanted = parse_clients(clients or CLIENTS)
    lacking = missing(wanted)
    if lacking and clients:
        raise MissingError("; ".join(lacking.values()))
    for text in lacking.values():
        say(f"left out: {text}")
    return Order(
        command=tuple(command),
        servers=tuple(servers or known),
        clients=tuple(one for one in wanted if one.kind.name not in lacking),
        parallel=parallel,
        timeout_s=timeout_s,
        allow_lost=allow_lost,
        seed=random.randrange(1_000_000),  # noqa: S311 - of a moment, not of a secret
    )
