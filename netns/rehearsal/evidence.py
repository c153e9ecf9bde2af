"""The part of a run's captures that tells of its lost and slow requests, read without keeping the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from netns.clients.kinds import KINDS
from netns.observe import clients_sockets
from netns.place import Place, Recorder
from netns.recording import Outcome, Recording, Request, group_of
from netns.rehearsal.causes import is_slow
from netns.rehearsal.flows import Places, Wire
from netns.run_clock import RunClock
from netns.topology import Role
from netns.wire import Segment, begins_asks_or_ends, begins_or_asks, of_ends, port, segments, unreachables

LOGGED_S: Final = 0.5
"""Real seconds within which a client that reads its answer at once has logged a request."""

CLOSED_BY_SERVER: Final = frozenset({"FIN-WAIT-1", "CLOSING", "LAST-ACK"})
"""States of a server's socket that its process has closed, with data or its FIN still to be delivered."""


def places(lab: Place) -> Places:
    """Who is who in the lab's captures."""
    servers = lab.plan.servers
    return Places(
        clients=frozenset(node.name for node in lab.plan.of(Role.CLIENT)),
        box=lab.plan.box.name,
        checker=str(lab.plan.box.address),
        servers={str(node.address): node.name for node in servers},
        services={f"{service.vip}:{service.port}": service.name for service in lab.config.virtual_server},
        vips={(str(node.address), entry.dscp): str(entry.address) for node in servers for entry in node.vips},
    )


def named(
    requests: Sequence[Request], lab: Place, captures: Mapping[str, Recorder], clock: RunClock
) -> list[Request]:
    """The requests, each with who answered it: where its page does not say, the last that it reached."""
    if all(one.server for one in requests if one.outcome is Outcome.OK):
        return list(requests)
    reached: dict[str, tuple[float, str]] = {}
    for node in lab.plan.servers:
        for segment in segments(captures[node.name].path, clock.unix, begins_or_asks):
            if segment.is_request:
                known = reached.get(segment.request_id, (0.0, ""))
                reached[segment.request_id] = max(known, (segment.time, node.name))
    return [
        replace(one, server=reached.get(one.id, (0.0, ""))[1])
        if one.outcome is Outcome.OK and not one.server
        else one
        for one in requests
    ]


def evidence(lab: Place, recording: Recording, captures: Mapping[str, Recorder], clock: RunClock) -> Wire:
    """All segments of the connections over which a request was lost or slow, or over which none was made.

    Where a client's request is on no connection, those that carried its earlier ones are among them.
    """
    suffered = [
        request
        for request in recording.requests
        if request.outcome is not Outcome.OK or is_slow(request, recording.speed)
    ]
    where = places(lab)
    ids = {request.id for request in suffered if request.id}
    ports = {request.local_port for request in suffered if request.local_port}
    ends: set[str] = set()
    unasked: dict[tuple[str, str], None] = {}
    carried: dict[str, set[str]] = {name.rpartition(".")[0]: set() for name in ids}
    written: set[str] = set()

    if suffered:
        for node in where.clients:
            for segment in segments(captures[node].path, clock.unix, begins_or_asks):
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
    return Wire(
        where,
        [one for node in nodes for one in segments(captures[node].path, clock.unix, theirs)],
        [
            one
            for node in where.servers.values()
            for one in unreachables(captures[node].path, clock.unix)
            if one.source in ends
        ],
    )


@dataclass(frozen=True, slots=True)
class UnderWay:
    """The requests that had not ended when the run did, and so are in no client's log."""

    lost: tuple[Request, ...]
    """Those whose connection the server had ended before."""
    unfinished: int
    """The others: how they would have ended is not known."""


def closing(lab: Place) -> frozenset[str]:
    """The clients' ends of connections that a server has closed, with data that is still to be sent."""
    return frozenset(
        socket.peer
        for node in lab.plan.servers
        for socket in clients_sockets(lab, node.name)
        if socket.state in CLOSED_BY_SERVER
    )


def under_way(
    requests: Iterable[Request],
    lab: Place,
    captures: Mapping[str, Recorder],
    clock: RunClock,
    *,
    ended: float,
    closed: Collection[str],
) -> UnderWay:
    """Those of a run's clients that name their requests, by the captures.

    `ended`: when the run did; the clients were told to stop no sooner. `closed`: as `closing` said then.
    What ended within LOGGED_S of that may have ended well, and had no time to be logged.
    """
    latest = ended - LOGGED_S * clock.speed
    logged = {request.id for request in requests}
    where = places(lab)
    asked: dict[str, tuple[str, Segment]] = {}
    told: dict[str, Segment] = {}
    for node in where.clients:
        for segment in segments(captures[node].path, clock.unix, begins_asks_or_ends):
            found = where.ends(segment)
            if found is None or segment.time > ended:
                continue
            if segment.source == found[0] and segment.is_request:
                if segment.request_id not in logged and _names_a_client(segment.request_id):
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


def _names_a_client(request_id: str) -> bool:
    """Whether a run's client gave it ("curl-3.17", "curl@api-3.17"), and not whoever else asks the VIP."""
    name = group_of(request_id.rpartition(".")[0])
    return name.partition("@")[0] in KINDS


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
