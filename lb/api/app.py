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

from lb import metrics
from lb.api import errors, schema, sessions
from lb.api.daemon_interface import DaemonInterface, Text, TheDaemon, find_servers
from lb.api.errors import ApiError
from lb.api.filters import SLICE
from lb.api.views import (
    describe_server,
    describe_service,
    describe_session_resets,
    resetting,
)
from lb.config import BoxConfig, ConfigError, parse
from lb.core.events import Probed
from lb.core.packet import Drop
from lb.core.service import RealServer
from lb.event_log import EventLog, JsonEvent
from lb.metrics import ANSWERED
from lb.version import version


def create_app(daemon: DaemonInterface) -> FastAPI:
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
    app.state.daemon = daemon
    app.state.started = daemon.now()
    app.include_router(router)
    app.include_router(sessions.router)
    for error in errors.ANSWERED_HERE:
        app.add_exception_handler(error, errors.answer)
    return app


router = APIRouter()


# Servers


@router.get("/v1/servers")
async def servers(daemon: TheDaemon) -> schema.Servers:
    """Every real server, in the order of the configuration."""
    return _describe_servers(
        daemon, [s for virtual in daemon.box.services.by_name.values() for s in virtual.servers]
    )


async def _named(daemon: TheDaemon, name: str, virtual_server: Text = None) -> list[RealServer]:
    """The servers of this name, in one virtual server or in all that have it."""
    return find_servers(daemon.box, name, virtual_server)


TheServers = Annotated[list[RealServer], Depends(_named)]


@router.post("/v1/servers/{name}/enable")
async def enable_server(daemon: TheDaemon, found: TheServers) -> schema.Servers:
    """Check the server again, beginning now; it gets new flows after the first success."""
    for server in found:
        daemon.box.enable(daemon.now(), server)
    daemon.settle()
    return _describe_servers(daemon, found)


@router.post("/v1/servers/{name}/disable")
async def disable_server(daemon: TheDaemon, found: TheServers, reset: bool = False) -> schema.Servers:
    """No new flows and no checks. With `reset` its sessions are reset from now on, at the pace set."""
    for server in found:
        daemon.box.disable(daemon.now(), server, reset=reset)
    daemon.settle()
    return _describe_servers(daemon, found)


@router.post("/v1/servers/{name}/shutdown")
async def shut_server_down(
    daemon: TheDaemon,
    found: TheServers,
    drain_timeout_s: Annotated[float | None, Query(ge=0, le=86_400)] = None,
) -> schema.Servers:
    """No new flows and no checks; what is left after the timeout (0: the virtual server's) is reset."""
    for server in found:
        daemon.box.shut_down(daemon.now(), server, drain_timeout_s)
    daemon.settle()
    return _describe_servers(daemon, found)


def _describe_servers(daemon: DaemonInterface, found: list[RealServer]) -> schema.Servers:
    now = daemon.now()
    return schema.Servers(
        servers=[
            describe_server(server, daemon.box.session_resets, daemon.event_log, now) for server in found
        ]
    )


# The configuration


@router.get("/v1/configuration")
async def configuration(daemon: TheDaemon) -> schema.Configuration:
    """What the box goes by now: its file as it was read last, or what came here since."""
    return schema.Configuration(configuration=daemon.configuration.model_dump(mode="json"))


@router.put("/v1/configuration")
async def configure(daemon: TheDaemon, wanted: dict[str, Any]) -> schema.Configuration:
    """Take a whole configuration, as a reload takes the file; sessions of servers that stay are kept.

    It holds until the file is read again.
    """
    try:
        await daemon.reconfigure(parse(BoxConfig, wanted, "the request"))
    except ConfigError as error:
        raise ApiError(422, "bad_configuration", "; ".join(error.problems)) from None
    return await configuration(daemon)


# Events, statistics


@router.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line"}},
)
async def events(
    daemon: TheDaemon,
    since: Annotated[int | None, Query(description="after this number; -10: the last ten")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000_000)] = 1_000_000,
    follow: bool = False,
) -> StreamingResponse:
    """The events kept, oldest first; with `follow` also those to come, and `limit` does not apply."""
    event_log = daemon.event_log
    start = since if since is not None else max(0, event_log.last - event_log.keep)
    stream = _follow(event_log, start) if follow else _kept(event_log, start, limit)
    return StreamingResponse(stream, media_type="application/x-ndjson")


async def _kept(event_log: EventLog, serial: int, limit: int) -> AsyncIterator[str]:
    end = event_log.last
    while limit > 0 and serial < end:
        batch = event_log.since(serial, min(limit, end - serial, SLICE))
        serial = batch[-1]["id"]
        limit -= len(batch)
        yield _lines(batch)
        await asyncio.sleep(0)


async def _follow(event_log: EventLog, serial: int) -> AsyncIterator[str]:
    async for batch in event_log.follow(serial):
        yield _lines(batch)


def _lines(batch: list[JsonEvent]) -> str:
    return "".join(json.dumps(event) + "\n" for event in batch)


@router.get("/v1/stats")
async def stats(request: Request, daemon: TheDaemon) -> schema.Stats:
    """Counters and totals."""
    box, now = daemon.box, daemon.now()
    return schema.Stats(
        name=daemon.name,
        version=version(),
        time=schema.timestamp(daemon.wall(now)),
        box_time=round(now, 3),
        uptime_s=round(now - request.app.state.started, 3),
        speed=daemon.speed,
        last_event=daemon.event_log.last,
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
        queue=daemon.queue(),
        loop_lag=daemon.heartbeat.reading(),
    )


@router.get("/healthz")
async def healthz(daemon: TheDaemon) -> schema.Health:
    """Answered as long as the daemon turns its loop."""
    return schema.Health(status="ok", name=daemon.name, version=version())


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
)
async def prometheus(request: Request, daemon: TheDaemon) -> Response:
    """What is counted; docs/metrics.md describes each."""
    checks = {key[1:]: number for key, number in daemon.event_log.counts.items() if key[0] == Probed.kind}
    readings = metrics.Readings(
        box=daemon.box,
        queue=daemon.queue(),
        lag=daemon.heartbeat.reading(),
        checks=checks,
        checks_not_made=daemon.checks_not_made,
        resetting={
            (server.service.name, server.name): resetting(server, daemon.box.session_resets)
            for server in daemon.box.services.servers.values()
        },
        speed=daemon.speed,
        started=daemon.wall(request.app.state.started),
        version=version(),
    )
    return Response(metrics.exposition(readings), media_type=metrics.CONTENT_TYPE)
