"""The box's values as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from ipaddress import ip_address
from typing import Any, Final

from lb.api import schema
from lb.core.box import Box
from lb.core.events import Event, Probed, ResetReason, ServerChanged
from lb.core.health import CHECKED
from lb.core.packet import TCP, UDP, split
from lb.core.service import RealServer, VirtualServer
from lb.core.session import SessionState
from lb.core.session_resets import Outcome, SessionResets
from lb.event_log import EventLog

PROTOCOLS: Final[Mapping[int, schema.Protocol]] = {TCP: "tcp", UDP: "udp"}
STATES: Final[Mapping[SessionState, schema.State]] = {
    SessionState.SYN: "SYN",
    SessionState.ESTABLISHED: "ESTABLISHED",
    SessionState.FIN: "FIN",
    SessionState.UDP: "UDP",
}


def address(raw: bytes) -> str:
    return str(ip_address(raw))


def endpoint(raw: bytes, port: int) -> str:
    """ "10.0.0.2:80", "[2001:db8::2]:80"."""
    return f"{address(raw)}:{port}" if len(raw) == 4 else f"[{address(raw)}]:{port}"


def describe_event(event: Event, wall: Callable[[float], float]) -> dict[str, Any]:
    """An event as the event log keeps it; `wall` turns box time into Unix seconds."""
    row: dict[str, Any] = {
        "time": schema.timestamp(wall(event.box_time)),
        "box_time": round(event.box_time, 3),
        "kind": event.kind,
    }
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "key":
            row |= _flow(value)
        elif field.name == "protocol":
            row["protocol"] = PROTOCOLS[value]
        elif field.name != "box_time":
            row[field.name] = _plain(value)
    return row


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case float():
            return round(value, 3)
        case tuple():
            return list(value)
    return value


def _flow(key: bytes) -> dict[str, str]:
    client, client_port, vip, port = split(key)
    return {"client": endpoint(client, client_port), "vip": endpoint(vip, port)}


def describe_session(box: Box, now: float, slot: int) -> schema.Session:
    """The entry at this slot, which must be in use."""
    row = box.table.get(slot)
    server = box.services.servers[row.server]
    flow = _flow(row.key)
    return schema.Session(
        client=flow["client"],
        vip=flow["vip"],
        protocol=PROTOCOLS[row.protocol],
        virtual_server=server.service.name,
        server=server.name,
        state=STATES[row.state],
        age_s=round(now - row.created, 3),
        idle_s=round(now - row.last_seen, 3),
        expires_in_s=round(max(row.expires - now, 0.0), 3),
        packets=row.packets,
        bytes=row.bytes,
        seq=row.seq,
        ack=row.ack,
    )


def describe_tombstone(box: Box, now: float, slot: int) -> schema.Tombstone:
    """The memory of a session that was reset, at this slot."""
    row = box.table.get(slot)
    server = box.services.servers.get(row.server)
    reason, outcome = box.session_resets.tombstone(slot)
    flow = _flow(row.key)
    _, _, vip, port = split(row.key)
    service = box.services.find(row.protocol, vip, port)
    return schema.Tombstone(
        client=flow["client"],
        vip=flow["vip"],
        virtual_server=service.name if service else None,
        server=server.name if server and server.service is service else None,
        reason=reason,
        outcome=outcome,
        idle_s=round(now - row.last_seen, 3),
        expires_in_s=round(max(row.expires - now, 0.0), 3),
    )


def describe_session_resets(session_resets: SessionResets) -> dict[ResetReason, schema.SessionResets]:
    """RSTs sent and what became of them, for every reason."""
    return {
        reason: schema.SessionResets(
            client=session_resets.sent[reason, "client"],
            server=session_resets.sent[reason, "server"],
            accepted=session_resets.outcomes[reason, Outcome.ACCEPTED],
            challenged=session_resets.outcomes[reason, Outcome.CHALLENGED],
            probed=session_resets.outcomes[reason, Outcome.PROBED],
            silent=session_resets.outcomes[reason, Outcome.SILENT],
        )
        for reason in ResetReason
    }


def resetting(server: RealServer, session_resets: SessionResets) -> int:
    """Sessions of the server that are still to be reset; 0 when that is not being done."""
    return server.sessions if session_resets.resetting(server) else 0


def describe_server(
    server: RealServer, session_resets: SessionResets, event_log: EventLog, now: float
) -> schema.Server:
    """A server with what the event log knows of its past."""
    change = event_log.latest(ServerChanged.kind, server.service.name, server.name)
    check = event_log.latest(Probed.kind, server.service.name, server.name)
    return schema.Server(
        virtual_server=server.service.name,
        name=server.name,
        address=address(server.settings.address),
        state=server.state,
        state_age_s=round(now - change["box_time"], 3) if change else None,
        state_reason=change["reason"] if change else None,
        bound=server.bound,
        weight=server.weight,
        sessions=server.sessions,
        resetting=resetting(server, session_resets),
        flows=server.flows,
        last_check=check["detail"] if check else None,
        last_check_age_s=round(now - check["box_time"], 3) if check else None,
        next_check_in_s=_next_check_in_s(server, now),
    )


def _next_check_in_s(server: RealServer, now: float) -> float | None:
    if server.state not in CHECKED:
        return None
    return round(server.next_check(now) - now, 3)


def describe_service(service: VirtualServer, session_resets: SessionResets) -> schema.VirtualServer:
    settings = service.settings
    return schema.VirtualServer(
        name=service.name,
        vip=endpoint(settings.vip, settings.port),
        protocol=PROTOCOLS[settings.protocol],
        dscp=settings.dscp,
        scheduler=settings.scheduler,
        aging_s=settings.aging_s,
        syn_timeout_s=settings.syn_timeout_s,
        servers=len(service.servers),
        bound=len(service.binding),
        sessions=sum(server.sessions for server in service.servers),
        resetting=sum(resetting(server, session_resets) for server in service.servers),
        flows=sum(server.flows for server in service.servers),
    )
