"""What drivers log: one JSON object a line, for each request as it ends. Times are CLOCK_MONOTONIC seconds.

    {"client": "urllib3-3", "id": "urllib3-3.17", "method": "GET", "started": 812.4051, "ended": 812.4093,
     "outcome": "ok", "status": 200, "server": "rs1", "reused": true, "port": 40001, "error": ""}

| field | |
| --- | --- |
| outcome | netns/record/recording.py: Outcome |
| status | HTTP's, 0 when no response came |
| server | the first line of the page, when the outcome is ok |
| reused | the connection had carried a request before; null where the library does not say |
| port | the client's TCP port; 0 when it got no connection, or where the library does not say |
| error | the library's words |

Idle clients also log the end of a connection: client, event ("fin", "reset" or "vanished"), time, port. wrk
logs nothing but one line as it ends, a Volume.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from netns.record.recording import Outcome, Request


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection of an idle client ended, as the client saw it."""

    client: str
    how: str
    """ "fin", "reset" or "vanished"."""
    time: float
    local_port: int


@dataclass(frozen=True, slots=True)
class Volume:
    """The sum of what clients did of whom no single request is known."""

    client: str
    """Their name, without a number."""
    requests: int
    """Those that were answered."""
    duration_s: float
    http_errors: int
    """Of the answered: with a status of 400 or more."""
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int


Logged = Request | Ended | Volume


def parse(line: str) -> Logged | None:
    """A line of a driver's log; None for one that is not."""
    try:
        found: dict[str, Any] = json.loads(line)
        if "requests" in found:
            return Volume(**found)
        if "event" in found:
            return Ended(found["client"], found["event"], found["time"], found["port"])
        return Request(
            client=found["client"],
            started=found["started"],
            ended=found["ended"],
            outcome=Outcome(found["outcome"]),
            status=found["status"],
            server=found["server"],
            reused=found["reused"],
            local_port=found["port"],
            error=found["error"],
            method=found["method"],
            id=found["id"],
        )
    except (ValueError, KeyError, TypeError):
        return None


def write(request: Request) -> None:
    _write(
        client=request.client,
        id=request.id,
        method=request.method,
        started=round(request.started, 6),
        ended=round(request.ended, 6),
        outcome=request.outcome.value,
        status=request.status,
        server=request.server,
        reused=request.reused,
        port=request.local_port,
        error=request.error,
    )


def write_end(end: Ended) -> None:
    _write(client=end.client, event=end.how, time=round(end.time, 6), port=end.local_port)


def write_sum(volume: Volume) -> None:
    _write(**asdict(volume))


def _write(**fields: object) -> None:
    """In one piece, whichever thread it is of."""
    os.write(1, json.dumps(fields).encode() + b"\n")
