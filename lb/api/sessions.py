"""The part of the API that is about sessions: lists, clears, resets and explains them.

There may be a million to look at: packets get their turn after each slice of the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from lb.api import schema
from lb.api.daemon_interface import DaemonInterface, Text, TheDaemon, find_servers
from lb.api.errors import ApiError
from lb.api.explain import ROWS, explain
from lb.api.filters import Filters, Place, look
from lb.api.views import describe_session, describe_tombstone
from lb.core.session import SessionState

SLICES: Final = 400
"""Slices of the table that one request for a page looks at before it answers with what it has."""

router = APIRouter()


async def _filters(
    daemon: TheDaemon,
    server: Text = None,
    virtual_server: Text = None,
    client: Text = None,
    vip: Text = None,
    state: schema.State | None = None,
) -> Filters:
    """Filters: addresses are "10.0.0.2", "10.0.0.2:40000", "10.0.0.0/24", "[2001:db8::2]:40000"."""
    ids = None
    if server is not None or virtual_server is not None:
        ids = frozenset(found.id for found in find_servers(daemon.box, server, virtual_server))
    return Filters(
        servers=ids,
        client=_place("client", client),
        vip=_place("vip", vip),
        state=SessionState[state] if state else None,
    )


TheFilters = Annotated[Filters, Depends(_filters)]


def _place(parameter: str, text: str | None) -> Place | None:
    if text is None:
        return None
    try:
        return Place.parse(text)
    except ValueError as error:
        raise ApiError(422, "invalid_request", f"{parameter}: {error}") from None


@router.get("/v1/sessions")
async def sessions(
    daemon: TheDaemon,
    filters: TheFilters,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int, Query(ge=0)] = 0,
) -> schema.Sessions:
    """A page of the sessions that match. One that stays is on exactly one page; others may be on none."""
    box = daemon.box
    rows: list[schema.Session] = []
    for _ in range(SLICES):
        slots, following = look(box, filters, cursor)
        now = daemon.now()
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


Everything = Annotated[bool, Query(alias="all", description="every session; no filter needs it")]


@router.delete("/v1/sessions")
async def clear_sessions(
    daemon: TheDaemon, filters: TheFilters, everything: Everything = False
) -> schema.Cleared:
    """Remove the sessions that match, without a word to either side."""
    return schema.Cleared(cleared=await _act_on(daemon, filters, everything, daemon.box.clear_session))


@router.post("/v1/sessions/reset")
async def reset_sessions(
    daemon: TheDaemon, filters: TheFilters, everything: Everything = False
) -> schema.Reset:
    """Reset the sessions that match, at once, on the sides that their virtual server's settings say."""
    return schema.Reset(reset=await _act_on(daemon, filters, everything, daemon.box.reset_session))


async def _act_on(
    daemon: DaemonInterface, filters: Filters, everything: bool, act: Callable[[float, int], None]
) -> int:
    """Do that to each of the sessions that match now; how many they were."""
    if filters == Filters() and not everything:
        raise ApiError(422, "filter_required", "give a filter, or all=true for every session")
    table, done, cursor = daemon.box.table, 0, 0
    end = len(table.key)  # what comes later was not meant
    while True:
        slots, cursor = look(daemon.box, filters, cursor)
        for slot in slots:
            act(daemon.now(), slot)
        done += len(slots)
        daemon.settle()
        if not 0 < cursor < end:
            return done
        await asyncio.sleep(0)


@router.get("/v1/explain")
async def explain_flow(
    daemon: TheDaemon, client: Annotated[str, Query(max_length=100)], vip: Text = None
) -> schema.Explanations:
    """What the box would do with a packet from this address, or address:port, now, and why."""
    who, where = _place("client", client), _place("vip", vip)
    if who is None or not who.single:
        raise ApiError(422, "invalid_request", f"client: {client!r} is a network; give one address")
    box, cursor = daemon.box, 0
    filters = Filters(client=who, vip=where, tombstones=True)
    its: list[schema.Session] = []
    buried: list[schema.Tombstone] = []
    while True:
        slots, cursor = look(box, filters, cursor)
        now = daemon.now()
        for slot in slots:
            if box.table.expired(slot, now):
                continue
            if box.table.is_tombstone(slot):
                buried.append(describe_tombstone(box, now, slot))
            else:
                its.append(describe_session(box, now, slot))
        if not cursor or max(len(its), len(buried)) >= ROWS:
            return explain(box, daemon.event_log, now, who, where, its[:ROWS], buried[:ROWS])
        await asyncio.sleep(0)
