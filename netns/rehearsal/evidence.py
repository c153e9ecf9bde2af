"""The part of a run's captures that tells of its lost and slow requests, read without keeping the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from netns.place import Place, Recorder
from netns.recording import Outcome, Recording, Request
from netns.rehearsal.causes import is_slow
from netns.rehearsal.flows import Places, Wire
from netns.run_clock import RunClock
from netns.topology import Role
from netns.wire import begins_or_asks, of_ends, port, segments


def places(lab: Place) -> Places:
    """Who is who in the lab's captures."""
    servers = lab.plan.servers
    return Places(
        clients=frozenset(node.name for node in lab.plan.of(Role.CLIENT)),
        box=lab.plan.box.name,
        checker=str(lab.plan.box.address),
        servers={str(node.address): node.name for node in servers},
        services=frozenset(f"{service.vip}:{service.port}" for service in lab.config.virtual_server),
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
    """All segments of the connections over which a request was lost or slow, or over which none was made."""
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
                    if segment.request_id in ids or port(found[0]) in ports:
                        ends.add(found[0])
        ends.update(client for client, _ in unasked)
    nodes = [*where.clients, where.box, *where.servers.values()]
    theirs = of_ends(ends)
    return Wire(
        where,
        [one for node in nodes if ends for one in segments(captures[node].path, clock.unix, theirs)],
    )
