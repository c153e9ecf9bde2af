"""The part of a run's captures that tells of its lost and slow requests, read without keeping the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from netns.analysis.attempts import Actors, Flows
from netns.analysis.causes import is_slow
from netns.plan.config import LabConfig
from netns.plan.topology import Plan, Role
from netns.record.recording import Outcome, Recording, Request, group_of
from netns.record.segments import Captures, Segment, begins_asks_or_ends, begins_or_asks, of_ends, port

LOGGED_S: Final = 0.5
"""Real seconds within which a client that reads its answer at once has logged a request."""


def actors(plan: Plan, config: LabConfig) -> Actors:
    """Who is who in the lab's captures."""
    servers = plan.servers
    return Actors(
        clients=frozenset(node.name for node in plan.of(Role.CLIENT)),
        box=plan.box.name,
        checker=str(plan.box.address),
        servers={str(node.address): node.name for node in servers},
        services={f"{service.vip}:{service.port}": service.name for service in config.virtual_server},
        vips={(str(node.address), entry.dscp): str(entry.address) for node in servers for entry in node.vips},
    )


def named(requests: Sequence[Request], where: Actors, captures: Captures) -> list[Request]:
    """The requests, each with who answered it: where its page does not say, the last that it reached."""
    if all(one.server for one in requests if one.outcome is Outcome.OK):
        return list(requests)
    reached: dict[str, tuple[float, str]] = {}
    for node in where.servers.values():
        for segment in captures.segments(node, begins_or_asks):
            if segment.is_request:
                known = reached.get(segment.request_id, (0.0, ""))
                reached[segment.request_id] = max(known, (segment.time, node))
    return [
        replace(one, server=reached.get(one.id, (0.0, ""))[1])
        if one.outcome is Outcome.OK and not one.server
        else one
        for one in requests
    ]


def evidence(where: Actors, recording: Recording, captures: Captures) -> Flows:
    """All segments of the connections over which a request was lost or slow, or over which none was made.

    Where a client's request is on no connection, those that carried its earlier ones are among them.
    """
    suffered = [
        request
        for request in recording.requests
        if request.outcome is not Outcome.OK or is_slow(request, recording.speed)
    ]
    ids = {request.id for request in suffered if request.id}
    ports = {request.local_port for request in suffered if request.local_port}
    ends: set[str] = set()
    unasked: dict[tuple[str, str], None] = {}
    carried: dict[str, set[str]] = {name.rpartition(".")[0]: set() for name in ids}
    written: set[str] = set()

    if suffered:
        for node in where.clients:
            for segment in captures.segments(node, begins_or_asks):
                found = where.ends(segment)
                if found is None or segment.source != found[0]:
                    continue
                if segment.opens:
                    if found in unasked:  # the port came back, and the last time nothing was asked
                        ends.add(found[0])
                    unasked[found] = None
                elif segment.is_request:
                    unasked.pop(found, None)
                    name = segment.request_id
                    if (client := name.rpartition(".")[0]) in carried:
                        carried[client].add(found[0])
                    if name in ids or port(found[0]) in ports:
                        ends.add(found[0])
                        written.add(name)
        ends.update(client for client, _ in unasked)
        for name in ids - written:
            ends |= carried[name.rpartition(".")[0]]
    nodes = [*where.clients, where.box, *where.servers.values()] if ends else []
    theirs = of_ends(ends)
    return Flows(
        where,
        [one for node in nodes for one in captures.segments(node, theirs)],
        [one for node in where.servers.values() for one in captures.unreachables(node) if one.source in ends],
    )


@dataclass(frozen=True, slots=True)
class UnderWay:
    """The requests that had not ended when the run did, and so are in no client's log."""

    lost: tuple[Request, ...]
    """Those whose connection the server had ended before."""
    unfinished: int
    """The others: how they would have ended is not known."""


def under_way(
    requests: Iterable[Request],
    where: Actors,
    captures: Captures,
    *,
    groups: Collection[str],
    speed: float,
    ended: float,
    closed: Collection[str],
) -> UnderWay:
    """Those of a run's clients that name their requests, by the captures.

    `groups`: the names of its groups of clients. `ended`: when the run did; the clients were told to stop no
    sooner. `closed`: the clients' ends of connections that a server had closed then, by its kernel.
    What ended within LOGGED_S of that may have ended well, and had no time to be logged.
    """
    latest = ended - LOGGED_S * speed
    logged = {request.id for request in requests}
    asked: dict[str, tuple[str, Segment]] = {}
    told: dict[str, Segment] = {}
    for node in where.clients:
        for segment in captures.segments(node, begins_asks_or_ends):
            found = where.ends(segment)
            if found is None or segment.time > ended:
                continue
            if segment.source == found[0] and segment.is_request:
                if (
                    segment.request_id not in logged
                    and group_of(segment.request_id.rpartition(".")[0]) in groups
                ):
                    asked[segment.request_id] = (found[0], segment)
            elif segment.source == found[0] and segment.opens:
                told.pop(found[0], None)
            elif segment.source == found[1] and (segment.fin or segment.rst):
                told.setdefault(found[0], segment)
    lost = [
        _cut(request, told.get(end), ended)
        for end, request in asked.values()
        if (told[end].time if end in told else request.time if end in closed else inf) < latest
    ]
    return UnderWay(tuple(lost), len(asked) - len(lost))


def _cut(request: Segment, closing: Segment | None, ended: float) -> Request:
    """A request that ended with its connection, which its client had no time to log."""
    reset = closing is not None and closing.rst
    return Request(
        client=request.request_id.rpartition(".")[0],
        started=request.time,
        ended=closing.time if closing is not None else ended,
        outcome=Outcome.RESET if reset else Outcome.CLOSED,
        status=0,
        server="",
        reused=None,
        local_port=port(request.source),
        error="the run ended before its client said so",
        method=request.payload.partition(b" ")[0].decode(),
        id=request.request_id,
    )
