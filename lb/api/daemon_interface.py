"""What the handlers of the API have in common: the daemon behind them, the servers that a request names."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request

from lb.api.errors import ApiError
from lb.config import BoxConfig
from lb.core.box import Box
from lb.core.service import RealServer
from lb.event_log import EventLog
from lb.lag import Heartbeat
from lb.metrics import QueueStatistics


class DaemonInterface(Protocol):
    """What the API needs of the daemon."""

    box: Box
    event_log: EventLog
    heartbeat: Heartbeat
    name: str
    speed: float
    configuration: BoxConfig
    checks_not_made: Counter[str]
    """Health checks that the box could not make, by the error's name, as in errno(3)."""

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

    async def reconfigure(self, wanted: BoxConfig) -> None:
        """Take a configuration as a reload takes the file's; raises ApiError with nothing changed."""
        ...


# Async, or FastAPI would run it in a thread.
async def _from_app(request: Request) -> DaemonInterface:
    daemon: DaemonInterface = request.app.state.daemon
    return daemon


TheDaemon = Annotated[DaemonInterface, Depends(_from_app)]
Text = Annotated[str | None, Query(min_length=1, max_length=100)]


def find_servers(box: Box, name: str | None, virtual_server: str | None) -> list[RealServer]:
    """The servers of this name, or any, in this virtual server, or any."""
    services = list(box.services.by_name.values())
    if virtual_server is not None:
        services = [service for service in services if service.name == virtual_server]
        if not services:
            raise ApiError(404, "unknown_virtual_server", f"no virtual server is named {virtual_server!r}")
    found = [server for service in services for server in service.servers if name in (None, server.name)]
    if not found:
        where = f" in virtual server {virtual_server!r}" if virtual_server is not None else ""
        raise ApiError(404, "unknown_server", f"no real server is named {name!r}{where}")
    return found
