"""What the box would do with a packet of a flow now, and why: in words, and as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lb.api import schema
from lb.api.filters import Place
from lb.api.views import PROTOCOLS, describe_server, endpoint
from lb.core.box import Box
from lb.core.decision import Forward, Preview
from lb.core.events import ResetReason
from lb.core.health import ServerState
from lb.core.packet import ACK, SYN, TCP, UDP, Drop, join
from lb.core.reset import datagram, segment
from lb.core.service import VirtualServer
from lb.core.session import NONE
from lb.core.session_resets import Outcome
from lb.event_log import EventLog

ROWS: Final = 100
"""Sessions, and tombstones, looked at for one client."""


def explain(
    box: Box,
    event_log: EventLog,
    now: float,
    client: Place,
    vip: Place | None,
    sessions: list[schema.Session],
    tombstones: list[schema.Tombstone],
) -> schema.Explanations:
    """For a client's address or address:port at a VIP, or at all of them; the rows are its own there."""
    services = [
        service
        for service in box.services.by_name.values()
        if len(service.settings.vip) == client.size
        and (vip is None or vip.covers(service.settings.vip, service.settings.port))
    ]
    found = [
        _explain(
            box,
            event_log,
            now,
            client,
            service,
            [session for session in sessions if session.virtual_server == service.name],
            [tombstone for tombstone in tombstones if tombstone.virtual_server == service.name],
        )
        for service in services
    ]
    text = [line for one in found for line in one.text]
    if not found:
        place = f"at {vip.text}" if vip else f"with an IPv{4 if client.size == 4 else 6} address"
        text = [f"No virtual server is {place}: the box forwards nothing for it."]
    return schema.Explanations(
        client=client.text, vip=vip.text if vip else None, virtual_servers=found, text=text
    )


def _explain(
    box: Box,
    event_log: EventLog,
    now: float,
    client: Place,
    service: VirtualServer,
    sessions: list[schema.Session],
    tombstones: list[schema.Tombstone],
) -> schema.Explanation:
    settings = service.settings
    servers = [describe_server(server, box.session_resets, event_log, now) for server in service.servers]
    new = _preview(box, now, service, client, SYN)
    other = _preview(box, now, service, client, ACK)
    session = sessions[0] if sessions and client.port is not None else None
    tombstone = tombstones[0] if tombstones and client.port is not None else None
    text = list(_about_sessions(service, client, sessions, servers))
    text += _about_tombstones(client, tombstones)
    if new.why is Drop.SOURCE:
        text.append(
            f"Whatever comes from {client.text} is dropped: no client can have that address (bad_source)."
        )
    elif session is None:
        what = "A new connection" if settings.protocol == TCP else "The first packet of a flow"
        text.append(f"{what} {_about_new(box, service, new)}.")
        if settings.protocol == TCP and not tombstone:
            text.append(_about_other(service, other))
    elif new.why is Forward.KEPT:
        text.append(
            f"A new connection from the same port meets this entry and goes to {session.server} too "
            "(on_port_reuse = keep)."
        )
    elif settings.protocol == TCP:
        why = _about_new(box, service, new)
        text.append(f"A new connection from the same port {why} (on_port_reuse = schedule).")
    text += _about_servers(servers)
    return schema.Explanation(
        virtual_server=service.name,
        vip=endpoint(settings.vip, settings.port),
        protocol=PROTOCOLS[settings.protocol],
        new_connection=_fate(box, service, new),
        other_packets=_fate(box, service, other),
        sessions=sessions,
        tombstones=tombstones,
        servers=servers,
        text=[f"{service.name}: {line}" for line in text],
    )


def _preview(box: Box, now: float, service: VirtualServer, client: Place, flags: int) -> Preview:
    """What the box would do with a segment with these flags, or with a datagram.

    An address without a port stands for a connection from a port that has no session. A SYN opens another
    connection than the session's, if there is one.
    """
    vip, port = service.settings.vip, service.settings.port
    protocol, table = service.settings.protocol, box.table
    ports = range(1, 1 << 16) if client.port is None else (client.port,)
    for client_port in ports:
        slot = table.find(protocol, join(client.address, client_port, vip, port))
        if slot == NONE:
            break
    if protocol == UDP:
        return box.preview(now, datagram(client.address, client_port, vip, port))
    seq = table.isn[slot] + 1 & 0xFFFFFFFF
    packet = segment(client.address, client_port, vip, port, seq=seq, ack=0, flags=flags)
    return box.preview(now, packet)


def _fate(box: Box, service: VirtualServer, preview: Preview) -> schema.Fate:
    return schema.Fate(
        action="forward" if preview.verdict else "reset" if preview.answered else "drop",
        servers=_takers(box, service, preview),
    )


def _takers(box: Box, service: VirtualServer, preview: Preview) -> list[str]:
    """The names of the servers of which one gets the packet."""
    if preview.among and not service.scheduler.by_client:
        return [server.name for server in preview.among]
    return [box.services.servers[preview.verdict].name] if preview.verdict else []


