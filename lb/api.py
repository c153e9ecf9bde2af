"""The HTTP API of a running box: reads its state, carries out what an administrator says.

Every handler runs on the daemon's one thread, between packets; those that may have a million sessions to look
at give way after each slice of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal, Protocol

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse

from lb import metrics, refusal, schema
from lb.core.box import Box
from lb.core.events import Probed
from lb.core.packet import Drop
from lb.core.service import RealServer
from lb.core.session import SessionState
from lb.describe import describe_event, describe_server, describe_service, describe_session
from lb.explain import SESSIONS, explain
from lb.journal import Journal, JsonEvent
from lb.metrics import ANSWERED, QueueStatistics
from lb.refusal import Refused
from lb.selection import SLICE, Place, Selection, look
from lb.version import version

__all__ = ["Host", "create_app", "describe_event"]

SLICES: Final = 400
"""Slices of the table that one request for a page looks at before it answers with what it has."""


class Host(Protocol):
    """What the API needs of the daemon."""

    box: Box
    journal: Journal
    name: str
    speed: float

    def now(self) -> float:
        """Box seconds."""
        ...

    def wall(self, box_time: float) -> float:
        """Unix seconds at that box time."""
        ...

    def settle(self) -> None:
        """Carry out what the box produced and re-arm the timer; after every change to the box."""
        ...

    def queue(self) -> QueueStatistics: ...


def create_app(host: Host) -> FastAPI:
    """The API of this daemon."""
    app = FastAPI(
        title="l4box",
        version=version(),
        summary="A userspace L4 load balancer (L3DSR)",
        docs_url=None,
        redoc_url=None,
        responses={
            422: {"model": schema.Failure, "description": "The request is not valid"},
            "default": {"model": schema.Failure, "description": "The request failed"},
        },
    )
    app.state.host = host
    app.state.started = host.now()
    app.include_router(router)
    for error in refusal.ANSWERED_HERE:
        app.add_exception_handler(error, refusal.answer)
    return app


router = APIRouter()


def _host(request: Request) -> Host:
    host: Host = request.app.state.host
    return host


# Async, or FastAPI would run it in a thread.
async def _from_app(request: Request) -> Host:
    return _host(request)


TheHost = Annotated[Host, Depends(_from_app)]
Text = Annotated[str | None, Query(min_length=1, max_length=100)]


# Servers


@router.get("/v1/servers")
async def servers(host: TheHost) -> schema.Servers:
    """Every real server, in the order of the configuration."""
    return _describe_servers(
        host, [s for virtual in host.box.fleet.services.values() for s in virtual.servers]
    )


@router.post("/v1/servers/{name}/{action}")
async def change_server(
    host: TheHost, name: str, action: Literal["enable", "disable", "shutdown"], virtual_server: Text = None
) -> schema.Servers:
    """Enable, disable or gracefully shut down a server, in one virtual server or in all that have it."""
    box = host.box
    act = {"enable": box.enable, "disable": box.disable, "shutdown": box.shut_down}[action]
    found = _find_servers(box, name, virtual_server)
    for server in found:
        act(host.now(), server)
    host.settle()
    return _describe_servers(host, found)


def _describe_servers(host: Host, found: list[RealServer]) -> schema.Servers:
    now = host.now()
    return schema.Servers(servers=[describe_server(server, host.journal, now) for server in found])


def _find_servers(box: Box, name: str | None, virtual_server: str | None) -> list[RealServer]:
    """The servers of this name, or any, in this virtual server, or any."""
    services = list(box.fleet.services.values())
    if virtual_server is not None:
        services = [service for service in services if service.name == virtual_server]
        if not services:
            raise Refused(404, "unknown_virtual_server", f"no virtual server is named {virtual_server!r}")
    found = [server for service in services for server in service.servers if name in (None, server.name)]
    if not found:
        where = f" in virtual server {virtual_server!r}" if virtual_server is not None else ""
        raise Refused(404, "unknown_server", f"no real server is named {name!r}{where}")
    return found


# Sessions


async def _selection(
    host: TheHost,
    server: Text = None,
    virtual_server: Text = None,
    client: Text = None,
    vip: Text = None,
    state: schema.State | None = None,
) -> Selection:
    """Filters: addresses are "10.0.0.2", "10.0.0.2:40000", "10.0.0.0/24", "[2001:db8::2]:40000"."""
    ids = None
    if server is not None or virtual_server is not None:
        ids = frozenset(found.id for found in _find_servers(host.box, server, virtual_server))
    return Selection(
        servers=ids,
        client=_place("client", client),
        vip=_place("vip", vip),
        state=SessionState[state] if state else None,
    )


TheSelection = Annotated[Selection, Depends(_selection)]


def _place(parameter: str, text: str | None) -> Place | None:
    if text is None:
        return None
    try:
        return Place.parse(text)
    except ValueError as error:
        raise Refused(422, "invalid_request", f"{parameter}: {error}") from None


@router.get("/v1/sessions")
async def sessions(
    host: TheHost,
    selection: TheSelection,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int, Query(ge=0)] = 0,
) -> schema.Sessions:
    """A page of the sessions that match. One that stays is on exactly one page; others may be on none."""
    box = host.box
    rows: list[schema.Session] = []
    for _ in range(SLICES):
        slots, following = look(box, selection, cursor)
        now = host.now()
        for slot in slots:
            if len(rows) == limit:
                return schema.Sessions(sessions=rows, next=slot)
            if not box.table.expired(slot, now):
                rows.append(describe_session(box, now, slot))
        if not following:
            return schema.Sessions(sessions=rows, next=None)
        cursor = following
        await asyncio.sleep(0)
    return schema.Sessions(sessions=rows, next=cursor)


@router.delete("/v1/sessions")
async def clear_sessions(
    host: TheHost, selection: TheSelection, everything: Annotated[bool, Query(alias="all")] = False
) -> schema.Cleared:
    """Remove the sessions that match, without a word to either side. No filter needs `all=true`."""
    if selection == Selection() and not everything:
        raise Refused(422, "filter_required", "give a filter, or all=true to clear every session")
    box, cleared, cursor = host.box, 0, 0
    end = len(box.table.key)  # what comes later was not meant
    while True:
        slots, cursor = look(box, selection, cursor)
        for slot in slots:
            box.clear_session(host.now(), slot)
        cleared += len(slots)
        host.settle()
        if not 0 < cursor < end:
            return schema.Cleared(cleared=cleared)
        await asyncio.sleep(0)


@router.get("/v1/explain")
async def explain_flow(
    host: TheHost, client: Annotated[str, Query(max_length=100)], vip: Text = None
) -> schema.Explanations:
    """What the box would do with a packet from this address, or address:port, now, and why."""
    who, where = _place("client", client), _place("vip", vip)
    if who is None or not who.single:
        raise Refused(422, "invalid_request", f"client: {client!r} is a network; give one address")
    box, cursor = host.box, 0
    selection, its = Selection(client=who, vip=where), []
    while True:
        slots, cursor = look(box, selection, cursor)
        now = host.now()
        its += [describe_session(box, now, slot) for slot in slots if not box.table.expired(slot, now)]
        if not cursor or len(its) >= SESSIONS:
            return explain(box, host.journal, now, who, where, its[:SESSIONS])
        await asyncio.sleep(0)


# Events, statistics


@router.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line"}},
)
async def events(
    host: TheHost,
    since: Annotated[int | None, Query(description="after this number; -10: the last ten")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000_000)] = 1_000_000,
    follow: bool = False,
) -> StreamingResponse:
    """The events kept, oldest first; with `follow` also those to come, and `limit` does not apply."""
    journal = host.journal
    start = since if since is not None else max(0, journal.last - journal.keep)
    stream = _follow(journal, start) if follow else _kept(journal, start, limit)
    return StreamingResponse(stream, media_type="application/x-ndjson")


async def _kept(journal: Journal, serial: int, limit: int) -> AsyncIterator[str]:
    end = journal.last
    while limit > 0 and serial < end:
        batch = journal.since(serial, min(limit, end - serial, SLICE))
        serial = batch[-1]["id"]
        limit -= len(batch)
        yield _lines(batch)
        await asyncio.sleep(0)


async def _follow(journal: Journal, serial: int) -> AsyncIterator[str]:
    async for batch in journal.follow(serial):
        yield _lines(batch)


def _lines(batch: list[JsonEvent]) -> str:
    return "".join(json.dumps(event) + "\n" for event in batch)


@router.get("/v1/stats")
async def stats(request: Request, host: TheHost) -> schema.Stats:
    """Counters and totals."""
    box, now = host.box, host.now()
    return schema.Stats(
        name=host.name,
        version=version(),
        time=schema.timestamp(host.wall(now)),
        box_time=round(now, 3),
        uptime_s=round(now - request.app.state.started, 3),
        speed=host.speed,
        last_event=host.journal.last,
        sessions=schema.SessionCount(now=len(box.table), limit=box.table.limit),
        forwarded=box.forwarded,
        dropped={reason.value: box.dropped[reason] for reason in Drop},
        resets={reason.value: box.resets[reason] for reason in ANSWERED},
        virtual_servers=[describe_service(service) for service in box.fleet.services.values()],
        queue=host.queue(),
    )


@router.get("/healthz")
async def healthz(host: TheHost) -> schema.Health:
    """Answered as long as the daemon turns its loop."""
    return schema.Health(status="ok", name=host.name, version=version())


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
)
async def prometheus(request: Request, host: TheHost) -> Response:
    """What is counted; docs/metrics.md describes each."""
    checks = {key[1:]: number for key, number in host.journal.counts.items() if key[0] == Probed.kind}
    readings = metrics.Readings(
        box=host.box,
        queue=host.queue(),
        checks=checks,
        speed=host.speed,
        started=host.wall(request.app.state.started),
        version=version(),
    )
    return Response(metrics.exposition(readings), media_type=metrics.CONTENT_TYPE)
