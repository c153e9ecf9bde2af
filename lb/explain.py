"""What the box would do with a packet of a flow now, and why: in words, and as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from lb import schema
from lb.core.box import Box
from lb.core.events import ResetReason
from lb.core.failover import Outcome
from lb.core.health import ServerState
from lb.core.packet import SYN, TCP, Drop
from lb.core.reset import segment
from lb.core.service import Policy, PortReuse, VirtualServer
from lb.describe import PROTOCOLS, describe_server, endpoint
from lb.journal import Journal
from lb.selection import Place

ROWS: Final = 100
"""Sessions, and tombstones, looked at for one client."""


def explain(
    box: Box,
    journal: Journal,
    now: float,
    client: Place,
    vip: Place | None,
    sessions: list[schema.Session],
    tombstones: list[schema.Tombstone],
) -> schema.Explanations:
    """For a client's address or address:port at a VIP, or at all of them; the rows are its own there."""
    services = [
        service
        for service in box.fleet.services.values()
        if len(service.settings.vip) == client.size
        and (vip is None or vip.covers(service.settings.vip, service.settings.port))
    ]
    found = [
        _explain(
            box,
            journal,
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
    journal: Journal,
    now: float,
    client: Place,
    service: VirtualServer,
    sessions: list[schema.Session],
    tombstones: list[schema.Tombstone],
) -> schema.Explanation:
    settings = service.settings
    servers = [describe_server(server, box.failover, journal, now) for server in service.servers]
    fresh, why = _fate_of_new(box, service, client)
    session = sessions[0] if sessions and client.port is not None else None
    tombstone = tombstones[0] if tombstones and client.port is not None else None
    text = list(_about_sessions(service, client, sessions, servers))
    text += _about_tombstones(client, tombstones)
    if _refused(service, client):
        new = other = schema.Fate(action="drop", servers=[])
        text.append(
            f"Whatever comes from {client.text} is dropped: no client can have that address (bad_source)."
        )
    elif session is None:
        new = fresh
        other = _refusal(Policy.RESET) if tombstone else _fate_of_other(service, fresh)
        what = "A new connection" if settings.protocol == TCP else "The first packet of a flow"
        text.append(f"{what} {why}.")
        if settings.protocol == TCP and not tombstone:
            text.append(_about_other(service))
    else:
        new = other = schema.Fate(action="forward", servers=[session.server])
        if settings.protocol == TCP and settings.on_port_reuse is PortReuse.SCHEDULE:
            new = fresh
            text.append(f"A new connection from the same port {why} (on_port_reuse = schedule).")
        elif settings.protocol == TCP:
            text.append(
                f"A new connection from the same port meets this entry and goes to {session.server} too "
                "(on_port_reuse = keep)."
            )
    text += _about_servers(servers)
    return schema.Explanation(
        virtual_server=service.name,
        vip=endpoint(settings.vip, settings.port),
        protocol=PROTOCOLS[settings.protocol],
        new_connection=new,
        other_packets=other,
        sessions=sessions,
        tombstones=tombstones,
        servers=servers,
        text=[f"{service.name}: {line}" for line in text],
    )


def _refused(service: VirtualServer, client: Place) -> bool:
    """Whether packets from this address are dropped for their source: a box of its own is shown one."""
    settings = replace(service.settings, protocol=TCP)
    box = Box()
    box.configure(0.0, [settings])
    box.handle_packet(0.0, segment(client.address, 1, settings.vip, settings.port, seq=0, ack=0, flags=SYN))
    return box.dropped[Drop.SOURCE] > 0


def _fate_of_new(box: Box, service: VirtualServer, client: Place) -> tuple[schema.Fate, str]:
    """What a SYN meets, and that as the end of a sentence."""
    settings = service.settings
    if not service.binding:
        return _refusal(settings.on_no_server), (
            f"{_does(settings.on_no_server)}: no real server is bound "
            f"(on_no_server = {settings.on_no_server.value})"
        )
    if box.table.full():
        return _refusal(settings.on_table_full), (
            f"{_does(settings.on_table_full)}: the session table is full at {box.table.limit} "
            f"(on_table_full = {settings.on_table_full.value})"
        )
    names = [server.name for server in service.binding]
    if settings.scheduler == "source-hash":  # the one that depends on the client alone
        names = [service.scheduler.pick(client.address).name]
    fate = schema.Fate(action="forward", servers=names)
    return fate, f"goes to {' or '.join(names)}, by {settings.scheduler}"


def _fate_of_other(service: VirtualServer, fresh: schema.Fate) -> schema.Fate:
    """What a packet meets that opens no connection and has no session."""
    policy = service.settings.on_no_entry
    if service.settings.protocol != TCP or policy is Policy.FORWARD:
        return fresh
    return _refusal(policy)


def _does(policy: Policy) -> str:
    return "is answered with a RST" if policy is Policy.RESET else "is dropped"


def _refusal(policy: Policy) -> schema.Fate:
    return schema.Fate(action="reset" if policy is Policy.RESET else "drop", servers=[])


def _about_other(service: VirtualServer) -> str:
    policy = service.settings.on_no_entry
    does = "is scheduled like a new one" if policy is Policy.FORWARD else _does(policy)
    return f"A segment of a connection that has no session {does} (on_no_entry = {policy.value})."


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