def _about_new(box: Box, service: VirtualServer, preview: Preview) -> str:
    """What a new connection meets, as the end of a sentence."""
    settings = service.settings
    if preview.why is Drop.NO_SERVER:
        policy = settings.on_no_server.value
        return f"{_refusal(preview)}: no real server is bound (on_no_server = {policy})"
    if preview.why is Drop.TABLE_FULL:
        policy = settings.on_table_full.value
        full = f"the session table is full at {box.table.limit}"
        return f"{_refusal(preview)}: {full} (on_table_full = {policy})"
    return f"goes to {' or '.join(_takers(box, service, preview))}, by {settings.scheduler}"


def _about_other(service: VirtualServer, preview: Preview) -> str:
    """What a segment meets that opens no connection and has no session."""
    does = _refusal(preview) if preview.why is Drop.NO_ENTRY else "is scheduled like a new one"
    policy = service.settings.on_no_entry.value
    return f"A segment of a connection that has no session {does} (on_no_entry = {policy})."


def _refusal(preview: Preview) -> str:
    return "is answered with a RST" if preview.answered else "is dropped"


def _about_sessions(
    service: VirtualServer, client: Place, sessions: list[schema.Session], servers: list[schema.Server]
) -> Iterator[str]:
    """By server, what the client's sessions mean."""
    if not sessions:
        yield f"{client.text} has no session."
    for server in servers:
        mine = [session for session in sessions if session.server == server.name]
        if not mine:
            continue
        one = mine[0] if len(mine) == 1 else None
        kept_s = round(one.idle_s + one.expires_in_s) if one else service.settings.aging_s
        number = "a session" if one else f"{len(mine)} sessions"
        if len(sessions) == ROWS:
            number = f"{len(mine)} sessions or more"
        its = "its" if one else "their"
        goes = f"{client.text} has {number} with {server.name}: {its} packets go to {server.name}"
        if server.bound:
            yield f"{goes} ({server.address})."
        else:
            yield (
                f"{goes} although {server.name} is {server.state.value}: a session is kept until it has been "
                f"idle for {kept_s:g} s, whatever its server's health."
            )
        if one and one.state == "SYN":
            yield (
                "It is half-open, the client has sent no ACK yet: the entry goes in "
                f"{one.expires_in_s:.1f} s if no packet comes."
            )
        elif one and one.state == "FIN":
            yield f"The client has closed it: the entry goes in {one.expires_in_s:.1f} s."
        elif one:
            yield (
                f"It has been idle for {one.idle_s:.1f} s and goes in {one.expires_in_s:.1f} s if no packet "
                "comes."
            )


def _about_tombstones(client: Place, tombstones: list[schema.Tombstone]) -> Iterator[str]:
    """What is remembered of the client's sessions that were reset."""
    if not tombstones:
        return
    if client.port is None:
        number = f"{len(tombstones)}" + (" or more" if len(tombstones) == ROWS else "")
        yield (
            f"Sessions of {client.text} that were reset and are remembered: {number}. A packet of one is "
            "answered with the exact RST."
        )
        return
    one = tombstones[0]
    its, server = (
        (f"Its session with {one.server}", one.server) if one.server else ("Its session", "its server")
    )
    why = {
        ResetReason.PORT_FAIL: f"because {server} failed",
        ResetReason.ADMINISTRATOR: "by an administrator",
        ResetReason.DRAIN: f"because the drain timeout of {server} was over",
        ResetReason.AGED: "because it was idle",
    }[one.reason]
    ago = f"{one.idle_s:.1f} s ago"
    yield {
        Outcome.ACCEPTED: f"{its} was reset {ago} {why}; nothing came since.",
        Outcome.CHALLENGED: f"{its} was reset {why}; the client was last heard of {ago}.",
        Outcome.PROBED: f"{its} was reset {why}; a SYN drew an answer from the client, the last {ago}.",
        Outcome.SILENT: (
            f"{its} was reset {why}; nothing came for {one.idle_s:.1f} s, not even in answer to a SYN."
        ),
    }[one.outcome]
    yield (
        "A packet of that connection is answered with the exact RST; that is remembered for "
        f"{one.expires_in_s:.1f} s more."
    )


def _about_servers(servers: list[schema.Server]) -> Iterator[str]:
    """Why each server that is not simply ACTIVE gets new flows, or none."""
    for server in servers:
        if server.state is ServerState.ACTIVE:
            continue
        flows = "still gets new flows" if server.bound else "gets no new flows"
        line = f"{server.name} {flows}: {server.state.value}"
        if server.state_age_s is not None:
            line += f" for {server.state_age_s:.1f} s ({server.state_reason})"
        if server.last_check is not None and server.next_check_in_s is not None:
            line += f"; last check {server.last_check_age_s:.1f} s ago: {server.last_check}"
            line += f"; next in {server.next_check_in_s:.1f} s"
        yield line + "."
