"""What to rehearse: the command, the servers, the clients, and what may be lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from netns.analysis.terms import Terms
from netns.clients.kinds import Wanted, missing, parse_clients
from netns.errors import MissingError
from netns.lab.interface import Say
from netns.plan.config import LabConfig, LabVirtualServer
from netns.rehearsal.script import SERVER

CLIENTS = "curl:6,curl-post:4,curl-new:4,urllib3:4,requests:4,httpx:4,aiohttp:4,node:4,java:4,go:4"
"""The fleet unless told otherwise: those kinds of it that are installed, shared among the virtual servers."""


@dataclass(frozen=True, slots=True)
class RehearsalSpec:
    """A rehearsal to be played."""

    command: tuple[str, ...]
    """ "{server}" stands for the server's name."""
    servers: tuple[str, ...]
    clients: tuple[Wanted, ...]
    """Each with the virtual server that it asks."""
    parallel: int = 1
    """How many servers at a time."""
    timeout_s: float = 900.0
    """Real seconds that one run of the command may take."""
    terms: Terms = field(default_factory=Terms)
    phase_s: float | None = None
    """Begin so long after a health check of the first server, box seconds; None: at once."""
    seed: int = 0

    @property
    def fleet(self) -> bool:
        """The command names no server: it runs once, and takes out which servers it likes."""
        return not any(SERVER in word for word in self.command)


def specify(
    config: LabConfig,
    command: Sequence[str],
    *,
    servers: Sequence[str] | None = None,
    clients: str | None = None,
    parallel: int = 1,
    timeout_s: float = 900.0,
    terms: Terms | None = None,
    say: Say,
) -> RehearsalSpec:
    """The rehearsal, checked against the lab and this machine.

    ValueError for servers, virtual servers or clients that there are none of, and for virtual servers that
    no client speaks to; MissingError when a kind of client that was asked for is not installed. Of the
    default fleet such a kind is named and left out.
    """
    known = [server.name for server in config.server]
    if servers is not None and len(set(servers)) < len(servers):
        raise ValueError(f"{','.join(servers)}: a server is named twice")
    for server in servers or ():
        if server not in known:
            raise ValueError(f"no server {server!r}: the lab has {', '.join(known)}")
    chosen = tuple(servers or known)
    wanted = parse_clients(clients or CLIENTS)
    lacking = missing(wanted)
    if lacking and clients:
        raise MissingError("; ".join(lacking.values()))
    for text in lacking.values():
        say(f"left out: {text}")
    spec = RehearsalSpec(
        command=tuple(command),
        servers=chosen,
        clients=_placed(
            [group for group in wanted if group.kind.name not in lacking],
            config,
            chosen,
            share=clients is None,
        ),
        parallel=parallel,
        timeout_s=timeout_s,
        terms=terms or Terms(),
        seed=random.randrange(1_000_000),  # noqa: S311 - of a moment, not of a secret
    )
    if spec.fleet and parallel > 1:
        raise ValueError("--parallel is for a command with {server}: this one runs once, for all of them")
    return spec


def _placed(
    wanted: Sequence[Wanted], config: LabConfig, servers: Sequence[str], *, share: bool
) -> tuple[Wanted, ...]:
    """Each kind on each virtual server that one of the servers is behind, unless it says where.

    With `share` its clients are shared among them. Where more than one is asked, a group's name says which.
    """
    behind = {service.name: service for server in servers for service in config.services_of(server)}
    if not behind:
        raise ValueError(f"no virtual server has {' or '.join(servers)}: no client can feel its deploy")
    groups = [
        replace(group, service=name, count=-(-group.count // len(behind)) if share else group.count)
        for group in wanted
        for name in ([group.service] if group.service else behind)
    ]
    services = {service.name: service for service in config.virtual_server}
    for name in dict.fromkeys(group.service for group in groups):
        if name not in services:
            raise ValueError(f"no virtual server {name!r}: the lab has {', '.join(services)}")
        _speaks_tcp(services[name])
    if len({group.service for group in groups}) == 1:
        return tuple(groups)
    return tuple(replace(group, name=f"{group.kind.name}@{group.service}") for group in groups)


def _speaks_tcp(service: LabVirtualServer) -> None:
    if service.protocol != "tcp":
        raise ValueError(
            f"virtual server {service.name!r} is {service.protocol.upper()}, and the lab's clients speak "
            "HTTP over TCP: choose other servers (--servers) or other virtual servers (--clients KIND:N@NAME)"
        )
