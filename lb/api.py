"""The HTTP API of a running box: reads its state, carries out what an administrator says.

Every handler runs on the daemon's one thread, between packets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse

from lb import metrics, refusal, schema, session_api
from lb.config import BoxConfig, ConfigError, parse
from lb.core.events import Probed
from lb.core.packet import Drop
from lb.core.service import RealServer
from lb.describe import (
    describe_event,
    describe_server,
    describe_service,
    describe_session_resets,
    resetting,
)
from lb.host import Host, Text, TheHost, find_servers
from lb.journal import Journal, JsonEvent
from lb.metrics import ANSWERED
from lb.refusal import Refused
from lb.selection import SLICE
from lb.version import version

__all__ = ["create_app", "describe_event"]


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
    app.include_router(session_api.router)
    for error in refusal.ANSWERED_HERE:
        app.add_exception_handler(error, refusal.answer)
    return app


router = APIRouter()


# Servers


@router.get("/v1/servers")
async def servers(host: TheHost) -> schema.Servers:
    """Every real server, in the order of the configuration."""
    return _describe_servers(
        host, [s for virtual in host.box.services.by_name.values() for s in virtual.servers]
    )


async def _named(host: TheHost, name: str, virtual_server: Text = None) -> list[RealServer]:
    """The servers of this name, in one virtual server or in all that have it."""
    return find_servers(host.box, name, virtual_server)


TheServers = Annotated[list[RealServer], Depends(_named)]


@router.post("/v1/servers/{name}/enable")
async def enable_server(host: TheHost, found: TheServers) -> schema.Servers:
    """Check the server again, beginning now; it gets new flows after the first success."""
    for server in found:
        host.box.enable(host.now(), server)
    host.settle()
    return _describe_servers(host, found)


@router.post("/v1/servers/{name}/disable")
async def disable_server(host: TheHost, found: TheServers, reset: bool = False) -> schema.Servers:
    """No new flows and no checks. With `reset` its sessions are reset from now on, at the pace set."""
    for server in found:
        host.box.disable(host.now(), server, reset=reset)
    host.settle()
    return _describe_servers(host, found)


@router.post("/v1/servers/{name}/shutdown")
async def shut_server_down(
    host: TheHost, found: TheServers, drain_timeout_s: Annotated[float | None, Query(ge=0, le=86_400)] = None
) -> schema.Servers:
    """No new flows and no checks; what is left after the timeout (0: the virtual server's) is reset."""
    for server in found:
        host.box.shut_down(host.now(), server, drain_timeout_s)
    host.settle()
    return _describe_servers(host, found)


def _describe_servers(host: Host, found: list[RealServer]) -> schema.Servers:
    now = host.now()
    return schema.Servers(
        servers=[describe_server(server, host.box.session_resets, host.journal, now) for server in found]
    )


# The configuration


@router.get("/v1/configuration")
async def configuration(host: TheHost) -> schema.Configuration:
    """What the box goes by now: its file as it was read last, or what came here since."""
    return schema.Configuration(configuration=host.configuration.model_dump(mode="json"))


@router.put("/v1/configuration")
async def configure(host: TheHost, wanted: dict[str, Any]) -> schema.Configuration:
    """Take a whole configuration, as a reload takes the file; sessions of servers that stay are kept.

    It holds until the file is read again.
    """
    try:
        await host.reconfigure(parse(BoxConfig, wanted, "the request"))
    except ConfigError as error:
        raise Refused(422, "bad_configuration", "; ".join(error.problems)) from None
    return await configuration(host)


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
        sessions=schema.SessionCount(
            now=len(box.table), limit=box.table.limit, tombstones=box.table.tombstones
        ),
        forwarded=box.forwarded,
        dropped={reason.value: box.dropped[reason] for reason in Drop},
        resets={reason.value: box.resets[reason] for reason in ANSWERED},
        session_resets=describe_session_resets(box.session_resets),
        syn_probes=box.session_resets.probes,
        virtual_servers=[
            describe_service(service, box.session_resets) for service in box.services.by_name.values()
        ],
        queue=host.queue(),
        loop_lag=host.heartbeat.reading(),
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
        lag=host.heartbeat.reading(),
        checks=checks,
        checks_not_made=host.checks_not_made,
        resetting={
            (server.service.name, server.name): resetting(server, host.box.session_resets)
            for server in host.box.services.servers.values()
        },
        speed=host.speed,
        started=host.wall(request.app.state.started),
        version=version(),
    )
    return Response(metrics.exposition(readings), media_type=metrics.CONTENT_TYPE)
